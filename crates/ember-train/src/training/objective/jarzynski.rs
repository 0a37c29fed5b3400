//! Maximum likelihood with Jarzynski-weighted walkers (Carbone, Hua, Coste, Vanden-Eijnden 2023, Algorithm 1).
//!
//! Each update: the walkers follow θ with exact log-weights, then `G = E_data[∂_θU] − Σ_i W_i ∂_θU(X_i)` with
//! `W = softmax(A)`. Exact for every step size as N → ∞, whatever the kernel mixes; fails by weight collapse (watch
//! `ess_fraction` and `distinct_ancestors`).

use burn::tensor::Tensor;
use ember_model::EnergyModel;
use ember_sampler::{Kernel, Noise, StepInfo, Walkers};
use serde::{Deserialize, Serialize};

use super::{Objective, Schedule, walk};

/// `{ kind = "jarzynski", energy_l2 }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jarzynski {
    /// λ of the added `λ (E_data[e²] + Σ W_i e(X_i)²)`, `e` the energy less its confinement (Du and Mordatch 2019); 0 adds
    /// none.
    #[serde(default)]
    pub energy_l2: f64,
}

impl Objective for Jarzynski {
    fn energy_l2(&self) -> f64 {
        self.energy_l2
    }

    fn carries_weights(&self) -> bool {
        true
    }

    fn advance(
        &self,
        kernel: &dyn Kernel,
        model: &EnergyModel,
        walkers: Walkers,
        _batch: &Tensor<2>,
        schedule: Schedule,
        noise: &dyn Fn(u64) -> Noise,
    ) -> (Walkers, Option<StepInfo>) {
        let walkers = if schedule.partial {
            // What the walkers earned since their last visit, in one correction: the sum over the updates telescopes.
            walkers.reweight(model)
        } else {
            // An invariant kernel must start from the pair of the new θ; ULA's increment spans the change itself.
            kernel.prepare(model, walkers)
        };
        walk(kernel, model, walkers, schedule, noise)
    }
}
