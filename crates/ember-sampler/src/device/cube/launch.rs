//! Buffers and launch sizes.

use burn::tensor::{DType, Shape};
use burn_cubecl::ops::numeric::{empty_device_contiguous_dtype, zeros_client};
use burn_cubecl::tensor::CubeTensor;
use cubecl::client::Client;
use cubecl::{CubeCount, CubeDim, calculate_cube_count_elemwise};

/// A launch of at least `threads` threads.
pub(super) fn grid(client: &Client, threads: usize) -> (CubeCount, CubeDim) {
    let dim = CubeDim::new(client, threads);
    (calculate_cube_count_elemwise(client, threads, dim), dim)
}

/// An uninitialised buffer of `len` elements beside `like`.
pub(super) fn empty(like: &CubeTensor, len: usize, dtype: DType) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), Shape::from([len]), dtype)
}

/// A buffer of `len` zero words beside `like`.
pub(super) fn zeros(like: &CubeTensor, len: usize, dtype: DType) -> CubeTensor {
    zeros_client(like.client.clone(), like.device.clone(), Shape::from([len]), dtype)
}
