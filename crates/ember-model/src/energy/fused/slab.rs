//! Products of a hidden layer with its weights in shared memory, a slab of [`DEPTH`] steps of the inner dimension at a time. While a slab is
//! multiplied, the next is on its way from global memory into registers, and then to the other of two buffers.
//!
//! Forward, `z = W a`, a slab holds four weights along a row in each vector, as they lie in memory; backward, `Wᵀ δ`, four units of a row of W. Both
//! are 16 vectors of shared memory for 256 multiply-adds of a thread of 8 × 8 sums, and 8 for 64 of one of 4 × 4.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use cubecl::prelude::*;

use super::form::{DEPTH, Form};
use super::math::Lanes;

/// Which product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    /// `W a`.
    Forward,
    /// `Wᵀ δ`.
    Backward,
}

/// Item `item` of slab `slab`: two vectors of a unit's row.
#[cube]
fn item_forward<N: Size>(
    w: &[Vector<f32, N>],
    slab: usize,
    item: usize,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
) -> Lanes {
    let vector = N::value();
    let vectors = comptime!(columns.div_ceil(4));
    let unit = item / 2;
    let place = 2 * slab + item % 2;
    let mut out = Lanes::new(0.0f32);
    if unit < rows && place < vectors {
        if comptime!(vector == 4) {
            let four = w[unit * vectors + place];
            #[unroll]
            for k in 0..4usize {
                out.insert(k, four.extract(k));
            }
        } else {
            #[unroll]
            for k in 0..4usize {
                if 4 * place + k < columns {
                    out.insert(k, w[unit * columns + 4 * place + k].extract(0usize));
                }
            }
        }
    }
    out
}

/// Item `item` of slab `slab`: four units of a row.
#[cube]
fn item_backward<N: Size>(
    w: &[Vector<f32, N>],
    slab: usize,
    item: usize,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
    #[comptime] form: Form,
) -> Lanes {
    let vector = N::value();
    let vectors = comptime!(columns.div_ceil(4));
    let all = comptime!(form.all_quads());
    let row = DEPTH * slab + item / all;
    let quad = item % all;
    let mut out = Lanes::new(0.0f32);
    if row < rows && quad < vectors {
        if comptime!(vector == 4) {
            let four = w[row * vectors + quad];
            #[unroll]
            for k in 0..4usize {
                out.insert(k, four.extract(k));
            }
        } else {
            #[unroll]
            for k in 0..4usize {
                if 4 * quad + k < columns {
                    out.insert(k, w[row * columns + 4 * quad + k].extract(0usize));
                }
            }
        }
    }
    out
}

/// This thread's items of a slab, from global memory.
#[cube]
fn fetch<N: Size>(
    w: &[Vector<f32, N>],
    slab: usize,
    fetched: &mut Array<Lanes>,
    #[comptime] direction: Direction,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
    #[comptime] form: Form,
) {
    let items = comptime!(DEPTH * form.all_quads());
    #[unroll]
    for i in 0..comptime!(items.div_ceil(form.threads())) {
        let item = UNIT_POS as usize + comptime!(i * form.threads());
        if item < items {
            fetched[i] = match direction {
                Direction::Forward => item_forward(w, slab, item, rows, columns),
                Direction::Backward => item_backward(w, slab, item, rows, columns, form),
            };
        }
    }
}

/// This thread's items of a slab, to shared memory at `begin`.
#[cube]
fn store(
    fetched: &Array<Lanes>,
    slabs: &mut Shared<[Lanes]>,
    begin: usize,
    #[comptime] direction: Direction,
    #[comptime] form: Form,
) {
    let items = comptime!(DEPTH * form.all_quads());
    let stride = comptime!(form.stride());
    #[unroll]
    for i in 0..comptime!(items.div_ceil(form.threads())) {
        let item = UNIT_POS as usize + comptime!(i * form.threads());
        if item < items {
            let place = match direction {
                Direction::Forward => {
                    let unit = item / 2;
                    (4 * (item % 2) + unit % 4) * stride + unit / 4
                }
                Direction::Backward => {
                    let all = comptime!(form.all_quads());
                    item / all * stride + item % all
                }
            };
            slabs[begin + place] = fetched[i];
        }
    }
}

