//! Bad input: a clear error, the contract's exit code, nothing written.

use std::path::Path;

use ember_train::config::Config;
use ember_train::device;
use ember_train::store::metrics::MetricsWriter;
use ember_train::training::run::{Run, Signals};
use ember_train::training::trainer::Trainer;

use crate::support::{MLP, Scratch, TOY, model_bytes, stderr};

fn rejected(config: &str, words: &[&str]) {
    let scratch = Scratch::new(config);
    scratch.fails(&["train", "toy.toml", "--device", "flex"], 2, words);
    assert_eq!(scratch.leftovers(), Vec::<String>::new(), "nothing may be written");
}

#[test]
fn bad_configs() {
    rejected(&TOY.replace("step_size", "stepsize"), &["toy.toml", "stepsize", "step_size"]);
    rejected(&TOY.replace("[walkers]", "[walker]"), &["walker", "walkers"]);
    rejected(&TOY.replace("kind = \"ula\"", "kind = \"ulla\""), &["ulla", "ula"]);
    rejected(&TOY.replace("step_size = 0.1", "step_size = \"big\""), &["kernel.step_size", "string"]);
    rejected(&TOY.replace("step_size = 0.1", "step_size = -0.1"), &["kernel.step_size", "-0.1"]);
    rejected(&TOY.replace("step_size = 0.1", "step_size = nan"), &["kernel.step_size", "NaN"]);
    rejected(&TOY.replace("step_size = 0.1", "step_size = inf"), &["kernel.step_size", "inf"]);
    rejected(&TOY.replace("[0.25, 0.75]", "[0.25, 0.85]"), &["dataset.weights", "1.1"]);
    rejected(&TOY.replace("count = 300", "count = 0"), &["walkers.count"]);
    rejected(&format!("{TOY}\n[resampling]\ness_threshold = 1.5\n"), &["ess_threshold", "1.5"]);
    rejected(
        &TOY.replace("means = [[-2.0], [2.0]]", "means = [[1.0, 2.0, 3.0, 4.0], [2.0]]"),
        &["dataset.means", "3"],
    );
    rejected(
        &TOY.replace("means = [[-0.5], [0.5]]", "means = [[1.0, 2.0, 3.0, 4.0], [2.0]]"),
        &["means", "4"],
    );
    rejected(&MLP.replace("confinement = 1.0", ""), &["walkers.init", "energy.confinement"]);
    rejected(&TOY.replace("count = 300", "count = 300\ninit = \"data\""), &["init", "unweighted_start"]);
    rejected(&TOY.replace("seed = 3", "seed = "), &["toy.toml:2"]);
}

#[test]
fn a_config_that_is_not_utf8() {
    let scratch = Scratch::new(TOY);
    let mut bytes = TOY.as_bytes().to_vec();
    bytes[10] = 0xff;
    std::fs::write(scratch.path("toy.toml"), bytes).expect("written");
    scratch.fails(&["train", "toy.toml"], 2, &["toy.toml", "UTF-8", "10"]);
    scratch.fails(&["train", "missing.toml"], 2, &["missing.toml"]);
}

#[test]
fn a_run_folder_that_exists() {
    let scratch = Scratch::new(TOY);
    std::fs::create_dir(scratch.path("run")).expect("a folder");
    scratch.fails(&["train", "toy.toml", "--out", "run"], 2, &["run", "ember resume run"]);
    assert_eq!(std::fs::read_dir(scratch.path("run")).expect("a folder").count(), 0);
}

#[test]
fn a_device_that_is_not_there() {
    let scratch = Scratch::new(TOY);
    scratch.fails(&["train", "toy.toml", "--device", "wgpu:99"], 2, &["wgpu:99", "flex"]);
    scratch.fails(&["train", "toy.toml", "--device", "tpu"], 2, &["tpu", "flex", "cuda or cuda:N"]);
    scratch.fails(&["train", "toy.toml", "--device", "wgpu:x"], 2, &["wgpu:x", "wgpu:N"]);
    assert_eq!(scratch.leftovers(), Vec::<String>::new());
}

