//! A layer forward: `a(z)`, `z = W ∗ a + b`, in one launch.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::gather::Part;
use super::lanes::put;
use super::launch::{cubes, threads};
use super::plan::{LANES, Plan};
use super::products::{products, sum_place};
use crate::energy::fused::math::{Lanes, slopes, values};

#[cube(launch)]
fn forward_kernel<A: Size, O: Size>(
    input: &[Vector<f32, A>],
    packed: &[Lanes],
    bias: &[f32],
    hidden: &mut [Vector<f32, O>],
    kept_slopes: &mut [Vector<f32, O>],
    rows: usize,
    offset: usize,
    #[comptime] plan: Plan,
) {
    let tile = comptime!(plan.tile);
    let out = comptime!(plan.geometry.output[0]);
    let part = Part {
        row: (CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y) as usize * comptime!(tile.rows),
        column: CUBE_POS_X as usize * comptime!(tile.columns),
        rows,
        begin: 0usize.runtime(),
        end: comptime!(plan.inner(1)).runtime(),
        class_y: 0usize.runtime(),
        class_x: 0usize.runtime(),
        offset,
    };
    let sums = products(input, packed, bias, &part, plan);
    #[unroll]
    for h in 0..comptime!(tile.thread_columns / LANES) {
        let (_row, column) = sum_place(&part, 0usize, 0usize, h, tile);
        let mut b = Lanes::new(0.0f32);
        #[unroll]
        for lane in 0..LANES {
            if column + lane < out {
                b.insert(lane, bias[column + lane]);
            }
        }
        #[unroll]
        for g in 0..comptime!(tile.thread_rows / LANES) {
            #[unroll]
            for i in 0..LANES {
                let (row, _column) = sum_place(&part, g, i, h, tile);
                if row < rows && column < out {
                    let z = sums[comptime!((g * LANES + i) * (tile.thread_columns / LANES) + h)] + b;
                    let at = row * out + column;
                    put(hidden, at, values(z, comptime!(plan.activation)), out - column);
                    if comptime!(plan.keeps_slopes()) {
                        put(kept_slopes, at, slopes(z, comptime!(plan.activation)), out - column);
                    }
                }
            }
        }
    }
}

/// See `ConvOps::conv_forward`.
pub(super) fn forward(
    input: CubeTensor,
    packed: CubeTensor,
    bias: CubeTensor,
    plan: Plan,
    offset: usize,
) -> (CubeTensor, CubeTensor) {
    let input = into_contiguous(input);
    let (client, n) = (input.client.clone(), input.meta.shape()[0]);
    let empty =
        |shape: Shape| empty_device_contiguous_dtype(client.clone(), input.device.clone(), shape, DType::F32);
    let [c, h, w] = plan.geometry.output;
    let shape = Shape::from([n, h, w, c]);
    let kept = if plan.keeps_slopes() { shape.clone() } else { Shape::from([1, 1, 1, LANES]) };
    let (hidden, slopes) = (empty(shape), empty(kept));
    if n == 0 {
        return (hidden, slopes);
    }
    forward_kernel::launch(
        &client,
        cubes(&plan, n),
        threads(&plan),
        plan.geometry.input_vector(),
        plan.geometry.output_vector(),
        input.into_buffer_arg(),
        into_contiguous(packed).into_buffer_arg(),
        into_contiguous(bias).into_buffer_arg(),
        hidden.clone().into_buffer_arg(),
        slopes.clone().into_buffer_arg(),
        plan.rows(n),
        offset,
        plan,
    );
    (hidden, slopes)
}
