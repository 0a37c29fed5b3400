//! Four numbers at a time, wherever they lie in vectors or not, and slopes.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use cubecl::prelude::*;

use super::plan::LANES;
use crate::energy::activation::Activation;
use crate::energy::fused::math::Lanes;

/// The numbers from `at` on: four where they lie in vectors, of the others `count` and zeros.
#[cube]
pub(super) fn get<N: Size>(from: &[Vector<f32, N>], at: usize, count: usize) -> Lanes {
    let vector = N::value();
    let mut lanes = Lanes::new(0.0f32);
    if comptime!(vector == LANES) {
        let value = from[at / LANES];
        #[unroll]
        for lane in 0..LANES {
            lanes.insert(lane, value.extract(lane));
        }
    } else {
        #[unroll]
        for lane in 0..LANES {
            if lane < count {
                lanes.insert(lane, from[at + lane].extract(0usize));
            }
        }
    }
    lanes
}

/// The reverse of [`get`].
#[cube]
pub(super) fn put<N: Size>(to: &mut [Vector<f32, N>], at: usize, lanes: Lanes, count: usize) {
    let vector = N::value();
    if comptime!(vector == LANES) {
        let mut value = Vector::<f32, N>::empty();
        #[unroll]
        for lane in 0..LANES {
            value.insert(lane, lanes.extract(lane));
        }
        to[at / LANES] = value;
    } else {
        #[unroll]
        for lane in 0..LANES {
            if lane < count {
                to[at + lane] = Vector::<f32, N>::new(lanes.extract(lane));
            }
        }
    }
}

/// `a′(z)` of what the forward pass kept: of `a(z)` where that says it, else the slope itself.
#[cube]
fn slope_of(kept: f32, #[comptime] activation: Activation) -> f32 {
    match activation {
        Activation::Tanh => 1.0f32 - kept * kept,
        Activation::Relu => select(kept > 0.0f32, 1.0f32, 0.0f32),
        Activation::LeakyRelu => select(kept < 0.0f32, 0.2f32, 1.0f32),
        Activation::Silu => kept,
        Activation::Softplus => kept,
        Activation::Gelu => kept,
    }
}

/// [`slope_of`] four numbers.
#[cube]
pub(super) fn slopes_of(kept: Lanes, #[comptime] activation: Activation) -> Lanes {
    let mut out = Lanes::empty();
    #[unroll]
    for lane in 0..LANES {
        out.insert(lane, slope_of(kept.extract(lane), activation));
    }
    out
}
