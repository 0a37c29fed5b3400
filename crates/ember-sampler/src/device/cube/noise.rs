//! Kernels that draw: a Langevin proposal, uniform numbers.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use ember_model::random::Stream;
use ember_model::random::cube::{Counter, counter, normals};

use super::launch::grid;

/// A thread per block of four coordinates.
#[cube(launch)]
fn proposal_kernel(
    x: &[f32],
    grad: &[f32],
    output: &mut [f32],
    dim: usize,
    step_size: f32,
    noise_scale: f32,
    counter: &Counter,
) {
    let blocks = (dim + 3) / 4;
    let walker = ABSOLUTE_POS / blocks;
    let block = ABSOLUTE_POS % blocks;
    let begin = walker * dim + 4 * block;
    if begin < output.len() {
        let left = dim - 4 * block;
        let noise = normals(block as u32, walker as u32, counter);
        // x − h ∇U + s ξ
        output[begin] = x[begin] - step_size * grad[begin] + noise_scale * noise.a;
        if left > 1 {
            output[begin + 1] = x[begin + 1] - step_size * grad[begin + 1] + noise_scale * noise.b;
        }
        if left > 2 {
            output[begin + 2] = x[begin + 2] - step_size * grad[begin + 2] + noise_scale * noise.c;
        }
        if left > 3 {
            output[begin + 3] = x[begin + 3] - step_size * grad[begin + 3] + noise_scale * noise.d;
        }
    }
}

#[cube(launch)]
fn uniform_kernel(output: &mut [f32], counter: &Counter) {
    if ABSOLUTE_POS < output.len() {
        output[ABSOLUTE_POS] = ember_model::random::cube::uniform(ABSOLUTE_POS as u32, counter);
    }
}

/// See `DeviceOps::langevin_proposal`.
pub(super) fn langevin_proposal(
    x: CubeTensor,
    grad: CubeTensor,
    step_size: f32,
    noise_scale: f32,
    stream: Stream,
) -> CubeTensor {
    let (x, grad) = (into_contiguous(x), into_contiguous(grad));
    let shape = x.meta.shape().clone();
    let (walkers, dim) = (shape[0], shape[1]);
    let output = empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, x.dtype);
    if walkers * dim == 0 {
        return output;
    }
    let (count, threads) = grid(&output.client, walkers * dim.div_ceil(4));
    proposal_kernel::launch(
        &output.client,
        count,
        threads,
        x.into_buffer_arg(),
        grad.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        dim,
        step_size,
        noise_scale,
        counter(stream),
    );
    output
}

/// See `DeviceOps::uniform`.
pub(super) fn uniform(like: CubeTensor, stream: Stream) -> CubeTensor {
    let shape = like.meta.shape().clone();
    let output = empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, like.dtype);
    let (count, threads) = grid(&output.client, output.meta.num_elements());
    uniform_kernel::launch(&output.client, count, threads, output.clone().into_buffer_arg(), counter(stream));
    output
}
