//! What `ember eval` is asked for.

use crate::ais::AisOptions;
use crate::ood::Against;

/// What is measured beyond what every evaluation says.
#[derive(Clone, Debug, Default)]
pub struct EvalOptions {
    /// Repeats of a tempered SMC, should one be needed; at least 2.
    pub repeats: usize,
    /// Seed of the estimates.
    pub seed: u64,
    /// log Z from both ends.
    pub ais: Option<AisOptions>,
    /// Another data set to tell from the held-out one.
    pub against: Option<Against>,
}
