//! Mixture of unit-covariance Gaussians with free means and masses (Carbone et al. 2023, section 4.1):
//! `U(x) = −log Σ_k e^{l_k − ½|x − m_k|²}`, `log Z = (d/2) ln 2π + log Σ_k e^{l_k}`.
//!
//! The first logit `l_0` is frozen: adding a constant to all of them moves log Z only. Closed forms throughout, no tape:
//! `∇U = x − Σ_k r_k m_k`, `∂U/∂m_k = −r_k (x − m_k)`, `∂U/∂l_k = −r_k`, with responsibilities `r`.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

use super::chain::{Chain, ChainEnd, ChainState};
use super::line::rowwise;
use super::{Architecture, EnergyTable, Evaluation, Mixture, WeightedGrads};
use crate::cpu::CpuForm;
use crate::error::ModelError;
use crate::params::{HostTensor, ParamSpec};
use crate::product::matmul;
use crate::random::{Purpose, Stream};
use crate::shape::SampleShape;

use cpu::Modes;

mod cpu;
#[cfg(feature = "wgpu")]
mod gpu;
mod rows;

/// `{ kind = "gaussian_mixture", means, means_noise, train_means, logit_learning_rate_scale }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GaussianMixture {
    /// Where the modes start: leading coordinates, the rest are 0.
    pub means: Vec<Vec<f64>>,
    /// Standard deviation of the noise added to every starting coordinate.
    #[serde(default)]
    pub means_noise: f64,
    /// Whether the means are trained.
    #[serde(default = "yes")]
    pub train_means: bool,
    /// The logits learn this many times faster than the means.
    #[serde(default = "one")]
    pub logit_learning_rate_scale: f64,
}

fn yes() -> bool {
    true
}

fn one() -> f64 {
    1.0
}

impl EnergyTable for GaussianMixture {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// No means, means longer than `dim`, values that are not finite, a negative noise or scale.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        let dim = shape.dim();
        if self.means.is_empty() {
            return Err(ModelError::invalid("means", "at least one mode is needed"));
        }
        for (k, mean) in self.means.iter().enumerate() {
            if mean.len() > dim {
                return Err(ModelError::invalid(
                    "means",
                    format!("mean {k} has {} coordinates, the samples have dim = {dim}", mean.len()),
                ));
            }
            if let Some(bad) = mean.iter().find(|m| !m.is_finite()) {
                return Err(ModelError::invalid(
                    "means",
                    format!("mean {k} holds {bad}, not a finite number"),
                ));
            }
        }
        for (key, value) in
            [("means_noise", self.means_noise), ("logit_learning_rate_scale", self.logit_learning_rate_scale)]
        {
            if !value.is_finite() || value < 0.0 {
                return Err(ModelError::invalid(key, format!("{value} is not a finite number ≥ 0")));
            }
        }
        let cpu = CpuForm::new(Modes { dim, count: self.means.len() });
        Ok(Box::new(MixtureEnergy { dim, cpu, config: self.clone() }))
    }
}

/// A [`GaussianMixture`] on samples of `dim` coordinates. θ = (`means` `[K·dim]`, `log_masses` `[K]`, the logits `l`).
#[derive(Clone, Debug)]
struct MixtureEnergy {
    dim: usize,
    cpu: CpuForm<Modes>,
    config: GaussianMixture,
}

impl MixtureEnergy {
    fn modes(&self) -> usize {
        self.config.means.len()
    }

    /// `l_k − ½|x − m_k|²`, `[batch, K]`: differences first, so that far-away means lose no digits.
    fn log_terms(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        let [n, d] = x.dims();
        let k = self.modes();
        let means = theta[0].clone().reshape([1, k, d]);
        let gap = x.reshape([n, 1, d]) - means;
        let square = (gap.clone() * gap).sum_dim(2).reshape([n, k]);
        theta[1].clone().reshape([1, k]) - square.mul_scalar(0.5)
    }

    /// `(U, ∇U)` in one launch, where a GPU can.
    #[cfg(feature = "wgpu")]
    fn on_gpu(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
        gpu::energy_and_grad(theta, x)
    }

    #[cfg(not(feature = "wgpu"))]
    fn on_gpu(&self, _theta: &[Tensor<1>], _x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
        None
    }

    /// A chain in one launch, where a GPU can.
    #[cfg(feature = "wgpu")]
    fn chain_on_gpu(&self, theta: &[Tensor<1>], from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        gpu::chain(theta, from, chain)
    }

