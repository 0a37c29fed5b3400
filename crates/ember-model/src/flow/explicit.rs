//! The explicit forms of a chain: for plain tensors on the CPU, and on a GPU. `None` where neither serves; the layers' tensor form,
//! and the tape, then do.

use burn::tensor::Tensor;

use super::chain::Chain;
use crate::energy::WeightedGrads;

impl Chain {
    /// `U_θ(x)`.
    pub fn explicit_energy(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<Tensor<1>> {
        let found = self.cpu().and_then(|cpu| cpu.energy(theta, x));
        #[cfg(feature = "wgpu")]
        let found = found.or_else(|| self.gpu()?.energy(theta, x));
        found
    }

    /// `(U_θ(x), ∇ₓU_θ(x))`.
    pub fn explicit_energy_and_grad(
        &self,
        theta: &[Tensor<1>],
        x: &Tensor<2>,
    ) -> Option<(Tensor<1>, Tensor<2>)> {
        let found = self.cpu().and_then(|cpu| cpu.energy_and_grad(theta, x));
        #[cfg(feature = "wgpu")]
        let found = found.or_else(|| self.gpu()?.energy_and_grad(theta, x));
        found
    }

    /// The weighted parameter gradients of some terms.
    pub fn explicit_param_grads(
        &self,
        theta: &[Tensor<1>],
        terms: &[(Tensor<2>, Tensor<1>)],
    ) -> Option<WeightedGrads> {
        let found = self.cpu().and_then(|cpu| cpu.weighted_param_grads(theta, terms));
        #[cfg(feature = "wgpu")]
        let found = found.or_else(|| self.gpu()?.weighted_param_grads(theta, terms));
        found
    }

    /// `x` and `log |det ∂x/∂z|`.
    pub fn explicit_forward(&self, theta: &[Tensor<1>], z: &Tensor<2>) -> Option<(Tensor<2>, Tensor<1>)> {
        let found = self.cpu().and_then(|cpu| cpu.forward(theta, z));
        #[cfg(feature = "wgpu")]
        let found = found.or_else(|| self.gpu()?.forward(theta, z));
        found
    }

    /// `z` and `log |det ∂z/∂x|`.
    pub fn explicit_inverse(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<2>, Tensor<1>)> {
        let found = self.cpu().and_then(|cpu| cpu.inverse(theta, x));
        #[cfg(feature = "wgpu")]
        let found = found.or_else(|| self.gpu()?.inverse(theta, x));
        found
    }
}
