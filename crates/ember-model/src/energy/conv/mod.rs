//! Convolutional network on `[c, h, w]` images whose last layer leaves one number, plus `½ c |x|²`.
//!
//! `ConvEnergy::by_tensors` is the plain form, for the tape. Off it there are explicit forward and backward passes: `cpu` on the CPU,
//! `gpu` by kernels of our own, `explicit` in tensor operations elsewhere.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::based::{Base, Based};
use super::levels::LevelsTable;
use super::line::{self, Line};
use super::network::{
    check_confinement, confine, gaussian_draws, gaussian_log_z, init_layers, is_confinement_alone,
    last_layer_is_zero, layer_params,
};
use super::planes::AtLevel;
use super::score::{ScoreForm, ScoreGrads, ScoreLoss};
use super::spectral::SpectralNorm;
use super::{Architecture, EnergyTable, Evaluation, WeightedGrads};
use crate::cpu::CpuForm;
use crate::error::ModelError;
use crate::params::ParamSpec;
use crate::random::Stream;
use crate::shape::SampleShape;
use crate::sizes::check_numbers;

use cpu::Convolutions;
use layer::Layer;
use network::Network;

mod cpu;
mod explicit;
#[cfg(feature = "wgpu")]
mod gpu;
pub(super) mod layer;
pub(super) mod layout;
mod network;
mod pass;
mod score;
mod workspace;

/// `{ kind = "conv", layers, activation, spectral_norm, confinement, levels, base }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv {
    /// The convolutions, first to last; the last one leaves `1 × 1 × 1`.
    pub layers: Vec<ConvLayer>,
    /// The non-linearity after each layer but the last.
    #[serde(default)]
    pub activation: Activation,
    /// Whether every layer but the last uses `W/σ(W)` (`spectral.rs`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spectral_norm: bool,
    /// `c` of the added `½ c |x|²`; 0 adds none.
    #[serde(default)]
    pub confinement: f64,
    /// Noise levels that the energy knows of (`planes.rs`): the first layer sees one channel more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<LevelsTable>,
    /// `"gaussian"` adds `½ (x − m)ᵀ P (x − m)` with the training data's mean and covariance (`based.rs`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
}

/// One square convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvLayer {
    /// Output channels.
    pub out: usize,
    /// Kernel side.
    pub kernel: usize,
    /// Stride, 1 unless given.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zero padding on each side, 0 unless given.
    #[serde(default)]
    pub padding: usize,
}

fn one() -> usize {
    1
}

impl EnergyTable for Conv {
    /// Builds the architecture for images of `shape`.
    ///
    /// # Errors
    /// Flat samples, a layer that does not fit its input or is larger than a tensor can be, a last layer that does not leave `1 × 1 × 1`,
    /// levels that are none or beside a base.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        let SampleShape::Image(image) = shape else {
            let message = "it needs images `[c, h, w]`".into();
            return Err(ModelError::Shape { kind: "conv", shape, message });
        };
        check_confinement(self.confinement)?;
        if self.spectral_norm && self.layers.len() == 1 {
            let message = "the last layer is left free, and there is no other: leave `spectral_norm` out";
            return Err(ModelError::invalid("spectral_norm", message));
        }
        let energy: Box<dyn Architecture> = match &self.levels {
            None => Box::new(self.on(image, shape)?),
            Some(_) if self.base.is_some() => {
                let message = "the base is fitted to data without noise: leave `base` out, or `levels`";
                return Err(ModelError::invalid("levels", message));
            }
            Some(levels) => {
                let (levels, [c, h, w]) = (levels.resolve()?, image);
                let free = Self { confinement: 0.0, ..self.clone() };
                Box::new(AtLevel::new(free.on([c + 1, h, w], shape)?, h * w, self.confinement, levels))
            }
        };
        Based::wrap(SpectralNorm::wrap(energy, self.spectral_norm), self.base)
    }
}

impl Conv {
    /// The network on images `[c, h, w]`; `shape` is the samples', for errors.
    fn on(&self, image: [usize; 3], shape: SampleShape) -> Result<ConvEnergy, ModelError> {
        let misfit = |message: String| ModelError::Shape { kind: "conv", shape, message };
        let [mut channels, mut height, mut width] = image;
        let mut weights = Vec::with_capacity(self.layers.len());
        let mut layers = Vec::with_capacity(self.layers.len());
        for (i, layer) in self.layers.iter().enumerate() {
            if layer.out == 0 || layer.kernel == 0 || layer.stride == 0 {
                return Err(ModelError::invalid(
                    "layers",
                    format!("layer {i}: out, kernel and stride must be ≥ 1"),
                ));
            }
            let side = |side: usize| {
                (side + 2 * layer.padding).checked_sub(layer.kernel).map(|free| free / layer.stride + 1)
            };
            let (Some(h), Some(w)) = (side(height), side(width)) else {
                return Err(misfit(format!(
                    "layer {i}: a kernel of {} does not fit {height} × {width} with padding {}",
                    layer.kernel, layer.padding
                )));
            };
            for (what, sides) in [
                ("weights", [layer.out, channels, layer.kernel, layer.kernel]),
                ("a padded input", [1, channels, height + 2 * layer.padding, width + 2 * layer.padding]),
                ("an output", [1, layer.out, h, w]),
            ] {
                check_numbers("layers", &sides, || format!("layer {i} has {what}"))?;
            }
            weights.push(vec![layer.out, channels, layer.kernel, layer.kernel]);
            layers.push(Layer::new(*layer, [channels, height, width]));
            (channels, height, width) = (layer.out, h, w);
        }
        if [channels, height, width] != [1, 1, 1] || self.layers.is_empty() {
            return Err(misfit(format!(
                "the last layer leaves [{channels}, {height}, {width}], an energy needs [1, 1, 1]"
            )));
        }
        let network = Network::new(layers, self.activation);
        let cpu = CpuForm::new(Convolutions { network, confinement: self.confinement as f32 });
        let score = ScoreForm::new(&cpu);
        Ok(ConvEnergy { image, weights, cpu, score, config: self.clone() })
    }
}

