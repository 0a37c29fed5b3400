//! The residual network as tensor operations, on any device and on the tape: the reference of the explicit passes.

use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool2d, conv2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions};

use super::super::network::confine;
use super::{EPSILON, ResNet};
use crate::product::matmul;

/// `U(x)` of `config` on an `image: [c, h, w]`. `x: [batch, dim]` → `[batch]`.
pub(super) fn by_tensors(config: &ResNet, image: [usize; 3], theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
    let [n, _] = x.dims();
    let [c, h, w] = image;
    let channels = &config.channels;
    let mut layers = Reader { theta: theta.iter(), config };
    let mut hidden = layers.conv(x.clone().reshape([n, c, h, w]), channels[0], 3, true);
    for (i, block) in config.blocks().enumerate() {
        if config.is_pooled_before(i) {
            hidden = avg_pool2d(hidden, AvgPoolOptions::new([2, 2]));
        }
        hidden = layers.block(hidden, block);
    }
    let pooled = config.activation.forward(hidden).sum_dim(3).sum_dim(2);
    let weight = layers.next().reshape([channels[channels.len() - 1], 1]);
    let u = matmul(pooled.reshape([n, channels[channels.len() - 1]]), weight) + layers.next().reshape([1, 1]);
    confine(u.reshape([n]), x, config.confinement)
}

/// θ, taken in the order of `Architecture::params`.
struct Reader<'a> {
    theta: std::slice::Iter<'a, Tensor<1>>,
    config: &'a ResNet,
}

impl Reader<'_> {
    fn next(&mut self) -> Tensor<1> {
        // `params` lists exactly the tensors the layers below take.
        self.theta.next().cloned().expect("one tensor per parameter")
    }

    /// A convolution of side `k` that keeps the sides of the image. `x: [n, in, h, w]` → `[n, out, h, w]`.
    fn conv(&mut self, x: Tensor<4>, out: usize, k: usize, bias: bool) -> Tensor<4> {
        let [_, channels, ..] = x.dims();
        let weight = self.next().reshape([out, channels, k, k]);
        let options = ConvOptions::new([1, 1], [k / 2; 2], [1, 1], 1);
        conv2d(x, weight, bias.then(|| self.next()), options)
    }

    /// `act(norm(x))`, `[n, c, h, w]`.
    fn activate(&mut self, x: Tensor<4>) -> Tensor<4> {
        if !self.config.is_normed() {
            return self.config.activation.forward(x);
        }
        let channels = x.dims()[1];
        let (scale, shift) =
            (self.next().reshape([1, channels, 1, 1]), self.next().reshape([1, channels, 1, 1]));
        self.config.activation.forward(group_norm(x, self.config.groups) * scale + shift)
    }

    /// `skip(x) + conv2(act(norm2(conv1(act(norm1(x))))))`, `[n, in, h, w]` → `[n, out, h, w]`.
    fn block(&mut self, x: Tensor<4>, [channels, out]: [usize; 2]) -> Tensor<4> {
        let hidden = self.activate(x.clone());
        let hidden = self.conv(hidden, out, 3, true);
        let hidden = self.activate(hidden);
        let branch = self.conv(hidden, out, 3, true);
        let skip = if channels == out { x } else { self.conv(x, out, 1, false) };
        skip + branch
    }
}

/// `(x − mean)/√(var + ε)` over each group of one sample. `[n, c, h, w]`.
fn group_norm(x: Tensor<4>, groups: usize) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let x = x.reshape([n, groups, c / groups * h, w]);
    // One side after the other: no reduction is longer than a few thousand terms.
    let mean = |x: Tensor<4>| x.mean_dim(3).mean_dim(2);
    let gap = x.clone() - mean(x);
    let variance = mean(gap.clone() * gap.clone());
    (gap / variance.add_scalar(EPSILON).sqrt()).reshape([n, c, h, w])
}
