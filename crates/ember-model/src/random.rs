//! Every random number of a run, as a pure function of a counter.
//!
//! # Algorithm
//! Philox-4x32-10: J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, *Parallel random numbers: as easy as 1, 2, 3*,
//! SC 2011. A bijection of 128-bit counters, keyed by 64 bits, that passes BigCrush. There is no state: nothing to
//! save in a checkpoint, nothing that threads share, and any number can be had alone, in any order, on any device.
//!
//! # Layout
//! | word      | counter                                    | key             |
//! |-----------|--------------------------------------------|-----------------|
//! | 0         | block: coordinates `4·block .. 4·block + 4`| seed, low half  |
//! | 1         | walker                                     | seed, high half |
//! | 2         | Langevin step                              |                 |
//! | 3         | purpose, and the lane from bit 8 upwards   |                 |
//!
//! Bit 7 of word 3 is set for [`Stream::rng`] alone, which counts its blocks in words 0 and 1.
//!
//! Two streams that differ in seed, purpose, lane or step never share a counter, so their numbers are independent.
//!
//! # Normals
//! Box and Muller (1958) on pairs of words `(a, b)`: `u₁ = a·2⁻³² + 2⁻³³` rounded to `f32`, `u₂ = b·2⁻³²`,
//! `r = √(−2 ln u₁)`, giving `(r cos 2πu₂, r sin 2πu₂)`. `u₁` is never 0, so the largest normal is 6.76.
//!
//! This file is the plain reference, in `f64` rounded once to `f32`. The fused operations of `ember-sampler` produce the same
//! normals from the same counters to about `1e-6`, and the same uniform numbers to the bit.

#[cfg(feature = "wgpu")]
pub mod cube;
mod rng;

use std::f64::consts::TAU;

use thiserror::Error;

pub use rng::StreamRng;

/// What a random number is for. Streams with different purposes are independent.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The Gaussian noise of a Langevin step.
    Noise = 0,
    /// Accepting or rejecting a proposal.
    Accept = 1,
    /// Resampling the walkers.
    Resampling = 2,
    /// Starting parameters.
    Init = 3,
    /// Drawing a synthetic data set.
    Data = 4,
    /// Choosing and shuffling batches.
    Batch = 5,
    /// Starting positions of the walkers.
    Start = 6,
    /// Drawing samples for output.
    Sample = 7,
    /// Annealed estimates.
    Anneal = 8,
    /// Noise added to data.
    DataNoise = 9,
    /// Global moves proposed by a flow.
    Proposal = 10,
    /// Perturbations, directions and choices in an objective's own loss.
    Perturbation = 11,
    /// Walkers that begin anew.
    Restart = 12,
}

/// A Langevin step number beyond `u32::MAX`, the width of its counter word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("Langevin step {step} is beyond {max}, the last one the random number counter can hold", max = u32::MAX)]
pub struct StreamOverflow {
    /// The step that was asked for.
    pub step: u64,
}

/// Which random numbers: those of one (run seed, purpose, lane, Langevin step).
///
/// A stream is a name, not a state: it is `Copy`, and asking it twice gives the same numbers.
///
/// # Example
/// ```
/// use ember_model::random::{Purpose, Stream};
///
/// let stream = Stream::new(7, Purpose::Noise).at(1000).expect("fits 32 bits");
/// let all = stream.normals(10, 3);
/// assert_eq!(all[..6], stream.normals(2, 3)[..]); // a walker's numbers do not depend on how many there are
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    seed: u64,
    purpose: Purpose,
    lane: u32,
    step: u32,
}

impl Stream {
    /// The stream of `purpose` at lane 0 and step 0 of the run with this seed.
    pub fn new(seed: u64, purpose: Purpose) -> Self {
        Self { seed, purpose, lane: 0, step: 0 }
    }

    /// The same stream for another, independent ensemble (an audit's repeats).
    ///
    /// # Panics
    /// If `lane` is 2²⁴ or more: it shares a counter word with the purpose.
    pub fn lane(self, lane: u32) -> Self {
        assert!(lane < 1 << 24, "lane {lane} does not fit the 24 bits that the counter has for it");
        Self { lane, ..self }
    }

