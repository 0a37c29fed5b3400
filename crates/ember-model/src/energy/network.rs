//! What the network energies share: names, starting values, confinement, the exact start.

use burn::tensor::Tensor;

use super::activation::Activation;
use crate::error::ModelError;
use crate::params::ParamSpec;
use crate::precision::{Precision, product};
use crate::random::{Purpose, Stream};
use crate::shape::Support;

/// `layers.{i}.weight` and `layers.{i}.bias` for each weight shape `[out, ..]`.
pub(crate) fn free_layer_params(weights: &[Vec<usize>]) -> Vec<ParamSpec> {
    let layer = |(i, shape): (usize, &Vec<usize>)| {
        [
            ParamSpec::new(format!("layers.{i}.weight"), shape.clone()),
            ParamSpec::new(format!("layers.{i}.bias"), vec![shape[0]]),
        ]
    };
    weights.iter().enumerate().flat_map(layer).collect()
}

/// The same for an energy, whose last bias is frozen, as the first logit of a mixture is: it shifts `U` by a constant, so its
/// gradient is zero but for rounding, which an adaptive optimiser would blow up to full steps.
pub(super) fn layer_params(weights: &[Vec<usize>]) -> Vec<ParamSpec> {
    let mut params = free_layer_params(weights);
    if let Some(last_bias) = params.last_mut() {
        last_bias.learning_rate_scale = 0.0;
    }
    params
}

/// Kaiming-normal hidden weights (He et al. 2015: variance `2 / fan_in`), zero biases, and a zero last layer: a starting energy
/// is then its confinement alone, so that `ρ_{θ_0}` can be drawn exactly, and a coupling is the identity. `stream` gives each
/// parameter's numbers.
pub(crate) fn init_layers_with(params: &[ParamSpec], stream: &dyn Fn(usize) -> Stream) -> Vec<Vec<f32>> {
    let last = params.len().saturating_sub(2);
    let start = |(i, spec): (usize, &ParamSpec)| {
        if i >= last || spec.shape.len() == 1 {
            return vec![0.0; spec.len()];
        }
        let fan_in: usize = spec.shape[1..].iter().product();
        let std = (2.0 / fan_in as f32).sqrt();
        stream(i).normals(spec.shape[0], fan_in).into_iter().map(|z| std * z).collect()
    };
    params.iter().enumerate().map(start).collect()
}

/// [`init_layers_with`] the lanes of a seed.
pub(super) fn init_layers(params: &[ParamSpec], seed: u64) -> Vec<Vec<f32>> {
    init_layers_with(params, &|i| Stream::new(seed, Purpose::Init).lane(i as u32))
}

/// Weight shapes `[out, in]` of a perceptron from `input` over the `hidden` widths to `output`.
pub(crate) fn perceptron_shapes(input: usize, hidden: &[usize], output: usize) -> Vec<Vec<usize>> {
    let widths: Vec<usize> = std::iter::once(input).chain(hidden.iter().copied()).chain([output]).collect();
    widths.windows(2).map(|w| vec![w[1], w[0]]).collect()
}

/// `w_L·a(… a(W_0 x + b_0) …) + b_L`. `x: [batch, input]` → `[batch, output]`.
pub(crate) fn perceptron(theta: &[Tensor<1>], x: Tensor<2>, activation: Activation) -> Tensor<2> {
    perceptron_at(theta, x, activation, Precision::F32)
}

/// [`perceptron`] with the products of all layers but the last at `precision`.
pub(super) fn perceptron_at(
    theta: &[Tensor<1>],
    x: Tensor<2>,
    activation: Activation,
    precision: Precision,
) -> Tensor<2> {
    let mut h = x;
    let last = theta.len() / 2 - 1;
    for (i, layer) in theta.chunks_exact(2).enumerate() {
        if i > 0 {
            h = activation.forward(h);
        }
        let precision = if i == last { Precision::F32 } else { precision };
        let ([_, width], [out]) = (h.dims(), layer[1].dims());
        let weight = layer[0].clone().reshape([out, width]);
        h = product(h, weight.transpose(), precision) + layer[1].clone().reshape([1, out]);
    }
    h
}

/// Checks the widths of hidden layers.
pub(crate) fn check_hidden(hidden: &[usize]) -> Result<(), ModelError> {
    if !hidden.is_empty() && !hidden.contains(&0) {
        return Ok(());
    }
    Err(ModelError::invalid("hidden", format!("{hidden:?} needs at least one width, each ≥ 1")))
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
