//! From log-weights to the slot behind each walker's last: integer masses, their prefix sums, positions of the slots.
//!
//! Masses are not stored but found twice, once for the sums and once for the walkers' ends: they cost less than their traffic. All of
//! it is integers (`device/masses.rs`), so that the order of sums does not matter and a processor finds the same bits.

use cubecl::prelude::*;

use super::sums::THREADS;
use crate::device::cube::masses::{Constants, mass, to_slots};
use crate::device::cube::words::{Wide, Wider, accumulate};
use ember_model::random::cube::{Counter, philox, word};

/// Where a slot's position lies within it.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(in crate::device::cube) enum Position {
    /// At one random number for all slots.
    Common,
    /// At a random number of its own.
    Own,
}

#[cube]
fn widened(value: &Wide) -> Wider {
    Wider { low: value.low, middle: value.high, high: 0u32 }
}

#[cube]
fn load(words: &mut Shared<[u32]>, at: usize) -> Wider {
    Wider { low: words[at], middle: words[at + comptime!(THREADS)], high: words[at + comptime!(2 * THREADS)] }
}

#[cube]
fn store(words: &mut Shared<[u32]>, at: usize, value: &Wider) {
    words[at] = value.low;
    words[at + comptime!(THREADS)] = value.middle;
    words[at + comptime!(2 * THREADS)] = value.high;
}

/// The sum of the masses of the walkers `begin .. end`, by one thread.
#[cube]
pub(super) fn mass_of(
    log_weights: &[f32],
    begin: usize,
    end: usize,
    max_bits: u32,
    table: &Shared<[u32]>,
) -> Wider {
    let mut sum = Wider { low: 0u32, middle: 0u32, high: 0u32 };
    for i in begin..end {
        let mass = mass(u32::reinterpret(log_weights[i]), max_bits, table);
        accumulate(&mut sum, &widened(&mass));
    }
    sum
}

/// The sum of the threads' numbers. Every thread of the cube takes part.
#[cube]
pub(super) fn total_mass(own: &Wider, words: &mut Shared<[u32]>) -> Wider {
    let thread = UNIT_POS as usize;
    store(words, thread, own);
    sync_cube();
    #[unroll]
    for halving in 1..=comptime!(THREADS.ilog2() as usize) {
        let width = comptime!(THREADS >> halving);
        if thread < width {
            let mut sum = load(words, thread);
            accumulate(&mut sum, &load(words, thread + width));
            store(words, thread, &sum);
        }
        sync_cube();
    }
    let sum = load(words, 0usize);
    sync_cube();
    sum
}

/// Leaves the sum of the numbers of all threads up to each in shared memory. Every thread of the cube takes part.
#[cube]
pub(super) fn prefix_masses(own: &Wider, words: &mut Shared<[u32]>) {
    let thread = UNIT_POS as usize;
    store(words, thread, own);
    sync_cube();
    #[unroll]
    for doubling in 0..comptime!(THREADS.ilog2() as usize) {
        let width = comptime!(1usize << doubling);
        let mut sum = load(words, thread);
        if thread >= width {
            accumulate(&mut sum, &load(words, thread - width));
        }
        sync_cube();
        store(words, thread, &sum);
        sync_cube();
    }
}

/// What [`prefix_masses`] left for the thread before this one, 0 for the first.
#[cube]
pub(super) fn mass_before(words: &mut Shared<[u32]>) -> Wider {
    let thread = UNIT_POS as usize;
    let mut before = Wider { low: 0u32, middle: 0u32, high: 0u32 };
    if thread > 0 {
        accumulate(&mut before, &load(words, thread - 1));
    }
    before
}

/// What [`prefix_masses`] left for the last thread.
#[cube]
pub(super) fn mass_of_all(words: &mut Shared<[u32]>) -> Wider {
    load(words, comptime!(THREADS - 1))
}

/// `ends[i]` of the walkers `begin .. end` of a group of `slots`: the slot behind walker `i`'s last, with `before` the sum of the masses
/// of the group's walkers before `begin`.
#[cube]
pub(super) fn write_ends(
    log_weights: &[f32],
    ends: &mut [u32],
    begin: usize,
    end: usize,
    before: &Wider,
    constants: &Constants,
    slots: usize,
    max_bits: u32,
    table: &Shared<[u32]>,
    counter: &Counter,
    #[comptime] position: Position,
) {
    let mut sum = Wider { low: before.low, middle: before.middle, high: before.high };
    let common = match position {
        Position::Common => philox(0u32, 0u32, counter).a,
        Position::Own => 0u32.runtime(),
    };
    for i in begin..end {
        let mass = mass(u32::reinterpret(log_weights[i]), max_bits, table);
        accumulate(&mut sum, &widened(&mass));
        // Slots whose position lies below S: all before slot ⌊S⌋, and that one where its threshold is below the fraction of S.
        let filled = to_slots(&sum, constants, slots);
        let slot = filled.high;
        let threshold = match position {
            Position::Common => common,
            Position::Own => word(&philox(slot / 4u32, 0u32, counter), slot % 4u32),
        };
        ends[i] = slot + select(filled.low > threshold, 1u32, 0u32);
    }
}

/// The walker of slot `slot` of the group that begins at `first`: the first one, counted within the group, whose end is beyond it.
#[cube]
pub(super) fn walker_of(ends: &[u32], first: usize, size: usize, slot: u32) -> usize {
    let mut begin = 0usize;
    let mut end = size - 1;
    while begin < end {
        let middle = (begin + end) / 2;
        if ends[first + middle] > slot {
            end = middle;
        } else {
            begin = middle + 1;
        }
    }
    begin
}
