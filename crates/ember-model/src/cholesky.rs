//! Cholesky's `A = L Lᵀ` in f64 on the calling thread, whatever faer's process-wide setting: its sums do not depend on the number of
//! threads, which those of faer's own parallel solves do.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::{factor, inverse};
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Mat, MatMut, Par};

/// The factor of a positive definite matrix.
#[derive(Clone, Debug)]
pub struct Cholesky {
    /// L in the lower triangle; what is above is of no use.
    lower: Mat<f64>,
}

impl Cholesky {
    /// Of a matrix whose lower triangle is read; `None` where it is not positive definite.
    pub fn new(mut matrix: Mat<f64>) -> Option<Self> {
        let scratch = factor::cholesky_in_place_scratch::<f64>(matrix.nrows(), Par::Seq, Default::default());
        let mut buffer = MemBuffer::new(scratch);
        let stack = MemStack::new(&mut buffer);
        factor::cholesky_in_place(matrix.as_mut(), Default::default(), Par::Seq, stack, Default::default())
            .ok()?;
        Some(Self { lower: matrix })
    }

    /// L, with zeros above the diagonal.
    pub fn lower(&self) -> Mat<f64> {
        let n = self.lower.nrows();
        Mat::from_fn(n, n, |i, j| if j <= i { self.lower[(i, j)] } else { 0.0 })
    }

    /// `log det A`.
    pub fn log_det(&self) -> f64 {
        (0..self.lower.nrows()).map(|j| 2.0 * self.lower[(j, j)].ln()).sum()
    }

    /// `L⁻¹ b` of every column.
    pub fn solve_lower(&self, columns: MatMut<'_, f64>) {
        solve_lower_triangular_in_place(self.lower.as_ref(), columns, Par::Seq);
    }

    /// `L⁻ᵀ b` of every column.
    pub fn solve_upper(&self, columns: MatMut<'_, f64>) {
        solve_upper_triangular_in_place(self.lower.transpose(), columns, Par::Seq);
    }

    /// `A⁻¹`: its lower triangle.
    pub fn inverse(&self) -> Mat<f64> {
        let n = self.lower.nrows();
        let mut buffer = MemBuffer::new(inverse::inverse_scratch::<f64>(n, Par::Seq));
        let mut out = Mat::zeros(n, n);
        inverse::inverse(out.as_mut(), self.lower.as_ref(), Par::Seq, MemStack::new(&mut buffer));
        out
    }
}
