//! A layer back to its input: `δ_{l−1} = (Wᵀ ∗ δ_l) ∘ a′(z_{l−1})`, or `∇ₓU = Wᵀ ∗ δ_0 + c x`, in one launch.
//!
//! With a stride, a pixel is seen by the taps of its own parity only: pixels of each class are a product of their own, side by side in
//! the launch, so that no product is with a zero.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use burn::tensor::DType;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::gather::{Part, class_pixel};
use super::lanes::{get, put, slopes_of};
use super::launch::{cubes, threads};
use super::plan::{LANES, Plan};
use super::products::{products, sum_place};
use crate::energy::fused::math::Lanes;

/// `below` is what the forward pass kept, `[n, h, w, c]`, or the images, `[n, c, h, w]`.
#[cube(launch)]
fn input_kernel<A: Size, O: Size>(
    signal: &[Vector<f32, A>],
    packed: &[Lanes],
    below: &[Vector<f32, O>],
    out: &mut [Vector<f32, O>],
    factors: &[f32],
    rows: usize,
    offset: usize,
    confinement: f32,
    #[comptime] plan: Plan,
) {
    let tile = comptime!(plan.tile);
    let geometry = comptime!(plan.geometry);
    let channels = comptime!(geometry.input[0]);
    let height = comptime!(geometry.input[1]);
    let width = comptime!(geometry.input[2]);
    let stride = comptime!(geometry.stride);
    let padding = comptime!(geometry.padding);
    let across = comptime!(plan.column_cubes());
    let class = CUBE_POS_X as usize / across;
    let part = Part {
        row: (CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y) as usize * comptime!(tile.rows),
        column: CUBE_POS_X as usize % across * comptime!(tile.columns),
        rows,
        begin: 0usize.runtime(),
        end: comptime!(plan.inner(1)).runtime(),
        class_y: class / stride,
        class_x: class % stride,
        offset,
    };
    let sums = products(signal, packed, factors, &part, plan);
    #[unroll]
    for g in 0..comptime!(tile.thread_rows / LANES) {
        #[unroll]
        for i in 0..LANES {
            let (row, _column) = sum_place(&part, g, i, 0usize, tile);
            let place = class_pixel(row, &part, geometry);
            let y = place.y * stride + part.class_y - padding;
            let x = place.x * stride + part.class_x - padding;
            #[unroll]
            for h in 0..comptime!(tile.thread_columns / LANES) {
                let (_row, column) = sum_place(&part, g, i, h, tile);
                if row < rows && y < height && x < width && column < channels {
                    let sum = sums[comptime!((g * LANES + i) * (tile.thread_columns / LANES) + h)];
                    if comptime!(geometry.planes) {
                        #[unroll]
                        for lane in 0..LANES {
                            if column + lane < channels {
                                let plane = place.image * channels + column + lane;
                                let at = plane * comptime!(height * width) + y * width + x;
                                let value = sum.extract(lane) + confinement * below[at].extract(0usize);
                                out[at] = Vector::<f32, O>::new(value);
                            }
                        }
                    } else {
                        let at = ((place.image * height + y) * width + x) * channels + column;
                        let kept = get(below, at, channels - column);
                        let slopes = slopes_of(kept, comptime!(plan.activation));
                        put(out, at, sum * slopes, channels - column);
                    }
                }
            }
        }
    }
}

/// See `ConvOps::conv_input`.
pub(super) fn input(
    signal: CubeTensor,
    packed: CubeTensor,
    below: CubeTensor,
    plan: Plan,
    offset: usize,
    confinement: f32,
) -> CubeTensor {
    let (signal, below) = (into_contiguous(signal), into_contiguous(below));
    let (client, shape) = (signal.client.clone(), below.meta.shape().clone());
    let n = shape[0];
    let out = empty_device_contiguous_dtype(client.clone(), signal.device.clone(), shape, DType::F32);
    if n == 0 {
        return out;
    }
    let packed = into_contiguous(packed);
    input_kernel::launch(
        &client,
        cubes(&plan, n),
        threads(&plan),
        plan.geometry.output_vector(),
        plan.geometry.input_vector(),
        signal.into_buffer_arg(),
        packed.clone().into_buffer_arg(),
        below.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        packed.into_buffer_arg(),
        plan.rows(n),
        offset,
        confinement,
        plan,
    );
    out
}
