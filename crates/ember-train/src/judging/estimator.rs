//! The estimators of log Z that `ember eval` can be asked for.

use clap::ValueEnum;

/// `--estimators`: what log Z is to be had by, beside what is reported anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Estimator {
    /// Every one that is available.
    All,
    /// Independent weighted walkers beside the training.
    Audit,
    /// A sum over all states of a law of few bits.
    Enumeration,
    /// Tempered sequential Monte Carlo.
    Smc,
    /// Draws of a flow, weighted.
    Importance,
    /// Draws of a flow and samples of the model.
    Bridge,
}

impl Estimator {
    /// As on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Audit => "audit",
            Self::Enumeration => "enumeration",
            Self::Smc => "smc",
            Self::Importance => "importance",
            Self::Bridge => "bridge",
        }
    }
}
