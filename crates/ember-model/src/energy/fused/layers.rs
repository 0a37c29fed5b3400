//! Steps of a convolutional network on a GPU that tensor operations take several launches for.
//!
//! Convolutions there work on `[n, h, w, c]`: a tensor of another layout is copied at every use, weights in both directions. [`nhwc`]
//! copies once; the shape stays `[n, c, h, w]`. The references are the tensor operations they stand for.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::ops::{permute_nchw_to_nhwc, permute_nhwc_to_nchw};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{Cube, CubeBackend};
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::math::slope_of;
use crate::energy::activation::Activation;

/// The operations a GPU provides. Call the functions of this module instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait LayerOps: Backend {
    /// See [`nhwc`].
    #[fusion(dtype = x, shape = x)]
    fn nhwc(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// See [`signal`].
    #[fusion(dtype = z, shape = z)]
    fn layer_signal(
        above: FloatTensor<Self>,
        z: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// See [`row_signal`].
    #[fusion(dtype = z, shape = z)]
    fn row_signal(
        output: FloatTensor<Self>,
        row: FloatTensor<Self>,
        z: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;
}

#[cube(launch)]
fn signal_kernel(above: &[f32], z: &[f32], out: &mut [f32], #[comptime] activation: Activation) {
    if ABSOLUTE_POS < out.len() {
        out[ABSOLUTE_POS] = above[ABSOLUTE_POS] * slope_of(z[ABSOLUTE_POS], activation);
    }
}

#[cube(launch)]
fn row_signal_kernel(
    output: &[f32],
    row: &[f32],
    z: &[f32],
    out: &mut [f32],
    #[comptime] activation: Activation,
) {
    if ABSOLUTE_POS < out.len() {
        let above = output[ABSOLUTE_POS / row.len()] * row[ABSOLUTE_POS % row.len()];
        out[ABSOLUTE_POS] = above * slope_of(z[ABSOLUTE_POS], activation);
    }
}

/// In memory order `[n, h, w, c]`, and of that shape.
fn channels_last(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(permute_nchw_to_nhwc(tensor))
}

fn empty_like(tensor: &CubeTensor) -> CubeTensor {
    let (client, device) = (tensor.client.clone(), tensor.device.clone());
    empty_device_contiguous_dtype(client, device, tensor.meta.shape().clone(), tensor.dtype)
}

impl LayerOps for CubeBackend {
    fn nhwc(x: FloatTensor<Self>) -> FloatTensor<Self> {
        permute_nhwc_to_nchw(channels_last(x))
    }

    fn layer_signal(
        above: FloatTensor<Self>,
        z: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (above, z) = (channels_last(above), channels_last(z));
        let out = empty_like(&z);
        let (client, numbers) = (out.client.clone(), out.meta.num_elements());
        if numbers > 0 {
            let threads = CubeDim::new(&client, numbers);
            signal_kernel::launch(
                &client,
                calculate_cube_count_elemwise(&client, numbers, threads),
                threads,
                above.into_buffer_arg(),
                z.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                activation,
            );
        }
        permute_nhwc_to_nchw(out)
    }

    fn row_signal(
        output: FloatTensor<Self>,
        row: FloatTensor<Self>,
        z: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (row, z) = (channels_last(row), channels_last(z));
        let out = empty_like(&z);
        let (client, numbers) = (out.client.clone(), out.meta.num_elements());
        if numbers > 0 {
            let threads = CubeDim::new(&client, numbers);
            row_signal_kernel::launch(
                &client,
                calculate_cube_count_elemwise(&client, numbers, threads),
                threads,
                into_contiguous(output).into_buffer_arg(),
                row.into_buffer_arg(),
                z.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                activation,
            );
        }
        permute_nhwc_to_nchw(out)
    }
}

fn is_on_gpu(tensor: &Tensor<4>) -> bool {
    tensor.dtype() == DType::F32 && tensor.clone().try_into_primitive::<Cube>().is_ok()
}

/// The same tensor in the memory order that convolutions work in; as it is where there is no GPU.
pub(in crate::energy) fn nhwc(x: Tensor<4>) -> Tensor<4> {
    match is_on_gpu(&x) {
        true => Tensor::from_dispatch(<Dispatch as LayerOps>::nhwc(x.into_dispatch())),
        false => x,
    }
}

/// `above ∘ a′(z)`; `None` where there is no GPU, or for `gelu`. Both of one shape.
pub(in crate::energy) fn signal(
    above: &Tensor<4>,
    z: &Tensor<4>,
    activation: Activation,
) -> Option<Tensor<4>> {
    let serves = activation != Activation::Gelu && is_on_gpu(above) && is_on_gpu(z);
    let (above, z) = (above.clone().into_dispatch(), z.clone().into_dispatch());
    serves.then(|| Tensor::from_dispatch(<Dispatch as LayerOps>::layer_signal(above, z, activation)))
}

/// `(s W) ∘ a′(z)` of a layer that is a product with one row: `output: [n, 1, 1, 1]`, `row: [1, c, h, w]`, `z: [n, c, h, w]`; `None`
/// as in [`signal`].
pub(in crate::energy) fn row_signal(
    output: &Tensor<4>,
    row: &Tensor<4>,
    z: &Tensor<4>,
    activation: Activation,
) -> Option<Tensor<4>> {
    let serves = activation != Activation::Gelu && [output, row, z].into_iter().all(is_on_gpu);
    let [output, row, z] = [output, row, z].map(|tensor| tensor.clone().into_dispatch());
    serves.then(|| Tensor::from_dispatch(<Dispatch as LayerOps>::row_signal(output, row, z, activation)))
}
