//! Multi-layer perceptron: `U(x) = w_L·a(… a(W_0 x + b_0) …) + b_L + ½ c |x|²`.
//!
//! `MlpEnergy::by_tensors` is the plain form, for GPUs and the tape; on the CPU, `cpu` is an explicit forward and backward.

mod cpu;
mod thin;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::network::{
    check_confinement, check_hidden, confine, gaussian_draws, gaussian_log_z, init_layers,
    is_confinement_alone, last_layer_is_zero, layer_params, perceptron_at, perceptron_shapes,
};
use super::spectral::SpectralNorm;
use super::{
    Architecture, Evaluation, WeightedGrads, energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff,
};
use crate::cpu::CpuForm;
use crate::error::ModelError;
use crate::params::ParamSpec;
use crate::precision::Precision;
use crate::random::Stream;
use crate::shape::SampleShape;
use cpu::Perceptron;

/// `{ kind = "mlp", hidden, activation, spectral_norm, confinement }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mlp {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// The non-linearity after each hidden layer.
    #[serde(default)]
    pub activation: Activation,
    /// Whether every layer but the last uses `W/σ(W)` (`spectral.rs`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spectral_norm: bool,
    /// `c` of the added `½ c |x|²`; 0 adds none.
    #[serde(default)]
    pub confinement: f64,
}

impl Mlp {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// An empty or zero-width `hidden`, a negative or non-finite `confinement`.
    pub fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        check_hidden(&self.hidden)?;
        check_confinement(self.confinement)?;
        let cpu = CpuForm::new(Perceptron {
            shapes: perceptron_shapes(shape.dim(), &self.hidden, 1),
            activation: self.activation,
            confinement: self.confinement as f32,
        });
        let energy = MlpEnergy { dim: shape.dim(), cpu, config: self.clone(), precision: Precision::F32 };
        Ok(SpectralNorm::wrap(Box::new(energy), self.spectral_norm))
    }
}

/// An [`Mlp`] on samples of `dim` coordinates.
#[derive(Clone, Debug)]
struct MlpEnergy {
    dim: usize,
    cpu: CpuForm<Perceptron>,
    config: Mlp,
    precision: Precision,
}

impl MlpEnergy {
    /// The explicit form, which is f32.
    fn explicit(&self) -> Option<&CpuForm<Perceptron>> {
        self.precision.is_f32().then_some(&self.cpu)
    }

    /// `U(x)` as tensor operations, on any device and on the tape.
    fn by_tensors(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let [n, _] = x.dims();
        let h = perceptron_at(theta, x.clone(), self.config.activation, self.precision);
        confine(h.reshape([n]), x, self.config.confinement)
    }
}

impl Architecture for MlpEnergy {
    fn kind(&self) -> &'static str {
        "mlp"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn params(&self) -> Vec<ParamSpec> {
        layer_params(&perceptron_shapes(self.dim, &self.config.hidden, 1))
    }

    fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        init_layers(&self.params(), seed)
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        self.explicit().and_then(|cpu| cpu.energy(theta, &x)).unwrap_or_else(|| self.by_tensors(theta, x))
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        self.explicit()
            .and_then(|cpu| cpu.energy_and_grad(theta, &x))
            .unwrap_or_else(|| energy_and_grad_by_autodiff(self, theta, x))
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        self.explicit().and_then(|cpu| cpu.energy_and_grad_kept(theta, &x)).unwrap_or_else(|| {
            let (energy, grad) = energy_and_grad_by_autodiff(self, theta, x);
            (energy, grad, None)
        })
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        self.explicit()
            .and_then(|cpu| cpu.weighted_param_grads(theta, terms))
            .unwrap_or_else(|| weighted_param_grads_by_autodiff(self, theta, terms))
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        is_confinement_alone(theta, self.config.confinement)
            .then(|| gaussian_log_z(self.dim, self.config.confinement))
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        is_confinement_alone(theta, self.config.confinement)
            .then(|| gaussian_draws(self.dim, self.config.confinement, count, stream))
    }

    fn is_base_alone(&self, theta: &[Vec<f32>]) -> bool {
        last_layer_is_zero(theta)
    }

    fn confinement(&self) -> Option<f64> {
        (self.config.confinement > 0.0).then_some(self.config.confinement)
    }
}
