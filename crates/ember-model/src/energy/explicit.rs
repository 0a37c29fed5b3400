//! A perceptron's energy differentiated by hand, in tensor operations: a forward pass that keeps what the backward pass needs.
//!
//! With `z_l = W_l a_{l−1} + b_l`, `a_l = a(z_l)`, `a_{−1} = x` and `U = z_L + ½ c |x|²`, the signals `δ_l = ∂U/∂z_l` follow
//! `δ_L = 1`, `δ_{l−1} = (δ_l W_l) ∘ a′(z_{l−1})`, and `∇ₓU = δ_0 W_0 + c x`, `Σ_b w_b ∂U/∂W_l = (w ∘ δ_l)ᵀ a_{l−1}`,
//! `Σ_b w_b ∂U/∂b_l = wᵀ δ_l`. Rows of tensors are walkers.
//!
//! Nothing is on the tape: it costs memory, a graph, and launches for gradients nobody asks for. On a GPU the element-wise steps of
//! a layer become one kernel; slopes are made from `z` where they are needed, which is less to move than keeping them. The
//! reference is `perceptron` on the tape.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::activation::Activation;
use super::network::confine;
use super::{Evaluation, Pass, WeightedGrads};
use crate::product::matmul;

/// A perceptron with one output at some θ and some x, after the forward pass.
#[derive(Debug)]
pub(super) struct Perceptron {
    /// `W_l: [out, in]`, first to last.
    weights: Vec<Tensor<2>>,
    /// `a_{l−1}: [batch, in]`, what each layer saw; the first is x.
    inputs: Vec<Tensor<2>>,
    /// `W_l a_{l−1}: [batch, out]` and `b_l: [1, out]` of every layer but the last.
    sums: Vec<(Tensor<2>, Tensor<2>)>,
    /// `U`, `[batch]`.
    energy: Tensor<1>,
    activation: Activation,
    /// c.
    confinement: f64,
}

impl Perceptron {
    /// The forward pass. `theta` is `W_0, b_0, W_1, …`, flat; `x: [batch, dim]`.
    pub(super) fn new(theta: &[Tensor<1>], x: Tensor<2>, activation: Activation, confinement: f64) -> Self {
        let [batch, _] = x.dims();
        let (mut weights, mut inputs, mut sums) = (Vec::new(), Vec::new(), Vec::new());
        let mut hidden = x.clone();
        for (l, layer) in theta.chunks_exact(2).enumerate() {
            let ([_, width], [out]) = (hidden.dims(), layer[1].dims());
            let (weight, bias) = (layer[0].clone().reshape([out, width]), layer[1].clone().reshape([1, out]));
            let product = matmul(hidden.clone(), weight.clone().transpose());
            weights.push(weight);
            inputs.push(hidden);
            hidden = product.clone() + bias.clone();
            if 2 * (l + 1) < theta.len() {
                hidden = activation.forward(hidden);
                sums.push((product, bias));
            }
        }
        let energy = confine(hidden.reshape([batch]), x, confinement);
        Self { weights, inputs, sums, energy, activation, confinement }
    }

    /// `δ_l: [batch, out]` of every layer, for `δ_L = output: [batch]`: linear in it, so that it may carry weights.
    fn signals(&self, output: Tensor<1>) -> Vec<Tensor<2>> {
        let [batch] = output.dims();
        let mut signals = vec![output.reshape([batch, 1])];
        for (l, (product, bias)) in self.sums.iter().enumerate().rev() {
            let (signal, weight) = (signals[signals.len() - 1].clone(), self.weights[l + 1].clone());
            // A product with one row is a stretched row.
            let back = if weight.dims()[0] == 1 { signal * weight } else { matmul(signal, weight) };
            signals.push(self.activation.back(product.clone() + bias.clone(), back));
        }
        signals.reverse();
        signals
    }

    /// `∇ₓU`, `[batch, dim]`, from the signals of `δ_L = 1`.
    fn energy_grad(&self, signals: &[Tensor<2>]) -> Tensor<2> {
        let grad = matmul(signals[0].clone(), self.weights[0].clone());
        if self.confinement == 0.0 {
            return grad;
        }
        grad + self.inputs[0].clone().mul_scalar(self.confinement)
    }

    /// `Σ_b ∂_θU(x_b)` of signals that carry their weights, flat, in the order of θ.
    fn param_grads(&self, signals: impl IntoIterator<Item = Tensor<2>>) -> Vec<Tensor<1>> {
        let ones = self.energy.ones_like().reshape([1, self.energy.dims()[0]]);
        let layer = |(signal, input): (Tensor<2>, &Tensor<2>)| {
            let ([_, out], [_, width]) = (signal.dims(), input.dims());
            let bias = matmul(ones.clone(), signal.clone()).reshape([out]);
            [matmul(signal.transpose(), input.clone()).reshape([out * width]), bias]
        };
        signals.into_iter().zip(&self.inputs).flat_map(layer).collect()
    }
}

/// A pass with its signals.
#[derive(Debug)]
struct Kept {
    pass: Perceptron,
    /// Those of `δ_L = 1`.
    signals: Vec<Tensor<2>>,
}

impl Pass for Kept {
    fn weighted_param_grads(&self, weights: &Tensor<1>) -> Vec<Tensor<1>> {
        let weights = weights.clone().reshape([weights.dims()[0], 1]);
        self.pass.param_grads(self.signals.iter().map(|signal| signal.clone() * weights.clone()))
    }
}

/// `(U, ∇ₓU)` and the pass.
pub(super) fn energy_and_grad_kept(pass: Perceptron) -> Evaluation {
    let signals = pass.signals(pass.energy.ones_like());
    let grad = pass.energy_grad(&signals);
    (pass.energy.clone(), grad, Some(Arc::new(Kept { pass, signals })))
}

/// `(U, ∇ₓU)`.
pub(super) fn energy_and_grad(pass: &Perceptron) -> (Tensor<1>, Tensor<2>) {
    (pass.energy.clone(), pass.energy_grad(&pass.signals(pass.energy.ones_like())))
}

/// All terms in one pass: their rows stand under each other.
pub(super) fn weighted_param_grads(
    terms: &[(Tensor<2>, Tensor<1>)],
    pass: impl Fn(Tensor<2>) -> Perceptron,
) -> WeightedGrads {
    let (x, weights, split) = stacked(terms);
    let pass = pass(x);
    WeightedGrads { energies: split(&pass.energy), grads: pass.param_grads(pass.signals(weights)) }
}

/// The rows of all terms, their weights, and how to cut what belongs to the rows into terms again.
pub(crate) fn stacked(
    terms: &[(Tensor<2>, Tensor<1>)],
) -> (Tensor<2>, Tensor<1>, impl Fn(&Tensor<1>) -> Vec<Tensor<1>>) {
    let (mut rows, mut weights): (Vec<_>, Vec<_>) = terms.iter().cloned().unzip();
    let counts: Vec<usize> = weights.iter().map(|weights| weights.dims()[0]).collect();
    let split = move |all: &Tensor<1>| {
        let begins = counts.iter().scan(0, |end, count| {
            *end += count;
            Some(*end - count)
        });
        begins.zip(&counts).map(|(begin, &count)| all.clone().narrow(0, begin, count)).collect()
    };
    match terms.len() {
        1 => (rows.swap_remove(0), weights.swap_remove(0), split),
        _ => (Tensor::cat(rows, 0), Tensor::cat(weights, 0), split),
    }
}
