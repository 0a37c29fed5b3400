//! The product of a cube: tiles of both operands in shared memory, twice, and a square of sums in each thread's registers.
//!
//! While a tile is multiplied, the next one is on its way into registers; one barrier a tile. A thread of a large tile reads four vectors
//! of shared memory for 64 multiply-adds; threads side by side read vectors side by side.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(
    clippy::collapsible_if,
    clippy::assign_op_pattern,
    clippy::needless_range_loop,
    clippy::too_many_arguments
)]

use cubecl::prelude::*;

use super::gather::{Part, left, places, right};
use super::plan::{LANES, Plan, Product, Tile};
use crate::energy::fused::math::Lanes;

/// The first row (of the tile) of square `square` of the left operand, and its first inner index. What is read along the inner
/// dimension has neighbours along it.
#[cube]
fn left_square(square: usize, #[comptime] plan: Plan) -> (usize, usize) {
    let quads = comptime!(plan.tile.depth / LANES);
    let groups = comptime!(plan.tile.rows / LANES);
    let along = comptime!(
        plan.product == Product::Input || (plan.product == Product::Forward && !plan.geometry.planes)
    );
    if comptime!(along) {
        (square / quads * LANES, square % quads * LANES)
    } else {
        (square % groups * LANES, square / groups * LANES)
    }
}

/// The same of the right operand.
#[cube]
fn right_square(square: usize, #[comptime] plan: Plan) -> (usize, usize) {
    let groups = comptime!(plan.tile.columns / LANES);
    (square % groups * LANES, square / groups * LANES)
}

/// Reads a thread's squares of the tile whose first inner index is `k`.
#[cube]
fn fetch<A: Size, B: Size>(
    lhs: &[Vector<f32, A>],
    rhs: &[Vector<f32, B>],
    factors: &[f32],
    kept: &Array<usize>,
    k: usize,
    part: &Part,
    squares: &mut Array<Lanes>,
    #[comptime] plan: Plan,
) {
    let tile = comptime!(plan.tile);
    #[unroll]
    for j in 0..comptime!(tile.fetches()) {
        let square = UNIT_POS as usize + comptime!(j * tile.threads());
        if comptime!(j * tile.threads() < tile.left()) {
            if square < comptime!(tile.left()) {
                let (row, depth) = left_square(square, plan);
                left(
                    lhs,
                    kept,
                    comptime!(3 * LANES * j),
                    part.row + row,
                    k + depth,
                    part,
                    squares,
                    comptime!(LANES * j),
                    plan,
                );
            }
        }
        if comptime!((j + 1) * tile.threads() > tile.left()) {
            if square >= comptime!(tile.left()) && square < comptime!(tile.squares()) {
                let (column, depth) = right_square(square - comptime!(tile.left()), plan);
                right(
                    rhs,
                    factors,
                    part.column + column,
                    k + depth,
                    part,
                    squares,
                    comptime!(LANES * j),
                    plan,
                );
            }
        }
    }
}

/// Writes a thread's squares to the buffer that begins at `begin`.
#[cube]
fn store(stage: &mut Shared<[Lanes]>, begin: usize, squares: &Array<Lanes>, #[comptime] plan: Plan) {
    let tile = comptime!(plan.tile);
    #[unroll]
    for j in 0..comptime!(tile.fetches()) {
        let square = UNIT_POS as usize + comptime!(j * tile.threads());
        if comptime!(j * tile.threads() < tile.left()) {
            if square < comptime!(tile.left()) {
                let (row, depth) = left_square(square, plan);
                #[unroll]
                for i in 0..LANES {
                    stage[begin + (depth + i) * comptime!(tile.rows / LANES) + row / LANES] =
                        squares[comptime!(LANES * j + i)];
                }
            }
        }
        if comptime!((j + 1) * tile.threads() > tile.left()) {
            if square >= comptime!(tile.left()) && square < comptime!(tile.squares()) {
                let (column, depth) = right_square(square - comptime!(tile.left()), plan);
                let begin = begin + comptime!(tile.rows * tile.depth / LANES);
                #[unroll]
                for i in 0..LANES {
                    stage[begin + (depth + i) * comptime!(tile.columns / LANES) + column / LANES] =
                        squares[comptime!(LANES * j + i)];
                }
            }
        }
    }
}

/// Where a thread's vectors of rows and of columns begin, in vectors.
#[cube]
fn place(#[comptime] tile: Tile) -> (usize, usize) {
    let across = comptime!(tile.columns / tile.thread_columns);
    (UNIT_POS as usize / across, UNIT_POS as usize % across)
}

