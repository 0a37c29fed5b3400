//! A device that is lost in the middle of a run, and a panic of the program's own: exit code 1, the last checkpoint intact, the
//! message says where the run was and how it goes on, and the run that goes on equals one never interrupted.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use ember_sampler::Walkers;
use ember_tests::configs::small;
use ember_tests::cpu;
use ember_train::config::Config;
use ember_train::error::Error;
use ember_train::store::checkpoint::{self, Checkpoint};
use ember_train::store::metrics::{self, MetricsWriter};
use ember_train::training::run::{Run, Signals};
use ember_train::training::trainer::Trainer;

const CONFIG: &str = r#"
seed = 3
dataset.dim = 3
dataset.means = [[-2.0], [2.0]]
dataset.weights = [0.25, 0.75]
dataset.train_size = 400
dataset.test_size = 200
dataset.batch_size = 100
energy.hidden = [16]
optimizer.learning_rate = 0.02
output = { log_every = 10, checkpoint_every = 20, keep_checkpoints = 100 }
"#;

fn run_in(dir: &Path, metrics: MetricsWriter) -> Run {
    let (device_label, device_name) = ("device:7".to_owned(), "device:7 (a card)".to_owned());
    let sources = config(60).dataset.as_dyn().sources().expect("none");
    Run {
        dir: dir.to_path_buf(),
        device_label,
        device_name,
        metrics,
        time_before: 0.0,
        sources,
        draw: ember_train::commands::picture::samples,
    }
}

fn config(steps: u64) -> Config {
    let mut config = Config::from_toml(&small(CONFIG), "lost.toml").expect("a config");
    config.steps = steps;
    config
}

/// A new run of `steps` updates.
fn train(dir: &Path, steps: u64, device: &Device) -> (Run, Trainer) {
    let mut run = run_in(dir, MetricsWriter::create(dir).expect("written"));
    let mut trainer = Trainer::new(config(steps), device).expect("starts");
    run.train(&mut trainer, &Signals::default()).expect("trains");
    (run, trainer)
}

/// Goes on to `steps` updates from the newest intact checkpoint, and gives the state at the end.
fn resume(dir: &Path, steps: u64, device: &Device) -> Checkpoint {
    let (origin, found) = checkpoint::newest_intact(dir).expect("a checkpoint");
    let mut trainer = Trainer::from_state(config(steps), &found, &origin, device).expect("it fits");
    let mut run = run_in(dir, MetricsWriter::resume(dir, trainer.step).expect("written"));
    run.train(&mut trainer, &Signals::default()).expect("trains");
    newest(dir)
}

fn newest(dir: &Path) -> Checkpoint {
    checkpoint::newest_intact(dir).expect("a checkpoint").1
}

#[track_caller]
fn assert_failed(error: &Error, dir: &Path, words: &[&str]) {
    assert_eq!(error.exit_code(), 1, "{error}");
    let (text, dir) = (error.to_string(), dir.display());
    let resume = format!("go on with: ember resume {dir}");
    for word in words.iter().copied().chain(["device:7 (a card)", &resume]) {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
    assert!(!text.contains('\n'), "one line: {text}");
}

#[test]
fn a_panic_ends_the_run_with_an_error_and_its_checkpoints_intact() {
    let (whole, parts) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    train(whole.path(), 60, &cpu());
    let (mut run, mut trainer) = train(parts.path(), 40, &cpu());
    let before = newest(parts.path());
    trainer.config.steps = 60;
    // Walkers of three coordinates cannot meet a gradient of two.
    let walkers = trainer.walkers.clone();
    trainer.walkers = Walkers { energy_grad: Tensor::zeros([128, 2], &cpu()), ..walkers };
    let error = run.train(&mut trainer, &Signals::default()).expect_err("it panics");
    assert_failed(&error, parts.path(), &["step 40:", "a fault of the program", "step_00000040;"]);
    assert_eq!(newest(parts.path()), before);
    assert_eq!(resume(parts.path(), 60, &cpu()), newest(whole.path()));
    let lines = |dir: &Path| metrics::read(dir).expect("metric lines").len();
    assert_eq!(lines(parts.path()), lines(whole.path()));
}

#[test]
fn a_panic_before_the_first_checkpoint_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut trainer = Trainer::new(config(10), &cpu()).expect("starts");
    let walkers = trainer.walkers.clone();
    trainer.walkers = Walkers { energy_grad: Tensor::zeros([128, 2], &cpu()), ..walkers };
    let mut run = run_in(dir.path(), MetricsWriter::create(dir.path()).expect("written"));
    let error = run.train(&mut trainer, &Signals::default()).expect_err("it panics");
    assert_failed(&error, dir.path(), &["step 0:", "no checkpoint yet"]);
}

#[cfg(feature = "wgpu")]
mod lost {
    use burn::tensor::wgpu::{WgpuBackend, WgpuSetup, wgpu};
    use ember_tests::gpu;

    use super::*;

    /// A device of its own on the adapter that `gpu` takes, and its handle to destroy it by.
    fn disposable() -> (Device, WgpuSetup) {
        let options = Device::wgpu_options().graphics_api(WgpuBackend::Vulkan);
        options.init_with_setup().expect("a second device")
    }

    #[test]
    fn a_lost_device_ends_the_run_and_another_goes_on_with_it() {
        let Some(device) = gpu() else { return };
        let (whole, parts) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let (lost, setup) = disposable();
        // The update it is lost at is anyone's guess: many are asked for, and as many are made undisturbed as will be resumed to.
        let mut trainer = Trainer::new(config(1_000_000), &lost).expect("starts");
        let mut run = run_in(parts.path(), MetricsWriter::create(parts.path()).expect("written"));
        let first = parts.path().join("checkpoints/latest");
        let destroyer = std::thread::spawn(move || {
            while !first.exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            setup.device.destroy();
            // What was submitted is finished first; the loss is noted then.
            let _ = setup.device.poll(wgpu::PollType::wait_indefinitely());
        });
        let error = run.train(&mut trainer, &Signals::default()).expect_err("the device is lost");
        destroyer.join().expect("it destroys");
        let found = newest(parts.path());
        let checkpoint = format!("{};", checkpoint::dir_name(found.step));
        assert_failed(&error, parts.path(), &["was lost", "estroyed", &checkpoint]);
        assert!(trainer.step >= found.step && found.step >= 20, "{} and {}", trainer.step, found.step);
        drop(trainer);
        let end = found.step + 40;
        train(whole.path(), end, &device);
        assert_eq!(resume(parts.path(), end, &device), newest(whole.path()));
    }
}
