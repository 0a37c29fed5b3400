//! Forward and backward through a residual network for one block of images: activations, slopes and normalised values are kept,
//! nothing is on a tape. On the way back the slopes become the signals.

use faer::Accum;

use super::super::activation::Activation;
use super::super::conv::layout::{load, store};
use super::super::elementwise::{activate, activate_with_slope, add_rows, multiply_by};
use super::layers::{Network, Part};
use super::norm::{add_channels, multiply_channels, scale_and_shift};
use super::pool;
use super::workspace::{PartWork, Scratch, Workspace};

impl Part {
    /// Numbers of one image and of one of its lines.
    fn sizes(&self) -> [usize; 2] {
        let [c, h, w] = self.conv.layer.input;
        [h * w * c, w * c]
    }

    /// `act(norm(x))` into the convolution's input, `x: [images, h, w, c]`.
    fn activate(
        &self,
        activation: Activation,
        theta: &[Vec<f32>],
        x: &[f32],
        work: &mut PartWork,
        images: usize,
        keep: bool,
    ) {
        let [len, line] = self.sizes();
        for (b, x) in x.chunks_exact(len).take(images).enumerate() {
            if let Some(norm) = &self.norm {
                let normalised = &mut work.normalised[b * len..][..len];
                norm.normalise(x, normalised, &mut work.inverse[b * norm.channels..][..norm.channels]);
            }
            for (y, x) in x.chunks_exact(line).enumerate() {
                let (z, at) = (&mut work.input[self.conv.layer.interior(b, y)], b * len + y * line);
                match &self.norm {
                    None => z.copy_from_slice(x),
                    Some(norm) => {
                        let (scale, shift) = (&theta[norm.scale], &theta[norm.scale + 1]);
                        scale_and_shift(z, &work.normalised[at..at + line], scale, shift);
                    }
                }
                if keep {
                    activate_with_slope(activation, z, &mut work.signal[at..at + line]);
                } else {
                    activate(activation, z);
                }
            }
        }
    }

    /// From the signal of the convolution's output to that of x, which the slopes become.
    fn backward(
        &self,
        theta: &[Vec<f32>],
        signal: &[f32],
        work: &mut PartWork,
        images: usize,
        scratch: &mut Scratch,
    ) {
        let [len, line] = self.sizes();
        self.conv.input_grad(theta, signal, &mut scratch.grad, images, &mut scratch.tile);
        for (b, signal) in work.signal.chunks_exact_mut(len).take(images).enumerate() {
            for (y, signal) in signal.chunks_exact_mut(line).enumerate() {
                multiply_by(signal, &scratch.grad[self.conv.layer.interior(b, y)]);
            }
            if let Some(norm) = &self.norm {
                let channels = norm.channels;
                let inverse = &work.inverse[b * channels..][..channels];
                let sums = &mut work.sums[2 * b * channels..][..2 * channels];
                norm.backward(&theta[norm.scale], signal, &work.normalised[b * len..][..len], inverse, sums);
            }
        }
    }

    /// Adds the gradients of scales and shifts after [`Self::backward`], each image's times its factor.
    fn add_norm_grads(
        &self,
        grads: &mut [Vec<f32>],
        work: &PartWork,
        images: usize,
        factors: Option<&[f32]>,
    ) {
        let Some(norm) = &self.norm else { return };
        for (b, sums) in work.sums.chunks_exact(2 * norm.channels).take(images).enumerate() {
            let factor = factors.map_or(1.0, |factors| factors[b]);
            let (shift, scale) = sums.split_at(norm.channels);
            for (at, sums) in [(norm.scale, scale), (norm.scale + 1, shift)] {
                grads[at].iter_mut().zip(sums).for_each(|(grad, sum)| *grad += factor * sum);
            }
        }
    }
}

/// `U` without the confinement for `x: [n, c, h, w]`, n at most a block, into `energy: [n]`. With `keep`, [`backward`] may follow.
pub(super) fn forward(
    network: &Network,
    theta: &[Vec<f32>],
    x: &[f32],
    energy: &mut [f32],
    work: &mut Workspace,
    keep: bool,
) {
    let (n, activation) = (energy.len(), network.activation);
    let Workspace { stem_input, blocks, last, pooled, scratch } = work;
    let Scratch { residual, hidden, tile, .. } = scratch;
    load(&network.stem.layer, x, stem_input);
    network.stem.forward(theta, stem_input, residual, Accum::Replace, n, tile);
    for (block, work) in network.blocks.iter().zip(blocks) {
        if let Some(sizes) = block.pooled_from {
            pool::average(sizes, n, residual, hidden);
            std::mem::swap(residual, hidden);
        }
        let ([first, second], parts) = (&block.parts, &mut work.parts);
        first.activate(activation, theta, residual, &mut parts[0], n, keep);
        first.conv.forward(theta, &parts[0].input, hidden, Accum::Replace, n, tile);
        second.activate(activation, theta, hidden, &mut parts[1], n, keep);
        if let Some(skip) = &block.skip {
            let input = &mut work.skip_input[..n * skip.layer.padded_len()];
            input.copy_from_slice(&residual[..input.len()]);
            skip.forward(theta, input, residual, Accum::Replace, n, tile);
        }
        second.conv.forward(theta, &parts[1].input, residual, Accum::Add, n, tile);
    }
    let [channels, h, w] = network.output;
    let len = channels * h * w;
    if keep {
        activate_with_slope(activation, &mut residual[..n * len], &mut last[..n * len]);
    } else {
        activate(activation, &mut residual[..n * len]);
    }
    let (weight, bias) = (&theta[network.linear], f64::from(theta[network.linear + 1][0]));
    let mut sums = vec![0.0f64; channels];
    let images = residual.chunks_exact(len).zip(pooled.chunks_exact_mut(channels));
    for (energy, (image, pooled)) in energy.iter_mut().zip(images) {
        sums.fill(0.0);
        add_channels(&mut sums, image);
        pooled.iter_mut().zip(&sums).for_each(|(pooled, &sum)| *pooled = sum as f32);
        let products = sums.iter().zip(weight).map(|(sum, &w)| sum * f64::from(w));
        *energy = (products.sum::<f64>() + bias) as f32;
    }
}