    /// The same stream at another Langevin step.
    ///
    /// # Errors
    /// [`StreamOverflow`] if `step` does not fit 32 bits.
    pub fn at(self, step: u64) -> Result<Self, StreamOverflow> {
        let step = u32::try_from(step).map_err(|_| StreamOverflow { step })?;
        Ok(Self { step, ..self })
    }

    /// The same stream for the given attempt of a rejection sampler, where it is used at one step only.
    pub fn attempt(self, attempt: u32) -> Self {
        Self { step: attempt, ..self }
    }

    /// A generator for `rand` and `rand_distr`, from its first number on. It shares no number with the other methods of this or
    /// any stream; see [`StreamRng`].
    pub fn rng(self) -> StreamRng {
        StreamRng::new(self)
    }

    /// The Philox key: the run's seed, low half first.
    pub fn key(&self) -> [u32; 2] {
        [self.seed as u32, (self.seed >> 32) as u32]
    }

    /// Counter words 2 and 3: the step, and the purpose with the lane.
    pub fn counter_tail(&self) -> [u32; 2] {
        [self.step, self.purpose as u32 | self.lane << 8]
    }

    /// The four random words of one block of four coordinates of one walker.
    pub fn bits(&self, block: u32, walker: u32) -> [u32; 4] {
        let [step, purpose] = self.counter_tail();
        philox4x32_10([block, walker, step, purpose], self.key())
    }

    /// Standard normals, row-major `[walkers, dim]`: coordinate `j` of walker `i` comes from block `j / 4`, lane `j % 4`.
    ///
    /// # Panics
    /// If `walkers` exceeds 2³² or `dim` exceeds 2³⁴.
    pub fn normals(&self, walkers: usize, dim: usize) -> Vec<f32> {
        self.fill(walkers, dim, |[a, b, c, d]| {
            let ([x, y], [z, w]) = (normal_pair(a, b), normal_pair(c, d));
            [x, y, z, w]
        })
    }

    /// Uniform numbers in `[0, 1)` with 24 bits, row-major `[walkers, dim]`, laid out like [`Stream::normals`].
    ///
    /// # Panics
    /// If `walkers` exceeds 2³² or `dim` exceeds 2³⁴.
    pub fn uniforms(&self, walkers: usize, dim: usize) -> Vec<f32> {
        self.fill(walkers, dim, |words| words.map(|word| (word >> 8) as f32 * (-24f32).exp2()))
    }

    /// [`Stream::uniforms`] at the middles of their cells, `(w + ½)·2⁻²⁴` of the 24 bits w and at most `1 − 2⁻²⁴`: inside
    /// `(0, 1)`, so that a logarithm may be taken of them and of `−log u`.
    ///
    /// # Panics
    /// If `walkers` exceeds 2³² or `dim` exceeds 2³⁴.
    pub fn open_uniforms(&self, walkers: usize, dim: usize) -> Vec<f32> {
        let open = |u: f32| (u + HALF_CELL).min(LARGEST_OPEN);
        self.uniforms(walkers, dim).into_iter().map(open).collect()
    }

    /// A uniform number in `[0, 1)` with 53 bits, from words 0 and 1 of block 0 of walker `index`.
    pub fn uniform_f64(&self, index: u32) -> f64 {
        (self.uniform_u64(index) >> 11) as f64 * (-53f64).exp2()
    }

    /// A uniformly distributed permutation of `0 .. n` (Fisher and Yates, in Durstenfeld's form).
    ///
    /// Choices among `k` are `⌊U·k⌋` with 64-bit `U`, so no permutation is off by more than `n²·2⁻⁶⁴` of its probability.
    ///
    /// # Panics
    /// If `n` exceeds `u32::MAX`.
    pub fn permutation(&self, n: usize) -> Vec<u32> {
        let n = counter_word(n, "permutation length");
        let mut order: Vec<u32> = (0..n).collect();
        for i in (1..n).rev() {
            let j = (u128::from(self.uniform_u64(i)) * (u128::from(i) + 1)) >> 64;
            order.swap(i as usize, j as usize);
        }
        order
    }

