//! Multi-scale RealNVP on images (Dinh et al. 2017, section 3.6).
//!
//! ```text
//! level: squeeze [c, h, w] → [4c, h/2, w/2] → couplings, checkerboard → couplings, by rows → half of the channels are done
//! ```
//! and the other half goes on to the next level; all of it after the last. Unlike in the paper the squeeze stands before the
//! checkerboard couplings, not between the two kinds: the squares of a checkerboard are then halves of the channels, with no zeros
//! for the networks to read, and every level ends in the same way. Networks: convolutions 3×3, 1×1, 3×3. In place of batch norm,
//! act-norm per channel.
//!
//! With `logit_alpha` the pixels go through the logit first (`logit.rs`). Without it the start is `N(0, I)` exactly, but for act-norm.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use serde::{Deserialize, Serialize};

use super::act_norm::ActNorm;
use super::affine::AffineCoupling;
use super::chain::Chain;
use super::conditioner::Conditioner;
use super::couplings::{check_count, check_positive};
use super::energy::FlowEnergy;
use super::logit::Logit;
use super::parts::Parts;
use super::squeeze::{CHECKERBOARD, ROWS, Squeeze};
use crate::energy::activation::Activation;
use crate::energy::network::free_layer_params;
use crate::energy::{Architecture, EnergyTable};
use crate::error::ModelError;
use crate::params::ParamSpec;
use crate::shape::SampleShape;

const KIND: &str = "multiscale_real_nvp";

/// `{ kind = "multiscale_real_nvp", levels, couplings, channels, activation, log_scale_bound, act_norm, logit_alpha }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultiscaleRealNvp {
    /// Levels; each halves the sides of the image.
    pub levels: usize,
    /// Couplings of a level with each of its two divisions; two move every coordinate once.
    pub couplings: usize,
    /// Channels of the two hidden layers of each coupling's network.
    pub channels: usize,
    /// The non-linearity after each hidden layer.
    #[serde(default)]
    pub activation: Activation,
    /// b in `s = b tanh(r/b)`; 1 unless given.
    #[serde(default = "one")]
    pub log_scale_bound: f64,
    /// Whether a trained scale and shift of every channel, fitted to data before a run, stands before each coupling.
    #[serde(default)]
    pub act_norm: bool,
    /// α of the logit transform of pixels in [−1, 1]; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logit_alpha: Option<f64>,
}

fn one() -> f64 {
    1.0
}

impl EnergyTable for MultiscaleRealNvp {
    /// Builds the architecture for images of `shape`.
    ///
    /// # Errors
    /// Flat samples, sides that `2^levels` does not divide, no levels, couplings or channels, a bound that is not positive, an α
    /// outside (0, ½).
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        let misfit = |message: String| ModelError::Shape { kind: KIND, shape, message };
        let SampleShape::Image(image) = shape else {
            return Err(misfit("it needs images `[c, h, w]`".into()));
        };
        check_count("couplings", self.couplings)?;
        for (key, value) in [("levels", self.levels), ("channels", self.channels)] {
            if value == 0 {
                return Err(ModelError::invalid(key, "0 found, expected at least 1"));
            }
        }
        check_positive("log_scale_bound", self.log_scale_bound)?;
        let [_, height, width] = image;
        let halvings = (height.trailing_zeros().min(width.trailing_zeros())) as usize;
        if self.levels > halvings {
            return Err(misfit(format!(
                "energy.levels = {} halves both sides as many times, but {height} × {width} can be halved {halvings} times",
                self.levels
            )));
        }
        let mut flow = Chain::new(KIND, shape.dim());
        if let Some(alpha) = self.logit_alpha {
            if !(alpha > 0.0 && alpha < 0.5) {
                return Err(ModelError::invalid("logit_alpha", format!("{alpha} is not between 0 and 0.5")));
            }
            flow.push("logit", Logit { alpha });
        }
        let mut image = image;
        for level in 0..self.levels {
            image = self.push_level(&mut flow, level, image);
        }
        Ok(Box::new(FlowEnergy { flow }))
    }
}

impl MultiscaleRealNvp {
    /// Adds a level on `image` and gives what is left to the next one.
    fn push_level(&self, flow: &mut Chain, level: usize, image: [usize; 3]) -> [usize; 3] {
        let name = |part: &str| format!("levels.{level}.{part}");
        flow.push(name("squeeze"), Squeeze { image });
        flow.push(name("checkerboard"), CHECKERBOARD);
        let [channels, height, width] = [4 * image[0], image[1] / 2, image[2] / 2];
        let half = [channels / 2, height, width];
        for i in 0..2 * self.couplings {
            if i == self.couplings {
                flow.push(name("rows"), ROWS);
            }
            if self.act_norm {
                let norm = ActNorm { groups: channels, group_len: height * width };
                flow.push(name(&format!("couplings.{i}.act_norm")), norm);
            }
            let coupling = AffineCoupling {
                parts: Parts { widths: [half.iter().product(); 2], moves_first: i % 2 == 1 },
                conditioner: ConvConditioner {
                    image: half,
                    channels: self.channels,
                    activation: self.activation,
                },
                log_scale_bound: self.log_scale_bound,
            };
            flow.push(name(&format!("couplings.{i}")), coupling);
        }
        if level + 1 < self.levels {
            flow.factor_out(half.iter().product());
        }
        half
    }
}

/// Convolutions 3×3, 1×1, 3×3, to twice as many channels as there are.
#[derive(Clone, Debug)]
struct ConvConditioner {
    /// `[c, h, w]` of the half that stays, and of the half that moves.
    image: [usize; 3],
    /// Channels of the hidden layers.
    channels: usize,
    activation: Activation,
}

impl ConvConditioner {
    /// `[out, in, kernel, kernel]` of each layer.
    fn shapes(&self) -> [[usize; 4]; 3] {
        let (ends, hidden) = (self.image[0], self.channels);
        [[hidden, ends, 3, 3], [hidden, hidden, 1, 1], [2 * ends, hidden, 3, 3]]
    }
}

impl Conditioner for ConvConditioner {
    fn params(&self) -> Vec<ParamSpec> {
        free_layer_params(&self.shapes().map(Vec::from))
    }

    fn apply(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        let [n, width] = x.dims();
        let [c, h, w] = self.image;
        let mut hidden = x.reshape([n, c, h, w]);
        for (i, (layer, shape)) in theta.chunks_exact(2).zip(self.shapes()).enumerate() {
            if i > 0 {
                hidden = self.activation.forward(hidden);
            }
            let options = ConvOptions::new([1, 1], [shape[2] / 2; 2], [1, 1], 1);
            hidden = conv2d(hidden, layer[0].clone().reshape(shape), Some(layer[1].clone()), options);
        }
        hidden.reshape([n, 2 * width])
    }
}
