//! The first launch: cubes take tiles of walkers through all layers and back, and add up the gradients of their tiles.
//!
//! On the way back the inputs of a layer stand in shared memory beside its signals: activations are made from `z` again, x is read
//! again. Wide samples go through shared memory in parts of some coordinates.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use std::collections::VecDeque;

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::math::{Lanes, slopes, values};
use super::super::partials::{self, add};
use super::super::products::{Block, products, products_across, products_along};
use super::outer::{outer_products, row_sums, share, total};
use super::{Extent, Plan};
use crate::energy::activation::Activation;

/// Threads of a cube.
pub(super) const THREADS: usize = 256;
/// The largest tile; smaller ones are halves of it.
const TILE: usize = 32;
/// Bytes of [`Lanes`].
const LANES_BYTES: usize = 16;

/// Lanes from one unit to the next in shared memory. Odd: threads side by side that read consecutive units meet different banks.
const fn pitch(tile: usize) -> usize {
    (tile / 4) | 1
}

/// Lanes of each of the two buffers in shared memory: the widest layer, or a sum of each slice of threads.
const fn buffer_len(tile: usize, widest: usize) -> usize {
    let slices = THREADS / (tile / 4);
    let units = if widest > slices { widest } else { slices };
    units * pitch(tile)
}

/// The largest tile whose activations fit the adapter, or `None`.
pub(super) fn tile(client: &Client, hidden: &[usize], layers: usize) -> Option<usize> {
    let hardware = &client.properties().hardware;
    // Weights and biases, two terms and their energies, partial sums, scratch, and the launch's own numbers.
    let bindings = 2 * layers + 9;
    if (hardware.max_units_per_cube as usize) < THREADS || (hardware.max_bindings as usize) < bindings {
        return None;
    }
    let widest = hidden.iter().copied().max()?;
    let fits = |tile: &usize| {
        LANES_BYTES * (2 * buffer_len(*tile, widest) + tile / 4) <= hardware.max_shared_memory_size
    };
    [TILE, TILE / 2, TILE / 4, TILE / 8].into_iter().find(fits)
}

/// Rounds of a thread's loops for one tile, and a few to spare.
pub(super) fn rounds(plan: &Plan) -> usize {
    let (groups, hidden) = (plan.tile / 4, &plan.hidden);
    let (covered, slices) = (4 * THREADS / groups, THREADS / groups);
    let widest = hidden.iter().copied().max().unwrap_or(1);
    let columns = plan.dim.min(buffer_len(plan.tile, widest) / pitch(plan.tile));
    let chunks = plan.dim.div_ceil(columns);
    let blocks = |units: usize| units.div_ceil(covered);
    let stage = (columns * groups).div_ceil(THREADS) + 1;
    let first = chunks * (2 * stage + columns.div_ceil(slices) + blocks(hidden[0]) * (1 + columns) + 2);
    let last = hidden[hidden.len() - 1];
    let top = last.div_ceil(slices) + last.div_ceil(THREADS) * (1 + groups) + groups + slices + blocks(last);
    let sums = |units: usize, inputs: usize| {
        share(units, inputs).rounds(units, inputs, groups) + units.div_ceil(THREADS) * (1 + groups)
    };
    let between: usize = hidden
        .windows(2)
        .map(|pair| {
            let [below, above] = [pair[0], pair[1]];
            let products = blocks(above) * (1 + below) + blocks(below) * (2 + above);
            products + sums(above, below)
        })
        .sum();
    first + top + between + chunks * sums(hidden[0], columns) + 16
}

/// One unit of the forward pass: `z` to scratch, `a(z)` to shared memory. Sums over coordinates in several parts begin with the bias
/// and end with the activation.
#[cube]
fn activated(
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
fn all_activated(
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
fn signal(
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
fn stage(
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
fn column_products(
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
fn row_weights(weights: &[f32], first_row: usize, rows: usize) -> Lanes {
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
fn write_energies(energy: &mut [f32], values: Lanes, first_row: usize, rows: usize) {
    #[unroll]
    for lane in 0..4usize {
        if first_row + lane < rows {
            energy[first_row + lane] = values.extract(lane);
        }
    }
}

#[cube(launch)]
fn weighted_grads_kernel<N: Size>(
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

/// Whether the rows of all weights between hidden layers are whole vectors.
fn widths_are_vectors(plan: &Plan) -> bool {
    plan.hidden[..plan.hidden.len() - 1].iter().all(|width| width % 4 == 0)
}

/// See `PerceptronGradOps::perceptron_weighted_grads`; `terms` are positions and weights, `layers` weights and biases.
pub(super) fn weighted_grads(
    terms: [(CubeTensor, CubeTensor); 2],
    layers: impl Iterator<Item = (CubeTensor, CubeTensor)>,
    plan: Plan,
    extent: Extent,
    confinement: f32,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let [(x0, row_weights0), (x1, row_weights1)] =
        terms.map(|(x, weights)| (into_contiguous(x), into_contiguous(weights)));
    let (rows0, rows1) = (x0.meta.shape()[0], x1.meta.shape()[0]);
    let client = x0.client.clone();
    let empty = |len: usize| {
        let (device, shape) = (x0.device.clone(), Shape::from([len]));
        empty_device_contiguous_dtype(client.clone(), device, shape, DType::F32)
    };
    let (energy0, energy1) = (empty(rows0), empty(rows1));
    // A second term that is not there has no tiles.
    let rows1 = if extent.terms == 2 { rows1 } else { 0 };
    let tiles0 = rows0.div_ceil(plan.tile);
    let tiles = tiles0 + rows1.div_ceil(plan.tile);
    let cubes = extent.cubes;
    let sums = empty(cubes * plan.layout.total);
    let scratch = empty(cubes * plan.tile * plan.hidden.iter().sum::<usize>());
    let (mut weights, mut biases) = (VecDeque::new(), SequenceArg::new());
    for (weight, bias) in layers {
        weights.push_back(into_contiguous(weight).into_buffer_arg());
        biases.push(into_contiguous(bias).into_buffer_arg());
    }
    let first_weights = weights.pop_front().expect("two layers or more");
    let last_weights = weights.pop_back().expect("two layers or more");
    let vector = if widths_are_vectors(&plan) { 4 } else { 1 };
    weighted_grads_kernel::launch(
        &client,
        CubeCount::new_1d(cubes as u32),
        CubeDim::new_1d(THREADS as u32),
        vector,
        x0.clone().into_buffer_arg(),
        row_weights0.into_buffer_arg(),
        x1.into_buffer_arg(),
        row_weights1.into_buffer_arg(),
        first_weights,
        weights.into_iter().collect(),
        last_weights,
        biases,
        energy0.clone().into_buffer_arg(),
        energy1.clone().into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        scratch.into_buffer_arg(),
        rows0,
        rows1,
        tiles0,
        tiles,
        confinement,
        plan,
    );
    (partials::sum(sums, cubes), energy0, energy1)
}
