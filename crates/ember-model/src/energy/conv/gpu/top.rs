//! The last layer, which leaves one number an image, and the way back from it, in one launch:
//! `U = w·a_{L−1} + b + ½ c |x|²` and `δ_{L−1} = w ∘ a′(z_{L−1})`. An image is a cube's.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::CubeDim;
use cubecl::prelude::*;

use super::lanes::slopes_of;
use super::plan::Plan;
use crate::energy::fused::math::Lanes;

/// Threads of a cube.
const THREADS: usize = 256;
/// The most cubes along an axis.
const AXIS: usize = 65_535;

#[cube(launch)]
fn top_kernel(
    hidden: &[f32],
    kept: &[f32],
    weights: &[f32],
    bias: &[f32],
    x: &[f32],
    energy: &mut [f32],
    signal: &mut [f32],
    confinement: f32,
    #[comptime] plan: Plan,
) {
    let channels = comptime!(plan.geometry.input[0]);
    let height = comptime!(plan.geometry.input[1]);
    let width = comptime!(plan.geometry.input[2]);
    let kernel = comptime!(plan.geometry.kernel);
    let padding = comptime!(plan.geometry.padding);
    let numbers = comptime!(channels * height * width);
    let mut parts = Shared::<[f32]>::new_slice(THREADS);
    let thread = UNIT_POS as usize;
    let image = (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) as usize;
    let images = energy.len();
    let mut sum = 0.0f32;
    if image < images {
        let mut i = thread;
        while i < numbers {
            let place = i / channels;
            let channel = i - place * channels;
            // The one patch begins in the padding.
            let (line, column) = (place / width + padding, place % width + padding);
            let mut w = 0.0f32;
            if line < kernel && column < kernel {
                w = weights[(channel * kernel + line) * kernel + column];
            }
            let at = image * numbers + i;
            sum += w * hidden[at];
            let slopes = slopes_of(Lanes::new(kept[at]), comptime!(plan.activation));
            signal[at] = w * slopes.extract(0usize);
            i += THREADS;
        }
        let dim = x.len() / images;
        let mut j = thread;
        while j < dim {
            let value = x[image * dim + j];
            sum += 0.5f32 * confinement * value * value;
            j += THREADS;
        }
    }
    parts[thread] = sum;
    sync_cube();
    #[unroll]
    for halving in 1..=comptime!(THREADS.ilog2() as usize) {
        let width = comptime!(THREADS >> halving);
        if thread < width {
            parts[thread] = parts[thread] + parts[thread + width];
        }
        sync_cube();
    }
    if thread == 0 && image < images {
        energy[image] = parts[0usize] + bias[0usize];
    }
}

/// See `ConvOps::conv_top`.
pub(super) fn top(
    hidden: CubeTensor,
    kept: CubeTensor,
    weights: CubeTensor,
    bias: CubeTensor,
    x: CubeTensor,
    plan: Plan,
    confinement: f32,
) -> (CubeTensor, CubeTensor) {
    let hidden = into_contiguous(hidden);
    let (client, shape) = (hidden.client.clone(), hidden.meta.shape().clone());
    let n = shape[0];
    let empty = |shape: Shape| {
        empty_device_contiguous_dtype(client.clone(), hidden.device.clone(), shape, DType::F32)
    };
    let (energy, signal) = (empty(Shape::from([n])), empty(shape));
    if n == 0 {
        return (energy, signal);
    }
    let y = n.div_ceil(AXIS);
    top_kernel::launch(
        &client,
        CubeCount::new_2d(n.div_ceil(y) as u32, y as u32),
        CubeDim::new_1d(THREADS as u32),
        hidden.clone().into_buffer_arg(),
        into_contiguous(kept).into_buffer_arg(),
        into_contiguous(weights).into_buffer_arg(),
        into_contiguous(bias).into_buffer_arg(),
        into_contiguous(x).into_buffer_arg(),
        energy.clone().into_buffer_arg(),
        signal.clone().into_buffer_arg(),
        confinement,
        plan,
    );
    (energy, signal)
}
