//! Weights and images between the layouts of θ and samples and those of the layers.

use rayon::prelude::*;

use super::layer::Layer;

/// Output channels whose weights one thread rearranges.
const OUTPUTS: usize = 64;

/// `[out, in, kh, kw]` to `[kernel part][out, kh, kw, in]`.
pub(in crate::energy) fn packed(layer: &Layer, weight: &[f32]) -> Vec<f32> {
    let (channels, taps) = (layer.input[0], layer.kernel.pow(2));
    let mut packed = vec![0.0; weight.len()];
    for part in layer.parts() {
        let rows = packed[layer.part_weights(&part)].par_chunks_exact_mut(layer.part_len(&part));
        let pairs = rows.zip(weight.par_chunks_exact(channels * taps)).with_min_len(OUTPUTS);
        pairs.for_each(|(to, from)| {
            for (tap, to) in (part.start * layer.kernel..).zip(to.chunks_exact_mut(channels)) {
                for (to, from) in to.iter_mut().zip(from[tap..].iter().step_by(taps)) {
                    *to = *from;
                }
            }
        });
    }
    packed
}

/// The reverse of [`packed`].
pub(in crate::energy) fn unpacked(layer: &Layer, packed: &[f32]) -> Vec<f32> {
    let (channels, taps) = (layer.input[0], layer.kernel.pow(2));
    let mut weight = vec![0.0; packed.len()];
    for part in layer.parts() {
        let rows = packed[layer.part_weights(&part)].par_chunks_exact(layer.part_len(&part));
        let pairs = rows.zip(weight.par_chunks_exact_mut(channels * taps)).with_min_len(OUTPUTS);
        pairs.for_each(|(from, to)| {
            for (tap, from) in (part.start * layer.kernel..).zip(from.chunks_exact(channels)) {
                for (from, to) in from.iter().zip(to[tap..].iter_mut().step_by(taps)) {
                    *to = *from;
                }
            }
        });
    }
    weight
}

/// `x: [n, c, h, w]` into the padded `[n, h, w, c]`.
pub(in crate::energy) fn load(layer: &Layer, x: &[f32], padded: &mut [f32]) {
    let [c, h, w] = layer.input;
    for (b, x) in x.chunks_exact(c * h * w).enumerate() {
        for y in 0..h {
            let line = &mut padded[layer.interior(b, y)];
            for (channel, x) in x.chunks_exact(h * w).enumerate() {
                for (to, &x) in line[channel..].iter_mut().step_by(c).zip(&x[y * w..(y + 1) * w]) {
                    *to = x;
                }
            }
        }
    }
}

/// The reverse of [`load`].
pub(in crate::energy) fn store(layer: &Layer, padded: &[f32], x: &mut [f32]) {
    let [c, h, w] = layer.input;
    for (b, x) in x.chunks_exact_mut(c * h * w).enumerate() {
        for y in 0..h {
            let line = &padded[layer.interior(b, y)];
            for (channel, x) in x.chunks_exact_mut(h * w).enumerate() {
                for (&from, x) in line[channel..].iter().step_by(c).zip(&mut x[y * w..(y + 1) * w]) {
                    *x = from;
                }
            }
        }
    }
}
