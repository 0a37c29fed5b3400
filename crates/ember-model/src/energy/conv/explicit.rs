//! The network differentiated by hand in tensor operations, for GPUs: see `energy/explicit.rs`, with convolutions for products.
//!
//! The gradient in a layer's input is the transposed convolution of its signal, the gradient in its weights burn's own convolution of
//! input and signal. A last layer as large as its input is a product with one row. The reference is `by_tensors` on the tape.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::module::{conv_transpose2d, conv2d, conv2d_weight_backward};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use super::ConvLayer;
use crate::energy::activation::Activation;
use crate::energy::explicit::stacked;
#[cfg(feature = "wgpu")]
use crate::energy::fused::layers;
use crate::energy::network::confine;
use crate::energy::{Evaluation, Pass, WeightedGrads};
use crate::product::matmul;

/// What a pass is of.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) image: [usize; 3],
    pub(super) layers: Vec<ConvLayer>,
    pub(super) activation: Activation,
    pub(super) confinement: f64,
}

/// The network at some θ and some images, after the forward pass.
#[derive(Debug)]
pub(super) struct Convolutions {
    shape: Shape,
    x: Tensor<2>,
    /// `W_l: [out, in, k, k]`.
    weights: Vec<Tensor<4>>,
    /// What each layer saw, `[n, in, h, w]`.
    inputs: Vec<Tensor<4>>,
    /// `z_l` of every layer but the last, `[n, out, h, w]`.
    sums: Vec<Tensor<4>>,
    /// `U`, `[n]`.
    energy: Tensor<1>,
}

