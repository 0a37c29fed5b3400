//! Residual resampling: the whole parts of `N W_i` for certain, the rest by multinomial draws.
//!
//! J. S. Liu and R. Chen, *Sequential Monte Carlo methods for dynamic systems*, J. Am. Stat. Assoc. 93 (1998). Walker `i` has at
//! least `⌊N W_i⌋` offspring; the `M = N − Σ ⌊N W_i⌋` slots left over are drawn independently with probabilities proportional to
//! the fractional parts. Random words: two per slot left over, half a block of four.

use ember_model::random::Stream;

use super::host;
use crate::device::masses::{ToSlots, masses};

/// Ancestors, ascending, on a processor.
pub(crate) fn ancestors(log_weights: &[f32], stream: Stream) -> Vec<i32> {
    let n = log_weights.len();
    let (mut masses, total) = masses(log_weights);
    let mut offspring = vec![0; n];
    if total != 0 {
        let slots = ToSlots::new(total, n);
        let mut left = n;
        let mut rest = 0;
        for (offspring, mass) in offspring.iter_mut().zip(&mut masses) {
            // N W_i with 32 fractional bits: the whole part now, the fraction as a new mass
            let expected = slots.slots(u128::from(*mass));
            *offspring = (expected >> 32) as u32;
            left -= *offspring as usize;
            *mass = (expected & 0xFFFF_FFFF) << 31;
            rest += u128::from(*mass);
        }
        if left > 0 {
            host::draw(&mut offspring, &masses, rest, left, stream);
        }
    }
    host::repeat(&offspring)
}

#[cfg(feature = "wgpu")]
pub(crate) use crate::device::cube::resampling::residual as ancestors_on_gpu;
