//! The kernels. A row belongs to a few threads side by side, its lanes, each with every so many-th block of four coordinates; a cube has
//! as many rows as fit. Terms `l_k − ½|x − m_k|²` of the cube's rows, and from them the responsibilities, stand in shared memory, `[K, rows]`.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(
    clippy::if_same_then_else,
    clippy::assign_op_pattern,
    clippy::needless_range_loop,
    clippy::too_many_arguments
)]

use cubecl::prelude::*;

use super::Plan;
use crate::energy::fused::partials::add;

/// Threads of a cube.
pub(super) const THREADS: usize = 256;
/// Modes whose distances a thread adds up at a time.
pub(super) const AT_ONCE: usize = 4;

/// What a row's threads know of it besides the numbers in shared memory.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Row {
    /// `U`.
    pub(super) energy: f32,
    /// `Σ_k e^{t_k − max}`.
    pub(super) total: f32,
}

/// A coordinate of one of two terms.
#[cube]
fn coordinate(x0: &[f32], x1: &[f32], at: usize, is_first: bool, #[comptime] terms: usize) -> f32 {
    if comptime!(terms == 1) {
        x0[at]
    } else if is_first {
        x0[at]
    } else {
        x1[at]
    }
}

#[cube]
fn larger(a: f32, b: f32) -> f32 {
    select(a > b, a, b)
}

/// Leaves `e^{t_k − max}` of the cube's rows in `numbers`, from `offset` on in each mode's. Every thread of the cube takes part.
#[cube]
pub(super) fn softmax(
    x0: &[f32],
    x1: &[f32],
    means: &[f32],
    logits: &[f32],
    numbers: &mut Shared<[f32]>,
    parts: &mut Shared<[f32]>,
    row: usize,
    offset: usize,
    is_first: bool,
    #[comptime] plan: Plan,
) -> Row {
    let dim = comptime!(plan.dim);
    let modes = comptime!(plan.modes);
    let lanes = comptime!(plan.lanes);
    let terms = comptime!(plan.terms);
    let thread = UNIT_POS as usize;
    let begin = row * dim;

    // t_k = l_k − ½|x − m_k|²: differences first, so that far-away means lose no digits.
    let mut mode = 0usize;
    while mode < modes {
        let mut squares = Array::<f32>::new(AT_ONCE);
        #[unroll]
        for m in 0..AT_ONCE {
            squares[m] = 0.0f32;
        }
        let mut block = thread % lanes;
        while block < comptime!(plan.dim.div_ceil(4)) {
            #[unroll]
            for four in 0..4usize {
                let j = 4 * block + four;
                if j < dim {
                    let value = coordinate(x0, x1, begin + j, is_first, terms);
                    #[unroll]
                    for m in 0..AT_ONCE {
                        let k = select(mode + m < modes, mode + m, modes - 1);
                        let gap = value - means[k * dim + j];
                        squares[m] = squares[m] + gap * gap;
                    }
                }
            }
            block += lanes;
        }
        #[unroll]
        for m in 0..AT_ONCE {
            parts[comptime!(m * THREADS) + thread] = squares[m];
        }
        sync_cube();
        terms_of(logits, numbers, parts, mode, offset, comptime!(plan.clone()));
        sync_cube();
        mode += AT_ONCE;
    }

    softmax_of(numbers, offset, comptime!(plan.clone()))
}

/// The terms of the modes `mode ..` from the lanes' squares in `parts`.
#[cube]
pub(super) fn terms_of(
    logits: &[f32],
    numbers: &mut Shared<[f32]>,
    parts: &mut Shared<[f32]>,
    mode: usize,
    offset: usize,
    #[comptime] plan: Plan,
) {
    let modes = comptime!(plan.modes);
    let lanes = comptime!(plan.lanes);
    let block = comptime!(plan.block());
    let rows = comptime!(THREADS / plan.lanes);
    let mut at = UNIT_POS as usize;
    while at < comptime!(AT_ONCE * rows) {
        let (m, r) = (at / rows, at % rows);
        if mode + m < modes {
            let mut square = 0.0f32;
            for l in 0..comptime!(plan.sharing()) {
                square += parts[m * THREADS + r * lanes + l];
            }
            numbers[(mode + m) * block + offset + r] = logits[mode + m] - 0.5f32 * square;
        }
        at += THREADS;
    }
}

