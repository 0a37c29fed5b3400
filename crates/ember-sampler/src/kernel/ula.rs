//! Unadjusted Langevin algorithm with exact Jarzynski weights (Carbone et al. 2023, Algorithm 1).
//!
//! `X' = X − h ∇U_k(X) + √(2h) ξ`, `A' = A − α_{k+1}(X', X) + α_k(X, X')`,
//! `α_θ(x, y) = U_θ(x) + ½ (y − x)·∇U_θ(x) + (h/4) |∇U_θ(x)|²`.
//!
//! A clipped drift or a reflecting wall changes the step; its density in the increment is then that of the step as made
//! (`transition.rs`). Gradients per step: 1. Exact for every h: the increment is the log-ratio of `ρ̃_{k+1}(y) π_{k+1}(y→x)` to
//! `ρ̃_k(x) π_k(x→y)`, no small-step limit. Fails by weight collapse, not by bias: watch ess.

use ember_model::Energy;
use ember_model::energy::chain::ChainRule;
use ember_model::random::Purpose;
use serde::{Deserialize, Serialize};

use super::row::{in_one_piece, one_by_one};
use super::transition::{Boundary, Transition};
use super::{Kernel, StepInfo, WeightRule};
use crate::noise::Noise;
use crate::walkers::Walkers;

/// What a chain does with the point it moved to.
const RULE: ChainRule = ChainRule::Ula { weighted: true };

/// `{ kind = "ula", step_size, drift_clip, boundary }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ula {
    /// h in `x − h∇U + √(2h) ξ`.
    pub step_size: f64,
    /// The largest drift `|h ∂U/∂x_j|` of one coordinate; no limit unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_clip: Option<f64>,
    /// What happens at the faces of the cube `[−1, 1]^d`: nothing unless given.
    #[serde(default, skip_serializing_if = "Boundary::is_none")]
    pub boundary: Boundary,
}

impl Ula {
    /// The plain kernel: no clip, no walls.
    pub fn new(step_size: f64) -> Self {
        Self { step_size, drift_clip: None, boundary: Boundary::None }
    }

    fn transition(&self) -> Transition {
        Transition { step_size: self.step_size, drift_clip: self.drift_clip, boundary: self.boundary }
    }
}

impl Kernel for Ula {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::TransitionDensity
    }

    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        let transition = self.transition();
        if let Some(done) = in_one_piece(&transition, RULE, energy, &walkers, 1, &|_| *noise) {
            return done;
        }
        let (x, grad) = (walkers.position, walkers.energy_grad);
        // X' = X − h ∇U_k(X) + √(2h) ξ
        let y = transition.propose(x.clone(), grad.clone(), noise.stream(Purpose::Noise));
        let (u_y, grad_y, pass) = energy.energy_and_grad_kept(y.clone());
        // A += α_k(x, y) − α_{k+1}(y, x)   (Carbone et al. 2023, Alg. 1)
        let to = (y.clone(), u_y.clone(), grad_y.clone());
        let from = (x, walkers.energy, grad);
        let walkers = Walkers {
            position: y,
            energy: u_y,
            energy_grad: grad_y,
            log_weights: transition.earn(walkers.log_weights, from, to),
            ..walkers
        };
        (walkers, StepInfo { pass, ..StepInfo::default() })
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
