//! The chain in one launch: a cube takes a tile of rows through every coupling, and back.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use cubecl::prelude::*;

use super::network::{backward, cut, forward, output_begin, place};
use super::plan::Plan;
use crate::energy::activation::Activation;
use crate::energy::fused::math::{Lanes, values};

/// What a launch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    /// `z` and `log |det ∂z/∂x|` of x.
    ToLatent,
    /// `x` and `log |det ∂x/∂z|` of z.
    ToData,
    /// `U`.
    Energy,
    /// `U` and `∇ₓU`.
    Gradient,
    /// `U`, and in scratch what the gradients of `Σ_b w_b U(x_b)` in θ are made of.
    Params,
}

impl Task {
    pub fn goes_back(self) -> bool {
        matches!(self, Self::Gradient | Self::Params)
    }
}

#[cube]
fn exponentials(z: Lanes) -> Lanes {
    let mut out = Lanes::empty();
    #[unroll]
    for lane in 0..4usize {
        out.insert(lane, z.extract(lane).exp());
    }
    out
}

/// The index in a row of data of the coordinate in place j.
#[cube]
fn data_index(j: usize, #[comptime] plan: Plan) -> usize {
    let evens = comptime!(plan.dim.div_ceil(2));
    if comptime!(plan.even_first) { select(j < evens, 2 * j, 2 * j + 1 - 2 * evens) } else { j }
}

/// Column `column` of the four rows from `first_row` on; rows beyond the last repeat it.
#[cube]
fn load(x: &[f32], first_row: usize, column: usize, rows: usize, #[comptime] dim: usize) -> Lanes {
    let mut out = Lanes::empty();
    #[unroll]
    for lane in 0..4usize {
        let row = select(first_row + lane < rows, first_row + lane, rows - 1);
        out.insert(lane, x[row * dim + column]);
    }
    out
}

#[cube]
fn store(x: &mut [f32], value: Lanes, first_row: usize, column: usize, rows: usize, #[comptime] dim: usize) {
    #[unroll]
    for lane in 0..4usize {
        if first_row + lane < rows {
            x[(first_row + lane) * dim + column] = value.extract(lane);
        }
    }
}

