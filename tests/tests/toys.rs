//! A new energy, kernel, objective or data set is one file: those of `ember_tests::toys` train without a line anywhere else.

use std::sync::Arc;

use ember_model::params::download;
use ember_model::{Custom, EnergyConfig};
use ember_sampler::KernelConfig;
use ember_tests::configs::{config, small};
use ember_tests::toys::{HalfGibbs, Location, Shifted, Tethered};
use ember_tests::{assert_beyond_se, assert_within_se, cpu};
use ember_train::config::Config;
use ember_train::dataset::DatasetConfig;
use ember_train::training::objective::ObjectiveConfig;
use ember_train::training::trainer::Trainer;

const DIM: usize = 3;
const COUNT: usize = 2_000;

/// A config whose own energy, kernel, objective and data set give way to the toys.
fn toys() -> Config {
    let mut config = config(&small(
        "steps = 200\nwalkers.count = 2000\noptimizer = { kind = \"sgd\", learning_rate = 0.1 }",
    ));
    config.energy = EnergyConfig::Custom(Custom(Arc::new(Location)));
    config.kernel.kernel = KernelConfig::Custom(Custom(Arc::new(HalfGibbs)));
    config.objective = ObjectiveConfig::Custom(Custom(Arc::new(Tethered)));
    config.dataset = DatasetConfig::Custom(Custom(Arc::new(Shifted { dim: DIM, shift: 1.5, count: COUNT })));
    config
}

#[test]
fn four_files_train() {
    let config = toys();
    assert_eq!([config.energy.kind(), config.objective.kind(), config.dataset.kind()], ["custom"; 3]);
    let mut trainer = Trainer::new(config, &cpu()).expect("the toys fit together");
    for _ in 0..200 {
        trainer.update(false).expect("an update");
    }
    // The mean of n draws of unit variance, and the walkers' noise about it: ṁ = −.1 (mean of walkers − mean of data).
    let se = (1.0 / COUNT as f64 + 1.0 / COUNT as f64).sqrt();
    for mean in download(trainer.model.theta()[0].clone()) {
        assert_within_se(f64::from(mean), 1.5, se, 4.0);
        assert_beyond_se(f64::from(mean), 0.0, se, 10.0);
    }
}
