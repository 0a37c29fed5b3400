//! Normalizing flows: bijections `x = T_θ(z)` of `z ~ N(0, I)`, whose density is known exactly.
//!
//! `log ρ_θ(x) = −½ |z|² − (d/2) ln 2π + log |det ∂z/∂x|`, `z = T_θ⁻¹(x)` (Papamakarios et al. 2021, equation 2). As an energy,
//! `U = −log ρ_θ`, so that `log Z = 0` at every θ and exact draws cost one pass.
//!
//! `forward` goes from the latent z to data x, `inverse` from x to z; `log_det` belongs to the direction returned. A flow is a
//! chain of layers, listed from the data to the latent, each a file of its own.

mod act_norm;
mod affine;
mod chain;
mod conditioner;
mod couplings;
mod cpu;
mod energy;
mod explicit;
#[cfg(feature = "wgpu")]
mod gpu;
mod logit;
mod mask;
pub mod multiscale_real_nvp;
mod parts;
mod rational_quadratic;
pub mod real_nvp;
pub mod spline_flow;
mod squeeze;
mod steps;

pub use mask::Mask;

use std::fmt::Debug;

use burn::tensor::{Device, Tensor, TensorData};

use crate::params::ParamSpec;
use crate::random::Stream;

/// A bijection of `[batch, dim]` as a pure function of θ, one flat tensor per entry of [`Flow::params`]. Every result can be
/// differentiated in θ and in its argument.
pub trait Flow: Debug + Send + Sync {
    /// The flow's `kind` in a config.
    fn kind(&self) -> &'static str;

    /// Coordinates of one sample.
    fn dim(&self) -> usize;

    /// The parameters, in order.
    fn params(&self) -> Vec<ParamSpec>;

    /// Starting values, one flat vector per parameter: a pure function of the seed. The starting flow is the identity, up to the
    /// order of the coordinates of z and to a fixed transform of the data.
    fn init(&self, seed: u64) -> Vec<Vec<f32>>;

    /// `x = T(z)` and `log |det ∂x/∂z|`. `z: [batch, dim]` → `[batch, dim]`, `[batch]`.
    fn forward(&self, theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>);

    /// `z = T⁻¹(x)` and `log |det ∂z/∂x|`. `x: [batch, dim]` → `[batch, dim]`, `[batch]`.
    fn inverse(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>);

    /// Whether some layers are to be set from data before a run (act-norm).
    fn has_data_init(&self) -> bool;

    /// θ with those layers set from `rows: [n, dim]`, n ≥ 2: each then leaves every coordinate (or channel) of the rows that
    /// reach it with mean 0 and variance 1 (Kingma and Dhariwal 2018, section 3.1). Without such layers θ itself.
    fn data_init(&self, theta: &[Tensor<1>], rows: Tensor<2>) -> Vec<Tensor<1>>;

    /// Where a number that is not finite first appears in `log_prob(x)`, on the way from x to z. Waits for the device.
    fn first_non_finite_layer(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Option<NonFinite>;

    /// `log ρ_θ(x)`. `x: [batch, dim]` → `[batch]`.
    fn log_prob(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let (z, log_det) = self.inverse(theta, x);
        log_det + standard_normal(z)
    }

    /// `count` exact draws, `[count, dim]`, on θ's device. The latents are the same on every device.
    fn sample(&self, theta: &[Tensor<1>], count: usize, stream: Stream) -> Tensor<2> {
        let device = theta.first().map_or_else(Device::flex, Tensor::device);
        let z = TensorData::new(stream.normals(count, self.dim()), [count, self.dim()]);
        self.forward(theta, Tensor::from_data(z, &device)).0
    }
}

/// The place where a number that is not finite first appears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// The layer's place, counted from the data; `None` where x itself is not finite, or where only `|z|²` is not.
    pub layer: Option<usize>,
    /// The layer as the parameters' names have it, for example `couplings.3`; `input` or `base` where there is none.
    pub name: String,
    /// What is not finite.
    pub quantity: Quantity,
}

/// What a layer returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// The coordinates.
    Position,
    /// `log |det|`.
    LogDet,
}

/// `log N(z; 0, I)`. `z: [batch, dim]` → `[batch]`.
pub fn standard_normal(z: Tensor<2>) -> Tensor<1> {
    let [_, dim] = z.dims();
    let square = (z.clone() * z).sum_dim(1).squeeze_dim::<1>(1);
    // −½ |z|² − (d/2) ln 2π
    square.mul_scalar(-0.5) - 0.5 * dim as f64 * (2.0 * std::f64::consts::PI).ln()
}
