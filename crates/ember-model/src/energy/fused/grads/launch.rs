//! Tiles that fit an adapter, how long a launch's loops are, and the launch.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::super::partials;
use super::THREADS;
use super::kernel::{buffer_len, pitch, weighted_grads_kernel};
use super::outer::share;
use super::{Extent, Plan};

/// The largest tile; smaller ones are halves of it.
const TILE: usize = 32;
/// Bytes of [`Lanes`].
const LANES_BYTES: usize = 16;

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
    let (first_weights, between, last_weights, biases) = layer_arguments!(layers);
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
        between,
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
