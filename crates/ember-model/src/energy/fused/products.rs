//! The products of a layer: four units of four walkers by a thread.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use cubecl::prelude::*;

use super::math::Lanes;

/// Four units of four walkers.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Block {
    pub(super) a: Lanes,
    pub(super) b: Lanes,
    pub(super) c: Lanes,
    pub(super) d: Lanes,
}

/// The four rows' coordinate `i`; rows beyond the last repeat it.
#[cube]
pub(super) fn coordinate(
    x: &[f32],
    first_row: usize,
    i: usize,
    rows: usize,
    #[comptime] dim: usize,
) -> Lanes {
    let mut out = Lanes::empty();
    #[unroll]
    for lane in 0..4usize {
        let row = select(first_row + lane < rows, first_row + lane, rows - 1);
        out.insert(lane, x[row * dim + i]);
    }
    out
}

/// `Σ_i w[base + i·stride] a[i]` for the units `first .. first + 4` of `units`; units beyond the last repeat it. Unit `u` has its base
/// at `u·unit_stride`.
#[cube]
pub(super) fn products<N: Size>(
    w: &[Vector<f32, N>],
    first: usize,
    buffer: &Shared<[Lanes]>,
    begin: usize,
    #[comptime] units: usize,
    #[comptime] unit_stride: usize,
    #[comptime] count: usize,
    #[comptime] stride: usize,
    #[comptime] groups: usize,
) -> Block {
    let last = comptime!(units - 1);
    let base_a = select(first < last, first, last) * unit_stride;
    let base_b = select(first + 1 < last, first + 1, last) * unit_stride;
    let base_c = select(first + 2 < last, first + 2, last) * unit_stride;
    let base_d = select(first + 3 < last, first + 3, last) * unit_stride;
    let mut a = Lanes::new(0.0f32);
    let mut b = Lanes::new(0.0f32);
    let mut c = Lanes::new(0.0f32);
    let mut d = Lanes::new(0.0f32);
    for i in 0..count {
        let value = buffer[begin + i * groups];
        a += Lanes::new(w[base_a + i * stride].extract(0usize)) * value;
        b += Lanes::new(w[base_b + i * stride].extract(0usize)) * value;
        c += Lanes::new(w[base_c + i * stride].extract(0usize)) * value;
        d += Lanes::new(w[base_d + i * stride].extract(0usize)) * value;
    }
    Block { a, b, c, d }
}

/// `Σ_i W[u, i] a[i]` with four weights of a row at a time: `width` is a multiple of four.
#[cube]
pub(super) fn products_along<N: Size>(
    w: &[Vector<f32, N>],
    first: usize,
    buffer: &Shared<[Lanes]>,
    begin: usize,
    #[comptime] units: usize,
    #[comptime] width: usize,
    #[comptime] groups: usize,
) -> Block {
    let last = comptime!(units - 1);
    let row_len = comptime!(width / 4);
    let row_a = select(first < last, first, last) * row_len;
    let row_b = select(first + 1 < last, first + 1, last) * row_len;
    let row_c = select(first + 2 < last, first + 2, last) * row_len;
    let row_d = select(first + 3 < last, first + 3, last) * row_len;
    let mut a = Lanes::new(0.0f32);
    let mut b = Lanes::new(0.0f32);
    let mut c = Lanes::new(0.0f32);
    let mut d = Lanes::new(0.0f32);
    for j in 0..row_len {
        let w_a = w[row_a + j];
        let w_b = w[row_b + j];
        let w_c = w[row_c + j];
        let w_d = w[row_d + j];
        #[unroll]
        for k in 0..4usize {
            let value = buffer[begin + (4 * j + k) * groups];
            a += Lanes::new(w_a.extract(k)) * value;
            b += Lanes::new(w_b.extract(k)) * value;
            c += Lanes::new(w_c.extract(k)) * value;
            d += Lanes::new(w_d.extract(k)) * value;
        }
    }
    Block { a, b, c, d }
}

/// `Σ_o W[o, i] δ[o]` of the four units from `first` on, whose weights of one row are one vector: `width` is a multiple of four.
#[cube]
pub(super) fn products_across<N: Size>(
    w: &[Vector<f32, N>],
    first: usize,
    buffer: &Shared<[Lanes]>,
    begin: usize,
    #[comptime] width: usize,
    #[comptime] count: usize,
    #[comptime] groups: usize,
) -> Block {
    let row_len = comptime!(width / 4);
    let column = first / 4;
    let mut a = Lanes::new(0.0f32);
    let mut b = Lanes::new(0.0f32);
    let mut c = Lanes::new(0.0f32);
    let mut d = Lanes::new(0.0f32);
    for o in 0..count {
        let value = buffer[begin + o * groups];
        let weights = w[o * row_len + column];
        a += Lanes::new(weights.extract(0usize)) * value;
        b += Lanes::new(weights.extract(1usize)) * value;
        c += Lanes::new(weights.extract(2usize)) * value;
        d += Lanes::new(weights.extract(3usize)) * value;
    }
    Block { a, b, c, d }
}

/// [`products`] of the first layer, which reads x where it is.
#[cube]
pub(super) fn input_products(
    w: &[Vector<f32, Const<1>>],
    first: usize,
    x: &[f32],
    first_row: usize,
    rows: usize,
    #[comptime] units: usize,
    #[comptime] dim: usize,
) -> Block {
    let last = comptime!(units - 1);
    let base_a = select(first < last, first, last) * dim;
    let base_b = select(first + 1 < last, first + 1, last) * dim;
    let base_c = select(first + 2 < last, first + 2, last) * dim;
    let base_d = select(first + 3 < last, first + 3, last) * dim;
    let mut a = Lanes::new(0.0f32);
    let mut b = Lanes::new(0.0f32);
    let mut c = Lanes::new(0.0f32);
    let mut d = Lanes::new(0.0f32);
    for i in 0..dim {
        let value = coordinate(x, first_row, i, rows, dim);
        a += Lanes::new(w[base_a + i].extract(0usize)) * value;
        b += Lanes::new(w[base_b + i].extract(0usize)) * value;
        c += Lanes::new(w[base_c + i].extract(0usize)) * value;
        d += Lanes::new(w[base_d + i].extract(0usize)) * value;
    }
    Block { a, b, c, d }
}
