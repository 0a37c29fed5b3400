//! The gradients in θ from what a pass left in scratch: a cube computes a block of one tensor over all rows, in a fixed order.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use cubecl::prelude::*;

use super::network::{cut, place};
use super::plan::{BLOCK, Plan, THREADS};
use crate::energy::fused::math::Lanes;
use crate::flat::ALIGNMENT;

/// Rows and columns of a block that a thread owns.
const OWN: usize = 4;
/// Threads along a side of a block.
const SIDE: usize = BLOCK / OWN;
/// Threads that share a block, each with some of the rows.
const SHARES: usize = THREADS / (SIDE * SIDE);
/// Threads that share the sum of one feature.
const SLICES: usize = THREADS / BLOCK;

#[cube]
fn total(value: Lanes) -> f32 {
    value.extract(0usize) + value.extract(1usize) + value.extract(2usize) + value.extract(3usize)
}

/// Zeros from the end of a tensor of flat θ to the next one.
#[cube]
fn pad(grads: &mut [f32], end: usize, thread: usize) {
    let next = (end + comptime!(ALIGNMENT - 1)) / ALIGNMENT * ALIGNMENT;
    if end + thread < next {
        grads[end + thread] = 0.0f32;
    }
}

#[cube]
fn clamped(i: usize, len: usize) -> usize {
    select(i < len, i, len - 1)
}

/// `∂W = Σ_b δ_b in_bᵀ` and `∂b = Σ_b δ_b`, or added to what is there, and zeros between tensors. `steps` vectors of four rows are in scratch. Cubes are
/// `[blocks of a coupling, couplings]`.
#[cube(launch)]
pub(super) fn sums_kernel(
    scratch: &[Lanes],
    grads: &mut [f32],
    steps: usize,
    #[comptime] plan: Plan,
    #[comptime] adds: bool,
) {
    let groups = comptime!(plan.groups());
    let features = comptime!(plan.features(true));
    let couplings = comptime!(plan.couplings);
    let layers = comptime!(plan.hidden.len());
    let skipped = comptime!(plan.skipped());
    let i = CUBE_POS_Y as usize;
    let cube = CUBE_POS_X as usize;
    let parts = cut(i, comptime!(plan.clone()));
    let thread = UNIT_POS as usize;

    // Which tensor, and which block of it.
    let mut block = 0usize;
    let mut signals = 0usize;
    let mut inputs = 0usize;
    let mut height = 0usize;
    let mut width = 0usize;
    let mut weight = 0usize;
    let mut bias = 0usize;
    #[unroll]
    for k in 0..layers + 1 + skipped {
        let job = comptime!(plan.jobs()[k]);
        let begin = comptime!(job.begin);
        if cube >= begin {
            block = cube - begin;
            signals = comptime!(job.signals).runtime();
            inputs = comptime!(job.inputs).runtime();
            weight = place(i, comptime!(job.weight), comptime!(plan.clone()));
            bias = place(i, comptime!(job.bias), comptime!(plan.clone()));
            if comptime!(k > layers) {
                // An act-norm's: sums alone.
                height = comptime!(plan.dim).runtime();
                width = 0usize.runtime();
            } else if comptime!(k == 0) {
                inputs = parts.stays_at;
                height = comptime!(plan.hidden[0]).runtime();
                width = parts.stays;
            } else if comptime!(k == layers) {
                height = 2 * parts.moves;
                width = comptime!(plan.hidden[layers - 1]).runtime();
            } else {
                height = comptime!(plan.hidden[k]).runtime();
                width = comptime!(plan.hidden[k - 1]).runtime();
            }
        }
    }
    let across = (width + comptime!(BLOCK - 1)) / BLOCK;
    let down = (height + comptime!(BLOCK - 1)) / BLOCK;
    let is_product = block < across * down;
    // A sum has one column of blocks.
    let columns = select(is_product, across, 1usize);
    let number = select(is_product, block, block - across * down);
    let first_row = number / columns * BLOCK;
    let first_column = number % columns * BLOCK;

    let mut shared = Shared::<[f32]>::new_slice(comptime!(SHARES * BLOCK * BLOCK));
    if is_product {
        let share = thread / comptime!(SIDE * SIDE);
        let row = thread % comptime!(SIDE * SIDE) / SIDE * OWN;
        let column = thread % SIDE * OWN;
        let mut sums = Array::<Lanes>::new(comptime!(OWN * OWN));
        #[unroll]
        for k in 0..comptime!(OWN * OWN) {
            sums[k] = Lanes::new(0.0f32);
        }
        let mut step = share;
        while step < steps {
            let own = (step / groups * couplings + i) * comptime!(features * groups) + step % groups;
            let mut signal = Array::<Lanes>::new(OWN);
            #[unroll]
            for k in 0..OWN {
                signal[k] = scratch[own + (signals + clamped(first_row + row + k, height)) * groups];
            }
            #[unroll]
            for k in 0..OWN {
                let input = scratch[own + (inputs + clamped(first_column + column + k, width)) * groups];
                #[unroll]
                for r in 0..OWN {
                    let to = comptime!(r * OWN + k);
                    sums[to] = sums[to] + signal[r] * input;
                }
            }
            step += SHARES;
        }
        #[unroll]
        for k in 0..OWN {
            #[unroll]
            for r in 0..OWN {
                let from = comptime!(r * OWN + k);
                let at = share * comptime!(BLOCK * BLOCK) + (row + r) * BLOCK + column + k;
                shared[at] = total(sums[from]);
            }
        }
    } else {
        let slice = thread / BLOCK;
        let row = thread % BLOCK;
        let mut sum = Lanes::new(0.0f32);
        let mut step = slice;
        while step < steps {
            let own = (step / groups * couplings + i) * comptime!(features * groups) + step % groups;
            sum += scratch[own + (signals + clamped(first_row + row, height)) * groups];
            step += SLICES;
        }
        shared[slice * BLOCK + row] = total(sum);
    }
    sync_cube();

    if is_product {
        #[unroll]
        for load in 0..comptime!(BLOCK * BLOCK / THREADS) {
            let e = thread + comptime!(load * THREADS);
            let row = first_row + e / BLOCK;
            let column = first_column + e % BLOCK;
            let mut sum = 0.0f32;
            #[unroll]
            for share in 0..SHARES {
                sum += shared[e + comptime!(share * BLOCK * BLOCK)];
            }
            if row < height && column < width {
                let at = weight + row * width + column;
                if comptime!(adds) {
                    sum += grads[at];
                }
                grads[at] = sum;
            }
        }
    } else {
        if thread < BLOCK && first_row + thread < height {
            let mut sum = 0.0f32;
            #[unroll]
            for slice in 0..SLICES {
                sum += shared[thread + comptime!(slice * BLOCK)];
            }
            let at = bias + first_row + thread;
            if comptime!(adds) {
                sum += grads[at];
            }
            grads[at] = sum;
        }
        if number == 0 && thread < ALIGNMENT {
            pad(grads, bias + height, thread);
            // An act-norm's tensors are sums alone, and this one's begin is no end.
            if width > 0 {
                pad(grads, weight + height * width, thread);
            }
        }
    }
}
