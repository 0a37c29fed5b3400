//! What a run has done is not lost: one owner of a folder, files that are whole, signals at any moment, a log that nobody reads.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{FLOW, MLP, Scratch, TILTED, TOY, metrics, model_bytes, stderr};

const ENDLESS: [&str; 7] = ["train", "toy.toml", "--out", "run", "--device", "flex", "--steps=200000"];

fn wait_for(what: &str, mut found: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !found() {
        assert!(Instant::now() < deadline, "no {what} in 60 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn has_metrics(run: &Path) -> bool {
    fs::metadata(run.join("metrics.jsonl")).is_ok_and(|about| about.len() > 0)
}

fn send(child: &Child, signal: &str) {
    let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
}

/// Starts a run of the config and kills it once it has metrics.
fn killed(scratch: &Scratch, args: &[&str], run: &str) {
    let mut child = scratch.command(args).spawn().expect("ember starts");
    wait_for("metrics", || has_metrics(&scratch.path(run)));
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

#[test]
fn a_run_folder_has_one_owner() {
    let scratch = Scratch::new(&TOY.replace("checkpoint_every = 20", "checkpoint_every = 50"));
    let mut child = scratch.command(&ENDLESS).spawn().expect("ember starts");
    wait_for("checkpoint", || scratch.path("run/checkpoints/latest").exists());
    let config = fs::read(scratch.path("run/config.toml")).expect("a config");
    let pid = format!("pid {} on ", child.id());
    scratch.fails(
        &["resume", "run", "--device", "flex", "--steps", "300000"],
        2,
        &["run: in use by ", &pid, "ember resume run"],
    );
    assert_eq!(fs::read(scratch.path("run/config.toml")).expect("a config"), config, "nothing is changed");
    child.kill().expect("killed");
    child.wait().expect("reaped");
    // The lock went with the process, although its file is still there.
    let step = metrics(&scratch.path("run")).last().expect("a line")["step"].as_u64().expect("a step") + 60;
    scratch.ok(&["resume", "run", "--device", "flex", "--steps", &step.to_string()]);
}

#[test]
fn a_log_that_cannot_be_written_is_no_error_of_the_run() {
    let scratch = Scratch::new(TOY);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let mut command = scratch.command(&["train", "toy.toml", "--out", "full", "--device", "flex"]);
    let output = command.stderr(full).output().expect("ember starts");
    assert_eq!(output.status.code(), Some(0), "stderr on a full disk");
    let mut command = scratch.command(&["train", "toy.toml", "--out", "closed", "--device", "flex"]);
    let mut child = command.spawn().expect("ember starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("ember ends").code(), Some(0), "stderr into a closed pipe");
    assert!(model_bytes(&scratch.path("full"), 60) == model_bytes(&scratch.path("closed"), 60));
    // Results are another matter.
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
    let mut command = scratch.command(&["eval", "full", "--json", "--device", "flex"]);
    let output = command.stdout(full).output().expect("ember starts");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("stdout"), "{}", stderr(&output));
}

#[test]
fn a_run_folder_has_the_modes_that_the_user_asks_for() {
    let scratch = Scratch::new(MLP);
    let train =
        format!("umask 027; exec {} train toy.toml --out runs/a --device flex", env!("CARGO_BIN_EXE_ember"));
    let status =
        Command::new("sh").args(["-c", &train]).current_dir(scratch.path("")).stderr(Stdio::null()).status();
    assert!(status.expect("a shell").success());
    let mode = |name: &str| fs::metadata(scratch.path(name)).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode("runs/a"), 0o750);
    for name in ["config.toml", "metrics.jsonl", "checkpoints/latest"] {
        assert_eq!(mode(&format!("runs/a/{name}")), 0o640, "{name}");
    }
    assert_eq!(fs::read_dir(scratch.path("runs")).expect("a folder").count(), 1, "nothing half-made is left");
}

#[test]
fn a_checkpoint_newer_than_latest_says_is_gone_on_from() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    // What a crash between the two leaves.
    fs::write(scratch.path("run/checkpoints/latest"), "step_00000040\n").expect("written");
    let before = model_bytes(&scratch.path("run"), 60);
    let output = scratch.ember(&["resume", "run", "--device", "flex"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("already at update 60"), "{}", stderr(&output));
    assert!(model_bytes(&scratch.path("run"), 60) == before);
    let latest = fs::read_to_string(scratch.path("run/checkpoints/latest")).expect("latest");
    assert_eq!(latest.trim(), "step_00000060");
}

#[test]
fn a_checkpoint_that_cannot_be_used_is_not_taken_for_a_damaged_one() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    let walkers = scratch.path("run/checkpoints/step_00000060/walkers.safetensors");
    // Root reads whatever the modes say; a folder in a file's place is an error of reading to all.
    let bytes = fs::read(&walkers).expect("walkers");
    fs::remove_file(&walkers).expect("removed");
    std::os::unix::fs::symlink("walkers.safetensors", &walkers).expect("a loop of links");
    let resume = ["resume", "run", "--device", "flex", "--steps", "80"];
    scratch.fails(&resume, 2, &["walkers.safetensors", "not damaged", "mv run/checkpoints/step_00000060"]);
    fs::remove_file(&walkers).expect("removed");
    fs::write(&walkers, bytes).expect("back");
    scratch.ok(&resume);
}

#[test]
fn a_damaged_checkpoint_is_set_aside_and_not_deleted() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    let walkers = scratch.path("run/checkpoints/step_00000060/walkers.safetensors");
    let mut bytes = fs::read(&walkers).expect("walkers");
    bytes.truncate(100);
    fs::write(&walkers, &bytes).expect("cut");
    scratch.ok(&["resume", "run", "--device", "flex"]);
    let aside = scratch.path("run/checkpoints/step_00000060.aside/walkers.safetensors");
    assert_eq!(fs::read(aside).expect("set aside"), bytes);
    scratch.ok(&["eval", "run", "--device", "flex"]);
}

