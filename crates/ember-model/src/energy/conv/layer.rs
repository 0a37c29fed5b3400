//! One convolution on a block of images as matrix products: what its forward, its input gradient and its weight gradient share.
//!
//! Images are `[b, h, w, c]` with the zero padding stored around them, so that a patch is `k` runs of `k·c` numbers. With `P`
//! the patches `[b·h'·w', k·k·c]` and `W: [out, k·k·c]`: `z = P Wᵀ`, `∂P = δ W` (added back to where the patches came from),
//! `∂W = δᵀ P`. Patches are made for a few output lines and kernel rows (a part) at a time, so that they stay in the cache.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use multiversion::multiversion;

use super::super::elementwise::add_assign;
use super::ConvLayer;

/// Numbers of patches made at a time, unless [`MIN_ROWS`] have more.
const PATCH_NUMBERS: usize = 64 * 1024;
/// Rows that a matrix product should have at least, so that packing the weights pays.
const MIN_ROWS: usize = 256;
/// Numbers of a patch at a time: as many kernel rows as fit, at least one.
const PART: usize = 512;
/// Short runs are copied in pieces of this many numbers; buffers have so many numbers to spare at the end.
pub(in crate::energy) const SLACK: usize = 8;

/// A convolution and the sizes around it.
#[derive(Clone, Copy, Debug)]
pub(in crate::energy) struct Layer {
    /// Input `[c, h, w]`, without padding.
    pub input: [usize; 3],
    /// Output `[c, h, w]`.
    pub output: [usize; 3],
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    /// Output lines worked on at a time.
    pub tile: usize,
}

impl Layer {
    /// `layer` on `input`, which it must fit.
    pub fn new(layer: ConvLayer, input: [usize; 3]) -> Self {
        let side = |side: usize| (side + 2 * layer.padding - layer.kernel) / layer.stride + 1;
        let output = [layer.out, side(input[1]), side(input[2])];
        Self { input, output, kernel: layer.kernel, stride: layer.stride, padding: layer.padding, tile: 1 }
    }

    /// With tiles of one size that a block of `images` falls into.
    pub fn tiled(self, images: usize) -> Self {
        let part = self.parts().map(|rows| self.part_len(&rows)).max().unwrap_or(1);
        let rows = (PATCH_NUMBERS / part).max(MIN_ROWS);
        let lines = images * self.output[1];
        let tiles = (lines * self.output[2]).div_ceil(rows);
        Self { tile: lines.div_ceil(tiles), ..self }
    }

    /// Numbers that a whole tile leaves.
    pub fn tile_len(&self) -> usize {
        self.tile * self.output[2] * self.output[0]
    }

    /// With its input as it is without the padding: for its layout alone.
    pub fn unpadded(&self) -> Self {
        Self { padding: 0, ..*self }
    }

    /// The tiles of `images`: ranges of output lines.
    pub fn tiles(&self, images: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (tile, lines) = (self.tile, images * self.output[1]);
        (0..lines).step_by(tile).map(move |start| start..(start + tile).min(lines))
    }

