//! NeuTra (Hoffman et al. 2019, arXiv 1903.03704): MALA, or HMC, in the latent space of a flow.
//!
//! A step goes to `z = T⁻¹(x)`, moves z under `V(z) = U(T(z)) − log |det ∂T/∂z|`, and comes back by `x = T(z)`. The
//! move leaves `e^{−V}` invariant and is reversible, hence so is the step in x for `ρ_θ`, given α (`global.rs`).
//! `∇V = (∂T/∂z)ᵀ∇U − ∇ log |det ∂T/∂z|` by one backward pass of the flow; ∇U is the energy's own. Gradients per
//! step: 2 (MALA; the cached one serves the start, one more is taken at the end), or `leapfrog_steps + 1` (HMC), with
//! a pass of the flow and back for each and one inverse. `step_size` is MALA's h in z, or with `leapfrog_steps` the
//! leapfrog's ε (`hmc.rs`). Walkers that do not move keep their position to the bit. Where the flow is the target, V
//! is a standard Gaussian; where it joins distant modes by thin bridges, V has walls, and walkers do not cross any
//! better than in x. The flow must invert in single precision: `T(T⁻¹(x))` off by δ is a target off by δ.

use burn::tensor::Tensor;
use ember_model::Energy;
use serde::{Deserialize, Serialize};

use super::global::FlowKernel;
use super::metropolis::{fraction, replaced};
use super::{BadValue, Hmc, Mala, StepInfo};
use crate::noise::Noise;
use crate::proposal::Proposals;
use crate::walkers::Walkers;

/// `{ kind = "neutra", step_size, leapfrog_steps }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neutra {
    /// MALA's h in latent space, or the leapfrog's ε.
    pub step_size: f64,
    /// Leapfrog steps of a trajectory; MALA unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leapfrog_steps: Option<u64>,
}

impl FlowKernel for Neutra {
    fn step_with(
        &self,
        proposals: &Proposals,
        energy: &dyn Energy,
        walkers: Walkers,
        noise: &Noise,
    ) -> (Walkers, StepInfo) {
        let latent = Latent { energy, proposals };
        let start = latent.walkers(&walkers);
        let (end, moved) = match self.leapfrog_steps {
            Some(leapfrog_steps) => {
                Hmc { step_size: self.step_size, leapfrog_steps }.moved(&latent, start, noise)
            }
            None => Mala::new(self.step_size).moved(&latent, start, noise),
        };
        let (x, _) = proposals.forward(end.position);
        let (u, grad) = energy.energy_and_grad(x.clone());
        let walkers = replaced(walkers, (x, u, grad), moved.clone());
        (walkers, StepInfo { accept_rate: Some(fraction(moved)), ..StepInfo::default() })
    }

    fn local_step_size(&self) -> Option<f64> {
        Some(self.step_size)
    }

    fn at_step_size(&self, step_size: f64) -> Self {
        Self { step_size, ..self.clone() }
    }

    fn check_table(&self) -> Result<(), BadValue> {
        self.leapfrog_steps.map_or(Ok(()), |steps| BadValue::unless_at_least("leapfrog_steps", steps, 1))
    }
}

/// `V(z) = U(T(z)) − log |det ∂T/∂z|`.
struct Latent<'a> {
    energy: &'a dyn Energy,
    proposals: &'a Proposals,
}

impl Latent<'_> {
    /// The walkers' latents with V and ∇V, from the cached pair.
    fn walkers(&self, walkers: &Walkers) -> Walkers {
        let (z, log_det) = self.proposals.inverse(walkers.position.clone());
        let grad = walkers.energy_grad.clone();
        let (_, energy_grad) = self.pull_back(z.clone(), |_| ((), grad));
        // V = U + log |det ∂z/∂x|
        Walkers { position: z, energy: walkers.energy.clone() + log_det, energy_grad, ..walkers.clone() }
    }

    /// `(V, ∇V)` pulled back from what `at` gives at `x = T(z)`: the energy, of any kind, and `∇U`.
    fn pull_back<U>(
        &self,
        z: Tensor<2>,
        at: impl FnOnce(Tensor<2>) -> (U, Tensor<2>),
    ) -> ((U, Tensor<1>), Tensor<2>) {
        let z = z.autodiff().require_grad();
        let (x, log_det) = self.proposals.forward(z.clone());
        let (u, grad) = at(x.clone().without_autodiff());
        // ∇_z (x(z)·g − log |det ∂T/∂z|) at g = ∇U(x) is ∇V
        let work = (x * grad.autodiff()).sum() - log_det.clone().sum();
        let mut tape = work.backward();
        let grad = z.grad_remove(&mut tape).expect("x depends on z");
        ((u, log_det.without_autodiff()), grad)
    }
}

impl Energy for Latent<'_> {
    fn dim(&self) -> usize {
        self.energy.dim()
    }

    fn energy(&self, z: Tensor<2>) -> Tensor<1> {
        let (x, log_det) = self.proposals.forward(z);
        self.energy.energy(x) - log_det
    }

    fn energy_and_grad(&self, z: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let ((u, log_det), grad) = self.pull_back(z, |x| self.energy.energy_and_grad(x));
        (u - log_det, grad)
    }
}
