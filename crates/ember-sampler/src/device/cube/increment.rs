//! The log-weight increment of an unadjusted Langevin step on GPUs, in one pass over the step's two ends.
//!
//! `increment.rs` is the same on a processor. A walker's coordinates are shared by `lanes` threads, each of which adds up every
//! `lanes`-th one; their sums meet in shared memory, in a fixed order.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::{CubeDim, calculate_cube_count_elemwise};
use ember_model::energy::chain::cube::{two_sum, work_of};

/// Threads of a cube.
const THREADS: usize = 64;
/// Coordinates that are worth a thread of their own.
const COORDINATES: usize = 4;

/// `Σ (∇U(x) + ∇U(y))·(y − x + (h/2)(∇U(x) − ∇U(y)))` of a walker, for the first of its threads. Every thread of the cube takes part.
#[cube]
fn work(
    x: &[f32],
    y: &[f32],
    gx: &[f32],
    gy: &[f32],
    walkers: usize,
    dim: usize,
    half_step: f32,
    #[comptime] lanes: usize,
) -> f32 {
    let mut sums = Shared::<[f32]>::new_slice(THREADS);
    let thread = UNIT_POS as usize;
    let lane = thread % lanes;
    let walker = ABSOLUTE_POS / lanes;
    let mut sum = 0.0f32;
    if walker < walkers {
        let begin = walker * dim;
        let mut j = lane;
        while j < dim {
            sum += work_of(x[begin + j], gx[begin + j], y[begin + j], gy[begin + j], half_step);
            j += lanes;
        }
    }
    if comptime!(lanes > 1) {
        sums[thread] = sum;
        sync_cube();
        #[unroll]
        for halving in 1..=comptime!(lanes.ilog2() as usize) {
            let width = comptime!(lanes >> halving);
            if lane < width {
                sums[thread] = sums[thread] + sums[thread + width];
            }
            sync_cube();
        }
        sum = sums[thread];
    }
    sum
}

#[cube(launch)]
fn increment_kernel(
    x: &[f32],
    y: &[f32],
    ux: &[f32],
    gx: &[f32],
    uy: &[f32],
    gy: &[f32],
    output: &mut [f32],
    dim: usize,
    half_step: f32,
    #[comptime] lanes: usize,
) {
    let work = work(x, y, gx, gy, output.len(), dim, half_step, lanes);
    let walker = ABSOLUTE_POS / lanes;
    if ABSOLUTE_POS % lanes == 0 && walker < output.len() {
        output[walker] = ux[walker] - uy[walker] + 0.5 * work;
    }
}

#[cube(launch)]
fn accumulated_kernel(
    hi: &[f32],
    lo: &[f32],
    x: &[f32],
    y: &[f32],
    ux: &[f32],
    gx: &[f32],
    uy: &[f32],
    gy: &[f32],
    sum_hi: &mut [f32],
    sum_lo: &mut [f32],
    dim: usize,
    half_step: f32,
    zero: u32,
    #[comptime] lanes: usize,
) {
    let work = work(x, y, gx, gy, sum_hi.len(), dim, half_step, lanes);
    let walker = ABSOLUTE_POS / lanes;
    if ABSOLUTE_POS % lanes == 0 && walker < sum_hi.len() {
        let increment = ux[walker] - uy[walker] + 0.5 * work;
        let sum = two_sum(hi[walker], lo[walker], increment, zero);
        sum_hi[walker] = sum.hi;
        sum_lo[walker] = sum.lo;
    }
}

/// Threads for each walker.
fn lanes(dim: usize) -> usize {
    dim.div_ceil(COORDINATES).next_power_of_two().min(THREADS)
}

fn empty_like(energies: &CubeTensor) -> CubeTensor {
    let (client, device) = (energies.client.clone(), energies.device.clone());
    empty_device_contiguous_dtype(client, device, energies.meta.shape().clone(), energies.dtype)
}

/// See `DeviceOps::ula_log_weight_increment`; `from` and `to` are positions, energies and gradients.
pub(super) fn ula_log_weight_increment(
    from: [CubeTensor; 3],
    to: [CubeTensor; 3],
    step_size: f32,
) -> CubeTensor {
    let ([x, ux, gx], [y, uy, gy]) = (from.map(into_contiguous), to.map(into_contiguous));
    let (walkers, dim) = (ux.meta.num_elements(), x.meta.shape()[1]);
    let output = empty_like(&ux);
    if walkers == 0 {
        return output;
    }
    let client = output.client.clone();
    let threads = CubeDim::new_1d(THREADS as u32);
    increment_kernel::launch(
        &client,
        calculate_cube_count_elemwise(&client, walkers * lanes(dim), threads),
        threads,
        x.into_buffer_arg(),
        y.into_buffer_arg(),
        ux.into_buffer_arg(),
        gx.into_buffer_arg(),
        uy.into_buffer_arg(),
        gy.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        dim,
        0.5 * step_size,
        lanes(dim),
    );
    output
}

/// See `DeviceOps::accumulate_ula`; `sum` is the old pair.
pub(super) fn accumulate_ula(
    sum: [CubeTensor; 2],
    from: [CubeTensor; 3],
    to: [CubeTensor; 3],
    step_size: f32,
) -> (CubeTensor, CubeTensor) {
    let [hi, lo] = sum.map(into_contiguous);
    let ([x, ux, gx], [y, uy, gy]) = (from.map(into_contiguous), to.map(into_contiguous));
    let (walkers, dim) = (ux.meta.num_elements(), x.meta.shape()[1]);
    let (sum_hi, sum_lo) = (empty_like(&hi), empty_like(&hi));
    if walkers == 0 {
        return (sum_hi, sum_lo);
    }
    let client = sum_hi.client.clone();
    let threads = CubeDim::new_1d(THREADS as u32);
    accumulated_kernel::launch(
        &client,
        calculate_cube_count_elemwise(&client, walkers * lanes(dim), threads),
        threads,
        hi.into_buffer_arg(),
        lo.into_buffer_arg(),
        x.into_buffer_arg(),
        y.into_buffer_arg(),
        ux.into_buffer_arg(),
        gx.into_buffer_arg(),
        uy.into_buffer_arg(),
        gy.into_buffer_arg(),
        sum_hi.clone().into_buffer_arg(),
        sum_lo.clone().into_buffer_arg(),
        dim,
        0.5 * step_size,
        0u32,
        lanes(dim),
    );
    (sum_hi, sum_lo)
}
