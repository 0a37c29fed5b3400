//! The networks inside couplings: what the half that stays says about the half that moves.
//!
//! Any function will do: it is never inverted. The last layer starts at zero, so that every coupling starts as the identity.

use std::fmt::Debug;

use burn::tensor::Tensor;

use crate::energy::activation::Activation;
use crate::params::ParamSpec;
use crate::random::Stream;

/// A network from the half that stays to the parameters of the other half's transform.
pub(super) trait Conditioner: Debug + Send + Sync {
    /// The parameters.
    fn params(&self) -> Vec<ParamSpec>;

    /// `[batch, input]` → `[batch, output]`.
    fn apply(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<2>;
}

/// A multi-layer perceptron.
#[derive(Clone, Debug)]
pub(super) struct MlpConditioner {
    /// Input, hidden and output widths.
    widths: Vec<usize>,
    /// Between layers.
    activation: Activation,
}

impl MlpConditioner {
    /// From `input` over the `hidden` widths to `output`.
    pub fn new(input: usize, hidden: &[usize], output: usize, activation: Activation) -> Self {
        let ends = |width| std::iter::once(width);
        let widths = ends(input).chain(hidden.iter().copied()).chain(ends(output)).collect();
        Self { widths, activation }
    }
}

impl Conditioner for MlpConditioner {
    fn params(&self) -> Vec<ParamSpec> {
        let shapes: Vec<Vec<usize>> = self.widths.windows(2).map(|w| vec![w[1], w[0]]).collect();
        layer_params(&shapes)
    }

    fn apply(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        let mut h = x;
        for (i, (layer, widths)) in theta.chunks_exact(2).zip(self.widths.windows(2)).enumerate() {
            if i > 0 {
                h = self.activation.forward(h);
            }
            let weight = layer[0].clone().reshape([widths[1], widths[0]]);
            h = h.matmul(weight.transpose()) + layer[1].clone().reshape([1, widths[1]]);
        }
        h
    }
}

/// `layers.{i}.weight` and `layers.{i}.bias` for each weight shape `[out, ..]`.
pub(super) fn layer_params(shapes: &[Vec<usize>]) -> Vec<ParamSpec> {
    let layer = |(i, shape): (usize, &Vec<usize>)| {
        [
            ParamSpec::new(format!("layers.{i}.weight"), shape.clone()),
            ParamSpec::new(format!("layers.{i}.bias"), vec![shape[0]]),
        ]
    };
    shapes.iter().enumerate().flat_map(layer).collect()
}

/// Kaiming-normal weights (He et al. 2015: variance `2 / fan_in`), zero biases, a zero last layer.
pub(super) fn init_layers(params: &[ParamSpec], stream: &dyn Fn(usize) -> Stream) -> Vec<Vec<f32>> {
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
