//! Distances between two sets of features: Fréchet (FID) and kernel (KID), in 64 bits.
//!
//! FID: M. Heusel et al., *GANs trained by a two time-scale update rule converge to a local Nash equilibrium*, NeurIPS 2017.
//! `|μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½)`: the squared Wasserstein distance of Gaussians with the sets' means and
//! covariances. Biased upwards at n samples by about a constant over n, which depends on the set: two FIDs compare only at one n.
//!
//! KID: M. Bińkowski et al., *Demystifying MMD GANs*, ICLR 2018. The unbiased squared maximum mean discrepancy with the kernel
//! `(x·y/d + 1)³`, on disjoint subsets, so that they are independent and the spread of their values gives a standard error.

use ember_model::random::Stream;
use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::{evd, svd};
use faer::{Accum, Mat, MatRef, Par};

use crate::error::Error;
use ember_sampler::statistics::Estimate;

/// Mean and covariance of a law.
#[derive(Clone, Debug)]
pub struct Moments {
    /// μ, `[d]`.
    mean: Vec<f64>,
    /// R with `C = R Rᵀ`, `[d, rank]`.
    root: Mat<f64>,
}

impl Moments {
    /// A known mean `[d]` and covariance, `[d, d]` row-major.
    ///
    /// # Errors
    /// A covariance whose eigenvalues cannot be computed (it is not finite).
    ///
    /// # Panics
    /// When the lengths do not agree.
    pub fn new(mean: Vec<f64>, covariance: &[f64]) -> Result<Self, Error> {
        let d = mean.len();
        let root = root(MatRef::from_row_major_slice(covariance, d, d))?;
        Ok(Self { mean, root })
    }