/// Rows `begin .. rows` of x, in tiles. `per_row` is `U` or the log-determinant, `positions` what the task has of `[rows, dim]`;
/// `constant` is `(d/2) ln 2π`.
#[cube(launch)]
pub(super) fn chain_kernel(
    x: &[f32],
    theta: &[f32],
    row_weights: &[f32],
    per_row: &mut [f32],
    positions: &mut [f32],
    scratch: &mut [Lanes],
    begin: usize,
    rows: usize,
    tiles: usize,
    bound: f32,
    constant: f32,
    #[comptime] plan: Plan,
    #[comptime] task: Task,
) {
    let dim = comptime!(plan.dim);
    let couplings = comptime!(plan.couplings);
    let last = comptime!(plan.couplings - 1);
    let groups = comptime!(plan.groups());
    let slots = comptime!(plan.slots());
    let busy = comptime!(plan.slots().min(plan.dim));
    let with_params = comptime!(task == Task::Params);
    let goes_back = comptime!(task.goes_back());
    let is_map = comptime!(matches!(task, Task::ToLatent | Task::ToData));
    let to_data = comptime!(task == Task::ToData);
    let features = comptime!(plan.features(task == Task::Params));
    let output_at = comptime!(plan.output_at() * plan.groups());
    let normed_at = comptime!(plan.normed_at() * plan.groups());

    let mut memory = Shared::<[Lanes]>::new_slice(comptime!(plan.lanes()));
    let mut staged = Shared::<[f32]>::new_slice(comptime!(plan.staged_len()));
    let group = UNIT_POS as usize % groups;
    let slot = UNIT_POS as usize / groups;
    // The coordinates, and later their gradient.
    let at = group + comptime!(2 * plan.half());
    let output = output_begin(group, comptime!(plan.clone()));

    let mut tile = CUBE_POS;
    while tile < tiles {
        let first_row = begin + tile * comptime!(plan.tile) + 4 * group;
        let mut own = group;
        if comptime!(with_params) {
            own += tile * comptime!(couplings * features * groups);
        } else {
            own += CUBE_POS * comptime!(couplings * features * groups);
        }
        let mut j = slot;
        while j < dim {
            let mut column = j;
            if comptime!(!to_data) {
                column = data_index(j, comptime!(plan.clone()));
            }
            memory[at + j * groups] = load(x, first_row, column, rows, dim);
            j += slots;
        }

        // Σ s and Σ a: the log-determinant to data, minus that to latent.
        let mut sum = Lanes::new(0.0f32);
        let mut step = 0usize;
        while step < couplings {
            let mut i = step;
            if comptime!(to_data) {
                i = last - step;
            }
            let parts = cut(i, comptime!(plan.clone()));
            let features_begin = own + i * comptime!(features * groups);

            // z = (x − b) e^{−a}
            if comptime!(plan.act_norm && !to_data) {
                sync_cube();
                let shift = place(i, 0usize, comptime!(plan.clone()));
                let log_scale = place(i, 1usize, comptime!(plan.clone()));
                let mut j = slot;
                while j < dim {
                    let a = theta[log_scale + j];
                    let b = theta[shift + j];
                    let z = (memory[at + j * groups] - Lanes::new(b)) * Lanes::new((-a).exp());
                    memory[at + j * groups] = z;
                    sum += Lanes::new(a);
                    if comptime!(with_params) {
                        scratch[features_begin + normed_at + (dim + j) * groups] = z;
                    }
                    j += slots;
                }
            }

            forward(
                theta,
                &mut memory,
                &mut staged,
                scratch,
                i,
                &parts,
                features_begin,
                group,
                slot,
                comptime!(plan.clone()),
                goes_back,
            );
            sync_cube();

            // s = b tanh(r/b); z = (x − t) e^{−s} or x = z e^s + t
            let mut m = slot;
            while m < parts.moves {
                let place = at + (parts.moves_at + m) * groups;
                let raw = memory[output + m * groups];
                let shift = memory[output + (parts.moves + m) * groups];
                let value = values(raw / Lanes::new(bound), Activation::Tanh);
                let s = value * Lanes::new(bound);
                if comptime!(to_data) {
                    memory[place] = memory[place] * exponentials(s) + shift;
                } else {
                    let scale = exponentials(Lanes::new(0.0f32) - s);
                    let z = (memory[place] - shift) * scale;
                    memory[place] = z;
                    if comptime!(goes_back) {
                        let kept = features_begin + output_at;
                        scratch[features_begin + (parts.moves_at + m) * groups] = z;
                        scratch[kept + m * groups] = Lanes::new(1.0f32) - value * value;
                        scratch[kept + (parts.moves + m) * groups] = scale;
                    }
                }
                sum += s;
                m += slots;
            }
            if comptime!(with_params) {
                let mut j = slot;
                while j < parts.stays {
                    let place = (parts.stays_at + j) * groups;
                    scratch[features_begin + place] = memory[at + place];
                    j += slots;
                }
            }

            // x = z e^a + b
            if comptime!(plan.act_norm && to_data) {
                sync_cube();
                let shift = place(i, 0usize, comptime!(plan.clone()));
                let log_scale = place(i, 1usize, comptime!(plan.clone()));
                let mut j = slot;
                while j < dim {
                    let a = theta[log_scale + j];
                    let b = theta[shift + j];
                    memory[at + j * groups] = memory[at + j * groups] * Lanes::new(a.exp()) + Lanes::new(b);
                    sum += Lanes::new(a);
                    j += slots;
                }
            }
            step += 1usize;
        }
        sync_cube();

        // U = ½ |z|² + (d/2) ln 2π − log_det: each slot adds up some coordinates, one of them the slots.
        if comptime!(!is_map) {
            let mut j = slot;
            while j < dim {
                let z = memory[at + j * groups];
                sum += Lanes::new(0.5f32) * z * z;
                j += slots;
            }
        }
        memory[group + slot * groups] = sum;
        sync_cube();
        if slot == 0 {
            let mut total = Lanes::new(0.0f32);
            if comptime!(!is_map) {
                total = Lanes::new(constant);
            }
            for part in 0..busy {
                total += memory[group + part * groups];
            }
            if comptime!(task == Task::ToLatent) {
                total = Lanes::new(0.0f32) - total;
            }
            store(per_row, total, first_row, 0usize, rows, 1usize);
        }
        sync_cube();

        if comptime!(goes_back) {
            // ∂z = w z
            let mut weight = Lanes::new(1.0f32);
            if comptime!(with_params) {
                #[unroll]
                for lane in 0..4usize {
                    // Rows beyond the last count for nothing.
                    let is_row = first_row + lane < rows;
                    let row = select(is_row, first_row + lane, rows - 1);
                    weight.insert(lane, select(is_row, row_weights[row], 0.0f32));
                }
            }
            let mut j = slot;
            while j < dim {
                memory[at + j * groups] = memory[at + j * groups] * weight;
                j += slots;
            }

            let mut left = couplings.runtime();
            while left > 0 {
                let i = left - 1;
                let parts = cut(i, comptime!(plan.clone()));
                let features_begin = own + i * comptime!(features * groups);
                sync_cube();

                // ∂x = ∂z e^{−s}, ∂t = −∂x, ∂r = (w − ∂z z) tanh′(r/b)
                let mut m = slot;
                while m < parts.moves {
                    let place = at + (parts.moves_at + m) * groups;
                    let kept = features_begin + output_at;
                    let z = scratch[features_begin + (parts.moves_at + m) * groups];
                    let slope = scratch[kept + m * groups];
                    let scale = scratch[kept + (parts.moves + m) * groups];
                    let grad = memory[place];
                    let raw = (weight - grad * z) * slope;
                    let moved = grad * scale;
                    let shift = Lanes::new(0.0f32) - moved;
                    memory[place] = moved;
                    memory[output + m * groups] = raw;
                    memory[output + (parts.moves + m) * groups] = shift;
                    if comptime!(with_params) {
                        scratch[kept + m * groups] = raw;
                        scratch[kept + (parts.moves + m) * groups] = shift;
                    }
                    m += slots;
                }
                backward(
                    theta,
                    &mut memory,
                    &mut staged,
                    scratch,
                    i,
                    &parts,
                    features_begin,
                    group,
                    slot,
                    comptime!(plan.clone()),
                    with_params,
                );

                // ∂x = ∂z e^{−a}, ∂b = −∂x, ∂a = w − ∂z z
                if comptime!(plan.act_norm) {
                    sync_cube();
                    let log_scale = place(i, 1usize, comptime!(plan.clone()));
                    let mut j = slot;
                    while j < dim {
                        let grad = memory[at + j * groups];
                        let moved = grad * Lanes::new((-theta[log_scale + j]).exp());
                        memory[at + j * groups] = moved;
                        if comptime!(with_params) {
                            let normed = features_begin + normed_at;
                            let z = scratch[normed + (dim + j) * groups];
                            scratch[normed + j * groups] = Lanes::new(0.0f32) - moved;
                            scratch[normed + (dim + j) * groups] = weight - grad * z;
                        }
                        j += slots;
                    }
                }
                left = i;
            }
            sync_cube();
        }

        if comptime!(is_map || task == Task::Gradient) {
            let mut j = slot;
            while j < dim {
                let mut column = j;
                if comptime!(task != Task::ToLatent) {
                    column = data_index(j, comptime!(plan.clone()));
                }
                store(positions, memory[at + j * groups], first_row, column, rows, dim);
                j += slots;
            }
        }
        sync_cube();
        tile += CUBE_COUNT;
    }
}
