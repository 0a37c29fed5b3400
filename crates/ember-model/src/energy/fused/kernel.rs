//! The kernel. A thread owns four units of a layer for four walkers, sixteen sums in registers; the tile's threads stand side by
//! side over walkers first, then units.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::prelude::*;

use super::Plan;
use super::math::{Lanes, slopes, values};
use super::products::{coordinate, input_products, products, products_across, products_along};
use crate::energy::activation::Activation;

/// Threads of a cube.
const THREADS: usize = 256;
/// The largest tile; smaller ones are halves of it.
const TILE: usize = 32;
/// The most cubes: each goes on with another tile, so that scratch stays small.
const CUBES: usize = 1024;
/// Bytes of [`Lanes`].
const LANES_BYTES: usize = 16;

/// Lanes of each of the two buffers in shared memory.
const fn buffer_len(tile: usize, widest: usize) -> usize {
    let activations = widest * tile / 4;
    if activations > THREADS { activations } else { THREADS }
}

/// The largest tile whose activations fit the adapter, or `None`.
pub(super) fn tile(client: &Client, hidden: &[usize], layers: usize) -> Option<usize> {
    let hardware = &client.properties().hardware;
    // Weights and biases, x, energies, gradients, scratch, and the launch's own numbers.
    let bindings = 2 * layers + 5;
    if (hardware.max_units_per_cube as usize) < THREADS || (hardware.max_bindings as usize) < bindings {
        return None;
    }
    let widest = hidden.iter().copied().max()?;
    let fits = |tile: &usize| 2 * LANES_BYTES * buffer_len(*tile, widest) <= hardware.max_shared_memory_size;
    [TILE, TILE / 2, TILE / 4, TILE / 8].into_iter().find(fits)
}

