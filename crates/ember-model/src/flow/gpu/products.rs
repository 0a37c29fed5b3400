//! A layer's products: weights go through shared memory, a thread owns some units of four rows.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use cubecl::prelude::*;

use super::plan::{STAGED, THREADS};
use crate::energy::fused::math::Lanes;

/// Weights that a thread brings at a time.
const LOADS: usize = STAGED / THREADS;

/// How threads share the units of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sharing {
    /// Vectors of four rows.
    pub groups: usize,
    /// Threads of one group.
    pub slots: usize,
    /// Units of a thread: `slot + k·slots`.
    pub each: usize,
    /// Inputs whose weights are in shared memory at a time.
    pub depth: usize,
}

/// A weight matrix `W: [out, in]` in flat θ, as a map from `count` numbers to `units`.
#[derive(CubeType)]
pub(super) struct Weights {
    /// Where it begins.
    pub begin: usize,
    pub units: usize,
    pub count: usize,
}

/// The place in the staged weights of the `e`-th that is brought: threads side by side read θ side by side.
#[cube]
fn staged_input(e: usize, #[comptime] sharing: Sharing, #[comptime] transposed: bool) -> usize {
    if comptime!(transposed) {
        e / comptime!(sharing.slots * sharing.each)
    } else {
        e % comptime!(sharing.depth)
    }
}

#[cube]
fn staged_unit(e: usize, #[comptime] sharing: Sharing, #[comptime] transposed: bool) -> usize {
    if comptime!(transposed) {
        e % comptime!(sharing.slots * sharing.each)
    } else {
        e / comptime!(sharing.depth)
    }
}

/// Brings the weights of units `first ..` and inputs `begin ..` to registers; beyond the ends the last is repeated.
#[cube]
fn fetch(
    theta: &[f32],
    weights: &Weights,
    next: &mut Array<f32>,
    first: usize,
    begin: usize,
    #[comptime] sharing: Sharing,
    #[comptime] transposed: bool,
) {
    #[unroll]
    for load in 0..LOADS {
        let e = UNIT_POS as usize + load * THREADS;
        let unit = first + staged_unit(e, sharing, transposed);
        let input = begin + staged_input(e, sharing, transposed);
        let unit = select(unit < weights.units, unit, weights.units - 1);
        let input = select(input < weights.count, input, weights.count - 1);
        if comptime!(transposed) {
            next[load] = theta[weights.begin + input * weights.units + unit];
        } else {
            next[load] = theta[weights.begin + unit * weights.count + input];
        }
    }
}

/// `sums[k] = Σ_i W(u, i) in[i]` of the units `u = first + slot + k·slots`; with `transposed` the weights are Wᵀ's. Sums of units
/// beyond the last are of no use. `input` is where the group's numbers begin in `memory`. Every thread of the cube takes part, and
/// what was written to `memory` before is seen.
#[cube]
pub(super) fn products(
    theta: &[f32],
    weights: &Weights,
    memory: &mut Shared<[Lanes]>,
    input: usize,
    staged: &mut Shared<[f32]>,
    sums: &mut Array<Lanes>,
    first: usize,
    slot: usize,
    #[comptime] sharing: Sharing,
    #[comptime] transposed: bool,
) {
    let pitch = comptime!(sharing.slots * sharing.each + 1);
    let depth = comptime!(sharing.depth);
    let groups = comptime!(sharing.groups);
    let slots = comptime!(sharing.slots);
    let each = comptime!(sharing.each);
    let count = weights.count;
    #[unroll]
    for k in 0..each {
        sums[k] = Lanes::new(0.0f32);
    }
    let mut next = Array::<f32>::new(LOADS);
    fetch(theta, weights, &mut next, first, 0usize, sharing, transposed);
    let mut begin = 0usize;
    while begin < count {
        sync_cube();
        #[unroll]
        for load in 0..LOADS {
            let e = UNIT_POS as usize + load * THREADS;
            let at = staged_input(e, sharing, transposed) * pitch + staged_unit(e, sharing, transposed);
            staged[at] = next[load];
        }
        sync_cube();
        // The next weights are on their way while these are at work.
        if begin + depth < count {
            fetch(theta, weights, &mut next, first, begin + depth, sharing, transposed);
        }
        let here = select(count - begin < depth, count - begin, depth);
        for i in 0..here {
            let value = memory[input + (begin + i) * groups];
            #[unroll]
            for k in 0..each {
                let weight = staged[i * pitch + slot + k * slots];
                sums[k] = sums[k] + Lanes::new(weight) * value;
            }
        }
        begin += depth;
    }
}
