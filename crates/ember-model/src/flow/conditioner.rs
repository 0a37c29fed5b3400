//! The networks inside couplings: what the half that stays says about the half that moves.
//!
//! Any function will do: it is never inverted. The last layer starts at zero, so that every coupling starts as the identity.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::energy::activation::Activation;
use crate::energy::network::{free_layer_params, perceptron, perceptron_shapes};
use crate::params::ParamSpec;

/// A network from the half that stays to the parameters of the other half's transform.
pub(super) trait Conditioner: Debug + Send + Sync {
    /// The parameters.
    fn params(&self) -> Vec<ParamSpec>;

    /// `[batch, input]` → `[batch, output]`.
    fn apply(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<2>;

    /// The network itself, where it is a perceptron.
    fn perceptron(&self) -> Option<&MlpConditioner> {
        None
    }
}

/// A multi-layer perceptron.
#[derive(Clone, Debug)]
pub(super) struct MlpConditioner {
    /// `[out, in]` of each layer.
    pub shapes: Vec<Vec<usize>>,
    /// Between layers.
    pub activation: Activation,
}

impl MlpConditioner {
    /// From `input` over the `hidden` widths to `output`.
    pub fn new(input: usize, hidden: &[usize], output: usize, activation: Activation) -> Self {
        Self { shapes: perceptron_shapes(input, hidden, output), activation }
    }
}

impl Conditioner for MlpConditioner {
    fn params(&self) -> Vec<ParamSpec> {
        free_layer_params(&self.shapes)
    }

    fn apply(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        perceptron(theta, x, self.activation)
    }

    fn perceptron(&self) -> Option<&MlpConditioner> {
        Some(self)
    }
}