    /// The parts of a patch: ranges of kernel rows.
    pub fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let kernel = self.kernel;
        let rows = if self.is_plain() { kernel } else { (PART / (kernel * self.input[0])).clamp(1, kernel) };
        (0..kernel).step_by(rows).map(move |start| start..(start + rows).min(kernel))
    }

    /// Numbers of a patch in `part`.
    pub fn part_len(&self, part: &Range<usize>) -> usize {
        part.len() * self.kernel * self.input[0]
    }

    /// Where the weights of `part`, `[out, part_len]`, are among the layer's, which are stored part by part.
    pub fn part_weights(&self, part: &Range<usize>) -> Range<usize> {
        let row = self.output[0] * self.kernel * self.input[0];
        part.start * row..part.end * row
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

    /// Rows of the matrices of `lines` output lines.
    fn rows(&self, lines: &Range<usize>) -> usize {
        lines.len() * self.output[2]
    }

    /// Numbers the scratch for patches must hold.
    pub fn scratch(&self) -> usize {
        let part = self.parts().map(|part| self.part_len(&part)).max().unwrap_or(0);
        if self.is_plain() { 0 } else { self.tile * self.output[2] * part + SLACK }
    }

    /// Where image line `y` of image `b` of this layer's padded input holds its pixels.
    pub fn interior(&self, b: usize, y: usize) -> Range<usize> {
        let [c, _, w] = self.input;
        let start = b * self.padded_len() + ((y + self.padding) * (w + 2 * self.padding) + self.padding) * c;
        start..start + w * c
    }

    /// `part` of the patches of `lines`, `[rows, part_len]`: the input itself where it will do, else gathered into `scratch`.
    fn patches<'a>(
        &self,
        input: &'a [f32],
        lines: &Range<usize>,
        part: &Range<usize>,
        scratch: &'a mut [f32],
    ) -> &'a [f32] {
        let len = self.rows(lines) * self.part_len(part);
        if self.is_plain() {
            let start = lines.start * self.output[2] * self.patch();
            return &input[start..start + len];
        }
        gather(self, input, lines, part, scratch);
        &scratch[..len]
    }

    /// Calls `f` with each part of a patch and those of `lines` of the padded `input`, `[rows, part_len]`.
    fn each_part(
        &self,
        input: &[f32],
        lines: &Range<usize>,
        scratch: &mut [f32],
        mut f: impl FnMut(Range<usize>, MatRef<'_, f32>),
    ) {
        for part in self.parts() {
            let k = self.part_len(&part);
            let patches = self.patches(input, lines, &part, scratch);
            f(part, MatRef::from_row_major_slice(patches, self.rows(lines), k));
        }
    }

    /// The weights of `part`, `[out, part_len]`.
    fn matrix<'a>(&self, weight: &'a [f32], part: &Range<usize>) -> MatRef<'a, f32> {
        let weight = &weight[self.part_weights(part)];
        MatRef::from_row_major_slice(weight, self.output[0], self.part_len(part))
    }

    /// `z = P Wᵀ` or `z += P Wᵀ`, `[rows, out]`, for the patches of `lines` of the padded `input`.
    pub fn forward(
        &self,
        z: &mut [f32],
        accum: Accum,
        input: &[f32],
        weight: &[f32],
        lines: &Range<usize>,
        scratch: &mut [f32],
    ) {
        let mut z = MatMut::from_row_major_slice_mut(z, self.rows(lines), self.output[0]);
        self.each_part(input, lines, scratch, |part, patches| {
            let accum = if part.start == 0 { accum } else { Accum::Add };
            let weight = self.matrix(weight, &part).transpose();
            matmul(z.as_mut(), accum, patches, weight, 1.0, Par::Seq);
        });
    }

    /// `∂W += δᵀ P` for the patches of `lines` of the padded `input`; `signal` is `δ: [rows, out]`.
    pub fn add_weight_grad(
        &self,
        grad: &mut [f32],
        signal: &[f32],
        input: &[f32],
        lines: &Range<usize>,
        scratch: &mut [f32],
    ) {
        let out = self.output[0];
        let signal = MatRef::from_row_major_slice(signal, self.rows(lines), out).transpose();
        self.each_part(input, lines, scratch, |part, patches| {
            let grad = &mut grad[self.part_weights(&part)];
            let grad = MatMut::from_row_major_slice_mut(grad, out, patches.ncols());
            matmul(grad, Accum::Add, signal, patches, 1.0, Par::Seq);
        });
    }

    /// Makes a padded `input_grad` ready for [`Layer::add_input_grad`] of all its lines.
    pub fn clear(&self, input_grad: &mut [f32]) {
        if !self.is_plain() {
            input_grad.fill(0.0);
        }
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
        let (rows, out) = (self.rows(lines), self.output[0]);
        for part in self.parts() {
            let k = self.part_len(&part);
            let start = lines.start * self.output[2] * k;
            let to = if self.is_plain() { &mut input_grad[start..] } else { &mut *scratch };
            matmul(
                MatMut::from_row_major_slice_mut(&mut to[..rows * k], rows, k),
                Accum::Replace,
                MatRef::from_row_major_slice(signal, rows, out),
                self.matrix(weight, &part),
                1.0,
                Par::Seq,
            );
            if !self.is_plain() {
                scatter(self, input_grad, lines, &part, scratch);
            }
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

/// Copies `part` of the patches of `lines` into `patches`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn gather(layer: &Layer, input: &[f32], lines: &Range<usize>, part: &Range<usize>, patches: &mut [f32]) {
    let run = layer.kernel * layer.input[0];
    let mut at = 0;
    for line in lines.clone() {
        let (corner, width, step) = layer.corner(line);
        for x in 0..layer.output[2] {
            for ky in part.clone() {
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

/// Adds the gradients of `part` of the patches of `lines` to the pixels they came from.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn scatter(
    layer: &Layer,
    input_grad: &mut [f32],
    lines: &Range<usize>,
    part: &Range<usize>,
    patches: &[f32],
) {
    // A known length spares the first layers, whose runs are short, the loop.
    match layer.kernel * layer.input[0] {
        3 => scatter_runs(layer, input_grad, lines, part, patches, add_short::<3>),
        4 => scatter_runs(layer, input_grad, lines, part, patches, add_short::<4>),
        5 => scatter_runs(layer, input_grad, lines, part, patches, add_short::<5>),
        9 => scatter_runs(layer, input_grad, lines, part, patches, add_short::<9>),
        12 => scatter_runs(layer, input_grad, lines, part, patches, add_short::<12>),
        15 => scatter_runs(layer, input_grad, lines, part, patches, add_short::<15>),
        _ => scatter_runs(layer, input_grad, lines, part, patches, add_assign),
    }
}

#[inline(always)]
fn scatter_runs(
    layer: &Layer,
    input_grad: &mut [f32],
    lines: &Range<usize>,
    part: &Range<usize>,
    patches: &[f32],
    add: impl Fn(&mut [f32], &[f32]),
) {
    let run = layer.kernel * layer.input[0];
    let mut runs = patches.chunks_exact(run);
    for line in lines.clone() {
        let (corner, width, step) = layer.corner(line);
        for x in 0..layer.output[2] {
            for (ky, from) in part.clone().zip(&mut runs) {
                let to = corner + x * step + ky * width;
                add(&mut input_grad[to..to + run], from);
            }
        }
    }
}

/// `to += from` for `N` numbers.
#[inline(always)]
fn add_short<const N: usize>(to: &mut [f32], from: &[f32]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        for i in 0..N {
            to[i] += from[i];
        }
    }
}
