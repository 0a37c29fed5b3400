//! Maximum likelihood with walkers that a flow moves between modes (Grenioux, Moulines, Gabrié 2023; ALGORITHMS 5).
//!
//! Each update: the walkers make the kernel's moves (a flow's proposal for every walker, then local steps), θ steps with the
//! walkers as negatives, and the proposal flow steps towards the walkers. Without `weights` every walker counts 1/N: right where the
//! global moves mix faster than θ moves. With them the moves keep their exact Jarzynski weights, whatever they mix: local and
//! global moves, and no bias where they fail.
//!
//! A kernel that proposes from a flow is exact given a flow that does not depend on the walker it moves. One fitted to the same
//! walkers does, to O(1/N): `fit = "cross"` keeps two flows, each fitted to one half of the walkers and moving the other;
//! `"frozen"` leaves the flow as it was before the run; `"pooled"` fits one flow to all walkers and moves all with it. What is
//! left with `"cross"` is that the halves know of each other through θ, the flows' past and, with weights, resampling.

use burn::tensor::Tensor;
use ember_model::{EnergyConfig, EnergyModel};
use ember_sampler::{Kernel, Noise, StepInfo, Walkers};
use serde::{Deserialize, Serialize};

use super::assisted::{Assisted, Fit};
use super::{Jarzynski, Objective, PersistentCd, Schedule};

/// `{ kind = "flow_assisted", weights, proposal, fit, proposal_learning_rate, proposal_batch_size, accept_floor, energy_l2 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowAssisted {
    /// Whether the walkers carry log-weights.
    #[serde(default)]
    pub weights: bool,
    /// The flow that proposes: a copy of the base of a tilted energy unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposal: Option<EnergyConfig>,
    /// Which walkers a proposal flow is fitted to.
    #[serde(default)]
    pub fit: Fit,
    /// Adam's learning rate for the proposal flow.
    #[serde(default = "thousandth")]
    pub proposal_learning_rate: f64,
    /// Walkers in one step of the proposal flow.
    #[serde(default = "batch")]
    pub proposal_batch_size: usize,
    /// The proposal flow has collapsed where fewer global moves than this are accepted, in the long run: local moves go on alone.
    #[serde(default = "floor")]
    pub accept_floor: f64,
    /// λ of the added `λ (E_data[e²] + Σ W_i e(X_i)²)`, `e` the energy less its base (Du and Mordatch 2019); 0 adds none.
    #[serde(default)]
    pub energy_l2: f64,
}

fn thousandth() -> f64 {
    1e-3
}

fn batch() -> usize {
    256
}

fn floor() -> f64 {
    0.01
}

impl Objective for FlowAssisted {
    fn carries_weights(&self) -> bool {
        self.weights
    }

    fn energy_l2(&self) -> f64 {
        self.energy_l2
    }

    fn assisted(&self) -> Option<Assisted<'_>> {
        Some(Assisted {
            proposal: self.proposal.as_ref(),
            fit: self.fit,
            learning_rate: self.proposal_learning_rate,
            batch_size: self.proposal_batch_size,
            accept_floor: self.accept_floor,
        })
    }

    fn advance(
        &self,
        kernel: &dyn Kernel,
        model: &EnergyModel,
        walkers: Walkers,
        batch: &Tensor<2>,
        schedule: Schedule,
        noise: &dyn Fn(u64) -> Noise,
    ) -> (Walkers, Option<StepInfo>) {
        if self.weights {
            Jarzynski::default().advance(kernel, model, walkers, batch, schedule, noise)
        } else {
            PersistentCd::default().advance(kernel, model, walkers, batch, schedule, noise)
        }
    }
}