/// `C += A B` of the tile in the buffer that begins at `begin`.
#[cube]
fn multiply(stage: &Shared<[Lanes]>, begin: usize, sums: &mut Array<Lanes>, #[comptime] tile: Tile) {
    let (down, across) = place(tile);
    let rights = comptime!(tile.thread_columns / LANES);
    for quad in 0..comptime!(tile.depth / LANES) {
        #[unroll]
        for u in 0..LANES {
            let k = quad * LANES + u;
            let row = begin + k * comptime!(tile.rows / LANES) + down;
            let column = begin + comptime!(tile.rows * tile.depth / LANES);
            let column = column + k * comptime!(tile.columns / LANES) + across;
            let mut b = Array::<Lanes>::new(rights);
            #[unroll]
            for h in 0..rights {
                b[h] = stage[column + comptime!(h * (tile.columns / tile.thread_columns))];
            }
            #[unroll]
            for g in 0..comptime!(tile.thread_rows / LANES) {
                let a = stage[row + comptime!(g * (tile.rows / tile.thread_rows))];
                #[unroll]
                for i in 0..LANES {
                    let a = Lanes::new(a.extract(i));
                    #[unroll]
                    for h in 0..rights {
                        let at = comptime!((g * LANES + i) * rights + h);
                        sums[at] = sums[at] + a * b[h];
                    }
                }
            }
        }
    }
}

/// The row and column of the product that sum `(group, row of it, group of columns)` of a thread belongs to; a sum is of four columns.
#[cube]
pub(super) fn sum_place(
    part: &Part,
    #[comptime] group: usize,
    #[comptime] i: usize,
    #[comptime] columns: usize,
    #[comptime] tile: Tile,
) -> (usize, usize) {
    let (down, across) = place(tile);
    let row = part.row + (down + comptime!(group * (tile.rows / tile.thread_rows))) * LANES + i;
    let column = (across + comptime!(columns * (tile.columns / tile.thread_columns))) * LANES;
    (row, part.column + column)
}

/// The sums of a thread, `[thread_rows, thread_columns / 4]`, and one more: of a weight gradient, the cube's first row of threads has
/// `Σ_k B[k, ·]` of four columns each there, the bias gradient.
#[cube]
pub(super) fn products<A: Size, B: Size>(
    lhs: &[Vector<f32, A>],
    rhs: &[Vector<f32, B>],
    factors: &[f32],
    part: &Part,
    #[comptime] plan: Plan,
) -> Array<Lanes> {
    let tile = comptime!(plan.tile);
    let half = comptime!(tile.stage());
    let count = comptime!(tile.thread_rows * tile.thread_columns / LANES);
    let mut stage = Shared::<[Lanes]>::new_slice(comptime!(2 * tile.stage()));
    let mut squares = Array::<Lanes>::new(comptime!(LANES * tile.fetches()));
    let mut kept = Array::<usize>::new(comptime!(3 * LANES * tile.left_fetches()));
    let mut sums = Array::<Lanes>::new(comptime!(count + 1));
    #[unroll]
    for i in 0..comptime!(count + 1) {
        sums[i] = Lanes::new(0.0f32);
    }
    #[unroll]
    for j in 0..comptime!(tile.left_fetches()) {
        let (row, _depth) = left_square(UNIT_POS as usize + comptime!(j * tile.threads()), plan);
        places(&mut kept, comptime!(3 * LANES * j), part.row + row, part, plan);
    }

    let steps = (part.end - part.begin + comptime!(tile.depth - 1)) / comptime!(tile.depth);
    let mut step = 0usize;
    while step <= steps {
        let last = (step + 1) % 2 * half;
        if step < steps {
            let k = part.begin + step * comptime!(tile.depth);
            fetch(lhs, rhs, factors, &kept, k, part, &mut squares, plan);
        }
        if step > 0 {
            multiply(&stage, last, &mut sums, tile);
            if comptime!(plan.product == Product::Weights) {
                if part.row == 0 && UNIT_POS < comptime!((tile.columns / LANES) as u32) {
                    let begin = last + comptime!(tile.rows * tile.depth / LANES) + UNIT_POS as usize;
                    for k in 0..comptime!(tile.depth) {
                        sums[count] = sums[count] + stage[begin + k * comptime!(tile.columns / LANES)];
                    }
                }
            }
        }
        if step < steps {
            store(&mut stage, half - last, &squares, plan);
        }
        sync_cube();
        step += 1;
    }
    sums
}