/// A [`Conv`] on images of one shape.
#[derive(Clone, Debug)]
struct ConvEnergy {
    image: [usize; 3],
    weights: Vec<Vec<usize>>,
    cpu: CpuForm<Convolutions>,
    score: ScoreForm<Convolutions>,
    config: Conv,
}

impl ConvEnergy {
    /// `U(x)` as tensor operations, on any device and on the tape.
    fn by_tensors(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let [n, _] = x.dims();
        let [c, h, w] = self.image;
        let mut hidden = x.clone().reshape([n, c, h, w]);
        for (i, params) in theta.chunks_exact(2).enumerate() {
            hidden = self.convolved(i, &params[0], Some(&params[1]), hidden);
            if i + 1 < self.config.layers.len() {
                hidden = self.config.activation.forward(hidden);
            }
        }
        confine(hidden.reshape([n]), x, self.config.confinement)
    }

    /// Layer `i` before its activation, in tensor operations. `h: [n, in, h, w]`.
    fn convolved(&self, i: usize, weight: &Tensor<1>, bias: Option<&Tensor<1>>, h: Tensor<4>) -> Tensor<4> {
        let layer = &self.config.layers[i];
        let shape = [self.weights[i][0], self.weights[i][1], layer.kernel, layer.kernel];
        let options = ConvOptions::new([layer.stride; 2], [layer.padding; 2], [1, 1], 1);
        conv2d(h, weight.clone().reshape(shape), bias.cloned(), options)
    }

    /// The forward pass by kernels, ready to go back; `None` where there is no GPU, or none that serves.
    #[cfg(feature = "wgpu")]
    fn on_gpu(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<gpu::pass::Convolutions> {
        gpu::pass::Convolutions::new(&self.config, self.image, theta, x)
    }

    /// The forward pass in tensor operations, ready to go back.
    fn pass(&self, theta: &[Tensor<1>], x: Tensor<2>) -> explicit::Convolutions {
        let shape = explicit::Shape {
            image: self.image,
            layers: self.config.layers.clone(),
            activation: self.config.activation,
            confinement: self.config.confinement,
        };
        explicit::Convolutions::new(shape, theta, x)
    }
}

impl Architecture for ConvEnergy {
    fn kind(&self) -> &'static str {
        "conv"
    }

    fn dim(&self) -> usize {
        self.image.iter().product()
    }

    fn is_network(&self) -> bool {
        true
    }

    fn widest(&self) -> usize {
        self.cpu.passes().network.layers.iter().map(Layer::output_len).max().unwrap_or_default()
    }

    fn params(&self) -> Vec<ParamSpec> {
        layer_params(&self.weights)
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        init_layers(&self.params(), seed)
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        if let Some(energy) = self.cpu.energy(theta, &x) {
            return energy;
        }
        #[cfg(feature = "wgpu")]
        if let Some(pass) = self.on_gpu(theta, &x) {
            return pass.energy();
        }
        self.by_tensors(theta, x)
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        if let Some(found) = self.cpu.energy_and_grad(theta, &x) {
            return found;
        }
        #[cfg(feature = "wgpu")]
        if let Some(pass) = self.on_gpu(theta, &x) {
            return pass.energy_and_grad();
        }
        explicit::energy_and_grad(&self.pass(theta, x))
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        if let Some(kept) = self.cpu.energy_and_grad_kept(theta, &x) {
            return kept;
        }
        #[cfg(feature = "wgpu")]
        if let Some(pass) = self.on_gpu(theta, &x) {
            return pass.energy_and_grad_kept();
        }
        explicit::energy_and_grad_kept(self.pass(theta, x))
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        if let Some(grads) = self.cpu.weighted_param_grads(theta, terms) {
            return grads;
        }
        #[cfg(feature = "wgpu")]
        if let Some(grads) = gpu::pass::weighted_param_grads(&self.config, self.image, theta, terms) {
            return grads;
        }
        explicit::weighted_param_grads(terms, |x| self.pass(theta, x))
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        let [n, _] = x.dims();
        let [c, h, w] = self.image;
        let image = |rows: &Tensor<2>| rows.clone().reshape([n, c, h, w]);
        let mut line = Line::new(image(&x), image(&v));
        for (i, params) in theta.chunks_exact(2).enumerate() {
            if i > 0 {
                line = line.activated(self.config.activation);
            }
            line = line.affine(|h, whole| self.convolved(i, &params[0], whole.then_some(&params[1]), h));
        }
        Some(line::confine(line.energies(), x, v, self.config.confinement))
    }

    fn score_grads(&self, theta: &[Tensor<1>], x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        self.score.grads(theta, x, loss)
    }

    fn jet_order(&self) -> usize {
        if self.config.activation.is_smooth() { 2 } else { 1 }
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        is_confinement_alone(theta, self.config.confinement)
            .then(|| gaussian_log_z(self.dim(), self.config.confinement))
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        is_confinement_alone(theta, self.config.confinement)
            .then(|| gaussian_draws(self.dim(), self.config.confinement, count, stream))
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
