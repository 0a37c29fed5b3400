//! What the network energies share: names, starting values, confinement, the exact start.

use burn::tensor::Tensor;

use crate::error::ModelError;
use crate::params::ParamSpec;
use crate::random::{Purpose, Stream};
use crate::shape::Support;

/// `layers.{i}.weight` and `layers.{i}.bias` for each weight shape `[out, ..]`.
///
/// The last bias is frozen, as the first logit of a mixture is: it shifts `U` by a constant, so its gradient is zero but for
/// rounding, which an adaptive optimiser would blow up to full steps.
pub(super) fn layer_params(weights: &[Vec<usize>]) -> Vec<ParamSpec> {
    let mut params: Vec<ParamSpec> = weights
        .iter()
        .enumerate()
        .flat_map(|(i, shape)| {
            [
                ParamSpec::new(format!("layers.{i}.weight"), shape.clone()),
                ParamSpec::new(format!("layers.{i}.bias"), vec![shape[0]]),
            ]
        })
        .collect();
    if let Some(last_bias) = params.last_mut() {
        last_bias.learning_rate_scale = 0.0;
    }
    params
}

/// Kaiming-normal hidden weights (He et al. 2015: variance `2 / fan_in`), zero biases, and a zero last layer, so that the
/// starting energy is its confinement alone and `ρ_{θ_0}` can be drawn exactly.
pub(super) fn init_layers(params: &[ParamSpec], seed: u64) -> Vec<Vec<f32>> {
    let last = params.len().saturating_sub(2);
    params
        .iter()
        .enumerate()
        .map(|(i, spec)| {
            if i >= last || spec.shape.len() == 1 {
                return vec![0.0; spec.len()];
            }
            let fan_in: usize = spec.shape[1..].iter().product();
            let std = (2.0 / fan_in as f32).sqrt();
            Stream::new(seed, Purpose::Init)
                .lane(i as u32)
                .normals(spec.shape[0], fan_in)
                .into_iter()
                .map(|z| std * z)
                .collect()
        })
        .collect()
}

/// Adds `½ c |x|²`. `u: [batch]`, `x: [batch, dim]`.
pub(super) fn confine(u: Tensor<1>, x: Tensor<2>, confinement: f64) -> Tensor<1> {
    if confinement == 0.0 {
        return u;
    }
    let square = (x.clone() * x).sum_dim(1).squeeze_dim::<1>(1);
    u + square.mul_scalar(0.5 * confinement)
}

/// Whether the last layer is zero, that is, whether `U(x) = ½ c |x|²` exactly.
pub(super) fn is_confinement_alone(theta: &[Vec<f32>], confinement: f64) -> bool {
    confinement > 0.0 && last_layer_is_zero(theta)
}

/// Whether the network is zero.
pub(super) fn last_layer_is_zero(theta: &[Vec<f32>]) -> bool {
    let last = theta.len().saturating_sub(2);
    theta[last..].iter().flatten().all(|&value| value == 0.0)
}

/// `log ∫ e^{−½ c |x|²} = (d/2) ln(2π/c)`.
pub(super) fn gaussian_log_z(dim: usize, confinement: f64) -> f64 {
    dim as f64 * Support::Unbounded.gaussian_log_z(confinement)
}

/// Draws of `N(0, I/c)`, row-major `[count, dim]`.
pub(super) fn gaussian_draws(dim: usize, confinement: f64, count: usize, stream: Stream) -> Vec<f32> {
    Support::Unbounded.gaussian_draws(dim, confinement, count, stream)
}

/// Checks `confinement`.
pub(super) fn check_confinement(confinement: f64) -> Result<(), ModelError> {
    if confinement.is_finite() && confinement >= 0.0 {
        return Ok(());
    }
    Err(ModelError::invalid("confinement", format!("{confinement} is not a finite number ≥ 0")))
}
