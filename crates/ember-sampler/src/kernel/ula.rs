//! Unadjusted Langevin algorithm with exact Jarzynski weights (Carbone et al. 2023, Algorithm 1).
//!
//! `X' = X − h ∇U_k(X) + √(2h) ξ`, `A' = A − α_{k+1}(X', X) + α_k(X, X')`,
//! `α_θ(x, y) = U_θ(x) + ½ (y − x)·∇U_θ(x) + (h/4) |∇U_θ(x)|²`.
//!
//! Gradients per step: 1. Exact for every h: the increment is the log-ratio of `ρ̃_{k+1}(y) π_{k+1}(y→x)` to
//! `ρ̃_k(x) π_k(x→y)`, no small-step limit. Fails by weight collapse, not by bias: watch ess.

use ember_model::Energy;
use ember_model::random::Purpose;
use serde::{Deserialize, Serialize};

use super::{Kernel, StepInfo, WeightRule};
use crate::device::{langevin_proposal, ula_log_weight_increment};
use crate::noise::Noise;
use crate::walkers::Walkers;

/// `{ kind = "ula", step_size }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ula {
    /// h in `x − h∇U + √(2h) ξ`.
    pub step_size: f64,
}

impl Kernel for Ula {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::TransitionDensity
    }

    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        let h = self.step_size;
        let (x, grad) = (walkers.position, walkers.energy_grad);
        // X' = X − h ∇U_k(X) + √(2h) ξ
        let y = langevin_proposal(
            x.clone(),
            grad.clone(),
            h as f32,
            (2.0 * h).sqrt() as f32,
            noise.stream(Purpose::Noise),
        );
        let (u_y, grad_y) = energy.energy_and_grad(y.clone());
        // A += α_k(x, y) − α_{k+1}(y, x)   (Carbone et al. 2023, Alg. 1)
        let increment = ula_log_weight_increment(
            x,
            y.clone(),
            walkers.energy,
            grad,
            u_y.clone(),
            grad_y.clone(),
            h as f32,
        );
        let walkers = Walkers {
            position: y,
            energy: u_y,
            energy_grad: grad_y,
            log_weights: walkers.log_weights.accumulate(increment),
            ..walkers
        };
        (walkers, StepInfo { accept_rate: None })
    }

    fn with_step_size(&self, step_size: f64) -> Box<dyn Kernel> {
        Box::new(Self { step_size })
    }

    fn step_size(&self) -> f64 {
        self.step_size
    }
}
