//! What an objective says of the flow that moves its walkers between modes.

use ember_model::EnergyConfig;
use serde::{Deserialize, Serialize};

/// A flow that proposes global moves and follows the walkers.
#[derive(Clone, Copy, Debug)]
pub struct Assisted<'a> {
    /// The flow's table; a copy of the base of a tilted energy where there is none.
    pub proposal: Option<&'a EnergyConfig>,
    /// Which walkers it is fitted to.
    pub fit: Fit,
    /// Adam's learning rate for it.
    pub learning_rate: f64,
    /// Walkers in one of its steps.
    pub batch_size: usize,
    /// It has collapsed where fewer global moves than this are accepted, in the long run.
    pub accept_floor: f64,
}

/// Which walkers a proposal flow is fitted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Two flows, each fitted to one half of the walkers and moving the other half.
    #[default]
    Cross,
    /// One flow, fitted to all walkers and moving all of them: biased by O(1/N).
    Pooled,
    /// One flow, left as it was before the run.
    Frozen,
}
