//! Training on the GPU path, where the device decides by itself: the decisions are a processor's, nothing is lost on the way through a
//! checkpoint, and a state that goes bad is reported with the update in which it did.
#![cfg(feature = "wgpu")]

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use ember_model::params::download;
use ember_tests::configs::{config, small, with};
use ember_tests::{cpu, gpu};
use ember_train::config::Config;
use ember_train::error::Error;
use ember_train::training::trainer::Trainer;

const MIXTURE: &str = r#"
seed = 2
steps = 1000
dataset.dim = 5
dataset.means = [[-4.0], [3.0]]
dataset.weights = [0.25, 0.75]
dataset.std = 1.0
dataset.train_size = 300
dataset.test_size = 16
dataset.batch_size = 300
energy = { kind = "gaussian_mixture", means = [[-0.1], [0.1]], means_noise = 0.01, train_means = true }
walkers.count = 301
resampling = { ess_threshold = 0.9 }
optimizer.kind = "sgd"
optimizer.learning_rate = 0.1
"#;

const MLP: &str = r#"
seed = 3
steps = 1000
dataset.means = [[2.0, 0.0], [-2.0, 0.0]]
dataset.train_size = 200
dataset.test_size = 16
dataset.batch_size = 64
energy.hidden = [20, 12]
walkers.count = 130
kernel.step_size = 0.05
kernel.steps_per_update = 2
resampling = { ess_threshold = 0.995 }
optimizer.learning_rate = 0.01
optimizer.clip_norm = 1.0
optimizer.ema = 0.9
audit = { walkers = 40, repeats = 3, every = 5 }
"#;

fn trainer(config: &Config, device: &Device) -> Trainer {
    Trainer::new(config.clone(), device).expect("a trainer")
}

/// The updates of a stretch of a run, none of which reads but the last.
fn train(trainer: &mut Trainer, updates: u64) {
    for _ in 0..updates {
        trainer.update(false).expect("an update");
    }
}

/// The device resamples when a processor does, and banks what a processor banks.
#[test]
fn the_device_decides_as_a_processor() {
    let Some(device) = gpu() else { return };
    let config = config(&small(MIXTURE));
    let (mut here, mut there) = (trainer(&config, &cpu()), trainer(&config, &device));
    for _ in 0..6 {
        train(&mut here, 9);
        train(&mut there, 9);
        let expected = here.update(true).expect("an update").reading.expect("a log step");
        let found = there.update(true).expect("an update").reading.expect("a log step");
        assert_eq!(there.walkers.resamplings.read(), here.walkers.resamplings.read(), "step {}", here.step);
        let (ess, log_z) = (expected.summary.ess, expected.log_z_online);
        assert!((found.summary.ess - ess).abs() <= 1e-3 * ess, "ess {} for {ess}", found.summary.ess);
        assert!((found.log_z_online - log_z).abs() <= 1e-4, "log Z {} for {log_z}", found.log_z_online);
    }
    assert!(here.walkers.resamplings.read() >= 3, "the test needs resamplings");
}

/// θ, its average, walkers, log-weights, ancestry, banks and moments: a run that went through a checkpoint is the run that did not.
#[test]
fn a_resumed_run_is_the_run() {
    let Some(device) = gpu() else { return };
    for text in [MIXTURE, MLP].map(small) {
        let config = config(&text);
        let mut whole = trainer(&config, &device);
        train(&mut whole, 7);
        let saved = whole.to_state("test");
        let data = Arc::clone(&whole.data);
        let mut resumed =
            Trainer::from_state_on(config, data, &saved, Path::new("test"), &device).expect("its own state");
        train(&mut whole, 8);
        train(&mut resumed, 8);
        let (a, b) = (whole.to_state("test"), resumed.to_state("test"));
        assert_eq!(a.theta, b.theta);
        assert_eq!(a.optimizer, b.optimizer);
        assert_eq!(a.optimizer_counters, b.optimizer_counters);
        assert_eq!(a.walkers, b.walkers);
        assert_eq!(a.audit, b.audit);
        assert_eq!(a.extra, b.extra);
        let walkers = a.walkers.expect("walkers");
        assert!(walkers.resamplings > 0 && walkers.log_z != 0.0, "the test needs resamplings");
    }
}

/// A rate that no state survives: both report the update in which it went bad, the device once it is asked, and θ is as before it.
#[test]
fn a_bad_state_is_reported_with_its_update() {
    let Some(device) = gpu() else { return };
    let config = config(
        &with(&small(MLP), "optimizer.kind = \"sgd\"\noptimizer.learning_rate = 1e30")
            .replace("clip_norm = 1.0\nema = 0.9", ""),
    );
    let mut here = trainer(&config, &cpu());
    let expected = (0..20).find_map(|_| here.update(false).err()).expect("it diverges");
    let Error::NonFinite { step, .. } = expected else { panic!("{expected}") };
    let mut there = trainer(&config, &device);
    train(&mut there, step + 7);
    let found = there.update(true).err().expect("the log step hears of it");
    let Error::NonFinite { step: told, count, .. } = found else { panic!("{found}") };
    assert_eq!(told, step);
    assert!(count > 0);
    assert_eq!(there.step, step);
    assert!(there.model.host_theta().concat().iter().all(|v| v.is_finite()), "θ is as it was before");
    assert!(there.check().is_err(), "no checkpoint is written of it");
}

/// With a watchdog a gap beyond what is allowed is a divergence, on the device as on a processor.
#[test]
fn a_gap_is_reported_with_its_update() {
    let Some(device) = gpu() else { return };
    let mut config = config(&small(MIXTURE));
    config.watchdog.max_rollbacks = 1;
    config.watchdog.max_energy_gap = Some(1.0);
    let mut here = trainer(&config, &cpu());
    let expected = (0..200).find_map(|_| here.update(false).err()).expect("it diverges");
    let Error::Diverged { step, message } = expected else { panic!("{expected}") };
    let mut there = trainer(&config, &device);
    train(&mut there, step + 3);
    let found = there.check().expect_err("heard before a checkpoint");
    let Error::Diverged { step: told, message: words } = found else { panic!("{found}") };
    assert_eq!(told, step);
    // The figures are rounded to three places, of numbers that agree to rounding.
    assert_eq!(words, message);
}

/// Walkers of the device are those of a processor after updates without resampling, whether a chain is one launch or not.
#[test]
fn updates_agree_with_a_processors() {
    let Some(device) = gpu() else { return };
    let config = config(
        &with(&small(MLP), "resampling = { scheme = \"none\" }")
            .replace("kind = \"adam\"\nlearning_rate = 0.01", "kind = \"sgd\"\nlearning_rate = 0.05"),
    );
    let (mut here, mut there) = (trainer(&config, &cpu()), trainer(&config, &device));
    train(&mut here, 20);
    train(&mut there, 20);
    let (a, b) = (here.model.host_theta().concat(), there.model.host_theta().concat());
    let largest = a.iter().map(|v| v.abs()).fold(0.0, f32::max);
    let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off <= 1e-4 * largest, "θ is off by {off:.2e} of {largest}");
    let (a, b) = (download(here.walkers.log_weights.value()), download(there.walkers.log_weights.value()));
    let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off <= 1e-3, "log-weights are off by {off:.2e}");
    let averages =
        [here, there].map(|trainer| trainer.ema_model().expect("an average").host_theta().concat());
    let off = averages[0].iter().zip(&averages[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off <= 1e-4 * largest, "the average is off by {off:.2e}");
}
