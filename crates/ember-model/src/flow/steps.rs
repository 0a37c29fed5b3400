//! What a chain of couplings and act-norms is made of, for its explicit forms: the CPU's and the GPU's.

use std::ops::Range;

use super::parts::Parts;
use crate::energy::activation::Activation;

/// A layer that has a CPU form.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Even indices first, at the data's end only: rows are put in that order where they are loaded.
    EvenFirst,
    /// `x = e^a z + b`, one a and one b per coordinate.
    ActNorm,
    /// An affine coupling.
    Coupling(Coupling),
}

/// An affine coupling whose network is a perceptron.
#[derive(Clone, Debug)]
pub(super) struct Coupling {
    pub parts: Parts,
    /// `[out, in]` of each layer of the network.
    pub shapes: Vec<Vec<usize>>,
    /// Between layers.
    pub activation: Activation,
    /// b, the bound of `|s|`.
    pub bound: f32,
}

impl Step {
    /// Numbers of each tensor of θ, on `dim` coordinates.
    pub fn param_lens(&self, dim: usize) -> Vec<usize> {
        match self {
            Self::EvenFirst => Vec::new(),
            Self::ActNorm => vec![dim; 2],
            Self::Coupling(coupling) => {
                coupling.shapes.iter().flat_map(|shape| [shape[0] * shape[1], shape[0]]).collect()
            }
        }
    }
}

/// The steps from the data to the latent, each with its place in θ.
#[derive(Clone, Debug, Default)]
pub(super) struct Network {
    pub dim: usize,
    pub steps: Vec<(Range<usize>, Step)>,
}

impl Network {
    /// Whether the coordinates of data are in another order than those of the couplings.
    pub fn is_even_first(&self) -> bool {
        matches!(self.steps.first(), Some((_, Step::EvenFirst)))
    }
}

impl Coupling {
    /// The widest layer of the network.
    pub fn widest(&self) -> usize {
        self.shapes.iter().flatten().copied().max().unwrap_or(0)
    }
}
