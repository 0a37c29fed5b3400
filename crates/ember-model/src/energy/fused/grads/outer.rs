//! `Σ_b δ[o, b] a[i, b]` over a tile's walkers, from signals and inputs in shared memory. A thread owns a square of sums in registers,
//! whose units and inputs lie apart by the number of threads side by side: threads next to each other read units next to each other.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use cubecl::prelude::*;

use super::super::math::Lanes;
use super::super::partials::add;
use super::THREADS;

/// How the threads share the sums of `units × inputs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Share {
    /// Sums of a thread at a time: `square × square`.
    square: usize,
    /// Threads over the units; the others stand over the inputs.
    down: usize,
}

/// The largest squares that leave no thread without one.
pub(super) const fn share(units: usize, inputs: usize) -> Share {
    let mut square = 8;
    while square > 1 && units.div_ceil(square) * inputs.div_ceil(square) < THREADS {
        square /= 2;
    }
    let (tall, wide) =
        (units.div_ceil(square).next_power_of_two(), inputs.div_ceil(square).next_power_of_two());
    // At least 16 threads over the units, and no more over the inputs than there are.
    let most = if wide * 16 < THREADS { THREADS / wide } else { 16 };
    Share { square, down: if tall < most { tall } else { most } }
}

impl Share {
    /// Rounds of a thread's loops over `units × inputs` sums of so many groups.
    pub(super) fn rounds(&self, units: usize, inputs: usize, groups: usize) -> usize {
        let across = THREADS / self.down;
        let squares = inputs.div_ceil(across * self.square);
        units.div_ceil(self.down * self.square) * (1 + squares * (1 + groups))
    }
}

/// Adds the products to the cube's row of partial sums: those of the inputs `column .. column + count`, which stand from `inputs` on
/// in the buffer, with all signals, which stand from `signals` on.
#[cube]
pub(super) fn outer_products(
    buffer: &Shared<[Lanes]>,
    rows: &mut [f32],
    begin: usize,
    column: usize,
    count: usize,
    adds: bool,
    #[comptime] signals: usize,
    #[comptime] inputs: usize,
    #[comptime] units: usize,
    #[comptime] width: usize,
    #[comptime] groups: usize,
    #[comptime] pitch: usize,
    #[comptime] share: Share,
) {
    let square = comptime!(share.square);
    let down = comptime!(share.down);
    let across = comptime!(THREADS / share.down);
    let thread = UNIT_POS as usize;
    let mut unit = thread / across;
    while unit < units {
        let mut input = thread % across;
        while input < count {
            let mut sums = Array::<f32>::new(comptime!(square * square));
            #[unroll]
            for i in 0..comptime!(square * square) {
                sums[i] = 0.0f32;
            }
            for group in 0..groups {
                let mut left = Array::<Lanes>::new(square);
                #[unroll]
                for j in 0..square {
                    let own = unit + comptime!(j * down);
                    let own = select(own < units, own, comptime!(units - 1));
                    left[j] = buffer[comptime!(signals) + own * pitch + group];
                }
                #[unroll]
                for k in 0..square {
                    let own = input + comptime!(k * across);
                    let own = select(own < count, own, count - 1);
                    let right = buffer[comptime!(inputs) + own * pitch + group];
                    #[unroll]
                    for j in 0..square {
                        let mut sum = sums[comptime!(j * square + k)];
                        #[unroll]
                        for lane in 0..4usize {
                            sum += left[j].extract(lane) * right.extract(lane);
                        }
                        sums[comptime!(j * square + k)] = sum;
                    }
                }
            }
            #[unroll]
            for j in 0..square {
                #[unroll]
                for k in 0..square {
                    let (own_unit, own_input) = (unit + comptime!(j * down), input + comptime!(k * across));
                    if own_unit < units && own_input < count {
                        let at = begin + own_unit * width + column + own_input;
                        add(rows, at, sums[comptime!(j * square + k)], adds);
                    }
                }
            }
            input += comptime!(across * square);
        }
        unit += comptime!(down * square);
    }
}

/// Adds `Σ_b δ[o, b]` to the cube's row.
#[cube]
pub(super) fn row_sums(
    buffer: &Shared<[Lanes]>,
    rows: &mut [f32],
    begin: usize,
    adds: bool,
    #[comptime] signals: usize,
    #[comptime] units: usize,
    #[comptime] groups: usize,
    #[comptime] pitch: usize,
) {
    let mut unit = UNIT_POS as usize;
    while unit < units {
        let mut sum = Lanes::new(0.0f32);
        for group in 0..groups {
            sum += buffer[comptime!(signals) + unit * pitch + group];
        }
        add(rows, begin + unit, total(sum), adds);
        unit += THREADS;
    }
}

/// The sum of the four.
#[cube]
pub(super) fn total(lanes: Lanes) -> f32 {
    (lanes.extract(0usize) + lanes.extract(1usize)) + (lanes.extract(2usize) + lanes.extract(3usize))
}
