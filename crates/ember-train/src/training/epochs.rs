//! Shuffled epochs: `count` items dealt `hand` at a time, each item at most once an epoch; the few that are left over wait for the
//! next. A pure function of (seed, lane, step), so nothing is remembered between updates.

use std::ops::Range;

use ember_model::random::{Purpose, Stream, StreamOverflow};

/// How items are dealt.
#[derive(Clone, Copy, Debug)]
pub struct Epochs {
    count: usize,
    hand: usize,
    stream: Stream,
}

impl Epochs {
    /// `hand ≤ count` of `count` items a step, in the orders of a lane of [`Purpose::Batch`].
    pub fn new(count: usize, hand: usize, seed: u64, lane: u32) -> Self {
        Self { count, hand, stream: Stream::new(seed, Purpose::Batch).lane(lane) }
    }

    /// The epoch of a step, and which part of the epoch's order the step is dealt.
    pub fn at(&self, step: u64) -> (u64, Range<usize>) {
        let per_epoch = (self.count / self.hand) as u64;
        let first = (step % per_epoch) as usize * self.hand;
        (step / per_epoch, first..first + self.hand)
    }

    /// The order of an epoch, a permutation of the items.
    ///
    /// # Errors
    /// An epoch beyond 32 bits.
    pub fn order(&self, epoch: u64) -> Result<Vec<u32>, StreamOverflow> {
        Ok(self.stream.at(epoch)?.permutation(self.count))
    }
}