/// Leaves `e^{t_k − max}` where the terms stand.
#[cube]
pub(super) fn softmax_of(numbers: &mut Shared<[f32]>, offset: usize, #[comptime] plan: Plan) -> Row {
    let modes = comptime!(plan.modes);
    let lanes = comptime!(plan.lanes);
    let block = comptime!(plan.block());
    let lane = UNIT_POS as usize % lanes;
    let own = offset + UNIT_POS as usize / lanes;
    let mut max = numbers[own];
    for k in 1..modes {
        max = larger(max, numbers[k * block + own]);
    }
    sync_cube();
    let mut k = lane;
    while k < modes {
        let at = k * block + own;
        numbers[at] = (numbers[at] - max).exp();
        k += lanes;
    }
    sync_cube();
    let mut total = 0.0f32;
    for k in 0..modes {
        total += numbers[k * block + own];
    }
    Row { energy: -(total.ln() + max), total }
}

#[cube(launch)]
pub(super) fn energy_and_grad_kernel(
    x: &[f32],
    means: &[f32],
    logits: &[f32],
    energy: &mut [f32],
    grad: &mut [f32],
    rows: usize,
    #[comptime] plan: Plan,
) {
    let dim = comptime!(plan.dim);
    let modes = comptime!(plan.modes);
    let lanes = comptime!(plan.lanes);
    let block = comptime!(plan.block());
    let mut numbers = Shared::<[f32]>::new_slice(comptime!(plan.modes * plan.block()));
    let mut parts = Shared::<[f32]>::new_slice(comptime!(AT_ONCE * THREADS));
    let thread = UNIT_POS as usize;
    let lane = thread % lanes;
    let own = thread / lanes;
    let mut tile = CUBE_POS;
    while tile * block < rows {
        let row = tile * block + own;
        let is_row = row < rows;
        let row = select(is_row, row, rows - 1);
        let found = softmax(
            x,
            x,
            means,
            logits,
            &mut numbers,
            &mut parts,
            row,
            0usize,
            true,
            comptime!(plan.clone()),
        );
        if is_row {
            if lane == 0 {
                energy[row] = found.energy;
            }
            // ∇U = x − Σ_k r_k m_k
            let scale = 1.0f32 / found.total;
            let mut j = lane;
            while j < dim {
                let mut pull = 0.0f32;
                for k in 0..modes {
                    pull += numbers[k * block + own] * means[k * dim + j];
                }
                grad[row * dim + j] = x[row * dim + j] - scale * pull;
                j += lanes;
            }
        }
        sync_cube();
        tile += CUBE_COUNT;
    }
}

