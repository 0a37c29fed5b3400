//! The resampling schemes as sequences of kernels; see `resampling/host.rs` for the same in plain loops.

use burn::tensor::DType;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use ember_model::random::Stream;
use ember_model::random::cube::{Counter, counter, philox, word};

use super::launch::{empty, grid, zeros};
use super::masses::{constants, masses, to_slots};
use super::scan::{Combine, fold_all, load, scan, scan_wide};
use super::words::{Wide, carry, less};

/// Where the position lies within a slot.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Position {
    /// At its beginning.
    Begin,
    /// At one random number for all slots.
    Common,
    /// At a random number of its own.
    Own,
}

/// Slots filled up to each walker, in planes of fractions and whole parts.
#[cube(launch)]
fn filled_kernel(cumulative: &[u32], constants: &[u32], filled: &mut [u32], n: usize) {
    if ABSOLUTE_POS < n {
        let slots = to_slots(&load(cumulative, ABSOLUTE_POS, n, 3u32), constants, n);
        filled[ABSOLUTE_POS] = slots.low;
        filled[n + ABSOLUTE_POS] = slots.high;
    }
}

#[cube]
fn end_slot(
    filled: &[u32],
    walker: usize,
    n: usize,
    counter: &Counter,
    #[comptime] position: Position,
) -> u32 {
    let fraction = filled[walker];
    let slot = filled[n + walker];
    let threshold = match position {
        Position::Begin => 0u32.runtime(),
        Position::Common => philox(0u32, 0u32, counter).a,
        Position::Own => word(&philox(slot / 4u32, 0u32, counter), slot % 4u32),
    };
    slot + select(fraction > threshold, 1u32, 0u32)
}

/// Each walker with offspring writes its name into its first slot.
#[cube(launch)]
fn begin_kernel(
    filled: &[u32],
    begins: &mut [u32],
    counter: &Counter,
    n: usize,
    #[comptime] position: Position,
) {
    if ABSOLUTE_POS < n {
        let mut begin = 0u32;
        if ABSOLUTE_POS > 0 {
            begin = end_slot(filled, ABSOLUTE_POS - 1, n, counter, position);
        }
        let end = end_slot(filled, ABSOLUTE_POS, n, counter, position);
        if begin < end {
            begins[begin as usize] = ABSOLUTE_POS as u32;
        }
    }
}

/// The same from prefix sums of the numbers of offspring.
#[cube(launch)]
fn begin_of_counts_kernel(ends: &[u32], begins: &mut [u32]) {
    if ABSOLUTE_POS < ends.len() {
        let mut begin = 0u32;
        if ABSOLUTE_POS > 0 {
            begin = ends[ABSOLUTE_POS - 1];
        }
        if begin < ends[ABSOLUTE_POS] {
            begins[begin as usize] = ABSOLUTE_POS as u32;
        }
    }
}

/// A thread per draw counts one offspring of the walker drawn; `certain` are prefix sums of the offspring already given.
#[cube(launch)]
fn draw_kernel(
    filled: &[u32],
    guide: &[u32],
    certain: &[u32],
    offspring: &[Atomic<u32>],
    counter: &Counter,
    n: usize,
) {
    if ABSOLUTE_POS < n - certain[n - 1] as usize {
        let draw = ABSOLUTE_POS as u32;
        let words = philox(draw / 2u32, 0u32, counter);
        let second = draw % 2u32 == 1u32;
        let low = select(second, words.c, words.a);
        let high = select(second, words.d, words.b);
        // position = U·N with 32 fractional bits
        let fraction = high * n as u32 + u32::mul_hi(low, n as u32);
        let overflow = carry(fraction, u32::mul_hi(low, n as u32));
        let position = Wide { low: fraction, high: u32::mul_hi(high, n as u32) + overflow };
        let bucket = position.high as usize;
        let mut begin = guide[bucket] as usize;
        let mut end = n - 1;
        if bucket + 1 < n {
            end = guide[bucket + 1] as usize;
        }
        while begin < end {
            let middle = (begin + end) / 2;
            if less(&position, &Wide { low: filled[middle], high: filled[n + middle] }) {
                end = middle;
            } else {
                begin = middle + 1;
            }
        }
        offspring[begin].fetch_add(1u32);
    }
}

/// Splits `N W_i` into whole offspring and a fraction, which becomes a mass again.
#[cube(launch)]
fn split_kernel(masses: &[u32], constants: &[u32], offspring: &mut [u32], rests: &mut [u32], n: usize) {
    if ABSOLUTE_POS < n {
        let expected = to_slots(&load(masses, ABSOLUTE_POS, n, 2u32), constants, n);
        offspring[ABSOLUTE_POS] = expected.high;
        rests[ABSOLUTE_POS] = expected.low << 31u32;
        rests[n + ABSOLUTE_POS] = expected.low >> 1u32;
    }
}

