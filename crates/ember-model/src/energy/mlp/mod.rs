//! Multi-layer perceptron: `U(x) = w_L·a(… a(W_0 x + b_0) …) + b_L + ½ c |x|²`.
//!
//! `MlpEnergy::by_tensors` is the plain form, for the tape. Off it there are explicit forward and backward passes: `cpu` on the CPU, one
//! launch (`fused`) or tensor operations (`explicit`) elsewhere.

mod cpu;
mod score;
mod thin;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::chain::{Chain, ChainEnd, ChainState};
use super::levelled::Levelled;
use super::levels::LevelsTable;
use super::line::{self, Line};
use super::network::{
    check_confinement, check_hidden, confine, gaussian_draws, gaussian_log_z, init_layers,
    is_confinement_alone, last_layer_is_zero, layer_params, perceptron_at, perceptron_shapes,
};
use super::score::{ScoreForm, ScoreGrads, ScoreLoss};
use super::spectral::SpectralNorm;
use super::{
    Architecture, EnergyTable, Evaluation, WeightedGrads, energy_and_grad_by_autodiff, explicit,
    weighted_param_grads_by_autodiff,
};
use crate::cpu::CpuForm;
use crate::error::ModelError;
use crate::params::ParamSpec;
use crate::precision::Precision;
use crate::random::Stream;
use crate::shape::SampleShape;
use cpu::Perceptron;

/// `{ kind = "mlp", hidden, activation, spectral_norm, confinement, levels }`.
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
    /// Noise levels that the energy knows of (`levels.rs`); it is then the energy at the smallest, and others are for objectives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<LevelsTable>,
}

impl EnergyTable for Mlp {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// An empty or zero-width `hidden`, a negative or non-finite `confinement`, levels that are none.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        check_hidden(&self.hidden)?;
        check_confinement(self.confinement)?;
        let energy = self.on(shape.dim());
        let energy: Box<dyn Architecture> = match &self.levels {
            None => Box::new(energy),
            Some(levels) => {
                let levels = levels.resolve()?;
                let free = Self { confinement: 0.0, ..self.clone() };
                Box::new(Levelled::new(energy, free.on(shape.dim() + 1), levels))
            }
        };
        Ok(SpectralNorm::wrap(energy, self.spectral_norm))
    }

    fn has_precisions(&self) -> bool {
        true
    }
}

impl Mlp {
    /// The network on `dim` inputs.
    fn on(&self, dim: usize) -> MlpEnergy {
        let cpu = CpuForm::new(Perceptron {
            shapes: perceptron_shapes(dim, &self.hidden, 1),
            activation: self.activation,
            confinement: self.confinement as f32,
        });
        let score = ScoreForm::new(&cpu);
        MlpEnergy { dim, cpu, score, config: self.clone(), precision: Precision::F32 }
    }
}

/// An [`Mlp`] on samples of `dim` coordinates.
#[derive(Clone, Debug)]
struct MlpEnergy {
    dim: usize,
    cpu: CpuForm<Perceptron>,
    score: ScoreForm<Perceptron>,
    config: Mlp,
    precision: Precision,
}

impl MlpEnergy {
    /// The explicit form of the CPU; explicit forms are f32.
    fn explicit(&self) -> Option<&CpuForm<Perceptron>> {
        self.precision.is_f32().then_some(&self.cpu)
    }

    /// `U(x)` as tensor operations, on any device and on the tape.
    fn by_tensors(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let [n, _] = x.dims();
        let h = perceptron_at(theta, x.clone(), self.config.activation, self.precision);
        confine(h.reshape([n]), x, self.config.confinement)
    }

    /// The forward pass in tensor operations, ready to go back.
    fn pass(&self, theta: &[Tensor<1>], x: Tensor<2>) -> explicit::Perceptron {
        explicit::Perceptron::new(theta, x, self.config.activation, self.config.confinement)
    }