/// The first launch of the gradient in θ: each cube adds up its tiles' in a row of `sums`.
#[cube(launch)]
pub(super) fn weighted_grads_kernel(
    x0: &[f32],
    row_weights0: &[f32],
    x1: &[f32],
    row_weights1: &[f32],
    means: &[f32],
    logits: &[f32],
    energy0: &mut [f32],
    energy1: &mut [f32],
    sums: &mut [f32],
    rows0: usize,
    rows1: usize,
    tiles0: usize,
    tiles: usize,
    #[comptime] plan: Plan,
) {
    let modes = comptime!(plan.modes);
    let lanes = comptime!(plan.lanes);
    let block = comptime!(plan.block());
    let at_once = comptime!(THREADS / plan.lanes);
    let outputs = comptime!(plan.modes * plan.dim);
    // Threads that share a coordinate of a mean, each with every so many-th row.
    let slots = comptime!(std::cmp::min(THREADS, outputs.next_power_of_two()));
    let slices = comptime!(THREADS / slots);
    let terms = comptime!(plan.terms);

    let mut numbers = Shared::<[f32]>::new_slice(comptime!(plan.modes * plan.block()));
    let mut parts = Shared::<[f32]>::new_slice(comptime!(AT_ONCE * THREADS));
    let thread = UNIT_POS as usize;
    let lane = thread % lanes;
    let own_means = CUBE_POS * comptime!(plan.layout.total);
    let own_logits = own_means + comptime!(plan.layout.begins[1]);

    // Nothing is added to what stands between tensors.
    let mut at = own_means + outputs + thread;
    while at < own_logits {
        sums[at] = 0.0f32;
        at += THREADS;
    }
    let mut at = own_logits + modes + thread;
    while at < own_means + comptime!(plan.layout.total) {
        sums[at] = 0.0f32;
        at += THREADS;
    }

    let mut tile = CUBE_POS;
    while tile < tiles {
        let adds = tile > CUBE_POS;
        let is_first = tile < tiles0;
        let first_row = select(is_first, tile, tile - tiles0) * block;
        let rows = select(is_first, rows0, rows1);

        // w r_k of the block's rows, zero beyond the last.
        let mut offset = 0usize;
        while offset < block {
            let own = offset + thread / lanes;
            let is_row = first_row + own < rows;
            let row = select(is_row, first_row + own, rows - 1);
            let found = softmax(
                x0,
                x1,
                means,
                logits,
                &mut numbers,
                &mut parts,
                row,
                offset,
                is_first,
                comptime!(plan.clone()),
            );
            sync_cube();
            let mut weight = coordinate(row_weights0, row_weights1, row, is_first, terms);
            if is_row {
                if lane == 0 {
                    if is_first {
                        energy0[row] = found.energy;
                    } else {
                        energy1[row] = found.energy;
                    }
                }
            } else {
                weight = 0.0f32;
            }
            let scale = weight / found.total;
            let mut k = lane;
            while k < modes {
                let at = k * block + own;
                numbers[at] = numbers[at] * scale;
                k += lanes;
            }
            sync_cube();
            offset += at_once;
        }

        // Σ_b w_b ∂U/∂m_k = Σ_b w_b r_k (m_k − x_b)
        let slice = thread / slots;
        let mut output = thread % slots;
        if comptime!(slices == 1) {
            while output < outputs {
                let sum = pull(
                    x0,
                    x1,
                    means,
                    &numbers,
                    output,
                    first_row,
                    rows,
                    0usize,
                    is_first,
                    1usize,
                    comptime!(plan.clone()),
                );
                add(sums, own_means + output, sum, adds);
                output += slots;
            }
        } else {
            let own = select(output < outputs, output, outputs - 1);
            parts[thread] = pull(
                x0,
                x1,
                means,
                &numbers,
                own,
                first_row,
                rows,
                slice,
                is_first,
                slices,
                comptime!(plan.clone()),
            );
            sync_cube();
            if thread < outputs {
                let mut sum = parts[thread];
                for other in 1..slices {
                    sum += parts[other * slots + thread];
                }
                add(sums, own_means + thread, sum, adds);
            }
        }

        // Σ_b w_b ∂U/∂l_k = −Σ_b w_b r_k; the first logit is frozen.
        let mut k = thread;
        while k < modes {
            let mut sum = 0.0f32;
            for r in 0..block {
                sum += numbers[k * block + r];
            }
            add(sums, own_logits + k, select(k == 0, 0.0f32, -sum), adds);
            k += THREADS;
        }
        sync_cube();
        tile += CUBE_COUNT;
    }
}

/// `Σ_b w_b r_k (m_k − x_b)` of one coordinate of one mode over the block's rows `slice`, `slice + slices`, ….
#[cube]
fn pull(
    x0: &[f32],
    x1: &[f32],
    means: &[f32],
    numbers: &Shared<[f32]>,
    output: usize,
    first_row: usize,
    rows: usize,
    slice: usize,
    is_first: bool,
    #[comptime] slices: usize,
    #[comptime] plan: Plan,
) -> f32 {
    let dim = comptime!(plan.dim);
    let block = comptime!(plan.block());
    let terms = comptime!(plan.terms);
    let (mode, j) = (output / dim, output % dim);
    let mean = means[output];
    let mut sum = 0.0f32;
    let mut r = slice;
    while r < block {
        let row = select(first_row + r < rows, first_row + r, rows - 1);
        let value = coordinate(x0, x1, row * dim + j, is_first, terms);
        sum += numbers[mode * block + r] * (mean - value);
        r += slices;
    }
    sum
}