impl Convolutions {
    /// The forward pass. `x: [n, dim]`.
    pub(super) fn new(shape: Shape, theta: &[Tensor<1>], x: Tensor<2>) -> Self {
        let [n, _] = x.dims();
        let [c, h, w] = shape.image;
        let (mut weights, mut inputs, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        let mut hidden = ordered(x.clone().reshape([n, c, h, w]));
        for (l, (layer, params)) in shape.layers.iter().zip(theta.chunks_exact(2)).enumerate() {
            let [_, channels, ..] = hidden.dims();
            let weight = params[0].clone().reshape([layer.out, channels, layer.kernel, layer.kernel]);
            let weight = ordered(weight);
            let z = conv2d(hidden.clone(), weight.clone(), Some(params[1].clone()), options(layer));
            weights.push(weight);
            inputs.push(hidden);
            hidden = z.clone();
            if l + 1 < shape.layers.len() {
                hidden = shape.activation.forward(z.clone());
                sums.push(z);
            }
        }
        let energy = confine(hidden.reshape([n]), x.clone(), shape.confinement);
        Self { shape, x, weights, inputs, sums, energy }
    }

    /// Whether layer `l` is a product with one row: one output, one patch.
    fn is_row(&self, l: usize) -> bool {
        let [_, _, h, w] = self.inputs[l].dims();
        let layer = &self.shape.layers[l];
        layer.out == 1 && layer.padding == 0 && [h, w] == [layer.kernel; 2]
    }

    /// `∂/∂a_{l−1}` from `δ_l`.
    fn back(&self, l: usize, signal: Tensor<4>) -> Tensor<4> {
        if self.is_row(l) {
            return signal * self.weights[l].clone();
        }
        let ([_, _, h, w], [_, _, h_out, w_out]) = (self.inputs[l].dims(), signal.dims());
        let ConvLayer { kernel, stride, padding, .. } = self.shape.layers[l];
        // Rows and columns that no patch reached.
        let rest = |side: usize, out: usize| side + 2 * padding - ((out - 1) * stride + kernel);
        let options =
            ConvTransposeOptions::new([stride; 2], [padding; 2], [rest(h, h_out), rest(w, w_out)], [1, 1], 1);
        conv_transpose2d(signal, self.weights[l].clone(), None, options)
    }

    /// `δ_{l−1} = (∂/∂a_{l−1}) ∘ a′(z_{l−1})` from `δ_l`.
    fn below(&self, l: usize, signal: Tensor<4>) -> Tensor<4> {
        let (z, activation) = (&self.sums[l - 1], self.shape.activation);
        #[cfg(feature = "wgpu")]
        if self.is_row(l)
            && let Some(below) = layers::row_signal(&signal, &self.weights[l], z, activation)
        {
            return below;
        }
        let above = self.back(l, signal);
        #[cfg(feature = "wgpu")]
        if let Some(below) = layers::signal(&above, z, activation) {
            return below;
        }
        activation.back(z.clone(), above)
    }

    /// `δ_l` of every layer, for `δ_L = output: [n]`.
    fn signals(&self, output: Tensor<1>) -> Vec<Tensor<4>> {
        let [n] = output.dims();
        let mut signals = vec![output.reshape([n, 1, 1, 1])];
        for l in (1..self.weights.len()).rev() {
            let signal = self.below(l, signals[signals.len() - 1].clone());
            signals.push(signal);
        }
        signals.reverse();
        signals
    }

    /// `∇ₓU`, `[n, dim]`, from the signals of `δ_L = 1`.
    fn energy_grad(&self, signals: &[Tensor<4>]) -> Tensor<2> {
        let grad = self.back(0, signals[0].clone()).reshape(self.x.dims());
        if self.shape.confinement == 0.0 {
            return grad;
        }
        grad + self.x.clone().mul_scalar(self.shape.confinement)
    }

    /// `Σ_b ∂_θU(x_b)` of signals that carry their weights, flat, in the order of θ.
    fn param_grads(&self, signals: impl IntoIterator<Item = Tensor<4>>) -> Vec<Tensor<1>> {
        let layer = |(l, signal): (usize, Tensor<4>)| {
            let [n, out, h, w] = signal.dims();
            let bias = signal.clone().reshape([n, out, h * w]).sum_dim(2).sum_dim(0).reshape([out]);
            let len = self.weights[l].shape().num_elements();
            let input = self.inputs[l].clone();
            let weight = if self.is_row(l) {
                matmul(signal.reshape([1, n]), input.reshape([n, len])).reshape([len])
            } else {
                let options = options(&self.shape.layers[l]);
                conv2d_weight_backward(input, self.weights[l].clone(), signal, options).reshape([len])
            };
            [weight, bias]
        };
        signals.into_iter().enumerate().flat_map(layer).collect()
    }
}

/// A pass with its signals.
#[derive(Debug)]
struct Kept {
    network: Convolutions,
    /// Those of `δ_L = 1`.
    signals: Vec<Tensor<4>>,
}

impl Pass for Kept {
    fn weighted_param_grads(&self, weights: &Tensor<1>) -> Vec<Tensor<1>> {
        let weights = weights.clone().reshape([weights.dims()[0], 1, 1, 1]);
        self.network.param_grads(self.signals.iter().map(|signal| signal.clone() * weights.clone()))
    }
}

/// `(U, ∇ₓU)` and the pass.
pub(super) fn energy_and_grad_kept(network: Convolutions) -> Evaluation {
    let signals = network.signals(network.energy.ones_like());
    let grad = network.energy_grad(&signals);
    (network.energy.clone(), grad, Some(Arc::new(Kept { network, signals })))
}

/// `(U, ∇ₓU)`.
pub(super) fn energy_and_grad(network: &Convolutions) -> (Tensor<1>, Tensor<2>) {
    (network.energy.clone(), network.energy_grad(&network.signals(network.energy.ones_like())))
}

/// In the memory order of the device's convolutions.
fn ordered(tensor: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "wgpu")]
    return layers::nhwc(tensor);
    #[cfg(not(feature = "wgpu"))]
    tensor
}

fn options(layer: &ConvLayer) -> ConvOptions<2> {
    ConvOptions::new([layer.stride; 2], [layer.padding; 2], [1, 1], 1)
}

/// All terms in one pass: their images stand under each other.
pub(super) fn weighted_param_grads(
    terms: &[(Tensor<2>, Tensor<1>)],
    pass: impl Fn(Tensor<2>) -> Convolutions,
) -> WeightedGrads {
    let (x, weights, split) = stacked(terms);
    let network = pass(x);
    let grads = network.param_grads(network.signals(weights));
    WeightedGrads { energies: split(&network.energy), grads }
}
