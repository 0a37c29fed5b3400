//! A Gaussian with full covariance fitted to samples: the baseline of out-of-distribution scores.
//!
//! `Σ = (1/n) Σ_i (x_i − μ)(x_i − μ)ᵀ + r I`, `r` a stated fraction of the mean variance. Score: `½ (x − μ)ᵀ Σ⁻¹ (x − μ)`, the Gaussian's
//! own energy, by Cholesky in f64.
//!
//! Threads share panels and blocks of fixed sizes, and each of these is one thread's: the bits do not depend on how many threads there are.

use ember_model::cholesky::Cholesky;
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

use crate::dataset::{Augmentation, BIN, Data, Rows};
use crate::error::Error;

/// Samples taken into the covariance at a time.
const BLOCK: usize = 1_000;
/// Columns of the covariance that one thread adds up.
const PANEL: usize = 128;
/// Samples whose scores one thread solves for.
const SCORED: usize = 128;

/// A fitted Gaussian.
#[derive(Debug)]
pub struct GaussianFit {
    mean: Vec<f64>,
    factor: Cholesky,
    /// r, added to every variance.
    pub ridge: f64,
}

impl GaussianFit {
    /// Fits rows, row-major `[n, dim]`; `relative_ridge` is r over the mean variance.
    ///
    /// # Errors
    /// A covariance that is not positive definite: no rows, rows that are not finite, or all equal ones.
    pub fn new(rows: &[f32], dim: usize, relative_ridge: f64) -> Result<Self, Error> {
        Self::with_variance(rows, dim, relative_ridge, 0.0)
    }

    fn with_variance(rows: &[f32], dim: usize, relative_ridge: f64, variance: f64) -> Result<Self, Error> {
        let n = (rows.len() / dim) as f64;
        let mut mean = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x) / n);
        }
        let mut covariance = covariance(rows, &mean);
        let trace: f64 = (0..dim).map(|j| covariance[(j, j)]).sum();
        let ridge = relative_ridge * (trace / dim as f64 + variance);
        for j in 0..dim {
            covariance[(j, j)] += ridge + variance;
        }
        let factor = Cholesky::new(covariance).ok_or_else(|| {
            Error::failed(format!(
                "the Gaussian baseline cannot be fitted to {n} samples: their covariance is not positive definite"
            ))
        })?;
        Ok(Self { mean, factor, ridge })
    }

    /// Fits the training set with the variance of its dequantisation and data noise, and a ridge of 10⁻³ of the mean variance.
    /// Mirrored images are not taken in: where the data set mirrors, the Gaussian is near the data, not of their law.
    ///
    /// # Errors
    /// As [`GaussianFit::new`].
    pub fn of_noisy(data: &Data, augmentation: Augmentation) -> Result<Self, Error> {
        let dim = data.shape.dim();
        let values = data.train.values();
        // The variance of a uniform number in a bin.
        let bin = if matches!(data.train, Rows::U8(_)) { BIN.powi(2) / 12.0 } else { 0.0 };
        Self::with_variance(&values, dim, 1e-3, augmentation.noise.powi(2) + bin)
    }

    /// μ, `[dim]`.
    pub fn mean(&self) -> Vec<f32> {
        self.mean.iter().map(|&m| m as f32).collect()
    }

    /// Σ⁻¹, `[dim, dim]`.
    pub fn precision(&self) -> Vec<f32> {
        let dim = self.mean.len();
        let inverse = self.factor.inverse();
        let entry = |i: usize, j: usize| inverse[(i.max(j), i.min(j))] as f32;
        (0..dim * dim).map(|i| entry(i / dim, i % dim)).collect()
    }

    /// C of `Σ = C Cᵀ`, lower triangular, `[dim, dim]`: `x = μ + C z` of a standard normal z.
    pub fn colouring(&self) -> Vec<f32> {
        row_major(&self.factor.lower())
    }

    /// `C⁻¹`, `[dim, dim]`.
    pub fn whitening(&self) -> Vec<f32> {
        let dim = self.mean.len();
        let mut inverse = Mat::identity(dim, dim);
        self.factor.solve_lower(inverse.as_mut());
        row_major(&inverse)
    }

    /// `log det C = ½ log det Σ`.
    pub fn log_det_factor(&self) -> f64 {
        0.5 * self.factor.log_det()
    }

    /// `½ (x − μ)ᵀ Σ⁻¹ (x − μ)` of rows, row-major `[n, dim]` → `[n]`.
    pub fn energies(&self, rows: &[f32]) -> Vec<f64> {
        let dim = self.mean.len();
        let block = |rows: &[f32]| {
            let mut gaps = centred(rows, &self.mean);
            let count = gaps.len() / dim;
            // (x − μ)ᵀ Σ⁻¹ (x − μ) = |L⁻¹ (x − μ)|²
            self.factor.solve_lower(MatMut::from_column_major_slice_mut(&mut gaps, dim, count));
            let score = |gap: &[f64]| 0.5 * gap.iter().map(|g| g * g).sum::<f64>();
            gaps.chunks_exact(dim).map(score).collect::<Vec<f64>>()
        };
        rows.par_chunks(SCORED * dim).map(block).collect::<Vec<_>>().concat()
    }
}

fn row_major(matrix: &Mat<f64>) -> Vec<f32> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    (0..rows * columns).map(|i| matrix[(i / columns, i % columns)] as f32).collect()
}

/// `(1/n) Σ_i (x_i − μ)(x_i − μ)ᵀ`: its lower triangle.
fn covariance(rows: &[f32], mean: &[f64]) -> Mat<f64> {
    let dim = mean.len();
    let scale = ((rows.len() / dim) as f64).recip();
    let width = |first: usize| PANEL.min(dim - first);
    // Panel p has the columns from p·PANEL on, from their diagonal down.
    let mut panels: Vec<(usize, Mat<f64>)> =
        (0..dim).step_by(PANEL).map(|first| (first, Mat::zeros(dim - first, width(first)))).collect();
    for block in rows.chunks(BLOCK * dim) {
        let centred = centred(block, mean);
        // A row-major [n, dim] slice is a column-major [dim, n] one.
        let x = MatRef::from_column_major_slice(&centred, dim, centred.len() / dim);
        panels.par_iter_mut().for_each(|(first, panel)| {
            let (below, own) = (x.subrows(*first, dim - *first), x.subrows(*first, width(*first)));
            matmul(panel.as_mut(), Accum::Add, below, own.transpose(), scale, Par::Seq);
        });
    }
    let mut covariance = Mat::zeros(dim, dim);
    for (first, panel) in &panels {
        covariance.as_mut().submatrix_mut(*first, *first, panel.nrows(), panel.ncols()).copy_from(panel);
    }
    covariance
}

fn centred(rows: &[f32], mean: &[f64]) -> Vec<f64> {
    rows.chunks_exact(mean.len())
        .flat_map(|row| row.iter().zip(mean).map(|(&x, m)| f64::from(x) - m))
        .collect()
}
