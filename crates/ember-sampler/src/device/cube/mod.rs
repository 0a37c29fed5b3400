//! The device operations on GPUs, as CubeCL kernels. Integers only where bits must agree with the processor; no `f64`, no 64-bit
//! words, no float atomics.

// Coefficients as published; kernels are translated by a macro that does not know every method of the host language.
#![allow(
    clippy::excessive_precision,
    clippy::assign_op_pattern,
    clippy::manual_div_ceil,
    clippy::manual_is_multiple_of,
    clippy::needless_range_loop,
    clippy::too_many_arguments
)]

mod accumulate;
mod increment;
mod launch;
mod masses;
mod noise;
pub(crate) mod paging;
pub(crate) mod resampling;
mod scan;
pub(crate) mod settle;
mod words;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn_cubecl::CubeBackend;
use ember_model::random::Stream;

use super::DeviceOps;
use crate::resampling::Scheme;

impl DeviceOps for CubeBackend {
    fn langevin_proposal(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        step_size: f32,
        noise_scale: f32,
        stream: Stream,
    ) -> FloatTensor<Self> {
        noise::langevin_proposal(x, grad, step_size, noise_scale, stream)
    }

    fn uniform(like: FloatTensor<Self>, stream: Stream) -> FloatTensor<Self> {
        noise::uniform(like, stream)
    }

    fn ula_log_weight_increment(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        ux: FloatTensor<Self>,
        gx: FloatTensor<Self>,
        uy: FloatTensor<Self>,
        gy: FloatTensor<Self>,
        step_size: f32,
    ) -> FloatTensor<Self> {
        increment::ula_log_weight_increment([x, ux, gx], [y, uy, gy], step_size)
    }

    fn accumulate_ula(
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        ux: FloatTensor<Self>,
        gx: FloatTensor<Self>,
        uy: FloatTensor<Self>,
        gy: FloatTensor<Self>,
        step_size: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        increment::accumulate_ula([hi, lo], [x, ux, gx], [y, uy, gy], step_size)
    }

    fn accumulate(
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        delta: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        accumulate::accumulate(hi, lo, delta)
    }

    fn resample(log_weights: FloatTensor<Self>, scheme: Scheme, stream: Stream) -> IntTensor<Self> {
        scheme.ancestors_on_gpu(log_weights, stream)
    }

    fn distinct(ancestors: IntTensor<Self>, n: usize) -> IntTensor<Self> {
        resampling::distinct(ancestors, n)
    }
}
