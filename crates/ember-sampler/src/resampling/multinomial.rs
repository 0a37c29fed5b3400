//! Multinomial resampling: independent draws.
//!
//! N. J. Gordon, D. J. Salmond and A. F. M. Smith, *Novel approach to nonlinear/non-Gaussian Bayesian state estimation*, IEE Proc.
//! F 140 (1993). `N` independent draws with probabilities `W_i`: offspring are multinomial, with variance `N W_i (1 − W_i)`. The
//! noisiest scheme and the slowest (its memory accesses are random); the draws are counted and the ancestors come sorted.
//! Random words: two per draw, half a block of four.

use ember_model::random::Stream;

use super::host;
use crate::device::masses::masses;

/// Ancestors, ascending, on a processor.
pub(crate) fn ancestors(log_weights: &[f32], stream: Stream) -> Vec<i32> {
    let (masses, total) = masses(log_weights);
    let mut offspring = vec![0; log_weights.len()];
    if total != 0 {
        host::draw(&mut offspring, &masses, total, log_weights.len(), stream);
    }
    host::repeat(&offspring)
}

#[cfg(feature = "wgpu")]
pub(crate) use crate::device::cube::resampling::multinomial as ancestors_on_gpu;
