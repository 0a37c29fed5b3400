//! Stratified resampling: one uniform number per slot.
//!
//! G. Kitagawa, *Monte Carlo filter and smoother for non-Gaussian nonlinear state space models*, J. Comput. Graph. Stat. 5
//! (1996). Slot `j` takes the walker whose cumulative weight first exceeds `(j + u_j)/N`, `u_j ~ U[0, 1)` independent. Offspring of
//! walker `i` differ from `N W_i` by less than 2; the variance is never above multinomial's, whatever the order of the walkers.
//! Random words: one per slot, word `j mod 4` of block `⌊j/4⌋`.

use ember_model::random::Stream;

use super::host;
use crate::device::normals::fill_blocks;

/// Ancestors, ascending, on a processor.
pub(crate) fn ancestors(log_weights: &[f32], stream: Stream) -> Vec<i32> {
    let mut words = vec![[0; 4]; log_weights.len() / 4 + 1];
    fill_blocks(&mut words, 0, stream);
    host::one_a_slot(log_weights, |slot| words[slot / 4][slot % 4])
}

#[cfg(feature = "wgpu")]
pub(crate) use crate::device::cube::resampling::stratified as ancestors_on_gpu;
