//! Resampling: from weighted walkers to equally weighted ones.
//!
//! Every scheme is unbiased: walker `i` has `N W_i` offspring on average, `W_i = exp(A_i) / Σ exp(A_k)`. All run on the device that
//! holds the log-weights, without a read by the host, in `O(N)`, in integers after the first subtraction
//! (`device/masses.rs`): the ancestors are the same bits on every device, and exact at `N = 10⁶`, where a prefix sum of `f32`
//! weights misplaces hundreds of ancestors.
//!
//! A new scheme is one file with the function `ancestors` (and `ancestors_on_gpu`) and one line in `scheme.rs`.

mod host;
mod multinomial;
mod residual;
mod scheme;
mod stratified;
mod systematic;

use burn::tensor::{Int, Tensor};
use ember_model::random::Stream;

use crate::device;
pub use scheme::Scheme;

macro_rules! dispatch {
    ($($(#[$doc:meta])* $Scheme:ident => $file:ident),* $(,)?) => {
        impl Scheme {
            /// Ancestors, ascending, on a processor.
            pub(crate) fn ancestors(self, log_weights: &[f32], stream: Stream) -> Vec<i32> {
                match self { $(Self::$Scheme => $file::ancestors(log_weights, stream)),* }
            }

            /// Ancestors, ascending, on a GPU.
            #[cfg(feature = "wgpu")]
            pub(crate) fn ancestors_on_gpu(
                self,
                log_weights: burn_cubecl::tensor::CubeTensor,
                stream: Stream,
            ) -> burn_cubecl::tensor::CubeTensor {
                match self { $(Self::$Scheme => $file::ancestors_on_gpu(log_weights, stream)),* }
            }
        }
    };
}

scheme::registry!(dispatch);

/// Ancestors of the resampled walkers: slot `j` becomes a copy of walker `ancestors[j]`.
///
/// # Shapes
/// * `log_weights`: `[N]`, unnormalised, `f32`; `−∞` is weight 0, and so is a weight below `2⁻⁶²` of the largest.
/// * output: `[N]`, ascending, in `0 .. N`, 32-bit integers.
///
/// Walker `i` has `N W_i` offspring on average over streams, none where its weight is 0. Equal weights give every
/// walker itself under [`Scheme::Systematic`], [`Scheme::Stratified`] and [`Scheme::Residual`].
///
/// The caller rejects log-weights that are not numbers: a NaN counts as weight 0, and where no weight is positive the
/// ancestors mean nothing (they stay in range).
///
/// # Panics
/// If `N` is 2³¹ or more, or the log-weights are not `f32`.
pub fn resample(scheme: Scheme, log_weights: Tensor<1>, stream: Stream) -> Tensor<1, Int> {
    device::resample(scheme, log_weights, stream)
}

/// How many different values there are among `ancestors`, which lie in `0 .. n`.
///
/// # Shapes
/// * `ancestors`: `[slots]`, in any order.
/// * output: `[1]`.
pub fn distinct(ancestors: Tensor<1, Int>, n: usize) -> Tensor<1, Int> {
    device::distinct(ancestors, n)
}
