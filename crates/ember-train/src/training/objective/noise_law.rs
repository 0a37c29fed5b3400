//! Laws with exact draws and an exact density, to tell data from: a Gaussian fitted to the data, or a flow.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::product::matmul;
use ember_model::random::Stream;
use ember_sampler::FlowProposal;
use ember_sampler::device::standard_normal;

use super::data_loss::rowwise;
use crate::dataset::gaussian_fit::GaussianFit;

/// `p_n`.
#[derive(Debug)]
pub(super) enum NoiseLaw {
    /// `N(m, C Cᵀ)`.
    Gaussian(Box<GaussianLaw>),
    /// `ρ_α` of a flow at fixed α.
    Flow(Box<FlowProposal>),
}

/// A Gaussian on the device.
#[derive(Debug)]
pub(super) struct GaussianLaw {
    /// m, `[1, d]`.
    mean: Tensor<2>,
    /// `Cᵀ`: `x = m + z Cᵀ` of a standard normal row z.
    colouring: Tensor<2>,
    /// `C⁻ᵀ`: `z = (x − m) C⁻ᵀ`.
    whitening: Tensor<2>,
    /// `(d/2) log 2π + log det C`.
    log_scale: f64,
}

impl GaussianLaw {
    /// That of a fit.
    pub fn new(fit: &GaussianFit, device: &Device) -> Self {
        let mean = fit.mean();
        let d = mean.len();
        let square =
            |values: Vec<f32>| Tensor::<2>::from_data(TensorData::new(values, [d, d]), device).transpose();
        let half_log_2pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        Self {
            colouring: square(fit.colouring()),
            whitening: square(fit.whitening()),
            mean: Tensor::from_data(TensorData::new(mean, [1, d]), device),
            log_scale: d as f64 * half_log_2pi + fit.log_det_factor(),
        }
    }
}

impl NoiseLaw {
    /// `count` draws and `log p_n` of each. → `[count, dim]`, `[count]`.
    pub fn sample(&self, count: usize, stream: Stream) -> (Tensor<2>, Tensor<1>) {
        match self {
            Self::Gaussian(law) => {
                let [_, d] = law.mean.dims();
                let z = standard_normal([count, d], stream, &law.mean.device());
                let x = law.mean.clone() + matmul(z, law.colouring.clone());
                let log_prob = self.log_prob(x.clone());
                (x, log_prob)
            }
            Self::Flow(flow) => flow.sample(count, stream),
        }
    }

    /// `log p_n(x)`. `x: [n, dim]` → `[n]`.
    pub fn log_prob(&self, x: Tensor<2>) -> Tensor<1> {
        match self {
            Self::Gaussian(law) => {
                let z = matmul(x - law.mean.clone(), law.whitening.clone());
                rowwise(z.clone() * z).mul_scalar(-0.5).sub_scalar(law.log_scale)
            }
            Self::Flow(flow) => flow.log_prob(x),
        }
    }
}
