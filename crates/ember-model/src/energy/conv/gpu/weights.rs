//! A layer's gradient in its weights and bias, `Σ_b w_b (δ_l)ᵀ a_{l−1}` and `Σ_b w_b δ_l`, in two launches.
//!
//! The inner dimension, all output pixels of all images, is split over the grid: there are few weights, and a card has many processors.
//! Partial sums are added up in a fixed order by the second launch, which also brings them into θ's order.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::{empty_device_contiguous_dtype, zeros_client};
use burn_cubecl::tensor::CubeTensor;
use cubecl::CubeDim;
use cubecl::prelude::*;

use super::gather::Part;
use super::launch::{cubes, threads};
use super::plan::{LANES, Plan};
use super::products::{products, sum_place};
use crate::energy::fused::math::Lanes;

/// Threads of a cube of the second launch.
const THREADS: usize = 256;
/// Threads that share a number where there are more splits than these; else it is one thread's.
const SLICES: usize = 8;
/// The most cubes along an axis.
const AXIS: usize = 65_535;

/// `partial` is `[splits][kh, kw, in; 1][out]`, the last row the bias', the last axis of whole vectors.
#[cube(launch)]
fn partial_kernel<A: Size, B: Size>(
    input: &[Vector<f32, A>],
    signal: &[Vector<f32, B>],
    factors: &[f32],
    partial: &mut [Lanes],
    inner: usize,
    each: usize,
    #[comptime] plan: Plan,
) {
    let tile = comptime!(plan.tile);
    let rows = comptime!(plan.rows(1));
    let row_len = comptime!(plan.columns().div_ceil(LANES));
    let across = comptime!(plan.column_cubes());
    let split = CUBE_POS_X as usize / across;
    let begin = split * each;
    let part = Part {
        row: (CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y) as usize * comptime!(tile.rows),
        column: CUBE_POS_X as usize % across * comptime!(tile.columns),
        rows: rows.runtime(),
        begin,
        end: select(begin + each < inner, begin + each, inner),
        class_y: 0usize.runtime(),
        class_x: 0usize.runtime(),
        offset: 0usize.runtime(),
    };
    let sums = products(input, signal, factors, &part, plan);
    let to = split * comptime!((rows + 1) * row_len);
    #[unroll]
    for g in 0..comptime!(tile.thread_rows / LANES) {
        #[unroll]
        for i in 0..LANES {
            #[unroll]
            for h in 0..comptime!(tile.thread_columns / LANES) {
                let (row, column) = sum_place(&part, g, i, h, tile);
                if row < rows && column / LANES < row_len {
                    let sum = sums[comptime!((g * LANES + i) * (tile.thread_columns / LANES) + h)];
                    partial[to + row * row_len + column / LANES] = sum;
                }
            }
        }
    }
    let column = part.column / LANES + UNIT_POS as usize;
    if part.row == 0 && UNIT_POS < comptime!((tile.columns / LANES) as u32) && column < row_len {
        let bias = sums[comptime!(tile.thread_rows * tile.thread_columns / LANES)];
        partial[to + comptime!(rows * row_len) + column] = bias;
    }
}

#[cube(launch)]
fn total_kernel(
    partial: &[f32],
    weights: &mut [f32],
    bias: &mut [f32],
    splits: usize,
    #[comptime] slices: usize,
    #[comptime] plan: Plan,
) {
    let rows = comptime!(plan.rows(1));
    let out = comptime!(plan.columns());
    let padded = comptime!(plan.columns().next_multiple_of(LANES));
    let channels = comptime!(plan.geometry.input[0]);
    let taps = comptime!(plan.geometry.taps());
    let numbers = comptime!((rows + 1) * padded);
    let each = comptime!(THREADS / slices);
    let number = UNIT_POS as usize % each;
    let slice = UNIT_POS as usize / each;
    let at = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize * each + number;
    let mut total = 0.0f32;
    if at < numbers {
        let mut split = slice;
        while split < splits {
            total += partial[split * numbers + at];
            split += slices;
        }
    }
    if comptime!(slices > 1) {
        let mut parts = Shared::<[f32]>::new_slice(THREADS);
        parts[slice * each + number] = total;
        sync_cube();
        total = 0.0f32;
        for slice in 0..slices {
            total += parts[slice * each + number];
        }
    }
    let (row, o) = (at / padded, at % padded);
    if slice == 0 && at < numbers && o < out {
        if row < rows {
            let (tap, channel) = (row / channels, row % channels);
            weights[(o * channels + channel) * taps + tap] = total;
        } else {
            bias[o] = total;
        }
    }
}

/// See `ConvOps::conv_weights`.
pub(super) fn weights(
    input: CubeTensor,
    signal: CubeTensor,
    factors: CubeTensor,
    plan: Plan,
) -> (CubeTensor, CubeTensor) {
    let (input, signal, factors) =
        (into_contiguous(input), into_contiguous(signal), into_contiguous(factors));
    let (client, device, n) = (input.client.clone(), input.device.clone(), input.meta.shape()[0]);
    let (rows, out) = (plan.rows(n), plan.columns());
    let shapes = [rows * out, out].map(|len| Shape::from([len]));
    if n == 0 {
        let [weights, bias] =
            shapes.map(|shape| zeros_client(client.clone(), device.clone(), shape, DType::F32));
        return (weights, bias);
    }
    let empty = |shape| empty_device_contiguous_dtype(client.clone(), device.clone(), shape, DType::F32);
    let [weights, bias] = shapes.map(empty);
    let [splits, each] = plan.splits(n);
    let numbers = (rows + 1) * out.next_multiple_of(LANES);
    let partial = empty(Shape::from([splits * numbers]));
    partial_kernel::launch(
        &client,
        cubes(&plan, n),
        threads(&plan),
        plan.geometry.input_vector(),
        plan.geometry.output_vector(),
        input.into_buffer_arg(),
        signal.into_buffer_arg(),
        factors.into_buffer_arg(),
        partial.clone().into_buffer_arg(),
        plan.inner(n),
        each,
        plan,
    );
    let slices = if splits > SLICES { SLICES } else { 1 };
    let cubes = numbers.div_ceil(THREADS / slices);
    let y = cubes.div_ceil(AXIS);
    total_kernel::launch(
        &client,
        CubeCount::new_2d(cubes.div_ceil(y) as u32, y as u32),
        CubeDim::new_1d(THREADS as u32),
        partial.into_buffer_arg(),
        weights.clone().into_buffer_arg(),
        bias.clone().into_buffer_arg(),
        splits,
        slices,
        plan,
    );
    (weights, bias)
}
