//! Hamiltonian Monte Carlo (Duane, Kennedy, Pendleton, Roweth 1987; Neal 2011, arXiv 1206.1901), identity mass,
//! Metropolis-adjusted.
//!
//! Momenta `p ~ N(0, I)` afresh in every step; `leapfrog_steps` times `p ← p − (ε/2)∇U`, `x ← x + εp`,
//! `p ← p − (ε/2)∇U`; then accepted with probability `min(1, a)`, `log a = U(x) − U(x') + ½|p|² − ½|p'|²`.
//! `step_size` is the leapfrog's own ε, *not* MALA's h: one leapfrog step of `ε = √(2h)` is a MALA step of h.
//! Gradients per step: `leapfrog_steps` (the first half step takes the cached one). Leaves `ρ_θ` exactly invariant
//! given that the cached pair belongs to θ. A trajectory that ends at an energy that is not finite is rejected. Fails
//! where `ε` exceeds twice the narrowest width of the target: nothing is accepted then.

use burn::tensor::{Bool, Tensor};
use ember_model::Energy;
use ember_model::random::Purpose;
use serde::{Deserialize, Serialize};

use super::metropolis::{fraction, metropolis};
use super::{BadValue, Boundary, Kernel, StepInfo, WeightRule};
use crate::device::standard_normal;
use crate::noise::Noise;
use crate::walkers::Walkers;

/// `{ kind = "hmc", step_size, leapfrog_steps }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hmc {
    /// ε of the leapfrog: `√(2h)` in terms of MALA's h.
    pub step_size: f64,
    /// Leapfrog steps of one trajectory.
    pub leapfrog_steps: u64,
}

impl Hmc {
    /// One trajectory, and which walkers moved.
    pub(super) fn moved(
        &self,
        energy: &dyn Energy,
        walkers: Walkers,
        noise: &Noise,
    ) -> (Walkers, Tensor<1, Bool>) {
        let step_size = self.step_size;
        let (mut x, mut grad) = (walkers.position.clone(), walkers.energy_grad.clone());
        let mut u = walkers.energy.clone();
        let start = standard_normal(x.dims(), noise.stream(Purpose::Noise), &x.device());
        // p ← p − (ε/2) ∇U(x)
        let mut p = start.clone() - grad.clone().mul_scalar(0.5 * step_size);
        for step in 1..=self.leapfrog_steps {
            x = x + p.clone().mul_scalar(step_size);
            (u, grad) = energy.energy_and_grad(x.clone());
            // Two half steps in one, but for the last.
            let part = if step == self.leapfrog_steps { 0.5 } else { 1.0 };
            p = p - grad.clone().mul_scalar(part * step_size);
        }
        // ½|p|² − ½|p'|² = ½ (p − p')·(p + p'), which cancels less
        let kinetic =
            ((start.clone() - p.clone()) * (start + p)).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5);
        let log_ratio = walkers.energy.clone() - u.clone() + kinetic;
        metropolis(walkers, (x, u, grad), log_ratio, noise)
    }
}

impl Kernel for Hmc {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::Invariant
    }

    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        let (walkers, accepted) = self.moved(energy, walkers, noise);
        (walkers, StepInfo { accept_rate: Some(fraction(accepted)), ..StepInfo::default() })
    }

    fn check(&self) -> Result<(), BadValue> {
        BadValue::unless_at_least("leapfrog_steps", self.leapfrog_steps, 1)
    }

    fn with_step_size(&self, step_size: f64) -> Box<dyn Kernel> {
        Box::new(Self { step_size, ..self.clone() })
    }

    fn step_size(&self) -> Option<f64> {
        Some(self.step_size)
    }

    fn drift_clip(&self) -> Option<f64> {
        None
    }

    fn boundary(&self) -> Boundary {
        Boundary::None
    }
}
