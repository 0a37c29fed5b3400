//! How often 95 % intervals of log Z hold the exact value: runs of a mixture of known log Z.

use std::fmt;
use std::ops::Range;

use ember_model::Energy;
use ember_train::config::Config;
use ember_train::smc::{SmcOptions, tempered};
use ember_train::statistics::{Estimate, t95};
use ember_train::trainer::Trainer;

use crate::{cpu, mean_se};

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

/// Repeats of the audit of [`coverage`].
pub const AUDIT_REPEATS: usize = 8;

/// Intervals of one estimator, a run each.
pub struct Intervals {
    /// The estimator.
    pub name: &'static str,
    /// Repeats behind an interval.
    pub repeats: usize,
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

    /// The share of intervals that hold the exact value.
    pub fn share(&self) -> f64 {
        self.held as f64 / self.errors.len() as f64
    }
}

impl fmt::Display for Intervals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, runs) = (self.share(), self.errors.len());
        let share_se = (share * (1.0 - share) / runs as f64).sqrt();
        let (bias, bias_se) = mean_se(&self.errors);
        write!(
            f,
            "{}, {} repeats: {:.1} ± {:.1} % of {runs} intervals hold log Z; mean error {bias:+.5} ± {bias_se:.5}",
            self.name,
            self.repeats,
            100.0 * share,
            100.0 * share_se
        )
    }
}

/// The intervals of the audit and of tempered SMC, for each of these counts of repeats, over a run for each seed; and the errors of the
/// on-line log Z.
///
/// # Panics
/// If a run fails.
pub fn coverage(seeds: Range<u64>, smc_repeats: &[usize]) -> (Vec<Intervals>, Vec<f64>) {
    let config = Config::from_toml(CONFIG, "coverage").expect("a valid config");
    let mut all = vec![Intervals::new("audit", AUDIT_REPEATS)];
    all.extend(smc_repeats.iter().map(|&repeats| Intervals::new("tempered SMC", repeats)));
    let mut online = Vec::new();
    for seed in seeds {
        let mut trainer = Trainer::new(Config { seed, ..config.clone() }, &cpu()).expect("a trainer");
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
        let walkers = trainer.walkers_at_theta();
        online.push(walkers.log_z.value() + walkers.summary().log_mean_exp - exact);
    }
    (all, online)
}
