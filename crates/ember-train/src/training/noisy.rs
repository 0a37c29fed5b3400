//! Rows as the model learns them, for whatever judges it: bytes uniformly dequantised, then Gaussian data noise. Each row has its own
//! random numbers, so that a row does not depend on which others are asked for nor on the device.
//!
//! The law is that of the training batches (`batches.rs`), the numbers are not: those belong to a place in a batch.

use std::ops::Range;

use ember_model::random::{Purpose, Stream, StreamOverflow, normal_pair};

use crate::dataset::Rows;

/// Lanes of the held-out rows' numbers; batches of training data use others.
const HELD_OUT_LANE: u32 = 1 << 20;

/// Those of training rows that are judged beside them.
const TRAINING_LANE: u32 = HELD_OUT_LANE + 2;

/// Dequantisation and data noise with the random numbers of one (seed, lane, step).
#[derive(Clone, Copy, Debug)]
pub struct Noisy {
    std: f64,
    dequantisation: Stream,
    noise: Stream,
}

impl Noisy {
    /// Noise of standard deviation `std` at step 0, from lanes `lane` and `lane + 1` of [`Purpose::DataNoise`].
    pub fn new(std: f64, seed: u64, lane: u32) -> Self {
        let stream = Stream::new(seed, Purpose::DataNoise);
        Self { std, dequantisation: stream.lane(lane), noise: stream.lane(lane + 1) }
    }

    /// The same numbers in every run, for held-out rows.
    pub fn held_out(std: f64) -> Self {
        Self::new(std, 0, HELD_OUT_LANE)
    }

    /// The same, for training rows.
    pub fn training(std: f64) -> Self {
        Self::new(std, 0, TRAINING_LANE)
    }

    /// Fresh numbers for another step.
    ///
    /// # Errors
    /// A step beyond 32 bits.
    pub fn at(self, step: u64) -> Result<Self, StreamOverflow> {
        Ok(Self { dequantisation: self.dequantisation.at(step)?, noise: self.noise.at(step)?, ..self })
    }

    /// One row, `[dim]`.
    pub fn row(&self, rows: &Rows, dim: usize, row: usize) -> Vec<f32> {
        let mut x = rows.dequantised(dim, row..row + 1, self.dequantisation);
        if self.std == 0.0 {
            return x;
        }
        let std = self.std as f32;
        for (block, x) in x.chunks_mut(4).enumerate() {
            let [a, b, c, d] = self.noise.bits(block as u32, row as u32);
            let ([p, q], [r, s]) = (normal_pair(a, b), normal_pair(c, d));
            // y = x + σ ξ
            x.iter_mut().zip([p, q, r, s]).for_each(|(x, xi)| *x += std * xi);
        }
        x
    }

    /// Some consecutive rows, `[rows, dim]`.
    pub fn rows(&self, rows: &Rows, dim: usize, range: Range<usize>) -> Vec<f32> {
        range.flat_map(|row| self.row(rows, dim, row)).collect()
    }
}
