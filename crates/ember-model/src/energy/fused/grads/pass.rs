//! Pieces of the way through the layers and back, by all threads of a cube.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use cubecl::prelude::*;

use super::super::math::{Lanes, slopes, values};
use super::super::products::Block;
use super::THREADS;
use crate::energy::activation::Activation;

/// One unit of the forward pass: `z` to scratch, `a(z)` to shared memory. Sums over coordinates in several parts begin with the bias
/// and end with the activation.
#[cube]
pub(super) fn activated(
    sum: Lanes,
    unit: usize,
    bias: &[f32],
    scratch: &mut [Lanes],
    scratch_begin: usize,
    buffer: &mut Shared<[Lanes]>,
    begin: usize,
    begins: bool,
    ends: bool,
    #[comptime] units: usize,
    #[comptime] groups: usize,
    #[comptime] pitch: usize,
    #[comptime] activation: Activation,
) {
    if unit < units {
        let at = scratch_begin + unit * groups;
        let mut z = sum;
        if begins {
            z += Lanes::new(bias[unit]);
        } else {
            z += scratch[at];
        }
        scratch[at] = z;
        if ends {
            buffer[begin + unit * pitch] = values(z, activation);
        }
    }
}

/// [`activated`] of four units.
#[cube]
pub(super) fn all_activated(
    block: Block,
    unit: usize,
    bias: &[f32],
    scratch: &mut [Lanes],
    scratch_begin: usize,
    buffer: &mut Shared<[Lanes]>,
    begin: usize,
    begins: bool,
    ends: bool,
    #[comptime] units: usize,
    #[comptime] groups: usize,
    #[comptime] pitch: usize,
    #[comptime] activation: Activation,
) {
    #[unroll]
    for k in 0..4usize {
        let sum = if comptime!(k == 0) {
            block.a
        } else if comptime!(k == 1) {
            block.b
        } else if comptime!(k == 2) {
            block.c
        } else {
            block.d
        };
        activated(
            sum,
            unit + k,
            bias,
            scratch,
            scratch_begin,
            buffer,
            begin,
            begins,
            ends,
            units,
            groups,
            pitch,
            activation,
        );
    }
}

/// One unit of the backward pass: `δ = (δ W) ∘ a′(z)` to shared memory.
#[cube]
pub(super) fn signal(
    sum: Lanes,
    unit: usize,
    scratch: &mut [Lanes],
    scratch_begin: usize,
    buffer: &mut Shared<[Lanes]>,
    begin: usize,
    #[comptime] units: usize,
    #[comptime] groups: usize,
    #[comptime] pitch: usize,
    #[comptime] activation: Activation,
) {
    if unit < units {
        let z = scratch[scratch_begin + unit * groups];
        buffer[begin + unit * pitch] = sum * slopes(z, activation);
    }
}

/// The coordinates `column .. column + count` of the tile's rows to shared memory; rows beyond the last repeat it. Threads side by side
/// read coordinates side by side.
#[cube]
pub(super) fn stage(
    x: &[f32],
    first_row: usize,
    rows: usize,
    column: usize,
    count: usize,
    buffer: &mut Shared<[Lanes]>,
    #[comptime] begin: usize,
    #[comptime] dim: usize,
    #[comptime] groups: usize,
    #[comptime] pitch: usize,
) {
    let mut at = UNIT_POS as usize;
    while at < count * groups {
        let (j, group) = (at % count, at / count);
        let mut lanes = Lanes::empty();
        #[unroll]
        for lane in 0..4usize {
            let row = first_row + 4 * group + lane;
            let row = select(row < rows, row, rows - 1);
            lanes.insert(lane, x[row * dim + column + j]);
        }
        buffer[comptime!(begin) + j * pitch + group] = lanes;
        at += THREADS;
    }
}

/// `Σ_j W[u, column + j] x[j]` of the four units from `first` on; units beyond the last repeat it.
#[cube]
pub(super) fn column_products(
    w: &[Vector<f32, Const<1>>],
    first: usize,
    buffer: &Shared<[Lanes]>,
    begin: usize,
    column: usize,
    count: usize,
    #[comptime] units: usize,
    #[comptime] dim: usize,
    #[comptime] pitch: usize,
) -> Block {
    let last = comptime!(units - 1);
    let base_a = select(first < last, first, last) * dim + column;
    let base_b = select(first + 1 < last, first + 1, last) * dim + column;
    let base_c = select(first + 2 < last, first + 2, last) * dim + column;
    let base_d = select(first + 3 < last, first + 3, last) * dim + column;
    let mut a = Lanes::new(0.0f32);
    let mut b = Lanes::new(0.0f32);
    let mut c = Lanes::new(0.0f32);
    let mut d = Lanes::new(0.0f32);
    for j in 0..count {
        let value = buffer[begin + j * pitch];
        a += Lanes::new(w[base_a + j].extract(0usize)) * value;
        b += Lanes::new(w[base_b + j].extract(0usize)) * value;
        c += Lanes::new(w[base_c + j].extract(0usize)) * value;
        d += Lanes::new(w[base_d + j].extract(0usize)) * value;
    }
    Block { a, b, c, d }
}

/// The weights of four rows, zero beyond the last.
#[cube]
pub(super) fn row_weights(weights: &[f32], first_row: usize, rows: usize) -> Lanes {
    let mut lanes = Lanes::empty();
    #[unroll]
    for lane in 0..4usize {
        let row = first_row + lane;
        let weight = weights[select(row < rows, row, rows - 1)];
        lanes.insert(lane, select(row < rows, weight, 0.0f32));
    }
    lanes
}

/// The energies of four rows.
#[cube]
pub(super) fn write_energies(energy: &mut [f32], values: Lanes, first_row: usize, rows: usize) {
    #[unroll]
    for lane in 0..4usize {
        if first_row + lane < rows {
            energy[first_row + lane] = values.extract(lane);
        }
    }
}
