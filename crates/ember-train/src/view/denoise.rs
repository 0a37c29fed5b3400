//! The clean image behind a noisy one: Tweedie's formula, also Miyasawa's (Robbins 1956; Miyasawa 1961; Raphan and Simoncelli
//! 2011).
//!
//! Data noise of standard deviation σ makes the model learn `p_σ = p_data * N(0, σ² I)`. With `y = x + σ ξ`, the posterior
//! mean is `E[x | y] = y + σ² ∇ log p_σ(y)`, and `∇ log p_σ = −∇U` for a model at temperature 1 (of `V = U/T` elsewhere,
//! which is what an [`ember_model::EnergyModel`] returns). One gradient a call.
//!
//! It is exact for the model's own density. It is not on a cube `[−1, 1]^d`: noise that walls reflect is no convolution, and
//! within about σ of a wall the result is wrong.

use burn::tensor::Tensor;
use ember_model::Energy;

/// `E[x | y] = y − σ² ∇U(y)`: noisy positions `[n, dim]` → posterior means `[n, dim]`. σ = 0 returns the positions.
pub fn denoised(energy: &dyn Energy, noisy: Tensor<2>, sigma: f64) -> Tensor<2> {
    if sigma == 0.0 {
        return noisy;
    }
    let (_, grad) = energy.energy_and_grad(noisy.clone());
    // x̂ = y − σ² ∇U(y)
    noisy - grad.mul_scalar(sigma * sigma)
}