/// `sums += slab · inputs`, forward: the slab's eight steps are inputs `first .. first + 8`.
#[cube]
fn multiply_forward(
    slabs: &mut Shared<[Lanes]>,
    begin: usize,
    inputs: &mut Shared<[Lanes]>,
    first: usize,
    sums: &mut Array<Lanes>,
    #[comptime] form: Form,
) {
    let lanes = comptime!(form.lanes);
    let row = UNIT_POS as usize % comptime!(form.rows());
    let column = UNIT_POS as usize / comptime!(form.rows());
    let mut weights = Array::<Lanes>::new(comptime!(4 * form.quads));
    let mut values = Array::<Lanes>::new(lanes);
    #[unroll]
    for part in 0..comptime!(DEPTH / 4) {
        #[unroll]
        for j in 0..comptime!(form.quads) {
            #[unroll]
            for c in 0..4usize {
                let place = begin + column + comptime!((4 * part + c) * form.stride() + j * form.columns);
                weights[comptime!(4 * j + c)] = slabs[place];
            }
        }
        #[unroll]
        for k in 0..4usize {
            let at = (first + comptime!(4 * part + k)) * comptime!(form.groups()) + row;
            #[unroll]
            for a in 0..lanes {
                values[a] = inputs[at + comptime!(a * form.rows())];
            }
            #[unroll]
            for u in 0..comptime!(4 * form.quads) {
                let weight = Lanes::new(weights[u].extract(k));
                #[unroll]
                for a in 0..lanes {
                    let at = comptime!(u * lanes + a);
                    sums[at] = sums[at] + weight * values[a];
                }
            }
        }
    }
}

/// `sums += slab · inputs`, backward.
#[cube]
fn multiply_backward(
    slabs: &mut Shared<[Lanes]>,
    begin: usize,
    inputs: &mut Shared<[Lanes]>,
    first: usize,
    sums: &mut Array<Lanes>,
    #[comptime] form: Form,
) {
    let lanes = comptime!(form.lanes);
    let row = UNIT_POS as usize % comptime!(form.rows());
    let column = UNIT_POS as usize / comptime!(form.rows());
    let mut values = Array::<Lanes>::new(lanes);
    #[unroll]
    for k in 0..DEPTH {
        let at = (first + k) * comptime!(form.groups()) + row;
        #[unroll]
        for a in 0..lanes {
            values[a] = inputs[at + comptime!(a * form.rows())];
        }
        #[unroll]
        for j in 0..comptime!(form.quads) {
            let four = slabs[begin + column + comptime!(k * form.stride() + j * form.columns)];
            #[unroll]
            for c in 0..4usize {
                let weight = Lanes::new(four.extract(c));
                #[unroll]
                for a in 0..lanes {
                    let at = comptime!((4 * j + c) * lanes + a);
                    sums[at] = sums[at] + weight * values[a];
                }
            }
        }
    }
}

/// `sums = W inputs` or `Wᵀ inputs`, `W: [rows, columns]`, for this thread's units and walkers. The inputs are `[unit, group of walkers]`, in shared
/// memory and complete; the cube is in step when it returns, and done with inputs and slabs.
#[cube]
pub(super) fn product<N: Size>(
    w: &[Vector<f32, N>],
    inputs: &mut Shared<[Lanes]>,
    slabs: &mut Shared<[Lanes]>,
    sums: &mut Array<Lanes>,
    #[comptime] direction: Direction,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
    #[comptime] form: Form,
) {
    let inner = comptime!(match direction {
        Direction::Forward => columns,
        Direction::Backward => rows,
    });
    let count = comptime!(inner.div_ceil(DEPTH));
    let length = comptime!(form.slab());
    #[unroll]
    for i in 0..comptime!(form.sums()) {
        sums[i] = Lanes::new(0.0f32);
    }
    let mut fetched = Array::<Lanes>::new(comptime!((DEPTH * form.all_quads()).div_ceil(form.threads())));
    fetch(w, 0usize, &mut fetched, direction, rows, columns, form);
    store(&fetched, slabs, 0usize, direction, form);
    sync_cube();
    for slab in 0..count {
        let begin = slab % 2 * length;
        if slab + 1 < count {
            fetch(w, slab + 1, &mut fetched, direction, rows, columns, form);
        }
        match direction {
            Direction::Forward => multiply_forward(slabs, begin, inputs, slab * DEPTH, sums, form),
            Direction::Backward => multiply_backward(slabs, begin, inputs, slab * DEPTH, sums, form),
        };
        if slab + 1 < count {
            store(&fetched, slabs, length - begin, direction, form);
        }
        sync_cube();
    }
}