/// What is missing for CUDA, and what to do instead: the program without the feature; with it, a machine without driver or card.
#[test]
fn a_cuda_device_that_cannot_be_had() {
    let scratch = Scratch::new(TOY);
    let words: &[&str] = if !cfg!(feature = "cuda") {
        &["built without CUDA", "--features cuda", "scripts/cuda_build.sh", "wgpu"]
    } else if !Path::new("/proc/driver/nvidia/version").exists() {
        &["no NVIDIA driver is loaded", "install the driver"]
    } else {
        &["there is ", "cuda:0"]
    };
    for device in ["cuda:99", "cuda"] {
        if device == "cuda" && words.contains(&"cuda:0") {
            continue;
        }
        let words = [&[device, "flex: processor"][..], words].concat();
        scratch.fails(&["train", "toy.toml", "--device", device], 2, &words);
        scratch.fails(&["bench", "train", "toy.toml", "--updates", "1", "--device", device], 2, &words);
        scratch.fails(&["devices", "--check", device], 2, &words);
    }
    assert_eq!(scratch.leftovers(), Vec::<String>::new());
}

#[test]
fn a_check_of_a_device_that_is_not_there() {
    let scratch = Scratch::new(TOY);
    let words = ["wgpu:99", "flex: processor"];
    scratch.fails(&["devices", "--check", "wgpu:99"], 2, &words);
    scratch.fails(&["devices", "--check", "tpu"], 2, &["tpu", "expected auto, flex"]);
    scratch.fails(&["devices", "--json"], 2, &["--check"]);
}

/// A processor computes in f32: found out before anything is written, and by whatever opens a run at another precision.
#[test]
fn a_precision_that_the_device_lacks() {
    let scratch = Scratch::new(MLP);
    let words = ["toy.toml: precision: found \"bf16\"", "flex", "computes in f32", "ember devices"];
    let set = ["--device", "flex", "--set", "precision=bf16"];
    scratch.fails(&[&["train", "toy.toml"][..], &set].concat(), 2, &words);
    scratch.fails(&[&["bench", "train", "toy.toml", "--updates", "1"][..], &set].concat(), 2, &words);
    assert_eq!(scratch.leftovers(), Vec::<String>::new());
    assert!(scratch.ok(&["devices"]).contains("(f32)"));
    // A run of another device.
    run_at_bf16(&scratch.path("run"));
    for args in [
        &["resume", "run", "--steps", "2"][..],
        &["eval", "run"],
        &["sample", "run", "--count", "3", "--out", "s.npz"],
    ] {
        let words = ["run", "precision: found \"bf16\"", "flex", "computes in f32"];
        scratch.fails(&[args, &["--device", "flex"]].concat(), 2, &words);
    }
    assert_eq!(scratch.leftovers(), ["run"]);
}

/// A run folder at a precision that only another device has; burn's processor knows the numbers, slowly.
fn run_at_bf16(dir: &Path) {
    let config = format!("precision = \"bf16\"\n{MLP}").replace("steps = 20", "steps = 1");
    let config = Config::from_toml(&config, "toy.toml").expect("a config");
    std::fs::create_dir(dir).expect("a folder");
    std::fs::write(dir.join("config.toml"), config.to_toml()).expect("written");
    let selected = device::select("flex").expect("a processor");
    let mut trainer = Trainer::new(config, &selected.device).expect("starts");
    let sources = trainer.config.dataset.as_dyn().sources().expect("none");
    let mut run = Run {
        dir: dir.to_path_buf(),
        device_label: selected.label,
        device_name: selected.name,
        metrics: MetricsWriter::create(dir).expect("written"),
        time_before: 0.0,
        sources,
        draw: ember_train::commands::picture::samples,
    };
    run.train(&mut trainer, &Signals::default()).expect("trains");
}

