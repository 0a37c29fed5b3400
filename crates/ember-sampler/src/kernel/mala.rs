//! Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996).
//!
//! Proposal as [`super::Ula`], accepted with probability `min(1, a)`, `log a = α_θ(x, y) − α_θ(y, x)`.
//! Gradients per step: 1 (at the proposal; the current pair is cached). Leaves `ρ_θ` exactly invariant *given that the
//! cached pair belongs to θ*: the caller reweights first. A proposal of non-finite energy is rejected.

use burn::tensor::Tensor;
use ember_model::Energy;
use ember_model::random::Purpose;
use serde::{Deserialize, Serialize};

use super::{Kernel, StepInfo, WeightRule};
use crate::device::{langevin_proposal, ula_log_weight_increment, uniform};
use crate::noise::Noise;
use crate::walkers::Walkers;

/// `{ kind = "mala", step_size }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mala {
    /// h in `x − h∇U + √(2h) ξ`.
    pub step_size: f64,
}

impl Kernel for Mala {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::Invariant
    }

    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        let h = self.step_size;
        let [n, _] = walkers.position.dims();
        let y = langevin_proposal(
            walkers.position.clone(),
            walkers.energy_grad.clone(),
            h as f32,
            (2.0 * h).sqrt() as f32,
            noise.stream(Purpose::Noise),
        );
        let (u_y, grad_y) = energy.energy_and_grad(y.clone());
        // log a = α_θ(x, y) − α_θ(y, x)
        let log_ratio = ula_log_weight_increment(
            walkers.position.clone(),
            y.clone(),
            walkers.energy.clone(),
            walkers.energy_grad.clone(),
            u_y.clone(),
            grad_y.clone(),
            h as f32,
        );
        let threshold = uniform(n, noise.stream(Purpose::Accept), &y.device()).log();
        // A NaN ratio compares false: rejected.
        let accept = threshold.lower(log_ratio);
        let rows = accept.clone().reshape([n, 1]);
        let accepted: Tensor<1> = accept.clone().float();
        let walkers = Walkers {
            energy: walkers.energy.mask_where(accept, u_y),
            position: walkers.position.mask_where(rows.clone(), y),
            energy_grad: walkers.energy_grad.mask_where(rows, grad_y),
            ..walkers
        };
        let info = StepInfo { accept_rate: Some(crate::reduce::mean(accepted)) };
        (walkers, info)
    }

    fn with_step_size(&self, step_size: f64) -> Box<dyn Kernel> {
        Box::new(Self { step_size })
    }

    fn step_size(&self) -> f64 {
        self.step_size
    }
}
