//! One convolution on a block of images as matrix products: what its forward, its input gradient and its weight gradient share.
//!
//! Images are `[b, h, w, c]` with the zero padding stored around them, so that a patch is `k` runs of `k·c` numbers. With `P`
//! the patches `[b·h'·w', k·k·c]` and `W: [out, k·k·c]`: `z = P Wᵀ`, `∂P = δ W` (added back to where the patches came from),
//! `∂W = δᵀ P`. Patches are made for a few output lines at a time, so that they stay in the cache.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use multiversion::multiversion;

use super::super::elementwise::add_assign;
use super::ConvLayer;

/// Patches made at a time, at most this many numbers, unless one line or [`MIN_ROWS`] has more.
const PATCH_NUMBERS: usize = 128 * 1024;
/// Rows that a matrix product should have at least, so that reading the weights pays.
const MIN_ROWS: usize = 96;
/// Short runs are copied in pieces of this many numbers; buffers have so many numbers to spare at the end.
pub(super) const SLACK: usize = 8;

/// A convolution and the sizes around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    /// Input `[c, h, w]`, without padding.
    pub input: [usize; 3],
    /// Output `[c, h, w]`.
    pub output: [usize; 3],
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl Layer {
    pub fn new(layer: ConvLayer, input: [usize; 3]) -> Self {
        let side = |side: usize| (side + 2 * layer.padding - layer.kernel) / layer.stride + 1;
        let output = [layer.out, side(input[1]), side(input[2])];
        Self { input, output, kernel: layer.kernel, stride: layer.stride, padding: layer.padding }
    }

    /// Numbers of one padded input image.
    pub fn padded_len(&self) -> usize {
        let [c, h, w] = self.input;
        (h + 2 * self.padding) * (w + 2 * self.padding) * c
    }

    /// Numbers of one output image.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    /// Numbers of one patch, `k·k·c`.
    pub fn patch(&self) -> usize {
        self.kernel * self.kernel * self.input[0]
    }

    /// Whether the patches are the padded input as it stands: one patch that covers it, or single pixels.
    fn is_plain(&self) -> bool {
        let [_, h, w] = self.input.map(|side| side + 2 * self.padding);
        (self.kernel == h && self.kernel == w) || (self.kernel == 1 && self.stride == 1)
    }

    /// Output lines worked on at a time.
    pub fn tile(&self) -> usize {
        let rows = (PATCH_NUMBERS / self.patch()).max(MIN_ROWS);
        (rows / self.output[2]).max(1)
    }

    /// Rows of the matrices of `lines` output lines.
    pub fn rows(&self, lines: &Range<usize>) -> usize {
        lines.len() * self.output[2]
    }

    /// Numbers the scratch for patches must hold.
    pub fn scratch(&self) -> usize {
        if self.is_plain() { 0 } else { self.tile() * self.output[2] * self.patch() + SLACK }
    }

    /// Where image line `y` of image `b` of this layer's padded input holds its pixels.
    pub fn interior(&self, b: usize, y: usize) -> Range<usize> {
        let [c, _, w] = self.input;
        let start = b * self.padded_len() + ((y + self.padding) * (w + 2 * self.padding) + self.padding) * c;
        start..start + w * c
    }

    /// The patches of `lines`, `[rows, patch]`: the input itself where it will do, else gathered into `scratch`.
    pub fn patches<'a>(&self, input: &'a [f32], lines: &Range<usize>, scratch: &'a mut [f32]) -> &'a [f32] {
        let len = self.rows(lines) * self.patch();
        if self.is_plain() {
            let start = lines.start * self.output[2] * self.patch();
            return &input[start..start + len];
        }
        gather(self, input, lines, scratch);
        &scratch[..len]
    }

    /// `z = P Wᵀ`, `[rows, out]`.
    pub fn forward(&self, z: &mut [f32], patches: &[f32], weight: &[f32]) {
        let (out, k) = (self.output[0], self.patch());
        let rows = z.len() / out;
        matmul(
            MatMut::from_row_major_slice_mut(z, rows, out),
            Accum::Replace,
            MatRef::from_row_major_slice(patches, rows, k),
            MatRef::from_row_major_slice(weight, out, k).transpose(),
            1.0,
            Par::Seq,
        );
    }

    /// `∂W += δᵀ P`, `[out, patch]`.
    pub fn add_weight_grad(&self, grad: &mut [f32], signal: &[f32], patches: &[f32]) {
        let (out, k) = (self.output[0], self.patch());
        let rows = signal.len() / out;
        matmul(
            MatMut::from_row_major_slice_mut(grad, out, k),
            Accum::Add,
            MatRef::from_row_major_slice(signal, rows, out).transpose(),
            MatRef::from_row_major_slice(patches, rows, k),
            1.0,
            Par::Seq,
        );
    }

    /// Adds `δ W` to the pixels of the padded `input_grad` that the patches of `lines` came from.
    pub fn add_input_grad(
        &self,
        input_grad: &mut [f32],
        signal: &[f32],
        weight: &[f32],
        lines: &Range<usize>,
        scratch: &mut [f32],
    ) {
        let (out, k) = (self.output[0], self.patch());
        let rows = self.rows(lines);
        let (to, plain) = if self.is_plain() {
            let start = lines.start * self.output[2] * k;
            (&mut input_grad[start..start + rows * k], true)
        } else {
            (&mut scratch[..rows * k], false)
        };
        matmul(
            MatMut::from_row_major_slice_mut(to, rows, k),
            Accum::Replace,
            MatRef::from_row_major_slice(signal, rows, out),
            MatRef::from_row_major_slice(weight, out, k),
            1.0,
            Par::Seq,
        );
        if !plain {
            scatter(self, input_grad, lines, scratch);
        }
    }

    /// Where in the padded input the patch at column 0 of output line `line` (over all images) starts, the length of a padded
    /// line, and the step between patches.
    #[inline(always)]
    fn corner(&self, line: usize) -> (usize, usize, usize) {
        let [c, _, w] = self.input;
        let width = (w + 2 * self.padding) * c;
        let (b, y) = (line / self.output[1], line % self.output[1]);
        (b * self.padded_len() + y * self.stride * width, width, self.stride * c)
    }
}

/// Copies the patches of `lines` into `patches`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn gather(layer: &Layer, input: &[f32], lines: &Range<usize>, patches: &mut [f32]) {
    let run = layer.kernel * layer.input[0];
    let mut at = 0;
    for line in lines.clone() {
        let (corner, width, step) = layer.corner(line);
        for x in 0..layer.output[2] {
            for ky in 0..layer.kernel {
                let from = corner + x * step + ky * width;
                if run <= 4 * SLACK {
                    // The numbers copied too many are overwritten by the next run.
                    for piece in (0..run).step_by(SLACK) {
                        patches[at + piece..at + piece + SLACK]
                            .copy_from_slice(&input[from + piece..from + piece + SLACK]);
                    }
                } else {
                    patches[at..at + run].copy_from_slice(&input[from..from + run]);
                }
                at += run;
            }
        }
    }
}

/// Adds the gradients of the patches of `lines` to the pixels they came from.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn scatter(layer: &Layer, input_grad: &mut [f32], lines: &Range<usize>, patches: &[f32]) {
    let run = layer.kernel * layer.input[0];
    let mut at = 0;
    for line in lines.clone() {
        let (corner, width, step) = layer.corner(line);
        for x in 0..layer.output[2] {
            for ky in 0..layer.kernel {
                let to = corner + x * step + ky * width;
                add_assign(&mut input_grad[to..to + run], &patches[at..at + run]);
                at += run;
            }
        }
    }
}