#[test]
fn an_output_folder_that_cannot_be_written() {
    let scratch = Scratch::new(TOY);
    // A folder of a read-only file system, and a path below a file: neither lets even root in.
    scratch.fails(
        &["train", "toy.toml", "--device", "flex", "--out", "/proc/ember-run"],
        2,
        &["/proc/ember-run"],
    );
    scratch.fails(&["train", "toy.toml", "--device", "flex", "--out", "toy.toml/run"], 2, &["toy.toml/run"]);
    assert_eq!(scratch.leftovers(), Vec::<String>::new());
}

#[test]
fn a_full_disk_ends_the_run_and_keeps_the_last_checkpoint() {
    let config = TOY.replace("steps = 60", "steps = 4000").replace("log_every = 10", "log_every = 1");
    let scratch = Scratch::new(&config);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex", "--steps", "40"]);
    let before = model_bytes(&scratch.path("run"), 40);
    // No file may grow beyond 20 KiB: the next checkpoint's walkers do not fit.
    let script = format!(
        "trap '' XFSZ; ulimit -f 20; exec {} resume run --device flex --steps 4000",
        env!("CARGO_BIN_EXE_ember")
    );
    let output =
        std::process::Command::new("bash").args(["-c", &script]).current_dir(scratch.path("")).output();
    let output = output.expect("bash runs");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    assert_eq!(model_bytes(&scratch.path("run"), 40), before, "the last good checkpoint is intact");
    scratch.ok(&["resume", "run", "--device", "flex", "--steps", "60"]);
}

#[test]
fn a_diverging_run_names_the_step_and_keeps_the_last_good_checkpoint() {
    let config = MLP
        .replace("learning_rate = 0.005", "learning_rate = 1e30")
        .replace("steps = 20", "steps = 2000")
        .replace("kind = \"mala\"", "kind = \"ula\"")
        .replace("checkpoint_every = 10", "checkpoint_every = 1");
    let scratch = Scratch::new(&config);
    let text = scratch.fails(
        &["train", "toy.toml", "--out", "run", "--device", "flex"],
        1,
        &["step ", "not finite"],
    );
    assert!(text.contains("walkers") || text.contains("parameter"), "{text}");
    // Whatever was kept is finite.
    if scratch.path("run/checkpoints/latest").exists() {
        scratch.ok(&["info", "run"]);
    }
}

#[test]
fn checkpoints_of_another_architecture() {
    let scratch = Scratch::new(MLP);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    let config = scratch.path("run/config.toml");
    let text = std::fs::read_to_string(&config).expect("a config");
    std::fs::write(&config, text.replace("hidden = [16, 16]", "hidden = [16, 32]")).expect("written");
    scratch.fails(&["resume", "run", "--device", "flex", "--steps", "40"], 2, &["[16, 16]", "[16, 32]"]);
}

#[test]
fn weight_files_that_are_not() {
    let scratch = Scratch::new(MLP);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    scratch.ok(&["export", "run", "--out", "m.safetensors"]);
    let whole = std::fs::read(scratch.path("m.safetensors")).expect("weights");
    let bad = |bytes: &[u8]| {
        std::fs::write(scratch.path("bad.safetensors"), bytes).expect("written");
        scratch.fails(&["eval", "bad.safetensors", "--device", "flex"], 2, &["bad.safetensors"]);
    };
    bad(&[]);
    bad(&whole[..whole.len() / 2]);
    bad(&whole[..20]);
    let mut header = whole.clone();
    header[..8].copy_from_slice(&(1u64 << 63).to_le_bytes());
    bad(&header);
    bad(&[0xff; 100]);
}

#[test]
fn usage() {
    let scratch = Scratch::new(TOY);
    scratch.fails(&["train"], 2, &["CONFIG"]);
    scratch.fails(&["tarin"], 2, &["train"]);
    scratch.fails(&["resume", "nowhere"], 2, &["nowhere"]);
    scratch.fails(&["eval", "nowhere"], 2, &["nowhere"]);
    scratch.fails(&["train", "toy.toml", "--set", "kernel.stepsize=1"], 2, &["stepsize", "step_size"]);
}
