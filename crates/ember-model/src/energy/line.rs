//! Derivatives along a line, by hand-written forward mode: what a network makes of `x + t v`, with its first two derivatives in `t` at 0.
//!
//! burn differentiates once, backwards. A loss that holds `vᵀ∇ₓU` or `vᵀHv` is a function of these numbers, so that one backward pass
//! of it gives its exact gradient in θ. Cost: three forward passes on the tape, and a backward pass of them.

use burn::tensor::Tensor;

use super::activation::Activation;
use crate::precision::{Precision, product};

/// A tensor along a line: value, first derivative and second one; without it, that is 0.
pub(super) struct Line<const D: usize> {
    pub value: Tensor<D>,
    pub first: Tensor<D>,
    pub second: Option<Tensor<D>>,
}

impl<const D: usize> Line<D> {
    /// `x + t v`.
    pub fn new(x: Tensor<D>, v: Tensor<D>) -> Self {
        Self { value: x, first: v, second: None }
    }

    /// Through a map `affine(h, true)`, whose linear part is `affine(h, false)`.
    pub fn affine<const E: usize>(self, affine: impl Fn(Tensor<D>, bool) -> Tensor<E>) -> Line<E> {
        Line {
            value: affine(self.value, true),
            first: affine(self.first, false),
            second: self.second.map(|second| affine(second, false)),
        }
    }

    /// Through an activation.
    pub fn activated(self, activation: Activation) -> Self {
        let [value, first, second] = activation.along(self.value, self.first, self.second);
        Self { value, first, second: Some(second) }
    }

    /// The three as an energy's, `[batch]` each, of tensors with one number a row.
    pub fn energies(self) -> [Tensor<1>; 3] {
        let n = self.value.dims()[0];
        let second = self.second.unwrap_or_else(|| self.first.zeros_like());
        [self.value, self.first, second].map(|tensor| tensor.reshape([n]))
    }
}

/// A perceptron along a line; see [`super::network::perceptron_at`].
pub(super) fn perceptron(
    theta: &[Tensor<1>],
    mut line: Line<2>,
    activation: Activation,
    precision: Precision,
) -> Line<2> {
    let last = theta.len() / 2 - 1;
    for (i, layer) in theta.chunks_exact(2).enumerate() {
        if i > 0 {
            line = line.activated(activation);
        }
        let precision = if i == last { Precision::F32 } else { precision };
        let ([_, width], [out]) = (line.value.dims(), layer[1].dims());
        let weight = layer[0].clone().reshape([out, width]).transpose();
        let bias = layer[1].clone().reshape([1, out]);
        line = line.affine(|h, whole| {
            let h = product(h, weight.clone(), precision);
            if whole { h + bias.clone() } else { h }
        });
    }
    line
}

/// Adds `½ c |x|²` and its derivatives `c xᵀv` and `c |v|²`. `x, v: [batch, dim]`.
pub(super) fn confine(u: [Tensor<1>; 3], x: Tensor<2>, v: Tensor<2>, confinement: f64) -> [Tensor<1>; 3] {
    if confinement == 0.0 {
        return u;
    }
    let [value, first, second] = u;
    let dot = |a: &Tensor<2>, b: &Tensor<2>| rowwise(a.clone() * b.clone()).mul_scalar(confinement);
    [value + dot(&x, &x).mul_scalar(0.5), first + dot(&x, &v), second + dot(&v, &v)]
}

/// Sums of the rows. `[batch, dim]` → `[batch]`.
pub(super) fn rowwise(x: Tensor<2>) -> Tensor<1> {
    x.sum_dim(1).squeeze_dim::<1>(1)
}