    /// `(U, ∇ₓU)` in one launch, where a GPU can.
    #[cfg(feature = "wgpu")]
    fn fused(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
        super::fused::energy_and_grad(theta, x, self.config.activation, self.config.confinement)
    }

    #[cfg(not(feature = "wgpu"))]
    fn fused(&self, _theta: &[Tensor<1>], _x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
        None
    }

    /// Weighted parameter gradients in two launches, where a GPU can.
    #[cfg(feature = "wgpu")]
    fn fused_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> Option<WeightedGrads> {
        let config = &self.config;
        super::fused::grads::weighted_param_grads(theta, terms, config.activation, config.confinement)
    }

    #[cfg(not(feature = "wgpu"))]
    fn fused_grads(&self, _theta: &[Tensor<1>], _terms: &[(Tensor<2>, Tensor<1>)]) -> Option<WeightedGrads> {
        None
    }

    /// A chain in one launch, where a GPU can.
    #[cfg(feature = "wgpu")]
    fn fused_chain(&self, theta: &[Tensor<1>], from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        super::fused::chain(theta, from, chain, self.config.activation, self.config.confinement)
    }

    #[cfg(not(feature = "wgpu"))]
    fn fused_chain(&self, _theta: &[Tensor<1>], _from: &ChainState, _chain: &Chain) -> Option<ChainEnd> {
        None
    }
}

impl Architecture for MlpEnergy {
    fn kind(&self) -> &'static str {
        "mlp"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn is_network(&self) -> bool {
        true
    }

    fn widest(&self) -> usize {
        self.config.hidden.iter().copied().max().unwrap_or_default()
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
        let Some(cpu) = self.explicit() else {
            return energy_and_grad_by_autodiff(self, theta, x);
        };
        cpu.energy_and_grad(theta, &x)
            .or_else(|| self.fused(theta, &x))
            .unwrap_or_else(|| explicit::energy_and_grad(&self.pass(theta, x)))
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        let Some(cpu) = self.explicit() else {
            let (energy, grad) = energy_and_grad_by_autodiff(self, theta, x);
            return (energy, grad, None);
        };
        if let Some(kept) = cpu.energy_and_grad_kept(theta, &x) {
            return kept;
        }
        // One launch, and another pass for the gradient in θ, is less than to keep: that takes a launch for every step of the pass, or,
        // of many walkers, as much memory traffic as the pass has work.
        match self.fused(theta, &x) {
            Some((energy, grad)) => (energy, grad, None),
            None => explicit::energy_and_grad_kept(self.pass(theta, x)),
        }
    }

    fn chain(&self, theta: &[Tensor<1>], from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        self.explicit()?;
        self.fused_chain(theta, from, chain)
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let Some(cpu) = self.explicit() else {
            return weighted_param_grads_by_autodiff(self, theta, terms);
        };
        cpu.weighted_param_grads(theta, terms)
            .or_else(|| self.fused_grads(theta, terms))
            .unwrap_or_else(|| explicit::weighted_param_grads(terms, |x| self.pass(theta, x)))
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        let line = Line::new(x.clone(), v.clone());
        let u = line::perceptron(theta, line, self.config.activation, self.precision).energies();
        Some(line::confine(u, x, v, self.config.confinement))
    }

    fn score_grads(&self, theta: &[Tensor<1>], x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        self.explicit()?;
        self.score.grads(theta, x, loss)
    }

    fn jet_order(&self) -> usize {
        if self.config.activation.is_smooth() { 2 } else { 1 }
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        is_confinement_alone(theta, self.config.confinement)
            .then(|| gaussian_log_z(self.dim, self.config.confinement))
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        is_confinement_alone(theta, self.config.confinement)
            .then(|| gaussian_draws(self.dim, self.config.confinement, count, stream))
    }

    fn starts_at_base(&self) -> bool {
        true
    }

    fn is_base_alone(&self, theta: &[Vec<f32>]) -> bool {
        last_layer_is_zero(theta)
    }

    fn confinement(&self) -> Option<f64> {
        (self.config.confinement > 0.0).then_some(self.config.confinement)
    }
}