    #[cfg(not(feature = "wgpu"))]
    fn chain_on_gpu(&self, _theta: &[Tensor<1>], _from: &ChainState, _chain: &Chain) -> Option<ChainEnd> {
        None
    }

    /// Weighted parameter gradients in two launches, where a GPU can.
    #[cfg(feature = "wgpu")]
    fn grads_on_gpu(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> Option<WeightedGrads> {
        gpu::weighted_param_grads(theta, terms)
    }

    #[cfg(not(feature = "wgpu"))]
    fn grads_on_gpu(&self, _theta: &[Tensor<1>], _terms: &[(Tensor<2>, Tensor<1>)]) -> Option<WeightedGrads> {
        None
    }

    /// `(U, ∇U)` as tensor operations.
    fn by_tensors(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (k, d) = (self.modes(), self.dim);
        let terms = self.log_terms(theta, x.clone());
        let responsibilities = activation::softmax(terms.clone(), 1);
        // ∇U = x − Σ_k r_k m_k
        let grad = x - matmul(responsibilities, theta[0].clone().reshape([k, d]));
        (negative_log_sum_exp(terms), grad)
    }

    /// Weighted parameter gradients as tensor operations.
    fn param_grads_by_tensors(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let (k, d) = (self.modes(), self.dim);
        let device = theta[0].device();
        let mut means_grad = Tensor::<1>::zeros([k * d], &device);
        let mut logits_grad = Tensor::<1>::zeros([k], &device);
        let mut energies = Vec::with_capacity(terms.len());
        for (x, weights) in terms {
            let [n, _] = x.dims();
            let log_terms = self.log_terms(theta, x.clone());
            let weighted = activation::softmax(log_terms.clone(), 1) * weights.clone().reshape([n, 1]);
            let mass = weighted.clone().sum_dim(0).reshape([k, 1]);
            // Σ_b w r_k (m_k − x)
            let pull =
                theta[0].clone().reshape([k, d]) * mass.clone() - matmul(weighted.transpose(), x.clone());
            means_grad = means_grad + pull.reshape([k * d]);
            logits_grad = logits_grad - mass.reshape([k]);
            energies.push(negative_log_sum_exp(log_terms));
        }
        // The first logit is frozen.
        let free: Vec<f32> = (0..k).map(|mode| if mode == 0 { 0.0 } else { 1.0 }).collect();
        let free = crate::params::upload(free, &device);
        WeightedGrads { grads: vec![means_grad, logits_grad * free], energies }
    }
}

/// `−log Σ_k e^{terms_k}`, `[batch]`.
fn negative_log_sum_exp(terms: Tensor<2>) -> Tensor<1> {
    let [n, _] = terms.dims();
    let max = terms.clone().max_dim(1);
    let sum = (terms - max.clone()).exp().sum_dim(1);
    (sum.log() + max).neg().reshape([n])
}

fn logsumexp(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
    max + logits.iter().map(|&l| (f64::from(l) - max).exp()).sum::<f64>().ln()
}

impl Architecture for MixtureEnergy {
    fn kind(&self) -> &'static str {
        "gaussian_mixture"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn params(&self) -> Vec<ParamSpec> {
        let k = self.modes();
        let mut means = ParamSpec::new("means", vec![k, self.dim]);
        if !self.config.train_means {
            means.learning_rate_scale = 0.0;
        }
        let mut log_masses = ParamSpec::new("log_masses", vec![k]);
        log_masses.learning_rate_scale = self.config.logit_learning_rate_scale;
        vec![means, log_masses]
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        let (k, d) = (self.modes(), self.dim);
        let noise = Stream::new(seed, Purpose::Init).normals(k, d);
        let mut means = Vec::with_capacity(k * d);
        for (i, mean) in self.config.means.iter().enumerate() {
            for j in 0..d {
                let centre = mean.get(j).copied().unwrap_or(0.0);
                means.push((centre + self.config.means_noise * f64::from(noise[i * d + j])) as f32);
            }
        }
        vec![means, vec![0.0; k]]
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let explicit = self.cpu.energy(theta, &x).or_else(|| Some(self.on_gpu(theta, &x)?.0));
        explicit.unwrap_or_else(|| negative_log_sum_exp(self.log_terms(theta, x)))
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let explicit = self.cpu.energy_and_grad(theta, &x).or_else(|| self.on_gpu(theta, &x));
        explicit.unwrap_or_else(|| self.by_tensors(theta, x))
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        self.cpu.energy_and_grad_kept(theta, &x).unwrap_or_else(|| {
            let (energy, grad) = self.energy_and_grad(theta, x);
            (energy, grad, None)
        })
    }

