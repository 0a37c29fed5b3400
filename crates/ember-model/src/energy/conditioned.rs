//! An energy at a temperature, and on a cube: `V = U/T` on `ℝ^d` or on `[−1, 1]^d`.
//!
//! `V` replaces `U` everywhere (ALGORITHMS 0): drift, weights, parameter gradient and `log Z` are those of `V`, so that
//! nothing outside this file knows of the temperature. Parameters and their names stay the energy's own.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::chain::{Chain, ChainEnd, ChainState};
use super::levels::Levels;
use super::{Architecture, Evaluation, Mixture, Pass, WeightedGrads};
use crate::error::ModelError;
use crate::flow::NonFinite;
use crate::params::{HostTensor, ParamSpec};
use crate::random::Stream;
use crate::shape::Support;

/// `V = U/T` on a support.
#[derive(Debug)]
pub(crate) struct Conditioned {
    pub inner: Box<dyn Architecture>,
    pub temperature: f64,
    pub support: Support,
}

impl Conditioned {
    /// `c/T` where `U` is its confinement `½ c |x|²` alone, so that `V` is a Gaussian, perhaps cut to the cube.
    fn gaussian_alone(&self, theta: &[Vec<f32>]) -> Option<f64> {
        let inner = &self.inner;
        let has_base = inner.has_gaussian_base() || inner.tilt_and_base().is_some();
        match inner.confinement() {
            Some(c) => inner.log_z(theta).map(|_| c / self.temperature),
            // U = 0 on the cube: the uniform law, a Gaussian of precision 0; log Z = d ln 2.
            None => (self.support == Support::Cube && !has_base && inner.is_base_alone(theta)).then_some(0.0),
        }
    }
}

/// A pass of U, whose parameter gradients are those of V: `Σ w ∂V = Σ (w/T) ∂U`.
#[derive(Debug)]
struct ConditionedPass {
    inner: Arc<dyn Pass>,
    temperature: f64,
}

impl Pass for ConditionedPass {
    fn weighted_param_grads(&self, weights: &Tensor<1>) -> Vec<Tensor<1>> {
        self.inner.weighted_param_grads(&weights.clone().div_scalar(self.temperature))
    }
}

impl Architecture for Conditioned {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn dim(&self) -> usize {
        self.inner.dim()
    }

    fn is_network(&self) -> bool {
        self.inner.is_network()
    }

    fn widest(&self) -> usize {
        self.inner.widest()
    }

    fn params(&self) -> Vec<ParamSpec> {
        self.inner.params()
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        self.inner.init(seed)
    }

    fn levels(&self) -> Option<&Levels> {
        self.inner.levels()
    }

    fn at_level(&self, level: usize) -> Option<Box<dyn Architecture>> {
        Some(Box::new(Self { inner: self.inner.at_level(level)?, ..*self }))
    }

    fn on_levels(&self) -> Option<Box<dyn Architecture>> {
        let inner = self.inner.on_levels()?;
        Some(Box::new(Self { inner, temperature: self.temperature, support: Support::Unbounded }))
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        self.inner.energy(theta, x).div_scalar(self.temperature)
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (u, grad) = self.inner.energy_and_grad(theta, x);
        (u.div_scalar(self.temperature), grad.div_scalar(self.temperature))
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        let (u, grad, pass) = self.inner.energy_and_grad_kept(theta, x);
        let temperature = self.temperature;
        let pass = pass.map(|inner| Arc::new(ConditionedPass { inner, temperature }) as Arc<dyn Pass>);
        (u.div_scalar(temperature), grad.div_scalar(temperature), pass)
    }

    /// A chain at scale 1/T.
    fn chain(&self, theta: &[Tensor<1>], from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        let scale = (f64::from(chain.scale) / self.temperature) as f32;
        self.inner.chain(theta, from, &Chain { scale, ..*chain })
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        // Σ w ∂V = Σ (w/T) ∂U
        let terms: Vec<_> =
            terms.iter().map(|(x, w)| (x.clone(), w.clone().div_scalar(self.temperature))).collect();
        let found = self.inner.weighted_param_grads(theta, &terms);
        let energies = found.energies.into_iter().map(|u| u.div_scalar(self.temperature)).collect();
        WeightedGrads { energies, ..found }
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        Some(self.inner.jet(theta, x, v)?.map(|u| u.div_scalar(self.temperature)))
    }

    fn jet_order(&self) -> usize {
        self.inner.jet_order()
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        let c = self.gaussian_alone(theta)?;
        Some(self.dim() as f64 * self.support.gaussian_log_z(c))
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        self.gaussian_alone(theta).map(|c| self.support.gaussian_draws(self.dim(), c, count, stream))
    }

    fn has_exact_start(&self) -> bool {
        let inner = &self.inner;
        let has_base = inner.has_gaussian_base() || inner.tilt_and_base().is_some();
        match inner.confinement() {
            Some(_) => inner.has_exact_start(),
            None => self.support == Support::Cube && !has_base && inner.starts_at_base(),
        }
    }

    fn confinement(&self) -> Option<f64> {
        self.inner.confinement().map(|c| c / self.temperature)
    }

    fn growth(&self) -> Option<f64> {
        self.inner.growth().map(|growth| growth / self.temperature)
    }

    /// Those of e^{−U} with T times the variances: exact for a Gaussian.
    fn moments(&self, theta: &[Vec<f32>]) -> Option<[Vec<f64>; 2]> {
        let [mean, variance] = self.inner.moments(theta)?;
        Some([mean, variance.into_iter().map(|v| v * self.temperature).collect()])
    }

    fn check_support(&self, support: Support) -> Result<(), ModelError> {
        self.inner.check_support(support)
    }

    fn starts_at_base(&self) -> bool {
        self.inner.starts_at_base()
    }

    fn is_base_alone(&self, theta: &[Vec<f32>]) -> bool {
        self.inner.is_base_alone(theta)
    }

    fn base_energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Option<Tensor<1>> {
        self.inner.base_energy(theta, x).map(|base| base.div_scalar(self.temperature))
    }

    fn mixture(&self, _theta: &[Vec<f32>]) -> Option<Mixture> {
        // At another temperature or on a cube the modes are no unit-covariance Gaussians.
        None
    }

    fn has_data_init(&self) -> bool {
        self.inner.has_data_init()
    }

    fn data_init(&self, theta: &[Tensor<1>], rows: Tensor<2>) -> Vec<Tensor<1>> {
        self.inner.data_init(theta, rows)
    }

    fn first_non_finite_layer(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Option<NonFinite> {
        self.inner.first_non_finite_layer(theta, x)
    }

    fn export(&self, theta: &[Vec<f32>]) -> Vec<HostTensor> {
        self.inner.export(theta)
    }
}
