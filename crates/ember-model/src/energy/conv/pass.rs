//! Forward and backward through the layers for one block of images: activations and slopes are kept, nothing is on a tape.

use faer::Accum;

use super::super::elementwise::{activate, activate_with_slope, add_bias, add_rows, multiply_by, scale_by};
use super::layout::{load, packed, store, unpacked};
use super::network::Network;
use super::workspace::Workspace;

/// Weights as `[kernel part][out, kh, kw, in]` and biases `[out]`, per layer.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub weight: Vec<Vec<f32>>,
    pub bias: Vec<Vec<f32>>,
}

impl Weights {
    /// From θ: weights `[out, in, kh, kw]` and biases in turn.
    pub fn new(network: &Network, theta: &[&[f32]]) -> Self {
        let pairs = network.layers.iter().zip(theta.chunks_exact(2));
        Self {
            weight: pairs.map(|(layer, theta)| packed(layer, theta[0])).collect(),
            bias: theta.chunks_exact(2).map(|theta| theta[1].to_vec()).collect(),
        }
    }

    /// Zeros: where gradients are added up.
    pub fn zeros(network: &Network) -> Self {
        let layers = network.layers.iter();
        Self {
            weight: layers.clone().map(|layer| vec![0.0; layer.output[0] * layer.patch()]).collect(),
            bias: layers.map(|layer| vec![0.0; layer.output[0]]).collect(),
        }
    }

    /// `self += other`.
    pub fn add(&mut self, other: &Self) {
        for (to, from) in self.weight.iter_mut().zip(&other.weight) {
            add_rows(to, from);
        }
        for (to, from) in self.bias.iter_mut().zip(&other.bias) {
            add_rows(to, from);
        }
    }

    /// In θ's order and layout.
    pub fn into_theta(self, network: &Network) -> Vec<Vec<f32>> {
        let pairs = self.weight.iter().zip(self.bias).zip(&network.layers);
        pairs.flat_map(|((weight, bias), layer)| [unpacked(layer, weight), bias]).collect()
    }
}

/// The last layer's output for `x: [n, c, h, w]`, n at most a block, into `energy: [n]`. With `keep_slopes`, [`backward`] may follow.
pub(super) fn forward(
    network: &Network,
    weights: &Weights,
    x: &[f32],
    energy: &mut [f32],
    work: &mut Workspace,
    keep_slopes: bool,
) {
    let n = energy.len();
    load(&network.layers[0], x, &mut work.inputs[0]);
    for (i, layer) in network.layers.iter().enumerate() {
        let (inputs, next_inputs) = work.inputs.split_at_mut(i + 1);
        let next = network.layers.get(i + 1);
        let line_len = layer.output[2] * layer.output[0];
        for range in layer.tiles(n) {
            let z = &mut work.signal[..range.len() * line_len];
            layer.forward(z, Accum::Replace, &inputs[i], &weights.weight[i], &range, &mut work.patches);
            add_bias(z, &weights.bias[i]);
            let Some(next) = next else {
                energy[range].copy_from_slice(z);
                continue;
            };
            if keep_slopes {
                let slope = &mut work.slopes[i][range.start * line_len..range.end * line_len];
                activate_with_slope(network.activation, z, slope);
            } else {
                activate(network.activation, z);
            }
            for (line, z) in range.zip(z.chunks_exact(line_len)) {
                let at = next.interior(line / layer.output[1], line % layer.output[1]);
                next_inputs[0][at].copy_from_slice(z);
            }
        }
    }
}

/// Goes back from `∂/∂energy = scale: [n]` after a [`forward`] that kept its slopes: weight gradients are added to `params`, and
/// the gradient of `x` is written to `input`, where they are given. The slopes become the signals.
pub(super) fn backward(
    network: &Network,
    weights: &Weights,
    scale: &[f32],
    work: &mut Workspace,
    mut params: Option<&mut Weights>,
    input: Option<&mut [f32]>,
) {
    let n = scale.len();
    for (i, layer) in network.layers.iter().enumerate().rev() {
        let [below, above] = &mut work.grads;
        std::mem::swap(below, above);
        let wanted = i > 0 || input.is_some();
        if wanted {
            layer.clear(&mut below[..n * layer.padded_len()]);
        }
        let line_len = layer.output[2] * layer.output[0];
        for range in layer.tiles(n) {
            let signal = match network.layers.get(i + 1) {
                None => &scale[range.clone()],
                Some(next) => {
                    // δ = ∂a · a′(z)
                    let signal = &mut work.slopes[i][range.start * line_len..range.end * line_len];
                    for (line, signal) in range.clone().zip(signal.chunks_exact_mut(line_len)) {
                        let at = next.interior(line / layer.output[1], line % layer.output[1]);
                        multiply_by(signal, &above[at]);
                    }
                    &*signal
                }
            };
            if let Some(params) = &mut params {
                let grad = &mut params.weight[i];
                layer.add_weight_grad(grad, signal, &work.inputs[i], &range, &mut work.patches);
                add_rows(&mut params.bias[i], signal);
            }
            if wanted {
                layer.add_input_grad(below, signal, &weights.weight[i], &range, &mut work.patches);
            }
        }
    }
    if let Some(input) = input {
        store(&network.layers[0], &work.grads[0], input);
    }
}

/// Adds the weight gradients of `scale: [n]` after a [`backward`] from ones.
pub(super) fn add_weight_grads(network: &Network, scale: &[f32], work: &mut Workspace, params: &mut Weights) {
    for (i, layer) in network.layers.iter().enumerate() {
        let line_len = layer.output[2] * layer.output[0];
        for range in layer.tiles(scale.len()) {
            let scaled = &mut work.signal[..range.len() * line_len];
            if i + 1 == network.layers.len() {
                scaled.copy_from_slice(&scale[range.clone()]);
            } else {
                let signal = work.slopes[i][range.start * line_len..].chunks_exact(line_len);
                for ((line, scaled), signal) in
                    range.clone().zip(scaled.chunks_exact_mut(line_len)).zip(signal)
                {
                    scale_by(scaled, signal, scale[line / layer.output[1]]);
                }
            }
            let grad = &mut params.weight[i];
            layer.add_weight_grad(grad, scaled, &work.inputs[i], &range, &mut work.patches);
            add_rows(&mut params.bias[i], scaled);
        }
    }
}
