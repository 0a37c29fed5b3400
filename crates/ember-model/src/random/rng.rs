//! A stream as a generator of the `rand` crates: one number after the other, for code that draws through them.

use std::convert::Infallible;

use rand_core::TryRng;
use rand_core::block::{BlockRng, Generator};

use super::{Purpose, Stream, philox4x32_10};

/// The bit of counter word 3 that only a [`StreamRng`] sets: purposes stay below it.
const RNG_BIT: u32 = 1 << 7;
const _: () = assert!((Purpose::Proposal as u32) < RNG_BIT, "purposes have seven bits");

/// The numbers of a [`Stream`] in sequence; see [`Stream::rng`]. It implements the generator trait of `rand` 0.10
/// (`rand_core::Rng`), so everything of `rand` and `rand_distr` draws from it.
///
/// # Layout
/// Block i is Philox-4x32-10 of the counter `[i, low half | i, high half | step | purpose + 128, lane]` under the stream's key:
/// 2⁶⁶ words. The bit of weight 128 in word 3 belongs to this type alone, so no number here is also one of [`Stream::normals`],
/// [`Stream::bits`] or any other method of any stream. Two generators of one stream give the same numbers.
///
/// A `u64` is two words, low one first, and bytes are little-endian: the numbers are the same on every machine.
///
/// # Example
/// ```
/// use ember_model::random::{Purpose, Stream};
/// use rand::RngExt;
/// use rand::seq::SliceRandom;
/// use rand_distr::{Distribution, StandardNormal};
///
/// let mut rng = Stream::new(7, Purpose::Data).rng();
/// let die = rng.random_range(1..=6);
/// let normal: f64 = StandardNormal.sample(&mut rng);
/// let mut order = [0, 1, 2, 3];
/// order.shuffle(&mut rng);
/// # assert!((1..=6).contains(&die) && normal.is_finite());
/// ```
#[derive(Clone, Debug)]
pub struct StreamRng(BlockRng<Blocks>);

impl StreamRng {
    pub(super) fn new(stream: Stream) -> Self {
        Self(BlockRng::new(Blocks { stream, next: 0 }))
    }
}

impl TryRng for StreamRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_word())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64_from_u32())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

/// Four words at a time.
#[derive(Clone, Debug)]
struct Blocks {
    stream: Stream,
    /// The block to come.
    next: u64,
}

impl Generator for Blocks {
    type Output = [u32; 4];

    fn generate(&mut self, output: &mut [u32; 4]) {
        let [step, purpose] = self.stream.counter_tail();
        let counter = [self.next as u32, (self.next >> 32) as u32, step, purpose | RNG_BIT];
        *output = philox4x32_10(counter, self.stream.key());
        self.next = self.next.wrapping_add(1);
    }
}
