//! Draws of a mixture of Gaussians with one common standard deviation: `x = m_k + σ ξ`, `k ~ weights`, `ξ ~ N(0, I)`.
//!
//! The data of Carbone et al. 2023, section 4.1, and of the one-dimensional toy. The first `n` samples do not depend on how
//! many are drawn, and the training and held-out samples come from separate random streams.

use std::sync::Arc;

use ember_model::SampleShape;
use ember_model::energy::Mixture;
use ember_model::random::Stream;
use serde::{Deserialize, Serialize};

use super::drawn::Sizes;
use super::truth::{Law, Modes, Truth};
use super::{Data, Dataset};
use crate::error::Error;

/// How far the weights' sum may be from 1.
const WEIGHT_TOLERANCE: f64 = 1e-6;

/// `{ kind = "gaussian_mixture", dim, means, weights, std, train_size, test_size, batch_size }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Table")]
pub struct GaussianMixtureData {
    /// Coordinates of one sample.
    pub dim: usize,
    /// Where the modes are: leading coordinates, the rest are 0.
    pub means: Vec<Vec<f64>>,
    /// The mass of each mode; they sum to 1.
    pub weights: Vec<f64>,
    /// The standard deviation of every mode in every coordinate.
    pub std: f64,
    /// Samples to train on.
    pub train_size: usize,
    /// Samples held out.
    pub test_size: usize,
    /// Samples of one batch; `train_size` unless given.
    pub batch_size: usize,
}

/// The table as written: what may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    dim: usize,
    means: Vec<Vec<f64>>,
    weights: Vec<f64>,
    #[serde(default = "one")]
    std: f64,
    train_size: usize,
    test_size: usize,
    batch_size: Option<usize>,
}

fn one() -> f64 {
    1.0
}

impl From<Table> for GaussianMixtureData {
    fn from(table: Table) -> Self {
        Self {
            dim: table.dim,
            means: table.means,
            weights: table.weights,
            std: table.std,
            train_size: table.train_size,
            test_size: table.test_size,
            batch_size: table.batch_size.unwrap_or(table.train_size),
        }
    }
}

impl GaussianMixtureData {
    /// The means with all their coordinates, `[K][dim]`, and the masses.
    fn mixture(&self) -> Mixture {
        let sum: f64 = self.weights.iter().sum();
        let means = self.means.iter().map(|mean| {
            let mut mean = mean.clone();
            mean.resize(self.dim, 0.0);
            mean
        });
        Mixture { means: means.collect(), masses: self.weights.iter().map(|weight| weight / sum).collect() }
    }

    fn sizes(&self) -> Sizes {
        Sizes { dim: self.dim, train: self.train_size, test: self.test_size, batch: self.batch_size }
    }
}

/// `Σ_k w_k N(m_k, σ² I)`.
#[derive(Debug)]
pub(super) struct Gaussians {
    mixture: Mixture,
    std: f64,
}

impl Gaussians {
    /// The law with its modes, told apart by the nearest mean.
    pub(super) fn truth(mixture: Mixture, std: f64) -> Truth {
        let (masses, modes) = (mixture.masses.clone(), Modes::Centres(mixture.means.clone()));
        Truth::new(Arc::new(Self { mixture, std }), masses, Some(modes))
    }
}

impl Law for Gaussians {
    fn dim(&self) -> usize {
        self.mixture.means[0].len()
    }

    fn log_prob(&self, x: &[f64]) -> f64 {
        self.mixture.log_prob(x, self.std)
    }

    fn lanes(&self) -> u32 {
        2
    }

    fn draw(&self, count: usize, stream: Stream, first: u32) -> (Vec<f32>, Vec<u32>) {
        let dim = self.dim();
        let modes = stream.lane(first).categorical(count, &self.mixture.masses);
        let mut samples = stream.lane(first + 1).normals(count, dim);
        for (row, &mode) in samples.chunks_exact_mut(dim).zip(&modes) {
            for (x, mean) in row.iter_mut().zip(&self.mixture.means[mode as usize]) {
                // x = m_k + σ ξ
                *x = (mean + self.std * f64::from(*x)) as f32;
            }
        }
        (samples, modes)
    }

    fn mixture(&self) -> Option<(&Mixture, f64)> {
        Some((&self.mixture, self.std))
    }

    fn noised(&self, sigma: f64) -> Option<Arc<dyn Law>> {
        Some(Arc::new(Self { mixture: self.mixture.clone(), std: self.std.hypot(sigma) }))
    }
}

impl Dataset for GaussianMixtureData {
    fn shape(&self) -> SampleShape {
        SampleShape::Flat(self.dim)
    }

    fn generate(&self, seed: u64) -> Result<Data, Error> {
        Ok(self.sizes().draw(&Gaussians { mixture: self.mixture(), std: self.std }, seed))
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn drawn_rows(&self) -> Option<[usize; 2]> {
        Some([self.train_size, self.test_size])
    }

    fn validate(&self) -> Result<(), Error> {
        self.sizes().check()?;
        let fail = |key: &str, message: String| Err(Error::config("config", "dataset", key, message));
        if self.means.is_empty() {
            return fail("means", "found none, expected at least one mode, such as [[0.0]]".into());
        }
        for (k, mean) in self.means.iter().enumerate() {
            if mean.len() > self.dim {
                return fail(
                    "means",
                    format!("mean {k} has {} coordinates, expected at most dim = {}", mean.len(), self.dim),
                );
            }
            if let Some(bad) = mean.iter().find(|m| !m.is_finite()) {
                return fail("means", format!("mean {k} holds {bad}, expected finite numbers"));
            }
        }
        if self.weights.len() != self.means.len() {
            return fail(
                "weights",
                format!(
                    "found {} weights for {} means, expected one each",
                    self.weights.len(),
                    self.means.len()
                ),
            );
        }
        if let Some(bad) = self.weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
            return fail("weights", format!("found {bad}, expected finite numbers ≥ 0"));
        }
        let sum: f64 = self.weights.iter().sum();
        if (sum - 1.0).abs() > WEIGHT_TOLERANCE {
            return fail("weights", format!("the weights sum to {sum}, expected 1"));
        }
        if !self.std.is_finite() || self.std <= 0.0 {
            return fail("std", format!("found {}, expected a finite number > 0", self.std));
        }
        Ok(())
    }

    fn truth(&self) -> Option<Truth> {
        Some(Gaussians::truth(self.mixture(), self.std))
    }
}
