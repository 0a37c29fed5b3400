//! A Gaussian `½ (x − m)ᵀ P (x − m)` in host memory: its normalising constant and exact draws by Cholesky's `P = L Lᵀ` in f64.

use faer::{Mat, MatRef};

use crate::cholesky::Cholesky;
use crate::random::Stream;

/// `N(m, P⁻¹)`.
#[derive(Clone, Debug)]
pub struct Gaussian {
    mean: Vec<f32>,
    precision: Vec<f32>,
    factor: Cholesky,
}

impl Gaussian {
    /// Of mean `[dim]` and precision `[dim, dim]`; `None` where the precision is not positive definite.
    ///
    /// # Panics
    /// If the lengths disagree.
    pub fn new(mean: Vec<f32>, precision: Vec<f32>) -> Option<Self> {
        let d = mean.len();
        assert_eq!(precision.len(), d * d, "a precision of [dim, dim]");
        let rows = MatRef::from_row_major_slice(&precision, d, d);
        let factor = Cholesky::new(Mat::from_fn(d, d, |i, j| f64::from(rows[(i, j)])))?;
        Some(Self { mean, precision, factor })
    }

    /// m, `[dim]`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// P, row-major `[dim, dim]`.
    pub fn precision(&self) -> &[f32] {
        &self.precision
    }

    /// Variances of the coordinates, `[dim]`: the diagonal of `P⁻¹`.
    pub fn variances(&self) -> Vec<f64> {
        let covariance = self.factor.inverse();
        (0..self.mean.len()).map(|j| covariance[(j, j)]).collect()
    }

    /// `log ∫ e^{−U} = ½ (d ln 2π − ln det P)`.
    pub fn log_z(&self) -> f64 {
        let d = self.mean.len();
        0.5 * (d as f64 * (2.0 * std::f64::consts::PI).ln() - self.factor.log_det())
    }

    /// `count` exact draws, row-major `[count, dim]`.
    pub fn draw(&self, count: usize, stream: Stream) -> Vec<f32> {
        let d = self.mean.len();
        let noise = stream.normals(count, d);
        // x = m + L⁻ᵀ ξ has the covariance L⁻ᵀ L⁻¹ = P⁻¹; a row-major [n, d] slice is a column-major [d, n] one.
        let noise = MatRef::from_column_major_slice(&noise, d, count);
        let mut x = Mat::from_fn(d, count, |j, i| f64::from(noise[(j, i)]));
        self.factor.solve_upper(x.as_mut());
        (0..count * d).map(|i| (f64::from(self.mean[i % d]) + x[(i % d, i / d)]) as f32).collect()
    }
}
