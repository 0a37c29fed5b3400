//! The tractable start of an annealed path: a law with known `log Z_0` and exact draws on the model's support. A Gaussian, or
//! a flow (`log Z_0 = 0`).

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::blockwise::Blockwise;
use ember_model::energy::gaussian::Gaussian;
use ember_model::product::matmul;
use ember_model::random::Stream;
use ember_model::shape::Support;
use ember_model::{Energy, EnergyModel};

use crate::FlowProposal;

/// The end of an annealed path at β = 0.
pub trait Start: Send + Sync {
    /// Coordinates of one sample.
    fn dim(&self) -> usize;

    /// Where the density lives.
    fn support(&self) -> Support;

    /// `log ∫ e^{−U_0}` over the support.
    fn log_z(&self) -> f64;

    /// Exact draws, row-major `[count, dim]`.
    fn draw(&self, count: usize, stream: Stream) -> Vec<f32>;

    /// `U_0` on a device.
    fn energy_on(&self, device: &Device) -> Box<dyn Energy>;

    /// c where `U_0 = ½ c |x|²` on all of `ℝ^d`.
    fn confinement(&self) -> Option<f64> {
        None
    }
}

impl<S: Start> Start for &S {
    fn dim(&self) -> usize {
        (**self).dim()
    }

    fn support(&self) -> Support {
        (**self).support()
    }

    fn log_z(&self) -> f64 {
        (**self).log_z()
    }

    fn draw(&self, count: usize, stream: Stream) -> Vec<f32> {
        (**self).draw(count, stream)
    }

    fn energy_on(&self, device: &Device) -> Box<dyn Energy> {
        (**self).energy_on(device)
    }

    fn confinement(&self) -> Option<f64> {
        (**self).confinement()
    }
}

/// A flow, whose tensors are on the path's device: draws cost a pass on the CPU.
impl Start for FlowProposal {
    fn dim(&self) -> usize {
        FlowProposal::dim(self)
    }

    fn support(&self) -> Support {
        Support::Unbounded
    }

    fn log_z(&self) -> f64 {
        0.0
    }

    fn draw(&self, count: usize, stream: Stream) -> Vec<f32> {
        self.model().draw(count, stream).expect("a flow can be drawn at every θ")
    }

    fn energy_on(&self, _device: &Device) -> Box<dyn Energy> {
        Box::new(Blockwise(self.model().clone()))
    }
}

/// A Gaussian on a support: coordinates independent, or correlated on all of `ℝ^d`.
#[derive(Clone, Debug)]
pub struct GaussianStart {
    shape: Shape,
    support: Support,
}

#[derive(Clone, Debug)]
enum Shape {
    /// `U_0(x) = ½ Σ_j p_j (x_j − m_j)²`.
    Independent {
        /// m, `[dim]`.
        mean: Vec<f64>,
        /// p, `[dim]`.
        precision: Vec<f64>,
    },
    /// `U_0(x) = ½ (x − m)ᵀ P (x − m)`.
    Correlated(Gaussian),
}

impl GaussianStart {
    /// The given means and standard deviations, `[dim]` each, on all of `ℝ^d`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn new(mean: Vec<f64>, std: &[f64]) -> Self {
        assert_eq!(mean.len(), std.len(), "one standard deviation per coordinate");
        let precision = std.iter().map(|s| (s * s).recip()).collect();
        Self { shape: Shape::Independent { mean, precision }, support: Support::Unbounded }
    }

    /// `∝ e^{−½ c |x|²}` on a support. On the cube `c = 0` is the uniform distribution.
    pub fn isotropic(support: Support, dim: usize, c: f64) -> Self {
        Self { shape: Shape::Independent { mean: vec![0.0; dim], precision: vec![c; dim] }, support }
    }

    /// A Gaussian with its correlations, on all of `ℝ^d`.
    pub fn correlated(gaussian: Gaussian) -> Self {
        Self { shape: Shape::Correlated(gaussian), support: Support::Unbounded }
    }

    /// `N(0, I/c)` for a confined network, on the cube cut to it (uniform without confinement); the base of a network on a
    /// Gaussian; moments matched for a mixture of Gaussians, and as its parts'
    /// suggest for a composed energy; `None` where none of these is known.
    pub fn of(model: &EnergyModel) -> Option<Self> {
        let dim = model.dim();
        match (model.spec().support, model.confinement()) {
            (Support::Cube, c) => return Some(Self::isotropic(Support::Cube, dim, c.unwrap_or(0.0))),
            (Support::Unbounded, Some(c)) => return Some(Self::isotropic(Support::Unbounded, dim, c)),
            (Support::Unbounded, None) => {}
        }
        if let Some(base) = model.gaussian_base() {
            return Some(Self::correlated(base));
        }
        if model.mixture().is_none() && model.spec().energy.composition().is_none() {
            return None;
        }
        let [mean, variance] = model.moments()?;
        let std: Vec<f64> = variance.into_iter().map(f64::sqrt).collect();
        Some(Self::new(mean, &std))
    }

    /// m, `[1, dim]`.
    fn mean_on(&self, device: &Device) -> Tensor<2> {
        let mean = match &self.shape {
            Shape::Independent { mean, .. } => mean.iter().map(|&m| m as f32).collect(),
            Shape::Correlated(gaussian) => gaussian.mean().to_vec(),
        };
        Tensor::from_data(TensorData::new(mean, [1, self.dim()]), device)
    }

    /// p, `[1, dim]`, or P, `[dim, dim]`.
    fn precision_on(&self, device: &Device) -> Precision {
        let dim = self.dim();
        match &self.shape {
            Shape::Independent { precision, .. } => {
                let row: Vec<f32> = precision.iter().map(|&p| p as f32).collect();
                Precision::Row(Tensor::from_data(TensorData::new(row, [1, dim]), device))
            }
            Shape::Correlated(gaussian) => {
                let matrix = gaussian.precision().to_vec();
                Precision::Matrix(Tensor::from_data(TensorData::new(matrix, [dim, dim]), device))
            }
        }
    }
}

