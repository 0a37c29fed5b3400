//! Residual network without batch norm on `[c, h, w]` images, plus `½ c |x|²`.
//!
//! ```text
//! x → stem (3×3) → stage 0 → pool → stage 1 → pool → … → act → sum over all pixels → linear → U
//! block: x → skip(x) + conv2(act(norm2(conv1(act(norm1(x))))))
//! ```
//! Pre-activation blocks (He et al. 2016, "Identity mappings") in the arrangement of Du and Mordatch 2019: no batch norm, whose energy
//! of one walker would depend on the others; average pooling; sums over all pixels before the last layer. Both convolutions of a block
//! are 3×3 with padding 1; `skip` is the identity, or a 1×1 convolution without bias in the first block of a stage whose channels differ
//! from those before. A pool averages 2×2 squares and drops an odd last row or column. The residual path itself is never normalised, so
//! that the energy sees its scale.
//!
//! Group norm (Wu and He 2018): `(x − mean)/√(var + 10⁻⁵)` over the channels of a group and all pixels of one sample, then a scale and a shift
//! for each channel.
//!
//! Starting values: Kaiming normal, the second convolution of each block smaller by the root of the number of blocks, so that the residual path
//! keeps its scale; scales 1, biases and shifts 0; a zero last layer, whence the exact start `N(0, I/c)`. With `spectral_norm` every
//! convolution uses `W/σ(W)` (`spectral.rs`).
//!
//! Names, as a PyTorch module would have them: `stem.{weight,bias}`, `blocks.{i}.{norm1,conv1,norm2,conv2}.{weight,bias}`, `blocks.{i}.skip.weight`,
//! `linear.{weight,bias}`; i counts through all stages. The last bias is frozen (`network.rs`).
//!
//! `tensors` is the plain form, for GPUs and the tape; on the CPU, `cpu` is an explicit forward and backward.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::network::{
    check_confinement, gaussian_draws, gaussian_log_z, is_confinement_alone, last_layer_is_zero,
};
use super::spectral::SpectralNorm;
use super::{
    Architecture, EnergyTable, Evaluation, WeightedGrads, energy_and_grad_by_autodiff,
    weighted_param_grads_by_autodiff,
};
use crate::cpu::CpuForm;
use crate::error::ModelError;
use crate::params::ParamSpec;
use crate::random::{Purpose, Stream};
use crate::shape::SampleShape;
use crate::sizes::check_numbers;

use cpu::Residual;
use layers::Network;
use tensors::by_tensors;

mod cpu;
mod layers;
mod norm;
mod pass;
mod pool;
mod tensors;
mod tile;
mod workspace;

/// Added to the variance by group norm, as PyTorch does by default.
const EPSILON: f64 = 1e-5;

/// `{ kind = "resnet", channels, blocks_per_stage, activation, norm, groups, pool, spectral_norm, confinement }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNet {
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Residual blocks of each stage, 2 unless given.
    #[serde(default = "two")]
    pub blocks_per_stage: usize,
    /// The non-linearity before each convolution of a block and before the sum over pixels.
    #[serde(default)]
    pub activation: Activation,
    /// What is normalised before each activation of a block.
    #[serde(default)]
    pub norm: Norm,
    /// Groups of channels, 8 unless given; of no effect with `norm = "none"`.
    #[serde(default = "eight")]
    pub groups: usize,
    /// What happens between stages.
    #[serde(default)]
    pub pool: Pool,
    /// Whether convolutions use `W/σ(W)`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spectral_norm: bool,
    /// `c` of the added `½ c |x|²`; 0 adds none.
    #[serde(default)]
    pub confinement: f64,
}

/// What is normalised before each activation of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Nothing.
    #[default]
    None,
    /// Each group of channels of one sample.
    Group,
}

/// What happens between stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pool {
    /// Means over squares of 2×2 pixels.
    #[default]
    Average,
    /// Nothing: every stage has the image's own sides.
    None,
}

/// The most blocks there may be: a mistyped number fails at once, before a list of parameters is made.
const MOST_BLOCKS: usize = 1_000;

fn two() -> usize {
    2
}

fn eight() -> usize {
    8
}

impl EnergyTable for ResNet {
    /// Builds the architecture for images of `shape`.
    ///
    /// # Errors
    /// Flat samples, no stage, a stage without channels or blocks, more than 1,000 blocks in all, groups that do not divide the channels, more pools than the
    /// image has room for, a negative or non-finite `confinement`.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        let misfit = |message: String| ModelError::Shape { kind: "resnet", shape, message };
        let SampleShape::Image(image) = shape else {
            return Err(misfit("it needs images `[c, h, w]`".into()));
        };
        check_confinement(self.confinement)?;
        if self.channels.is_empty() || self.channels.contains(&0) {
            let message =
                format!("{:?} needs at least one stage, each of at least one channel", self.channels);
            return Err(ModelError::invalid("channels", message));
        }
        let stages = self.channels.len();
        let most = MOST_BLOCKS / stages;
        if !(1..=most).contains(&self.blocks_per_stage) {
            let message = format!(
                "{} found, expected 1 to {most}: {stages} stages, {MOST_BLOCKS} blocks in all",
                self.blocks_per_stage
            );
            return Err(ModelError::invalid("blocks_per_stage", message));
        }
        let uneven = |&&channels: &&usize| self.groups == 0 || channels % self.groups != 0;
        if let (Norm::Group, Some(channels)) = (self.norm, self.channels.iter().find(uneven)) {
            let message = format!("{} does not divide the {channels} channels of a stage", self.groups);
            return Err(ModelError::invalid("groups", message));
        }
        let pools = self.channels.len() - 1;
        let [_, height, width] = image;
        // Every stage at the sides of the first, which are the largest.
        let most_channels = self.channels.iter().fold(image[0], |most, &channels| most.max(channels));
        check_numbers("channels", &[most_channels, height + 2, width + 2], || "a padded input".into())?;
        check_numbers("channels", &[most_channels, most_channels, 3, 3], || "the weights".into())?;
        let smallest = height.min(width);
        if self.pool == Pool::Average && smallest.checked_shr(pools as u32).unwrap_or(0) == 0 {
            return Err(misfit(format!(
                "{} stages halve {height} × {width} pixels {pools} times, which leaves none; give fewer `channels` or pool = \"none\"",
                self.channels.len()
            )));
        }
        let network = Network::new(image, self);
        let cpu = CpuForm::new(Residual { network, confinement: self.confinement as f32 });
        Ok(SpectralNorm::wrap(
            Box::new(ResNetEnergy { image, cpu, config: self.clone() }),
            self.spectral_norm,
        ))
    }
}