#[test]
fn a_line_that_is_not_understood_is_kept_beside() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex", "--steps", "40"]);
    let path = scratch.path("run/metrics.jsonl");
    let lines = fs::read_to_string(&path).expect("lines");
    fs::write(&path, lines.replacen('\n', "\n{\"step\": half\n", 1)).expect("written");
    scratch.ok(&["resume", "run", "--device", "flex", "--steps", "60"]);
    assert!(fs::read_to_string(&path).expect("lines").starts_with(&lines));
    let kept = fs::read_to_string(scratch.path("run/metrics.jsonl.dropped")).expect("kept");
    assert_eq!(kept, "{\"step\": half\n");
}

#[test]
fn a_hangup_ends_a_run_as_the_other_signals_do() {
    let scratch = Scratch::new(&TOY.replace("checkpoint_every = 20", "checkpoint_every = 100000"));
    // These tests may themselves run under `nohup`.
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_ember")]).args(ENDLESS);
    command.current_dir(scratch.path("")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().expect("ember starts");
    wait_for("metrics", || has_metrics(&scratch.path("run")));
    send(&child, "HUP");
    let output = child.wait_with_output().expect("ember ends");
    assert_eq!(output.status.code(), Some(129), "{}", stderr(&output));
    assert!(scratch.path("run/checkpoints/latest").exists(), "{}", stderr(&output));
    // `nohup` has it ignored, and it stays so.
    let run = format!(
        "trap '' HUP; exec {} {}",
        env!("CARGO_BIN_EXE_ember"),
        ENDLESS.join(" ").replace("run", "kept")
    );
    let mut command = Command::new("sh");
    command.args(["-c", &run]).current_dir(scratch.path("")).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("a shell");
    wait_for("metrics", || has_metrics(&scratch.path("kept")));
    send(&child, "HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().expect("a child").is_none(), "it goes on");
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

#[test]
fn the_first_signal_ends_a_fit_before_the_run() {
    let scratch = Scratch::new(&format!("{TILTED}\n[pretrain]\nsteps = 100000000\n"));
    let child = scratch
        .command(&["train", "toy.toml", "--out", "run", "--device", "flex"])
        .env("RUST_LOG", "info")
        .spawn()
        .expect("ember starts");
    // Long enough for the handler to be there; the fit takes days.
    std::thread::sleep(Duration::from_secs(2));
    send(&child, "INT");
    let start = Instant::now();
    let output = child.wait_with_output().expect("ember ends");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing was written"), "{}", stderr(&output));
    assert_eq!(scratch.leftovers(), Vec::<String>::new());
}

#[test]
fn a_run_keeps_its_base() {
    let flow = Scratch::new(FLOW);
    flow.ok(&["train", "toy.toml", "--out", "flow", "--device", "flex"]);
    let start = TILTED.find("[energy.base]").expect("a table");
    let end = TILTED.find("[energy.tilt]").expect("a table");
    let tilted = [&TILTED[..start], &TILTED[end..]].concat();
    let tilted = tilted.replace("kind = \"tilted\"", "kind = \"tilted\"\nbase = \"flow\"");
    let tilted = tilted.replace("checkpoint_every = 10", "checkpoint_every = 100000");
    fs::write(flow.path("tilted.toml"), tilted).expect("a config");
    let train = |out| ["train", "tilted.toml", "--out", out, "--device", "flex"];
    killed(&flow, &[&train("parts")[..], &["--steps", "100000"]].concat(), "parts");
    let done = metrics(&flow.path("parts")).last().expect("a line")["step"].as_u64().expect("a step");
    let steps = (done + 20).to_string();
    flow.ok(&[&train("whole")[..], &["--steps", &steps]].concat());
    // The other run goes on, and then goes away.
    flow.ok(&["resume", "flow", "--device", "flex", "--steps", "40"]);
    let resume = ["resume", "parts", "--device", "flex", "--steps", &steps];
    fs::rename(flow.path("flow"), flow.path("gone")).expect("renamed");
    flow.ok(&resume);
    assert_eq!(metrics(&flow.path("whole")), metrics(&flow.path("parts")));
}

#[test]
fn what_was_seen_of_a_trajectory_goes_with_it() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex", "--steps", "40"]);
    scratch.ok(&["eval", "run", "--device", "flex"]);
    scratch.ok(&["resume", "run", "--device", "flex", "--steps", "60"]);
    scratch.ok(&["eval", "run", "--device", "flex"]);
    fs::write(scratch.path("run/samples/mine.png"), b"").expect("written");
    let state = scratch.path("run/checkpoints/step_00000060/state.json");
    fs::write(&state, b"{").expect("damaged");
    // Nothing is left to do at update 40: what remains is what was known there.
    scratch.ok(&["resume", "run", "--device", "flex", "--steps", "40"]);
    let steps = |name: &str| -> Vec<u64> {
        let text = fs::read_to_string(scratch.path("run").join(name)).expect("lines");
        let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("one object a line");
        text.lines().map(|line| value(line)["step"].as_u64().expect("a step")).collect()
    };
    assert!(!steps("eval.jsonl").is_empty());
    assert!(steps("eval.jsonl").iter().all(|&step| step <= 40), "{:?}", steps("eval.jsonl"));
    assert!(steps("metrics.jsonl").iter().all(|&step| step <= 40));
    assert!(!scratch.path("run/samples/step_00000060.png").exists());
    for kept in ["step_00000040.png", "mine.png"] {
        assert!(scratch.path("run/samples").join(kept).exists(), "{kept}");
    }
}