    /// For each walker an index drawn with the given probabilities, which need not sum to 1 (inverse distribution
    /// function of [`Stream::uniform_f64`]). An index of probability 0 is never drawn.
    ///
    /// # Panics
    /// If a probability is negative or not finite, or if none is positive.
    pub fn categorical(&self, walkers: usize, probabilities: &[f64]) -> Vec<u32> {
        assert!(
            probabilities.iter().all(|p| p.is_finite() && *p >= 0.0),
            "probabilities must be finite and not negative: {probabilities:?}"
        );
        let last =
            probabilities.iter().rposition(|p| *p > 0.0).expect("at least one probability must be positive");
        let cumulative: Vec<f64> = probabilities
            .iter()
            .scan(0.0, |sum, p| {
                *sum += p;
                Some(*sum)
            })
            .collect();
        let total = cumulative[last];
        (0..counter_word(walkers, "walker"))
            .map(|walker| {
                let position = self.uniform_f64(walker) * total;
                cumulative.partition_point(|c| *c <= position).min(last) as u32
            })
            .collect()
    }

    fn uniform_u64(&self, index: u32) -> u64 {
        let [low, high, ..] = self.bits(0, index);
        u64::from(high) << 32 | u64::from(low)
    }

    fn fill(&self, walkers: usize, dim: usize, transform: impl Fn([u32; 4]) -> [f32; 4]) -> Vec<f32> {
        let walkers = counter_word(walkers, "walker");
        let blocks = counter_word(dim.div_ceil(4), "coordinate block");
        let mut values = Vec::with_capacity(walkers as usize * dim);
        for walker in 0..walkers {
            for block in 0..blocks {
                let left = dim - 4 * block as usize;
                values.extend_from_slice(&transform(self.bits(block, walker))[..left.min(4)]);
            }
        }
        values
    }
}

/// Box–Muller: two independent standard normals from two random words (see the module's documentation).
pub fn normal_pair(a: u32, b: u32) -> [f32; 2] {
    let u1 = a as f32 * (-32f32).exp2() + (-33f32).exp2();
    let angle = TAU * f64::from(b) * (-32f64).exp2();
    // r = √(−2 ln u₁)
    let radius = (-2.0 * f64::from(u1).ln()).sqrt();
    [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
}

/// Ten rounds of Philox with four 32-bit words: the 128 random bits that belong to a counter under a key.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut c0, mut c1, mut c2, mut c3] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..PHILOX_ROUNDS {
        let p0 = u64::from(PHILOX_M[0]) * u64::from(c0);
        let p1 = u64::from(PHILOX_M[1]) * u64::from(c2);
        (c0, c1, c2, c3) = ((p1 >> 32) as u32 ^ c1 ^ k0, p1 as u32, (p0 >> 32) as u32 ^ c3 ^ k1, p0 as u32);
        k0 = k0.wrapping_add(PHILOX_W[0]);
        k1 = k1.wrapping_add(PHILOX_W[1]);
    }
    [c0, c1, c2, c3]
}

/// Rounds of Philox-4x32-10.
pub const PHILOX_ROUNDS: u32 = 10;
/// Multipliers of the Philox rounds.
pub const PHILOX_M: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// Key increments of the Philox rounds: the golden ratio and `√3 − 1`.
pub const PHILOX_W: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// Half of a cell of a 24-bit uniform number, `2⁻²⁵`: what [`Stream::open_uniforms`] adds.
pub const HALF_CELL: f32 = 1.0 / 33_554_432.0;
/// The largest of [`Stream::open_uniforms`], `1 − 2⁻²⁴`: the middle of the last cell would round to 1.
pub const LARGEST_OPEN: f32 = 1.0 - 1.0 / 16_777_216.0;

/// `value` as a counter word; panics, naming `what`, where it does not fit.
fn counter_word(value: usize, what: &str) -> u32 {
    u32::try_from(value).unwrap_or_else(|_| panic!("{what} count {value} does not fit a 32-bit counter word"))
}
