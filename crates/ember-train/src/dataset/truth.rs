//! The law that samples come from, where it is known: its density, its modes, and draws of it.

use std::fmt::Debug;
use std::sync::Arc;

use ember_model::energy::Mixture;
use ember_model::random::{Purpose, Stream};
use rayon::prelude::*;

/// First lane of [`Purpose::Data`] for draws that estimates are made of: training and held-out samples are far below.
const ESTIMATE_LANES: u32 = 1 << 16;
/// Rows that one task evaluates.
const BLOCK: usize = 1_024;

/// A known law. The first n draws do not depend on how many there are.
pub trait Law: Debug + Send + Sync {
    /// Coordinates of one sample.
    fn dim(&self) -> usize;

    /// `log ρ*(x)`, normalised; −∞ outside the support.
    fn log_prob(&self, x: &[f64]) -> f64;

    /// Lanes of the random counter that a draw takes.
    fn lanes(&self) -> u32;

    /// `count` samples, row-major `[count, dim]`, and their labels, from the lanes `first .. first + lanes()` of `stream`.
    fn draw(&self, count: usize, stream: Stream, first: u32) -> (Vec<f32>, Vec<u32>);

    /// Means, masses and the common standard deviation, where the law is a mixture of Gaussians.
    fn mixture(&self) -> Option<(&Mixture, f64)> {
        None
    }

    /// The law of `x + σ ξ`, where that is known.
    fn noised(&self, _sigma: f64) -> Option<Arc<dyn Law>> {
        None
    }
}

/// Which mode a point belongs to.
#[derive(Clone, Debug, PartialEq)]
pub enum Modes {
    /// That of the nearest centre, `[K][dim]`.
    Centres(Vec<Vec<f64>>),
    /// Rings around the origin, `[K]`: that whose radius is nearest to |x|.
    Rings(Vec<f64>),
}

impl Modes {
    /// The masses of a mixture model, by the mode that each of its means belongs to, `[modes]`.
    pub fn masses_of(&self, model: &Mixture) -> Vec<f64> {
        let mut masses = vec![0.0; self.count()];
        for (mean, mass) in model.means.iter().zip(&model.masses) {
            masses[self.of(mean)] += mass;
        }
        masses
    }

    /// Number of modes.
    pub fn count(&self) -> usize {
        match self {
            Self::Centres(centres) => centres.len(),
            Self::Rings(radii) => radii.len(),
        }
    }

    /// The mode of `x`, in the order of the data's labels: K distances, nothing else.
    pub fn of(&self, x: &[f64]) -> usize {
        match self {
            Self::Centres(centres) => least(centres.iter().map(|centre| {
                let square = centre.iter().zip(x).map(|(c, x)| (c - x).powi(2));
                square.sum()
            })),
            Self::Rings(radii) => {
                let radius = x.iter().map(|x| x * x).sum::<f64>().sqrt();
                least(radii.iter().map(|r| (r - radius).abs()))
            }
        }
    }

    /// The fraction of `rows` `[n, dim]` in each mode, `[K]`.
    pub fn fractions(&self, rows: &[f32], dim: usize) -> Vec<f64> {
        let mut fractions = vec![0.0; self.count()];
        for row in rows.chunks_exact(dim) {
            let x: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            fractions[self.of(&x)] += dim as f64 / rows.len() as f64;
        }
        fractions
    }

    /// `[K][dim]`, where the mode of a point is that of the nearest centre.
    pub fn centres(&self) -> Option<&[Vec<f64>]> {
        match self {
            Self::Centres(centres) => Some(centres),
            Self::Rings(_) => None,
        }
    }

    /// `[K]`, where the mode of a point is the ring of the nearest radius.
    pub fn radii(&self) -> Option<&[f64]> {
        match self {
            Self::Centres(_) => None,
            Self::Rings(radii) => Some(radii),
        }
    }
}

/// Index of the least value; 0 where none is a number.
fn least(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::INFINITY);
    for (k, value) in values.enumerate() {
        if value < best.1 {
            best = (k, value);
        }
    }
    best.0
}

/// A known law and what its labels mean. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Truth {
    law: Arc<dyn Law>,
    /// The mass of each label, `[K]`, summing to 1.
    pub masses: Vec<f64>,
    /// How a point is told to be of a label's mode; `None` where labels are arms that no centre or radius tells apart.
    pub modes: Option<Modes>,
}

impl Truth {
    /// A law with the masses of its labels and its modes.
    pub fn new(law: Arc<dyn Law>, masses: Vec<f64>, modes: Option<Modes>) -> Self {
        Self { law, masses, modes }
    }

    /// Coordinates of one sample.
    pub fn dim(&self) -> usize {
        self.law.dim()
    }

    /// `log ρ*(x)`, normalised; −∞ outside the support.
    pub fn log_prob(&self, x: &[f64]) -> f64 {
        self.law.log_prob(x)
    }

    /// `log ρ*` of every row of `rows`, row-major `[n, dim]`.
    pub fn log_probs(&self, rows: &[f32]) -> Vec<f64> {
        let dim = self.dim();
        let block = |rows: &[f32]| {
            let mut x = vec![0.0; dim];
            let log_prob = |row: &[f32]| {
                x.iter_mut().zip(row).for_each(|(x, &value)| *x = f64::from(value));
                self.law.log_prob(&x)
            };
            rows.chunks_exact(dim).map(log_prob).collect::<Vec<f64>>()
        };
        rows.par_chunks(BLOCK * dim).map(block).collect::<Vec<_>>().concat()
    }

    /// `count` draws, row-major `[count, dim]`, that no training or held-out sample shares a random number with.
    pub fn draw(&self, count: usize, seed: u64, repeat: u32) -> Vec<f32> {
        let stream = Stream::new(seed, Purpose::Data);
        self.law.draw(count, stream, ESTIMATE_LANES + repeat * self.law.lanes()).0
    }

    /// Means, masses and the common standard deviation, where the law is a mixture of Gaussians.
    pub fn mixture(&self) -> Option<(&Mixture, f64)> {
        self.law.mixture()
    }

    /// The law of `x + σ ξ`, with the same modes; `None` where it is not known.
    pub fn noised(&self, sigma: f64) -> Option<Self> {
        Some(Self { law: self.law.noised(sigma)?, ..self.clone() })
    }

    /// The law itself.
    pub(super) fn law(&self) -> &dyn Law {
        self.law.as_ref()
    }
}