/// Goes back from `∂/∂U = seed: [n]` after a [`forward`] that kept its slopes: gradients of θ are added to `grads`, and that of `x`
/// is written to `input`, where they are given.
pub(super) fn backward(
    network: &Network,
    theta: &[Vec<f32>],
    seed: &[f32],
    work: &mut Workspace,
    grads: Option<&mut Vec<Vec<f32>>>,
    input: Option<&mut [f32]>,
) {
    let n = seed.len();
    let Workspace { blocks, last, scratch, .. } = &mut *work;
    // δ = s w · a′
    let weight = &theta[network.linear];
    for (image, s) in last.chunks_exact_mut(network.output.iter().product()).zip(seed) {
        multiply_channels(image, &weight.iter().map(|w| w * s).collect::<Vec<_>>());
    }
    for (i, block) in network.blocks.iter().enumerate().rev() {
        let (here, after) = blocks.split_at_mut(i + 1);
        let (work, signal) = (&mut here[i], after.first().map_or(&**last, |next| next.signal_before()));
        let ([first, second], [first_work, second_work]) = (&block.parts, &mut work.parts);
        second.backward(theta, signal, second_work, n, scratch);
        first.backward(theta, &second_work.signal, first_work, n, scratch);
        let below = &mut first_work.signal[..n * first.conv.layer.input.iter().product::<usize>()];
        if let Some(skip) = &block.skip {
            skip.input_grad(theta, signal, &mut scratch.hidden, n, &mut scratch.tile);
            add_rows(below, &scratch.hidden[..n * skip.layer.padded_len()]);
        } else {
            add_rows(below, &signal[..below.len()]);
        }
        if let Some(sizes) = block.pooled_from {
            pool::backward(sizes, n, below, &mut work.unpooled);
        }
    }
    if let Some(input) = input {
        let stem = &network.stem;
        let signal = blocks.first().map_or(&**last, |block| block.signal_before());
        stem.input_grad(theta, signal, &mut scratch.grad, n, &mut scratch.tile);
        store(&stem.layer, &scratch.grad, input);
    }
    if let Some(grads) = grads {
        add_linear_grads(network, seed, &work.pooled, grads);
        add_grads(network, n, None, work, grads);
    }
}

/// Adds the gradients of θ for `seed: [n]` after a [`backward`] from ones.
pub(super) fn add_seeded_grads(
    network: &Network,
    seed: &[f32],
    work: &mut Workspace,
    grads: &mut [Vec<f32>],
) {
    add_linear_grads(network, seed, &work.pooled, grads);
    add_grads(network, seed.len(), Some(seed), work, grads);
}

/// Those of the last layer.
fn add_linear_grads(network: &Network, seed: &[f32], pooled: &[f32], grads: &mut [Vec<f32>]) {
    for (s, pooled) in seed.iter().zip(pooled.chunks_exact(network.output[0])) {
        grads[network.linear].iter_mut().zip(pooled).for_each(|(grad, pooled)| *grad += s * pooled);
    }
    // Weights of both signs cancel here.
    grads[network.linear + 1][0] += seed.iter().map(|&s| f64::from(s)).sum::<f64>() as f32;
}

/// Those of all other layers, from the signals, each image's times its factor.
fn add_grads(
    network: &Network,
    n: usize,
    factors: Option<&[f32]>,
    work: &mut Workspace,
    grads: &mut [Vec<f32>],
) {
    let Workspace { stem_input, blocks, last, scratch, .. } = work;
    let tile = &mut scratch.tile;
    let mut signal = &**last;
    for (block, work) in network.blocks.iter().zip(&*blocks).rev() {
        let ([first, second], [first_work, second_work]) = (&block.parts, &work.parts);
        second.conv.add_grads(grads, signal, &second_work.input, n, factors, tile);
        if let Some(skip) = &block.skip {
            skip.add_grads(grads, signal, &work.skip_input, n, factors, tile);
        }
        first.conv.add_grads(grads, &second_work.signal, &first_work.input, n, factors, tile);
        first.add_norm_grads(grads, first_work, n, factors);
        second.add_norm_grads(grads, second_work, n, factors);
        signal = work.signal_before();
    }
    network.stem.add_grads(grads, signal, stem_input, n, factors, tile);
}
