//! Systematic resampling: one uniform number for all slots.
//!
//! J. Carpenter, P. Clifford and P. Fearnhead, *Improved particle filter for nonlinear problems*, IEE Proc. Radar Sonar
//! Navig. 146 (1999). With `u ~ U[0, 1)`, slot `j` takes the walker whose cumulative weight first exceeds `(j + u)/N`, so walker
//! `i` has `⌊N W_i⌋` or `⌈N W_i⌉` offspring, `N W_i` on average. The least noise of the schemes at the least cost; its variance
//! depends on the order of the walkers. Random words: one.

use ember_model::random::Stream;

use super::host;

/// Ancestors, ascending, on a processor.
pub(crate) fn ancestors(log_weights: &[f32], stream: Stream) -> Vec<i32> {
    let [u, ..] = stream.bits(0, 0);
    host::one_a_slot(log_weights, |_| u)
}

#[cfg(feature = "wgpu")]
pub(crate) use crate::device::cube::resampling::systematic as ancestors_on_gpu;
