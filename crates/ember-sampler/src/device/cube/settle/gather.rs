//! The settled walkers in one launch: every field from the slot's ancestor, or from the slot itself where the group was not due.
//!
//! A population that was not due is copied, too: whether it is due is known on the device only, and a tensor cannot be its own copy.
//! At 4,096 walkers of 2 coordinates that is 64 KB; at 4,096 of 3,072 coordinates 200 MB of traffic, less than a thousandth of the time
//! of a network's pass over them. Launches of a size that the device decides would save it at the price of a second buffer
//! kept with the walkers.

use cubecl::prelude::*;

use super::offspring::walker_of;
use super::sums::{STATE, weight};
use crate::banked::CARRY;
use crate::device::cube::masses::bits_of;

/// Coordinates that are worth a thread of their own.
const COORDINATES: usize = 4;
/// The most threads of a walker.
const LANES: usize = 64;

/// Threads for each walker.
pub(in crate::device::cube) fn lanes(dim: usize) -> usize {
    dim.div_ceil(COORDINATES).next_power_of_two().min(LANES)
}

/// How slots find their walkers.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Choice {
    /// From the slot behind each walker's last.
    Ends,
    /// From ancestors, ascending.
    Ancestors,
}

/// A thread for every `lanes`-th coordinate of a slot; the first of a slot's threads sees to all that is not a coordinate.
#[cube(launch)]
pub(super) fn gather_kernel(
    position: &[f32],
    energy: &[f32],
    energy_grad: &[f32],
    hi: &[f32],
    lo: &[f32],
    ancestor: &[u32],
    choice: &[u32],
    state: &[u32],
    counter: &[f32],
    to_position: &mut [f32],
    to_energy: &mut [f32],
    to_energy_grad: &mut [f32],
    to_hi: &mut [f32],
    to_lo: &mut [f32],
    to_ancestor: &mut [u32],
    weights: &mut [f32],
    weights_before: &mut [f32],
    counted: &mut [f32],
    size: usize,
    dim: usize,
    groups: usize,
    #[comptime] lanes: usize,
    #[comptime] how: Choice,
    #[comptime] within: bool,
) {
    let slot = ABSOLUTE_POS / lanes;
    let lane = ABSOLUTE_POS % lanes;
    if slot < to_energy.len() {
        let group = slot / size;
        let first = group * size;
        let own = STATE * group;
        let due = state[own] == 1u32;
        let mut from = slot;
        if due {
            from = match how {
                Choice::Ends => first + walker_of(choice, first, size, (slot - first) as u32),
                Choice::Ancestors => first + choice[slot] as usize,
            };
        }
        let mut j = lane;
        while j < dim {
            to_position[slot * dim + j] = position[from * dim + j];
            to_energy_grad[slot * dim + j] = energy_grad[from * dim + j];
            j += lanes;
        }
        if lane == 0 {
            to_energy[slot] = energy[from];
            to_ancestor[slot] = ancestor[from];
            // W of the walker that came in this slot, whether or not it stays.
            let max = f32::reinterpret(bits_of(state[own + 1]));
            let before = weight(hi[slot], max) / f32::reinterpret(state[own + 2]);
            weights_before[slot] = before;
            if due {
                if within {
                    to_hi[slot] = f32::reinterpret(state[own + 3]);
                } else {
                    to_hi[slot] = 0.0f32;
                }
                to_lo[slot] = 0.0f32;
                weights[slot] = 1.0f32 / f32::cast_from(size as u32);
            } else {
                to_hi[slot] = hi[slot];
                to_lo[slot] = lo[slot];
                weights[slot] = before;
            }
        }
    }
    if ABSOLUTE_POS == 0 {
        let mut low = counter[0];
        let mut high = counter[1];
        let mut any = 0u32;
        for group in 0..groups {
            any = any | state[STATE * group];
        }
        if any == 1u32 {
            low += 1.0f32;
            if low >= comptime!(CARRY as f32) {
                low = 0.0f32;
                high += 1.0f32;
            }
        }
        counted[0] = low;
        counted[1] = high;
    }
}