impl ResNet {
    fn is_normed(&self) -> bool {
        self.norm == Norm::Group
    }

    /// Whether a pool stands before block `i`.
    fn is_pooled_before(&self, i: usize) -> bool {
        i > 0 && i.is_multiple_of(self.blocks_per_stage) && self.pool == Pool::Average
    }

    /// Channels into and out of every block, first to last.
    fn blocks(&self) -> impl Iterator<Item = [usize; 2]> + '_ {
        let before = std::iter::once(self.channels[0]).chain(self.channels.iter().copied());
        before.zip(&self.channels).flat_map(|(before, &after)| {
            (0..self.blocks_per_stage).map(move |b| [if b == 0 { before } else { after }, after])
        })
    }
}

/// A [`ResNet`] on images of one shape.
#[derive(Debug)]
struct ResNetEnergy {
    image: [usize; 3],
    cpu: CpuForm<Residual>,
    config: ResNet,
}

impl Architecture for ResNetEnergy {
    fn kind(&self) -> &'static str {
        "resnet"
    }

    fn dim(&self) -> usize {
        self.image.iter().product()
    }

    fn is_network(&self) -> bool {
        true
    }

    /// Every later stage of pooled images has a quarter of the pixels.
    fn widest(&self) -> usize {
        let [_, height, width] = self.image;
        let pooled = usize::from(self.config.pool == Pool::Average);
        let stages = self.config.channels.iter().enumerate();
        let outputs = stages.map(|(i, out)| out * (height >> (i * pooled)) * (width >> (i * pooled)));
        outputs.max().unwrap_or_default()
    }

    fn params(&self) -> Vec<ParamSpec> {
        let mut params = Vec::new();
        let mut add = |name: String, shape: Vec<usize>| params.push(ParamSpec::new(name, shape));
        let layer = |add: &mut dyn FnMut(String, Vec<usize>), name: String, weight: Vec<usize>| {
            let out = weight[0];
            add(format!("{name}.weight"), weight);
            add(format!("{name}.bias"), vec![out]);
        };
        let channels = &self.config.channels;
        layer(&mut add, "stem".into(), vec![channels[0], self.image[0], 3, 3]);
        for (i, [before, after]) in self.config.blocks().enumerate() {
            for (part, from) in [(1, before), (2, after)] {
                if self.config.is_normed() {
                    layer(&mut add, format!("blocks.{i}.norm{part}"), vec![from]);
                }
                layer(&mut add, format!("blocks.{i}.conv{part}"), vec![after, from, 3, 3]);
            }
            if before != after {
                add(format!("blocks.{i}.skip.weight"), vec![after, before, 1, 1]);
            }
        }
        layer(&mut add, "linear".into(), vec![1, channels[channels.len() - 1]]);
        if let Some(last_bias) = params.last_mut() {
            last_bias.learning_rate_scale = 0.0;
        }
        params
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        let blocks = self.config.blocks().count() as f32;
        let start = |(i, spec): (usize, ParamSpec)| {
            let [out, fan_in] = [spec.shape[0], spec.shape[1..].iter().product()];
            match spec.name.rsplit('.').collect::<Vec<_>>()[..] {
                ["weight", "norm1" | "norm2", ..] => vec![1.0; out],
                ["weight", layer, ..] if layer != "linear" => {
                    // He et al. 2015: variance 2 / fan_in
                    let std = (2.0 / fan_in as f32).sqrt();
                    let std = if layer == "conv2" { std / blocks.sqrt() } else { std };
                    let stream = Stream::new(seed, Purpose::Init).lane(i as u32);
                    stream.normals(out, fan_in).into_iter().map(|z| std * z).collect()
                }
                _ => vec![0.0; spec.len()],
            }
        };
        self.params().into_iter().enumerate().map(start).collect()
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        self.cpu.energy(theta, &x).unwrap_or_else(|| by_tensors(&self.config, self.image, theta, x))
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        self.cpu.energy_and_grad(theta, &x).unwrap_or_else(|| energy_and_grad_by_autodiff(self, theta, x))
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        self.cpu.energy_and_grad_kept(theta, &x).unwrap_or_else(|| {
            let (energy, grad) = energy_and_grad_by_autodiff(self, theta, x);
            (energy, grad, None)
        })
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        self.cpu
            .weighted_param_grads(theta, terms)
            .unwrap_or_else(|| weighted_param_grads_by_autodiff(self, theta, terms))
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
