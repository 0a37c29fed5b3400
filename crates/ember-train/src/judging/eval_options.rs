//! What `ember eval` is asked for.

use crate::judging::estimator::Estimator;
use crate::judging::ladder::LadderSizes;
use crate::judging::ood::Against;
use ember_sampler::evidence::ais::AisOptions;
use ember_sampler::evidence::smc::SmcOptions;

/// What is measured beyond what every evaluation says.
#[derive(Clone, Debug, Default)]
pub struct EvalOptions {
    /// Repeats of a tempered SMC, should one be needed; at least 2.
    pub repeats: usize,
    /// Seed of the estimates.
    pub seed: u64,
    /// Walkers of each repeat of a tempered SMC, where not the usual ones.
    pub smc_walkers: Option<usize>,
    /// Its moves at each temperature, where not the usual ones.
    pub smc_moves: Option<usize>,
    /// The smallest conditional ess fraction kept at each temperature, where not the usual one.
    pub smc_ess: Option<f64>,
    /// Estimators of log Z asked for beside those that are cheap.
    pub estimators: Vec<Estimator>,
    /// Steps of the run's kernel at fixed θ whose mixing is measured.
    pub mixing: Option<usize>,
    /// Parallel tempering over the run's checkpoints.
    pub ladder: Option<LadderSizes>,
    /// log Z from both ends.
    pub ais: Option<AisOptions>,
    /// Another data set to tell from the held-out one.
    pub against: Option<Against>,
}

impl EvalOptions {
    /// Sizes of a tempered SMC in `dim` coordinates.
    pub fn smc(&self, dim: usize) -> SmcOptions {
        let usual = SmcOptions::for_dim(dim);
        SmcOptions {
            walkers: self.smc_walkers.unwrap_or(usual.walkers),
            moves: self.smc_moves.unwrap_or(usual.moves),
            conditional_ess: self.smc_ess.unwrap_or(usual.conditional_ess),
            repeats: self.repeats,
            seed: self.seed,
        }
    }
}