    /// Those of a sample `[n, d]` row-major; the covariance divides by n − 1.
    ///
    /// # Errors
    /// Values that are not finite.
    ///
    /// # Panics
    /// For fewer than two rows.
    pub fn of(features: &[f32], d: usize) -> Result<Self, Error> {
        let n = features.len() / d;
        assert!(n >= 2, "{n} rows have no covariance");
        let mut mean = vec![0.0; d];
        for row in features.chunks_exact(d) {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        mean.iter_mut().for_each(|sum| *sum /= n as f64);
        let scale = ((n - 1) as f64).sqrt().recip();
        let centred = Mat::from_fn(d, n, |j, i| (f64::from(features[i * d + j]) - mean[j]) * scale);
        // Fewer samples than features: the centred sample itself is a root of its covariance.
        let root =
            if n <= d { centred } else { root(product(centred.as_ref(), centred.transpose()).as_ref())? };
        Ok(Self { mean, root })
    }

    /// `tr C`.
    fn trace(&self) -> f64 {
        self.root.squared_norm_l2()
    }
}

/// The Fréchet distance of two laws as Gaussians, squared as FID is.
///
/// `tr (C₁^½ C₂ C₁^½)^½` is the sum of the singular values of `R₁ᵀ R₂`: no square root of a rounding error.
///
/// # Errors
/// Singular values that cannot be computed (moments that are not finite).
///
/// # Panics
/// When the laws live in different dimensions.
pub fn frechet(a: &Moments, b: &Moments) -> Result<f64, Error> {
    assert_eq!(a.mean.len(), b.mean.len(), "the laws live in different dimensions");
    let gap: f64 = a.mean.iter().zip(&b.mean).map(|(a, b)| (a - b).powi(2)).sum();
    let cross = product(a.root.transpose(), b.root.as_ref());
    Ok(gap + a.trace() + b.trace() - 2.0 * singular_values(cross.as_ref())?.iter().sum::<f64>())
}

/// `R = V √Λ` of a covariance `V Λ Vᵀ`, whose lower triangle is read; eigenvalues that rounding made negative are 0. On one thread, as all
/// here: the sums of a decomposition depend on how many there are.
fn root(covariance: MatRef<'_, f64>) -> Result<Mat<f64>, Error> {
    let n = covariance.nrows();
    let (mut vectors, mut values) = (Mat::zeros(n, n), Diag::zeros(n));
    let (with, params) = (evd::ComputeEigenvectors::Yes, Default::default());
    let mut buffer = MemBuffer::new(evd::self_adjoint_evd_scratch::<f64>(n, with, Par::Seq, params));
    let (to, stack) = (Some(vectors.as_mut()), MemStack::new(&mut buffer));
    evd::self_adjoint_evd(covariance, values.as_mut(), to, Par::Seq, stack, params)
        .map_err(|error| failed("eigenvalues", &error))?;
    let values = values.column_vector();
    Ok(Mat::from_fn(n, n, |i, j| vectors[(i, j)] * values[j].max(0.0).sqrt()))
}

/// The singular values of a matrix, on one thread.
fn singular_values(matrix: MatRef<'_, f64>) -> Result<Vec<f64>, Error> {
    let (rows, columns) = matrix.shape();
    let mut values = Diag::zeros(rows.min(columns));
    let (without, params) = (svd::ComputeSvdVectors::No, Default::default());
    let scratch = svd::svd_scratch::<f64>(rows, columns, without, without, Par::Seq, params);
    let mut buffer = MemBuffer::new(scratch);
    svd::svd(matrix, values.as_mut(), None, None, Par::Seq, MemStack::new(&mut buffer), params)
        .map_err(|error| failed("singular values", &error))?;
    Ok(values.column_vector().iter().copied().collect())
}

fn failed(what: &str, error: &dyn std::fmt::Debug) -> Error {
    Error::failed(format!("the {what} of the features' covariances could not be computed: {error:?}"))
}

/// On one thread: the order of the sums does not depend on how many there are.
fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    faer::linalg::matmul::matmul(out.as_mut(), Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// A kernel distance and the subsets behind it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelDistance {
    /// The mean over subsets, with the standard error of that mean.
    pub value: Estimate,
    /// Disjoint subsets.
    pub subsets: usize,
    /// Rows of either set in a subset.
    pub subset_size: usize,
}

/// The unbiased squared MMD between samples `[n, d]` and `[m, d]`, over as many disjoint subsets of `subset_size` rows as there are;
/// `streams` shuffle the rows of either. Zero on average for equal laws, so it may be negative.
///
/// # Panics
/// When there are not two subsets of at least two rows.
pub fn kernel_distance(
    a: &[f32],
    b: &[f32],
    d: usize,
    subset_size: usize,
    [one, other]: [Stream; 2],
) -> KernelDistance {
    let (n, m) = (a.len() / d, b.len() / d);
    let subsets = n.min(m) / subset_size;
    assert!(subset_size >= 2 && subsets >= 2, "{n} and {m} rows give no two subsets of {subset_size}");
    let (order_a, order_b) = (one.permutation(n), other.permutation(m));
    let rows = |features: &[f32], order: &[u32], subset: usize| {
        let chosen = &order[subset * subset_size..(subset + 1) * subset_size];
        Mat::from_fn(subset_size, d, |i, j| f64::from(features[chosen[i] as usize * d + j]))
    };
    let values: Vec<f64> = (0..subsets)
        .map(|subset| squared_mmd(&rows(a, &order_a, subset), &rows(b, &order_b, subset)))
        .collect();
    KernelDistance { value: Estimate::mean(&values), subsets, subset_size }
}

/// `Σ_{i≠j} k(xᵢ, xⱼ)/(m(m−1)) + Σ_{i≠j} k(yᵢ, yⱼ)/(m(m−1)) − 2 Σ_{ij} k(xᵢ, yⱼ)/m²`
fn squared_mmd(x: &Mat<f64>, y: &Mat<f64>) -> f64 {
    let (m, d) = (x.nrows() as f64, x.ncols() as f64);
    let kernel = |dot: f64| (dot / d + 1.0).powi(3);
    let sum = |a: &Mat<f64>, b: &Mat<f64>, diagonal: bool| {
        let dots = product(a.as_ref(), b.transpose());
        let mut sum = 0.0;
        for j in 0..dots.ncols() {
            for i in 0..dots.nrows() {
                if diagonal || i != j {
                    sum += kernel(dots[(i, j)]);
                }
            }
        }
        sum
    };
    (sum(x, x, false) + sum(y, y, false)) / (m * (m - 1.0)) - 2.0 * sum(x, y, true) / (m * m)
}
