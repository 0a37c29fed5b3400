//! A Gaussian with full covariance fitted to samples: the baseline of out-of-distribution scores.
//!
//! `Σ = (1/n) Σ_i (x_i − μ)(x_i − μ)ᵀ + r I`, `r` a stated fraction of the mean variance. Score: `½ (x − μ)ᵀ Σ⁻¹ (x − μ)`, the Gaussian's
//! own energy, by Cholesky in f64.

use faer::linalg::matmul::matmul;
use faer::linalg::solvers::{DenseSolveCore, Llt, Solve};
use faer::{Accum, Mat, MatRef, Par, Side};

use crate::dataset::{Augmentation, BIN, Data, Rows};
use crate::error::Error;

/// Samples taken into the covariance at a time.
const BLOCK: usize = 1_000;

/// A fitted Gaussian.
#[derive(Debug)]
pub struct GaussianFit {
    mean: Vec<f64>,
    factor: Llt<f64>,
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
        let mut covariance = Mat::<f64>::zeros(dim, dim);
        for block in rows.chunks(BLOCK * dim) {
            let centred = centred(block, &mean);
            // A row-major [n, dim] slice is a column-major [dim, n] one.
            let x = MatRef::from_column_major_slice(&centred, dim, centred.len() / dim);
            matmul(covariance.as_mut(), Accum::Add, x, x.transpose(), n.recip(), Par::rayon(0));
        }
        let trace: f64 = (0..dim).map(|j| covariance[(j, j)]).sum();
        let ridge = relative_ridge * (trace / dim as f64 + variance);
        for j in 0..dim {
            covariance[(j, j)] += ridge + variance;
        }
        let factor = covariance.llt(Side::Lower).map_err(|_| {
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
        (0..dim * dim).map(|i| inverse[(i / dim, i % dim)] as f32).collect()
    }

    /// `½ (x − μ)ᵀ Σ⁻¹ (x − μ)` of rows, row-major `[n, dim]` → `[n]`.
    pub fn energies(&self, rows: &[f32]) -> Vec<f64> {
        let dim = self.mean.len();
        rows.chunks(BLOCK * dim)
            .flat_map(|block| {
                let centred = centred(block, &self.mean);
                let gaps = MatRef::from_column_major_slice(&centred, dim, centred.len() / dim);
                let solved = self.factor.solve(gaps);
                (0..gaps.ncols())
                    .map(|i| 0.5 * (0..dim).map(|j| gaps[(j, i)] * solved[(j, i)]).sum::<f64>())
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

fn centred(rows: &[f32], mean: &[f64]) -> Vec<f64> {
    rows.chunks_exact(mean.len())
        .flat_map(|row| row.iter().zip(mean).map(|(&x, m)| f64::from(x) - m))
        .collect()
}