    fn chain(&self, theta: &[Tensor<1>], from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        self.chain_on_gpu(theta, from, chain)
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let explicit = self.cpu.weighted_param_grads(theta, terms);
        let explicit = explicit.or_else(|| self.grads_on_gpu(theta, terms));
        explicit.unwrap_or_else(|| self.param_grads_by_tensors(theta, terms))
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        let ([n, d], k) = (x.dims(), self.modes());
        // The first logit is frozen.
        let logits = match k {
            1 => theta[1].clone().detach(),
            _ => Tensor::cat(
                vec![theta[1].clone().narrow(0, 0, 1).detach(), theta[1].clone().narrow(0, 1, k - 1)],
                0,
            ),
        };
        let terms = self.log_terms(&[theta[0].clone(), logits], x.clone());
        let responsibilities = activation::softmax(terms.clone(), 1);
        // l′_k = −(x − m_k)ᵀv, l″_k = −|v|²
        let gap = x.reshape([n, 1, d]) - theta[0].clone().reshape([1, k, d]);
        let slopes = (gap * v.clone().reshape([n, 1, d])).sum_dim(2).reshape([n, k]).neg();
        let slope = (responsibilities.clone() * slopes.clone()).sum_dim(1);
        // U′ = −Σ r_k l′_k, U″ = |v|² − Σ r_k (l′_k − Σ r l′)²
        let spread = slopes - slope.clone();
        let variance = rowwise(responsibilities * spread.clone() * spread);
        Some([negative_log_sum_exp(terms), slope.neg().reshape([n]), rowwise(v.clone() * v) - variance])
    }

    fn jet_order(&self) -> usize {
        2
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        let half_log_2pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        Some(self.dim as f64 * half_log_2pi + logsumexp(&theta[1]))
    }

    fn has_exact_start(&self) -> bool {
        true
    }

    /// Far out as its nearest mode.
    fn growth(&self) -> Option<f64> {
        Some(1.0)
    }

    fn moments(&self, theta: &[Vec<f32>]) -> Option<[Vec<f64>; 2]> {
        let mixture = self.mixture(theta)?;
        let moment = |power: i32, j: usize| -> f64 {
            let terms = mixture.means.iter().zip(&mixture.masses);
            terms.map(|(mean, mass)| mass * mean[j].powi(power)).sum()
        };
        let mean: Vec<f64> = (0..self.dim).map(|j| moment(1, j)).collect();
        let variance = mean.iter().enumerate().map(|(j, m)| (1.0 + moment(2, j) - m * m).max(1.0)).collect();
        Some([mean, variance])
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        let mixture = self.mixture(theta)?;
        let mut draws = stream.normals(count, self.dim);
        // The mode comes from the block after the coordinates', so that it shares no words with them.
        let block = self.dim.div_ceil(4) as u32;
        for (i, row) in draws.chunks_exact_mut(self.dim).enumerate() {
            let [high, low, ..] = stream.bits(block, i as u32);
            let u = ((u64::from(high) << 32 | u64::from(low)) >> 11) as f64 / (1u64 << 53) as f64;
            let mut cumulative = 0.0;
            let mode = mixture.masses.iter().position(|mass| {
                cumulative += mass;
                u < cumulative
            });
            let mean = &mixture.means[mode.unwrap_or(mixture.masses.len() - 1)];
            for (x, &mean) in row.iter_mut().zip(mean) {
                *x = (f64::from(*x) + mean) as f32;
            }
        }
        Some(draws)
    }

    fn mixture(&self, theta: &[Vec<f32>]) -> Option<Mixture> {
        let log_sum = logsumexp(&theta[1]);
        Some(Mixture {
            means: theta[0]
                .chunks_exact(self.dim)
                .map(|mean| mean.iter().map(|&m| f64::from(m)).collect())
                .collect(),
            masses: theta[1].iter().map(|&l| (f64::from(l) - log_sum).exp()).collect(),
        })
    }

    fn export(&self, theta: &[Vec<f32>]) -> Vec<HostTensor> {
        let log_sum = logsumexp(&theta[1]);
        let normalised = theta[1].iter().map(|&l| (f64::from(l) - log_sum) as f32).collect();
        self.params()
            .into_iter()
            .zip([theta[0].clone(), normalised])
            .map(|(spec, values)| HostTensor { name: spec.name, shape: spec.shape, values })
            .collect()
    }
}
