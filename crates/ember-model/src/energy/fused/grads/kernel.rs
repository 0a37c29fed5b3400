//! The first launch: cubes take tiles of walkers through all layers and back, and add up the gradients of their tiles.
//!
//! On the way back the inputs of a layer stand in shared memory beside its signals: activations are made from `z` again, x is read
//! again. Wide samples go through shared memory in parts of some coordinates.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use cubecl::prelude::*;

use super::super::math::{Lanes, values};
use super::super::partials::add;
use super::super::products::{products, products_across, products_along};
use super::outer::{outer_products, row_sums, share, total};
use super::pass::{all_activated, column_products, row_weights, signal, stage, write_energies};
use super::{Plan, THREADS};

/// Lanes from one unit to the next in shared memory. Odd: threads side by side that read consecutive units meet different banks.
pub(super) const fn pitch(tile: usize) -> usize {
    (tile / 4) | 1
}

/// Lanes of each of the two buffers in shared memory: the widest layer, or a sum of each slice of threads.
pub(super) const fn buffer_len(tile: usize, widest: usize) -> usize {
    let slices = THREADS / (tile / 4);
    let units = if widest > slices { widest } else { slices };
    units * pitch(tile)
}

#[cube(launch)]
pub(super) fn weighted_grads_kernel<N: Size>(
    x0: &[f32],
    row_weights0: &[f32],
    x1: &[f32],
    row_weights1: &[f32],
    first_weights: &[Vector<f32, Const<1>>],
    weights: Sequence<Box<[Vector<f32, N>]>>,
    last_weights: &[f32],
    biases: Sequence<Box<[f32]>>,
    energy0: &mut [f32],
    energy1: &mut [f32],
    sums: &mut [f32],
    scratch: &mut [Lanes],
    rows0: usize,
    rows1: usize,
    tiles0: usize,
    tiles: usize,
    confinement: f32,
    #[comptime] plan: Plan,
) {
    let vector = N::value();
    let dim = comptime!(plan.dim);
    let activation = comptime!(plan.activation);
    let confined = comptime!(plan.confined);
    let hidden = comptime!(plan.hidden.len());
    let groups = comptime!(plan.tile / 4);
    let pitch = comptime!(pitch(plan.tile));
    let half = comptime!(buffer_len(plan.tile, plan.hidden.iter().copied().max().unwrap_or(1)));
    let all_units = comptime!(plan.hidden.iter().sum::<usize>());
    // Units that the cube's threads cover at once, and the slices that sums over units are cut into.
    let covered = comptime!(4 * THREADS / (plan.tile / 4));
    let slices = comptime!(THREADS / (plan.tile / 4));
    // Coordinates that go through shared memory at a time.
    let columns = comptime!(std::cmp::min(half / pitch, plan.dim));

    let mut buffer = Shared::<[Lanes]>::new_slice(comptime!(2 * half));
    let mut outputs = Shared::<[Lanes]>::new_slice(groups);
    let thread = UNIT_POS as usize;
    let group = thread % groups;
    let slice = thread / groups;
    let own = CUBE_POS * comptime!(all_units * groups) + group;
    let own_sums = CUBE_POS * comptime!(plan.layout.total);

    // Nothing is added to what stands between tensors.
    #[unroll]
    for i in 0..comptime!(plan.layout.lens.len()) {
        let end = comptime!(plan.layout.begins[i] + plan.layout.lens[i]);
        let padding = comptime!(
            plan.layout.begins.get(i + 1).copied().unwrap_or(plan.layout.total)
                - plan.layout.begins[i]
                - plan.layout.lens[i]
        );
        if thread < padding {
            sums[own_sums + end + thread] = 0.0f32;
        }
    }

    let mut tile = CUBE_POS;
    while tile < tiles {
        let adds = tile > CUBE_POS;
        let is_first = tile < tiles0;
        let tile_row = select(is_first, tile, tile - tiles0) * comptime!(plan.tile);
        let rows = select(is_first, rows0, rows1);
        let first_row = tile_row + 4 * group;
        // δ_L is the row's weight: all signals carry it.
        if thread < groups {
            if is_first {
                outputs[thread] = row_weights(row_weights0, first_row, rows);
            } else {
                outputs[thread] = row_weights(row_weights1, first_row, rows);
            }
        }

        // z_0 = W_0 x + b_0, some coordinates at a time.
        let mut square = Lanes::new(0.0f32);
        let mut column = 0usize;
        while column < dim {
            let count = select(column + columns < dim, columns, dim - column);
            if is_first {
                stage(x0, tile_row, rows, column, count, &mut buffer, half, dim, groups, pitch);
            } else {
                stage(x1, tile_row, rows, column, count, &mut buffer, half, dim, groups, pitch);
            }
            sync_cube();
            if confined {
                let mut j = slice;
                while j < count {
                    let value = buffer[half + j * pitch + group];
                    square += value * value;
                    j += slices;
                }
            }
            let units = comptime!(plan.hidden[0]);
            let mut unit = 4 * slice;
            while unit < units {
                let block = column_products(
                    first_weights,
                    unit,
                    &buffer,
                    half + group,
                    column,
                    count,
                    units,
                    dim,
                    pitch,
                );
                all_activated(
                    block,
                    unit,
                    &biases[0],
                    scratch,
                    own,
                    &mut buffer,
                    group,
                    column == 0,
                    column + columns >= dim,
                    units,
                    groups,
                    pitch,
                    activation,
                );
                unit += covered;
            }
            sync_cube();
            column += columns;
        }

        // z_l = W_l a_{l−1} + b_l, a_l = a(z_l)
        #[unroll]
        for l in 1..hidden {
            let units = comptime!(plan.hidden[l]);
            let width = comptime!(plan.hidden[l - 1]);
            let above = comptime!(plan.hidden[..l].iter().sum::<usize>());
            let from = group + comptime!(((l + 1) % 2) * half);
            let to = group + comptime!((l % 2) * half);
            let mut unit = 4 * slice;
            while unit < units {
                let w = &weights[comptime!(l - 1)];
                let block = if comptime!(vector == 4) {
                    products_along(w, unit, &buffer, from, units, width, pitch)
                } else {
                    products(w, unit, &buffer, from, units, width, width, 1usize, pitch)
                };
                all_activated(
                    block,
                    unit,
                    &biases[l],
                    scratch,
                    own + comptime!(above * groups),
                    &mut buffer,
                    to,
                    true,
                    true,
                    units,
                    groups,
                    pitch,
                    activation,
                );
                unit += covered;
            }
            sync_cube();
        }

        // U = w_L·a_{L−1} + b_L + ½ c |x|²: each slice adds up some units and coordinates, one of them the slices.
        let last = comptime!(plan.hidden[hidden - 1]);
        let kept = comptime!(((hidden + 1) % 2) * half);
        let other = comptime!((hidden % 2) * half);
        let mut sum = Lanes::new(0.5f32 * confinement) * square;
        let mut i = slice;
        while i < last {
            sum += Lanes::new(last_weights[i]) * buffer[kept + i * pitch + group];
            i += slices;
        }
        buffer[other + slice * pitch + group] = sum;

        // Σ_b w_b ∂U/∂w_L = Σ_b w_b a_{L−1}, Σ_b w_b ∂U/∂b_L = Σ_b w_b
        let last_begin = own_sums + comptime!(plan.layout.begins[2 * hidden]);
        let mut i = thread;
        while i < last {
            let mut sum = Lanes::new(0.0f32);
            for g in 0..groups {
                sum += outputs[g] * buffer[kept + i * pitch + g];
            }
            add(sums, last_begin + i, total(sum), adds);
            i += THREADS;
        }
        if thread == 0 {
            let mut sum = Lanes::new(0.0f32);
            for g in 0..groups {
                sum += outputs[g];
            }
            add(sums, own_sums + comptime!(plan.layout.begins[2 * hidden + 1]), total(sum), adds);
        }
        sync_cube();
        if slice == 0 {
            let mut energies = Lanes::new(biases[hidden][0]);
            for part in 0..slices {
                energies += buffer[other + part * pitch + group];
            }
            if is_first {
                write_energies(energy0, energies, first_row, rows);
            } else {
                write_energies(energy1, energies, first_row, rows);
            }
        }

        // δ_{L−1} = (w_b w_L) ∘ a′(z_{L−1})
        let top = own + comptime!((all_units - plan.hidden[hidden - 1]) * groups);
        let output = outputs[group];
        let mut unit = 4 * slice;
        while unit < last {
            #[unroll]
            for k in 0..4usize {
                let weight = Lanes::new(last_weights[select(unit + k < last, unit + k, last - 1)]) * output;
                signal(
                    weight,
                    unit + k,
                    scratch,
                    top,
                    &mut buffer,
                    kept + group,
                    last,
                    groups,
                    pitch,
                    activation,
                );
            }
            unit += covered;
        }
        sync_cube();

        #[unroll]
        for step in 1..hidden {
            let l = comptime!(hidden - step);
            let count = comptime!(plan.hidden[l]);
            let units = comptime!(plan.hidden[l - 1]);
            let above = comptime!(plan.hidden[..l - 1].iter().sum::<usize>());
            let from = comptime!((l % 2) * half);
            let to = comptime!(((l + 1) % 2) * half);
            let scratch_begin = own + comptime!(above * groups);

            // a_{l−1} again, each number by the thread that has written its z.
            let mut unit = 4 * slice;
            while unit < units {
                #[unroll]
                for k in 0..4usize {
                    if unit + k < units {
                        let z = scratch[scratch_begin + (unit + k) * groups];
                        buffer[to + (unit + k) * pitch + group] = values(z, activation);
                    }
                }
                unit += covered;
            }
            sync_cube();

            // Σ_b w_b ∂U/∂W_l = Σ_b δ_l a_{l−1}ᵀ, Σ_b w_b ∂U/∂b_l = Σ_b δ_l
            outer_products(
                &buffer,
                sums,
                own_sums + comptime!(plan.layout.begins[2 * l]),
                0usize,
                units,
                adds,
                from,
                to,
                count,
                units,
                groups,
                pitch,
                comptime!(share(count, units)),
            );
            let bias_begin = own_sums + comptime!(plan.layout.begins[2 * l + 1]);
            row_sums(&buffer, sums, bias_begin, adds, from, count, groups, pitch);
            sync_cube();

            // δ_{l−1} = (δ_l W_l) ∘ a′(z_{l−1})
            let mut unit = 4 * slice;
            while unit < units {
                let w = &weights[comptime!(l - 1)];
                let block = if comptime!(vector == 4) {
                    products_across(w, unit, &buffer, from + group, units, count, pitch)
                } else {
                    products(w, unit, &buffer, from + group, units, 1usize, count, units, pitch)
                };
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
                    signal(
                        sum,
                        unit + k,
                        scratch,
                        scratch_begin,
                        &mut buffer,
                        to + group,
                        units,
                        groups,
                        pitch,
                        activation,
                    );
                }
                unit += covered;
            }
            sync_cube();
        }

        // Σ_b w_b ∂U/∂W_0 = Σ_b δ_0 xᵀ, some coordinates at a time.
        let units = comptime!(plan.hidden[0]);
        row_sums(
            &buffer,
            sums,
            own_sums + comptime!(plan.layout.begins[1]),
            adds,
            0usize,
            units,
            groups,
            pitch,
        );
        let mut column = 0usize;
        while column < dim {
            let count = select(column + columns < dim, columns, dim - column);
            if is_first {
                stage(x0, tile_row, rows, column, count, &mut buffer, half, dim, groups, pitch);
            } else {
                stage(x1, tile_row, rows, column, count, &mut buffer, half, dim, groups, pitch);
            }
            sync_cube();
            outer_products(
                &buffer,
                sums,
                own_sums + comptime!(plan.layout.begins[0]),
                column,
                count,
                adds,
                0usize,
                half,
                units,
                dim,
                groups,
                pitch,
                comptime!(share(units, columns)),
            );
            sync_cube();
            column += columns;
        }
        tile += CUBE_COUNT;
    }
}
