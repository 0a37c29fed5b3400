//! A network on a Gaussian: `U(x) = ½ (x − m)ᵀ P (x − m) + f_θ(x)`, `m` and `P` fitted to the training data before the run.
//!
//! The starting model, where the last layer is zero, is that Gaussian exactly: `log Z_0 = ½ (d ln 2π − ln det P)`, and draws
//! are `m + L⁻ᵀ ξ` with `P = L Lᵀ`. It is as confining as `½ c |x|²` and far nearer to the data, so walkers need not be
//! carried all the way from an isotropic cloud. `m` and `P` are frozen parameters, `base.mean` and `base.precision`, so that
//! files hold them. Cost: one `[n, d] × [d, d]` product.

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::gaussian::Gaussian;
use super::line::rowwise;
use super::score::{Directions, Pull, ScoreGrads, ScoreLoss};
use super::{Architecture, Evaluation, Pass, WeightedGrads};
use crate::error::ModelError;
use crate::params::ParamSpec;
use crate::product::matmul;
use crate::random::Stream;

/// Names of the frozen parameters.
const MEAN: &str = "base.mean";
const PRECISION: &str = "base.precision";

/// What a network is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// The Gaussian with the training data's mean and covariance.
    Gaussian,
}

/// `½ (x − m)ᵀ P (x − m)` under a network.
#[derive(Debug)]
pub(super) struct Based {
    inner: Box<dyn Architecture>,
}

impl Based {
    /// `inner` itself, or on the Gaussian where `base` asks for it.
    ///
    /// # Errors
    /// A base beside a confinement.
    pub fn wrap(
        inner: Box<dyn Architecture>,
        base: Option<Base>,
    ) -> Result<Box<dyn Architecture>, ModelError> {
        match base {
            None => Ok(inner),
            Some(Base::Gaussian) if inner.confinement().is_some() => Err(ModelError::invalid(
                "confinement",
                "a Gaussian base confines already: leave `confinement` out, or `base`",
            )),
            Some(Base::Gaussian) => Ok(Box::new(Self { inner })),
        }
    }

    /// θ of the network, and `m [1, d]`, `P [d, d]`.
    fn split<'a>(&self, theta: &'a [Tensor<1>]) -> (&'a [Tensor<1>], Tensor<2>, Tensor<2>) {
        let d = self.dim();
        let (own, base) = theta.split_at(theta.len() - 2);
        (own, base[0].clone().reshape([1, d]), base[1].clone().reshape([d, d]))
    }

    /// `(½ qᵀ P q, P q)`, `q = x − m`.
    fn quadratic(mean: Tensor<2>, precision: Tensor<2>, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let gap = x - mean;
        let grad = matmul(gap.clone(), precision);
        let u = (gap * grad.clone()).sum_dim(1).squeeze_dim::<1>(1);
        (u.mul_scalar(0.5), grad)
    }

    /// The Gaussian, where the network is zero.
    fn alone(&self, theta: &[Vec<f32>]) -> Option<Gaussian> {
        let (own, base) = theta.split_at(theta.len() - 2);
        if !self.inner.is_base_alone(own) {
            return None;
        }
        Gaussian::new(base[0].clone(), base[1].clone())
    }
}

/// A pass of the network; the base is frozen.
#[derive(Debug)]
struct BasedPass {
    inner: Arc<dyn Pass>,
    /// Mean and precision.
    frozen: Vec<Tensor<1>>,
}

impl Pass for BasedPass {
    fn weighted_param_grads(&self, weights: &Tensor<1>) -> Vec<Tensor<1>> {
        let mut grads = self.inner.weighted_param_grads(weights);
        grads.extend(self.frozen.iter().map(Tensor::zeros_like));
        grads
    }
}

