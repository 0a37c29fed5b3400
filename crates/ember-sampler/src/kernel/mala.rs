//! Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996).
//!
//! Proposal as [`super::Ula`], accepted with probability `min(1, a)`, `log a = α_θ(x, y) − α_θ(y, x)`.
//! Gradients per step: 1 (at the proposal; the current pair is cached). Leaves `ρ_θ` exactly invariant *given that the
//! cached pair belongs to θ*: the caller reweights first. A proposal of non-finite energy is rejected.

use burn::tensor::{Bool, Tensor};
use ember_model::Energy;
use ember_model::energy::chain::ChainRule;
use ember_model::random::Purpose;
use serde::{Deserialize, Serialize};

use super::metropolis::{fraction, metropolis};
use super::row::{in_one_piece, one_by_one};
use super::transition::{Boundary, Transition};
use super::{Kernel, StepInfo, WeightRule};
use crate::noise::Noise;
use crate::walkers::Walkers;

/// What a chain does with the point it moved to.
const RULE: ChainRule = ChainRule::Mala;

/// `{ kind = "mala", step_size, drift_clip, boundary }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mala {
    /// h in `x − h∇U + √(2h) ξ`.
    pub step_size: f64,
    /// The largest drift `|h ∂U/∂x_j|` of one coordinate; no limit unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_clip: Option<f64>,
    /// What happens at the faces of the cube `[−1, 1]^d`: nothing unless given.
    #[serde(default, skip_serializing_if = "Boundary::is_none")]
    pub boundary: Boundary,
}

impl Mala {
    /// The plain kernel: no clip, no walls.
    pub fn new(step_size: f64) -> Self {
        Self { step_size, drift_clip: None, boundary: Boundary::None }
    }

    fn transition(&self) -> Transition {
        Transition { step_size: self.step_size, drift_clip: self.drift_clip, boundary: self.boundary }
    }

    /// One step, and which walkers moved.
    pub(super) fn moved(
        &self,
        energy: &dyn Energy,
        walkers: Walkers,
        noise: &Noise,
    ) -> (Walkers, Tensor<1, Bool>) {
        let transition = self.transition();
        let (x, grad) = (walkers.position.clone(), walkers.energy_grad.clone());
        let y = transition.propose(x.clone(), grad.clone(), noise.stream(Purpose::Noise));
        let (u_y, grad_y) = energy.energy_and_grad(y.clone());
        // log a = α_θ(x, y) − α_θ(y, x)
        let to = (y, u_y, grad_y);
        let log_ratio = transition.log_ratio((x, walkers.energy.clone(), grad), to.clone());
        metropolis(walkers, to, log_ratio, noise)
    }
}

impl Kernel for Mala {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::Invariant
    }

    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        let transition = self.transition();
        if let Some(done) = in_one_piece(&transition, RULE, energy, &walkers, 1, &|_| *noise) {
            return done;
        }
        let (walkers, accepted) = self.moved(energy, walkers, noise);
        (walkers, StepInfo { accept_rate: Some(fraction(accepted)), ..StepInfo::default() })
    }

    fn steps(
        &self,
        energy: &dyn Energy,
        last: &dyn Energy,
        walkers: Walkers,
        steps: u64,
        noise: &dyn Fn(u64) -> Noise,
    ) -> (Walkers, StepInfo) {
        in_one_piece(&self.transition(), RULE, energy, &walkers, steps, noise)
            .unwrap_or_else(|| one_by_one(self, energy, last, walkers, steps, noise))
    }

    fn with_step_size(&self, step_size: f64) -> Box<dyn Kernel> {
        Box::new(Self { step_size, ..self.clone() })
    }

    fn drift_clip(&self) -> Option<f64> {
        self.drift_clip
    }

    fn boundary(&self) -> Boundary {
        self.boundary
    }

    fn step_size(&self) -> Option<f64> {
        Some(self.step_size)
    }
}
