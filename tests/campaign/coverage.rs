//! How often the 95 % intervals of log Z hold the exact value: runs of `tests/coverage.rs`, more of them, and with more repeats.
//!
//! Two counts of repeats tell t-quantiles of few repeats from a bias: an estimator that is biased covers less with more repeats.

use burn::tensor::Device;
use ember_model::Energy;
use ember_tests::{cpu, mean_se};
use ember_train::config::Config;
use ember_train::smc::{SmcOptions, tempered};
use ember_train::statistics::{Estimate, t95};
use ember_train::trainer::Trainer;

const CONFIG: &str = r#"
steps = 200
[dataset]
kind = "gaussian_mixture"
dim = 5
means = [[-3.0], [2.0]]
weights = [0.3, 0.7]
train_size = 500
test_size = 1
[energy]
kind = "gaussian_mixture"
means = [[-0.5], [0.5]]
means_noise = 0.1
[walkers]
count = 500
[kernel]
kind = "ula"
step_size = 0.1
[objective]
kind = "jarzynski"
[optimizer]
kind = "sgd"
learning_rate = 0.05
[audit]
walkers = 500
repeats = 8
every = 200
"#;

/// Intervals of one estimator.
struct Intervals {
    name: &'static str,
    repeats: usize,
    held: usize,
    errors: Vec<f64>,
}

impl Intervals {
    fn new(name: &'static str, repeats: usize) -> Self {
        Self { name, repeats, held: 0, errors: Vec::new() }
    }

    fn see(&mut self, estimate: Estimate, exact: f64) {
        let error = estimate.value - exact;
        self.held += usize::from(error.abs() <= t95(self.repeats - 1) * estimate.standard_error);
        self.errors.push(error);
    }
}

/// A line for each estimator; whether all cover 95 ± 2 %.
///
/// # Panics
/// If a run fails.
pub fn campaign(runs: u64) -> bool {
    let device: Device = cpu();
    let config = Config::from_toml(CONFIG, "campaign").expect("a valid config");
    let mut all =
        [Intervals::new("audit", 8), Intervals::new("tempered SMC", 8), Intervals::new("tempered SMC", 32)];
    for seed in 0..runs {
        // Seeds that no test has.
        let seed = seed + 1_000_000;
        let mut trainer = Trainer::new(Config { seed, ..config.clone() }, &device).expect("a trainer");
        for _ in 0..config.steps {
            trainer.update(false).expect("an update");
        }
        let exact = trainer.model.log_z().expect("a mixture");
        let mut audit = trainer.audit.clone().expect("an audit");
        audit.walkers = audit.walkers.reweight(&trainer.model);
        all[0].see(audit.log_z(), exact);
        for intervals in &mut all[1..] {
            let options =
                SmcOptions { walkers: 500, repeats: intervals.repeats, seed, ..SmcOptions::default() };
            intervals.see(tempered(&trainer.model, options).expect("an estimate").log_z, exact);
        }
    }
    let mut good = true;
    for Intervals { name, repeats, held, errors } in &all {
        let share = *held as f64 / runs as f64;
        let share_se = (share * (1.0 - share) / runs as f64).sqrt();
        let (bias, bias_se) = mean_se(errors);
        println!(
            "{name}, {repeats} repeats: {:.1} ± {:.1} % of {runs} intervals hold log Z; mean error {bias:+.5} ± {bias_se:.5}",
            100.0 * share,
            100.0 * share_se
        );
        good &= (share - 0.95).abs() <= 0.02;
    }
    good
}
