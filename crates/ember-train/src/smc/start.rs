//! The tractable start of an annealed path: a Gaussian with known `log Z_0` and exact draws, on the model's support.

use ember_model::EnergyModel;
use ember_model::random::Stream;
use ember_model::shape::Support;

/// `U_0(x) = ½ Σ_j p_j (x_j − m_j)²` on a support: independent coordinates.
#[derive(Clone, Debug)]
pub struct GaussianStart {
    /// m, `[dim]`.
    mean: Vec<f64>,
    /// p, `[dim]`.
    precision: Vec<f64>,
    support: Support,
}

impl GaussianStart {
    /// The given means and standard deviations, `[dim]` each, on all of `ℝ^d`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn new(mean: Vec<f64>, std: &[f64]) -> Self {
        assert_eq!(mean.len(), std.len(), "one standard deviation per coordinate");
        Self { mean, precision: std.iter().map(|s| (s * s).recip()).collect(), support: Support::Unbounded }
    }

    /// `∝ e^{−½ c |x|²}` on a support. On the cube `c = 0` is the uniform distribution.
    pub fn isotropic(support: Support, dim: usize, c: f64) -> Self {
        Self { mean: vec![0.0; dim], precision: vec![c; dim], support }
    }

    /// `N(0, I/c)` for a confined network, on the cube cut to it (uniform without confinement), moments matched for a
    /// mixture; `None` where neither is known.
    pub fn of(model: &EnergyModel) -> Option<Self> {
        let dim = ember_model::Energy::dim(model);
        match (model.spec().support, model.confinement()) {
            (Support::Cube, c) => return Some(Self::isotropic(Support::Cube, dim, c.unwrap_or(0.0))),
            (Support::Unbounded, Some(c)) => return Some(Self::isotropic(Support::Unbounded, dim, c)),
            (Support::Unbounded, None) => {}
        }
        if let Some((mean, precision)) = model.gaussian_base() {
            // Independent coordinates with the variance that each has given the others: 1/P_jj.
            let std: Vec<f64> =
                (0..dim).map(|j| f64::from(precision[j * (dim + 1)]).recip().sqrt()).collect();
            return Some(Self::new(mean.into_iter().map(f64::from).collect(), &std));
        }
        let mixture = model.mixture()?;
        let moment = |power: i32, j: usize| -> f64 {
            let terms = mixture.means.iter().zip(&mixture.masses);
            terms.map(|(mean, mass)| mass * mean[j].powi(power)).sum()
        };
        let mean: Vec<f64> = (0..dim).map(|j| moment(1, j)).collect();
        let std: Vec<f64> =
            mean.iter().enumerate().map(|(j, m)| (1.0 + moment(2, j) - m * m).max(1.0).sqrt()).collect();
        Some(Self::new(mean, &std))
    }

    /// m, `[dim]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// p, `[dim]`.
    pub fn precision(&self) -> &[f64] {
        &self.precision
    }

    /// Where the density lives.
    pub fn support(&self) -> Support {
        self.support
    }

    /// `log ∫ e^{−U_0}` over the support.
    pub fn log_z(&self) -> f64 {
        if self.support == Support::Cube {
            return self.precision.len() as f64 * self.support.gaussian_log_z(self.precision[0]);
        }
        self.precision.iter().map(|&p| self.support.gaussian_log_z(p)).sum()
    }

    /// Exact draws, row-major `[count, dim]`.
    pub fn draw(&self, count: usize, stream: Stream) -> Vec<f32> {
        let dim = self.mean.len();
        if self.support == Support::Cube {
            // isotropic by construction
            return self.support.gaussian_draws(dim, self.precision[0], count, stream);
        }
        let mut draws = stream.normals(count, dim);
        for row in draws.chunks_exact_mut(dim) {
            for ((x, mean), precision) in row.iter_mut().zip(&self.mean).zip(&self.precision) {
                *x = (mean + f64::from(*x) / precision.sqrt()) as f32;
            }
        }
        draws
    }
}