impl Start for GaussianStart {
    fn dim(&self) -> usize {
        match &self.shape {
            Shape::Independent { mean, .. } => mean.len(),
            Shape::Correlated(gaussian) => gaussian.mean().len(),
        }
    }

    fn support(&self) -> Support {
        self.support
    }

    fn log_z(&self) -> f64 {
        match &self.shape {
            Shape::Correlated(gaussian) => gaussian.log_z(),
            Shape::Independent { precision, .. } if self.support == Support::Cube => {
                precision.len() as f64 * self.support.gaussian_log_z(precision[0])
            }
            Shape::Independent { precision, .. } => {
                precision.iter().map(|&p| self.support.gaussian_log_z(p)).sum()
            }
        }
    }

    fn draw(&self, count: usize, stream: Stream) -> Vec<f32> {
        match &self.shape {
            Shape::Correlated(gaussian) => gaussian.draw(count, stream),
            Shape::Independent { precision, .. } if self.support == Support::Cube => {
                // isotropic by construction
                self.support.gaussian_draws(precision.len(), precision[0], count, stream)
            }
            Shape::Independent { mean, precision } => {
                let mut draws = stream.normals(count, mean.len());
                for row in draws.chunks_exact_mut(mean.len()) {
                    for ((x, mean), precision) in row.iter_mut().zip(mean).zip(precision) {
                        *x = (mean + f64::from(*x) / precision.sqrt()) as f32;
                    }
                }
                draws
            }
        }
    }

    fn energy_on(&self, device: &Device) -> Box<dyn Energy> {
        Box::new(GaussianEnergy { mean: self.mean_on(device), precision: self.precision_on(device) })
    }

    fn confinement(&self) -> Option<f64> {
        let Shape::Independent { mean, precision } = &self.shape else { return None };
        let isotropic = mean.iter().all(|m| *m == 0.0) && precision.iter().all(|p| *p == precision[0]);
        (isotropic && self.support == Support::Unbounded).then(|| precision[0])
    }
}

/// `½ (x − m)ᵀ P (x − m)` on a device.
struct GaussianEnergy {
    /// `[1, dim]`.
    mean: Tensor<2>,
    precision: Precision,
}

impl Energy for GaussianEnergy {
    fn dim(&self) -> usize {
        self.mean.dims()[1]
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        self.energy_and_grad(x).0
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let gap = x - self.mean.clone();
        let grad = self.precision.times(gap.clone());
        let u = (gap * grad.clone()).sum_dim(1).squeeze_dim::<1>(1);
        (u.mul_scalar(0.5), grad)
    }
}

/// The precision of a start on the device.
enum Precision {
    /// `[1, dim]`: independent coordinates.
    Row(Tensor<2>),
    /// `[dim, dim]`, symmetric.
    Matrix(Tensor<2>),
}

impl Precision {
    /// `P q` of every row. `gap: [n, dim]` → `[n, dim]`.
    fn times(&self, gap: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Row(precision) => gap * precision.clone(),
            Self::Matrix(precision) => matmul(gap, precision.clone()),
        }
    }
}
