//! `[optimizer]`: how θ moves. A new optimiser is one file and one line in the registry below.

use serde::{Deserialize, Serialize};

use super::adam::Adam;
use super::rule::OptimizerTable;
use super::schedule::Schedule;
use super::sgd::Sgd;

macro_rules! optimizers {
    ($($(#[$doc:meta])* $Variant:ident($Type:ty) = $kind:literal),* $(,)?) => {
        /// The `[optimizer]` table, tagged by `kind`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum OptimizerConfig { $($(#[$doc])* #[serde(rename = $kind)] $Variant($Type)),* }

        impl OptimizerConfig {
            /// Every `kind` there is.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The `kind` of this optimiser.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$Variant(_) => $kind),* }
            }

            /// What its table says.
            pub fn as_dyn(&self) -> &dyn OptimizerTable {
                match self { $(Self::$Variant(table) => table),* }
            }
        }
    };
}

optimizers! {
    /// Plain gradient descent.
    Sgd(Sgd) = "sgd",
    /// Adam (Kingma and Ba 2015).
    Adam(Adam) = "adam",
}

impl OptimizerConfig {
    /// What to say of a run of `steps` updates, of which the last ones change nothing; `None` where all do.
    pub fn idle(&self, steps: u64) -> Option<String> {
        let horizon = self.schedule().rest().filter(|&horizon| horizon < steps)?;
        Some(format!(
            "optimizer.schedule.horizon = {horizon} comes before steps = {steps}: from update {horizon} on the learning rate is 0 and θ \
             stays as it is. A longer horizon or optimizer.schedule.end > 0 trains on"
        ))
    }

    /// The learning rate at the start.
    pub fn learning_rate(&self) -> f64 {
        self.as_dyn().common().learning_rate
    }

    /// The norm the gradient is clipped to.
    pub fn clip_norm(&self) -> Option<f64> {
        self.as_dyn().common().clip_norm
    }

    /// The ess fraction that one update is to leave, which the learning rate follows.
    pub fn target_ess(&self) -> Option<f64> {
        self.as_dyn().common().target_ess
    }

    /// The largest spread that one update may give the log-weights.
    pub fn max_weight_change(&self) -> Option<f64> {
        self.as_dyn().common().max_weight_change
    }

    /// Decay of the moving average of θ, where one is kept.
    pub fn ema(&self) -> Option<f64> {
        self.as_dyn().common().ema
    }

    /// How the learning rate changes.
    pub fn schedule(&self) -> Schedule {
        self.as_dyn().common().schedule
    }

    /// The learning rate of update `step`, counted from 0.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        self.schedule().learning_rate(self.learning_rate(), step)
    }
}