/// One unit of the forward pass: `z` to scratch, `a(z)` to shared memory.
#[cube]
fn activated(
    sum: Lanes,
    unit: usize,
    bias: &[f32],
    scratch: &mut [Lanes],
    scratch_begin: usize,
    buffer: &mut Shared<[Lanes]>,
    begin: usize,
    #[comptime] units: usize,
    #[comptime] groups: usize,
    #[comptime] activation: Activation,
) {
    if unit < units {
        let z = sum + Lanes::new(bias[unit]);
        scratch[scratch_begin + unit * groups] = z;
        buffer[begin + unit * groups] = values(z, activation);
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
    #[comptime] activation: Activation,
) {
    if unit < units {
        let z = scratch[scratch_begin + unit * groups];
        buffer[begin + unit * groups] = sum * slopes(z, activation);
    }
}

/// One coordinate of the gradients.
#[cube]
fn gradient(
    sum: Lanes,
    i: usize,
    x: &[f32],
    grad: &mut [f32],
    first_row: usize,
    rows: usize,
    confinement: f32,
    #[comptime] dim: usize,
    #[comptime] confined: bool,
) {
    if i < dim {
        #[unroll]
        for lane in 0..4usize {
            if first_row + lane < rows {
                let at = (first_row + lane) * dim + i;
                let mut value = sum.extract(lane);
                if confined {
                    value += confinement * x[at];
                }
                grad[at] = value;
            }
        }
    }
}

#[cube(launch)]
fn energy_and_grad_kernel<N: Size>(
    x: &[f32],
    first_weights: &[Vector<f32, Const<1>>],
    weights: Sequence<Box<[Vector<f32, N>]>>,
    last_weights: &[f32],
    biases: Sequence<Box<[f32]>>,
    energy: &mut [f32],
    grad: &mut [f32],
    scratch: &mut [Lanes],
    rows: usize,
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
    let half = comptime!(buffer_len(plan.tile, plan.hidden.iter().copied().max().unwrap_or(1)));
    let all_units = comptime!(plan.hidden.iter().sum::<usize>());
    // Units that the cube's threads cover at once, and the slices that sums over units are cut into.
    let covered = comptime!(4 * THREADS / (plan.tile / 4));
    let slices = comptime!(THREADS / (plan.tile / 4));

    let mut buffer = Shared::<[Lanes]>::new_slice(comptime!(2 * half));
    let group = UNIT_POS as usize % groups;
    let slice = UNIT_POS as usize / groups;
    let own = CUBE_POS * comptime!(all_units * groups) + group;

    let mut tile = CUBE_POS;
    while tile < tiles {
        let first_row = tile * comptime!(plan.tile) + 4 * group;

        // z_l = W_l a_{l−1} + b_l, a_l = a(z_l)
        #[unroll]
        for l in 0..hidden {
            let units = comptime!(plan.hidden[l]);
            let above = comptime!(plan.hidden[..l].iter().sum::<usize>());
            let to = group + comptime!((l % 2) * half);
            let scratch_begin = own + comptime!(above * groups);
            let mut unit = 4 * slice;
            while unit < units {
                let block = if comptime!(l == 0) {
                    input_products(first_weights, unit, x, first_row, rows, units, dim)
                } else {
                    let width = comptime!(plan.hidden[l - 1]);
                    let from = group + comptime!(((l + 1) % 2) * half);
                    let w = &weights[comptime!(l - 1)];
                    if comptime!(vector == 4) {
                        products_along(w, unit, &buffer, from, units, width, groups)
                    } else {
                        products(w, unit, &buffer, from, units, width, width, 1usize, groups)
                    }
                };
                let bias = &biases[l];
                activated(
                    block.a,
                    unit,
                    bias,
                    scratch,
                    scratch_begin,
                    &mut buffer,
                    to,
                    units,
                    groups,
                    activation,
                );
                activated(
                    block.b,
                    unit + 1,
                    bias,
                    scratch,
                    scratch_begin,
                    &mut buffer,
                    to,
                    units,
                    groups,
                    activation,
                );
                activated(
                    block.c,
                    unit + 2,
                    bias,
                    scratch,
                    scratch_begin,
                    &mut buffer,
                    to,
                    units,
                    groups,
                    activation,
                );
                activated(
                    block.d,
                    unit + 3,
                    bias,
                    scratch,
                    scratch_begin,
                    &mut buffer,
                    to,
                    units,
                    groups,
                    activation,
                );
                unit += covered;
            }
            sync_cube();
        }

        // U = w_L·a_{L−1} + b_L + ½ c |x|²: each slice adds up some units and coordinates, one of them the slices.
        let last = comptime!(plan.hidden[hidden - 1]);
        let kept = group + comptime!(((hidden + 1) % 2) * half);
        let other = group + comptime!((hidden % 2) * half);
        let mut sum = Lanes::new(0.0f32);
        let mut i = slice;
        while i < last {
            sum += Lanes::new(last_weights[i]) * buffer[kept + i * groups];
            i += slices;
        }
        if confined {
            let mut j = slice;
            while j < dim {
                let value = coordinate(x, first_row, j, rows, dim);
                sum += Lanes::new(0.5f32 * confinement) * value * value;
                j += slices;
            }
        }
        buffer[other + slice * groups] = sum;
        sync_cube();
        if slice == 0 {
            let mut total = Lanes::new(biases[hidden][0]);
            for part in 0..slices {
                total += buffer[other + part * groups];
            }
            #[unroll]
            for lane in 0..4usize {
                if first_row + lane < rows {
                    energy[first_row + lane] = total.extract(lane);
                }
            }
        }

        // δ_{L−1} = w_L ∘ a′(z_{L−1})
        let top = own + comptime!((all_units - plan.hidden[hidden - 1]) * groups);
        let mut unit = 4 * slice;
        while unit < last {
            #[unroll]
            for k in 0..4usize {
                let weight = Lanes::new(last_weights[select(unit + k < last, unit + k, last - 1)]);
                signal(weight, unit + k, scratch, top, &mut buffer, kept, last, groups, activation);
            }
            unit += covered;
        }
        sync_cube();

        // δ_{l−1} = (δ_l W_l) ∘ a′(z_{l−1})
        #[unroll]
        for step in 1..hidden {
            let l = comptime!(hidden - step);
            let count = comptime!(plan.hidden[l]);
            let units = comptime!(plan.hidden[l - 1]);
            let above = comptime!(plan.hidden[..l - 1].iter().sum::<usize>());
            let from = group + comptime!((l % 2) * half);
            let to = group + comptime!(((l + 1) % 2) * half);
            let scratch_begin = own + comptime!(above * groups);
            let mut unit = 4 * slice;
            while unit < units {
                let w = &weights[comptime!(l - 1)];
                let block = if comptime!(vector == 4) {
                    products_across(w, unit, &buffer, from, units, count, groups)
                } else {
                    products(w, unit, &buffer, from, units, 1usize, count, units, groups)
                };
                signal(block.a, unit, scratch, scratch_begin, &mut buffer, to, units, groups, activation);
                signal(block.b, unit + 1, scratch, scratch_begin, &mut buffer, to, units, groups, activation);
                signal(block.c, unit + 2, scratch, scratch_begin, &mut buffer, to, units, groups, activation);
                signal(block.d, unit + 3, scratch, scratch_begin, &mut buffer, to, units, groups, activation);
                unit += covered;
            }
            sync_cube();
        }

        // ∇ₓU = δ_0 W_0 + c x
        let count = comptime!(plan.hidden[0]);
        let mut i = 4 * slice;
        while i < dim {
            let block = products(first_weights, i, &buffer, group, dim, 1usize, count, dim, groups);
            gradient(block.a, i, x, grad, first_row, rows, confinement, dim, confined);
            gradient(block.b, i + 1, x, grad, first_row, rows, confinement, dim, confined);
            gradient(block.c, i + 2, x, grad, first_row, rows, confinement, dim, confined);
            gradient(block.d, i + 3, x, grad, first_row, rows, confinement, dim, confined);
            i += covered;
        }
        sync_cube();
        tile += CUBE_COUNT;
    }
}

/// Whether the rows of all weights between hidden layers are whole vectors.
fn widths_are_vectors(plan: &Plan) -> bool {
    plan.hidden[..plan.hidden.len() - 1].iter().all(|width| width % 4 == 0)
}

/// See `PerceptronOps::perceptron_energy_and_grad`; `layers` are weights and biases.
pub(super) fn energy_and_grad(
    x: CubeTensor,
    layers: impl Iterator<Item = (CubeTensor, CubeTensor)>,
    plan: Plan,
    confinement: f32,
) -> (CubeTensor, CubeTensor) {
    let x = into_contiguous(x);
    let rows = x.meta.shape()[0];
    let client = x.client.clone();
    let empty =
        |shape: Shape| empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, DType::F32);
    let (energy, grad) = (empty(Shape::from([rows])), empty(Shape::from([rows, plan.dim])));
    if rows == 0 {
        return (energy, grad);
    }
    let tiles = rows.div_ceil(plan.tile);
    let cubes = tiles.min(CUBES);
    let scratch = empty(Shape::from([cubes * plan.tile * plan.hidden.iter().sum::<usize>()]));
    let (first_weights, between, last_weights, biases) = layer_arguments!(layers);
    let vector = if widths_are_vectors(&plan) { 4 } else { 1 };
    energy_and_grad_kernel::launch(
        &client,
        CubeCount::new_1d(cubes as u32),
        CubeDim::new_1d(THREADS as u32),
        vector,
        x.into_buffer_arg(),
        first_weights,
        between,
        last_weights,
        biases,
        energy.clone().into_buffer_arg(),
        grad.clone().into_buffer_arg(),
        scratch.into_buffer_arg(),
        rows,
        tiles,
        confinement,
        plan,
    );
    (energy, grad)
}