impl Architecture for Based {
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
        let d = self.dim();
        let mut params = self.inner.params();
        for (name, shape) in [(MEAN, vec![d]), (PRECISION, vec![d, d])] {
            params.push(ParamSpec { learning_rate_scale: 0.0, ..ParamSpec::new(name, shape) });
        }
        params
    }

    /// With the standard normal as the base, until one is fitted.
    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        let d = self.dim();
        let mut theta = self.inner.init(seed);
        theta.push(vec![0.0; d]);
        theta.push((0..d * d).map(|i| if i % (d + 1) == 0 { 1.0 } else { 0.0 }).collect());
        theta
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let (own, mean, precision) = self.split(theta);
        self.inner.energy(own, x.clone()) + Self::quadratic(mean, precision, x).0
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (own, mean, precision) = self.split(theta);
        let (u, grad) = self.inner.energy_and_grad(own, x.clone());
        let (base, base_grad) = Self::quadratic(mean, precision, x);
        (u + base, grad + base_grad)
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        let (own, mean, precision) = self.split(theta);
        let (u, grad, pass) = self.inner.energy_and_grad_kept(own, x.clone());
        let (base, base_grad) = Self::quadratic(mean, precision, x);
        let frozen = theta[theta.len() - 2..].to_vec();
        let pass = pass.map(|inner| Arc::new(BasedPass { inner, frozen }) as Arc<dyn Pass>);
        (u + base, grad + base_grad, pass)
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let (own, mean, precision) = self.split(theta);
        let mut found = self.inner.weighted_param_grads(own, terms);
        for (energy, (x, _)) in found.energies.iter_mut().zip(terms) {
            *energy = energy.clone() + Self::quadratic(mean.clone(), precision.clone(), x.clone()).0;
        }
        // The base is frozen.
        found.grads.extend(theta[theta.len() - 2..].iter().map(Tensor::zeros_like));
        found
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        let (own, mean, precision) = self.split(theta);
        // The base is frozen.
        let (mean, precision) = (mean.detach(), precision.detach());
        let [value, first, second] = self.inner.jet(own, x.clone(), v.clone())?;
        let (base, base_grad) = Self::quadratic(mean, precision.clone(), x);
        let bend = rowwise(matmul(v.clone(), precision) * v.clone());
        Some([value + base, first + rowwise(base_grad * v), second + bend])
    }

    /// Of `ε − σ ∇U` alone, where the base's part goes into the noise.
    fn score_grads(&self, theta: &[Tensor<1>], x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        let (Pull::Residual { noise, sigma }, Directions::None) = (loss.pull, loss.directions) else {
            return None;
        };
        let (own, mean, precision) = self.split(theta);
        let noise = noise.clone() - sigma.clone() * Self::quadratic(mean, precision, x.clone()).1;
        let loss = ScoreLoss { pull: Pull::Residual { noise: &noise, sigma }, ..*loss };
        let mut found = self.inner.score_grads(own, x, &loss)?;
        // The base is frozen.
        found.grads.extend(theta[theta.len() - 2..].iter().map(Tensor::zeros_like));
        Some(found)
    }

    fn jet_order(&self) -> usize {
        self.inner.jet_order()
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        Some(self.alone(theta)?.log_z())
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        Some(self.alone(theta)?.draw(count, stream))
    }

    /// That of P's smallest eigenvalue, which θ holds.
    fn growth(&self) -> Option<f64> {
        None
    }

    fn moments(&self, theta: &[Vec<f32>]) -> Option<[Vec<f64>; 2]> {
        let base = &theta[theta.len() - 2..];
        let base = Gaussian::new(base[0].clone(), base[1].clone())?;
        Some([base.mean().iter().map(|&m| f64::from(m)).collect(), base.variances()])
    }

    fn has_exact_start(&self) -> bool {
        self.inner.starts_at_base()
    }

    fn base_energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Option<Tensor<1>> {
        let (_, mean, precision) = self.split(theta);
        Some(Self::quadratic(mean, precision, x).0)
    }

    fn has_gaussian_base(&self) -> bool {
        true
    }
}