fn masses_of(log_weights: CubeTensor) -> CubeTensor {
    masses(into_contiguous(log_weights))
}

/// Slots filled up to each walker.
fn filled(masses: CubeTensor, n: usize) -> CubeTensor {
    let cumulative = scan_wide(masses, n, 2);
    let constants = constants(cumulative.clone(), n);
    let output = empty(&cumulative, 2 * n, DType::U32);
    let (count, dim) = grid(&output.client, n);
    filled_kernel::launch(
        &output.client,
        count,
        dim,
        cumulative.into_buffer_arg(),
        constants.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        n,
    );
    output
}

fn one_a_slot(filled: CubeTensor, n: usize, stream: Stream, position: Position) -> CubeTensor {
    let begins = zeros(&filled, n, DType::I32);
    let (count, dim) = grid(&begins.client, n);
    begin_kernel::launch(
        &begins.client,
        count,
        dim,
        filled.into_buffer_arg(),
        begins.clone().into_buffer_arg(),
        counter(stream),
        n,
        position,
    );
    scan(begins, Combine::Maximum)
}

/// Adds the draws that are left to `offspring` and lists the ancestors.
fn draw(masses: CubeTensor, offspring: CubeTensor, n: usize, stream: Stream) -> CubeTensor {
    let filled = filled(masses, n);
    let guide = one_a_slot(filled.clone(), n, stream, Position::Begin);
    let certain = scan(offspring.clone(), Combine::Sum);
    let (count, dim) = grid(&filled.client, n);
    let client = filled.client.clone();
    draw_kernel::launch(
        &client,
        count.clone(),
        dim,
        filled.into_buffer_arg(),
        guide.into_buffer_arg(),
        certain.into_buffer_arg(),
        offspring.clone().into_buffer_arg(),
        counter(stream),
        n,
    );
    let ends = scan(offspring, Combine::Sum);
    let begins = zeros(&ends, n, DType::I32);
    begin_of_counts_kernel::launch(
        &client,
        count,
        dim,
        ends.into_buffer_arg(),
        begins.clone().into_buffer_arg(),
    );
    scan(begins, Combine::Maximum)
}

pub(crate) fn systematic(log_weights: CubeTensor, stream: Stream) -> CubeTensor {
    let n = log_weights.meta.num_elements();
    one_a_slot(filled(masses_of(log_weights), n), n, stream, Position::Common)
}

pub(crate) fn stratified(log_weights: CubeTensor, stream: Stream) -> CubeTensor {
    let n = log_weights.meta.num_elements();
    one_a_slot(filled(masses_of(log_weights), n), n, stream, Position::Own)
}

pub(crate) fn multinomial(log_weights: CubeTensor, stream: Stream) -> CubeTensor {
    let n = log_weights.meta.num_elements();
    let offspring = zeros(&log_weights, n, DType::U32);
    draw(masses_of(log_weights), offspring, n, stream)
}

pub(crate) fn residual(log_weights: CubeTensor, stream: Stream) -> CubeTensor {
    let n = log_weights.meta.num_elements();
    let masses = masses_of(log_weights);
    let constants = constants(scan_wide(masses.clone(), n, 2), n);
    let offspring = empty(&masses, n, DType::U32);
    let rests = empty(&masses, 2 * n, DType::U32);
    let (count, dim) = grid(&masses.client, n);
    split_kernel::launch(
        &offspring.client,
        count,
        dim,
        masses.into_buffer_arg(),
        constants.into_buffer_arg(),
        offspring.clone().into_buffer_arg(),
        rests.clone().into_buffer_arg(),
        n,
    );
    draw(rests, offspring, n, stream)
}

#[cube(launch)]
fn mark_kernel(ancestors: &[u32], seen: &[Atomic<u32>]) {
    if ABSOLUTE_POS < ancestors.len() {
        seen[ancestors[ABSOLUTE_POS] as usize].store(1u32);
    }
}

/// See `DeviceOps::distinct`.
pub(super) fn distinct(ancestors: CubeTensor, n: usize) -> CubeTensor {
    let ancestors = into_contiguous(ancestors);
    let seen = zeros(&ancestors, n, ancestors.dtype);
    let (count, dim) = grid(&ancestors.client, ancestors.meta.num_elements());
    mark_kernel::launch(
        &seen.client,
        count,
        dim,
        ancestors.into_buffer_arg(),
        seen.clone().into_buffer_arg(),
    );
    fold_all(seen, Combine::Sum)
}
