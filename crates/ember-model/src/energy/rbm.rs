//! Restricted Boltzmann machine (Smolensky 1986; Hinton 2002): `E(v, h) = −a·v − b·h − hᵀWv` of zeros and ones `v`, `h`. The energy is the free
//! energy of v, `U(v) = −a·v − Σ_j softplus(b_j + W_j·v)`, so that `Σ_h e^{−E(v, h)} = e^{−U(v)}`.
//!
//! Samples are rows of zeros and ones, and `Z` is a *sum* over the `2^d` of them. Given v the h are independent, and given h the v:
//! [`Architecture::block_gibbs`] draws them in turn and leaves the law invariant.
//!
//! # Start
//! With `W = 0` the v are independent: log Z and draws are exact. But hidden units that are equal stay equal, so θ_0 has small random W.
//! Walkers are drawn from the law without W ([`Architecture::start_theta`]) and the change to θ_0 is the first that they are weighted for.
//! a starts at the data's log-odds.
//!
//! Cost: a product `[n, d] × [d, H]` for an energy, two for its gradient or a sweep. log Z by enumeration: `enumeration.rs`.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

use super::enumeration::{MOST_UNITS, log_sum};
use super::{Architecture, EnergyTable, WeightedGrads};
use crate::error::ModelError;
use crate::params::{ParamSpec, download, upload};
use crate::product::matmul;
use crate::random::{Purpose, Stream};
use crate::shape::SampleShape;

/// Fewer pseudo-counts would let a pixel that is always 0 start at −∞.
const PSEUDO_COUNT: f64 = 0.5;

/// `{ kind = "rbm", hidden, weights_std }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rbm {
    /// Hidden units H.
    pub hidden: usize,
    /// Standard deviation of the starting W.
    #[serde(default = "hundredth")]
    pub weights_std: f64,
}

fn hundredth() -> f64 {
    0.01
}

impl EnergyTable for Rbm {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// No hidden units, a standard deviation that is not finite and positive.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        if self.hidden == 0 {
            return Err(ModelError::invalid("hidden", "found 0, expected at least 1 hidden unit"));
        }
        if !(self.weights_std.is_finite() && self.weights_std > 0.0) {
            let found = self.weights_std;
            let message = format!(
                "found {found}, expected a finite number > 0: hidden units that start equal stay equal"
            );
            return Err(ModelError::invalid("weights_std", message));
        }
        Ok(Box::new(RbmEnergy { dim: shape.dim(), config: self.clone() }))
    }
}

/// An [`Rbm`] on samples of `dim` bits. θ = (`weight` `[H, dim]`, `hidden_bias` `[H]`, `visible_bias` `[dim]`).
#[derive(Clone, Debug)]
struct RbmEnergy {
    dim: usize,
    config: Rbm,
}

impl RbmEnergy {
    /// `W`, `[H, dim]`.
    fn weight(&self, theta: &[Tensor<1>]) -> Tensor<2> {
        theta[0].clone().reshape([self.config.hidden, self.dim])
    }

    /// `b_j + W_j·v`, `[n, H]`.
    fn inputs(&self, theta: &[Tensor<1>], v: Tensor<2>) -> Tensor<2> {
        matmul(v, self.weight(theta).transpose()) + theta[1].clone().unsqueeze_dim(0)
    }

    /// `−a·v − Σ_j softplus(z_j)`, `[n]`.
    fn free_energy(&self, theta: &[Tensor<1>], v: Tensor<2>, inputs: Tensor<2>) -> Tensor<1> {
        let linear = v * theta[2].clone().unsqueeze_dim(0);
        (linear.sum_dim(1) + softplus(inputs).sum_dim(1)).squeeze_dim::<1>(1).neg()
    }

    /// Whether W = 0: then the v are independent.
    fn is_independent(theta: &[Vec<f32>]) -> bool {
        theta[0].iter().all(|w| *w == 0.0)
    }
}

/// `log(1 + e^z)`, of no overflow.
fn softplus(z: Tensor<2>) -> Tensor<2> {
    z.clone().clamp_min(0.0) + z.abs().neg().exp().log1p()
}

fn softplus_f64(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

impl Architecture for RbmEnergy {
    fn kind(&self) -> &'static str {
        "rbm"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn widest(&self) -> usize {
        self.config.hidden
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![
            ParamSpec::new("weight", [self.config.hidden, self.dim]),
            ParamSpec::new("hidden_bias", [self.config.hidden]),
            ParamSpec::new("visible_bias", [self.dim]),
        ]
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        let normals = Stream::new(seed, Purpose::Init).normals(self.config.hidden, self.dim);
        let std = self.config.weights_std as f32;
        let weight = normals.into_iter().map(|z| std * z).collect();
        vec![weight, vec![0.0; self.config.hidden], vec![0.0; self.dim]]
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let inputs = self.inputs(theta, x.clone());
        self.free_energy(theta, x, inputs)
    }

    /// The gradient of U continued to real v, `−a − σ(z) W`. No kernel of bits follows it.
    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let inputs = self.inputs(theta, x.clone());
        let pull = matmul(activation::sigmoid(inputs.clone()), self.weight(theta));
        let grad = (pull + theta[2].clone().unsqueeze_dim(0)).neg();
        (self.free_energy(theta, x, inputs), grad)
    }

    /// `∂U/∂W = −σ(z) vᵀ`, `∂U/∂b = −σ(z)`, `∂U/∂a = −v`.
    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let mut grads: Vec<Tensor<1>> = theta.iter().map(Tensor::zeros_like).collect();
        let mut energies = Vec::with_capacity(terms.len());
        for (x, weights) in terms {
            let [n, _] = x.dims();
            let inputs = self.inputs(theta, x.clone());
            let weights = weights.clone().reshape([n, 1]);
            let on = activation::sigmoid(inputs.clone()) * weights.clone();
            let weight = matmul(on.clone().transpose(), x.clone());
            let sums = [
                weight.reshape([self.config.hidden * self.dim]),
                on.sum_dim(0).reshape([self.config.hidden]),
                (x.clone() * weights).sum_dim(0).reshape([self.dim]),
            ];
            grads = grads.into_iter().zip(sums).map(|(grad, sum)| grad - sum).collect();
            energies.push(self.free_energy(theta, x.clone(), inputs));
        }
        WeightedGrads { grads, energies }
    }

    fn hidden_units(&self) -> Option<usize> {
        Some(self.config.hidden)
    }

    /// `h_j = 1[u_j < σ(b_j + W_j·v)]`, then `v_i = 1[u_i < σ(a_i + h·W_i)]`.
    fn block_gibbs(&self, theta: &[Tensor<1>], v: Tensor<2>, [hidden, visible]: [Tensor<2>; 2]) -> Tensor<2> {
        let h = hidden.lower(activation::sigmoid(self.inputs(theta, v))).float();
        let inputs = matmul(h, self.weight(theta)) + theta[2].clone().unsqueeze_dim(0);
        visible.lower(activation::sigmoid(inputs)).float()
    }

    /// The same biases without W.
    fn start_theta(&self, theta: &[Tensor<1>]) -> Vec<Tensor<1>> {
        vec![theta[0].zeros_like(), theta[1].clone(), theta[2].clone()]
    }

    fn has_data_init(&self) -> bool {
        true
    }

    /// a = log-odds of every bit, with half a count of either value more.
    fn data_init(&self, theta: &[Tensor<1>], rows: Tensor<2>) -> Vec<Tensor<1>> {
        let n = rows.dims()[0] as f64;
        let log_odds = |ones: f32| {
            let p = (f64::from(ones) + PSEUDO_COUNT) / (n + 2.0 * PSEUDO_COUNT);
            (p / (1.0 - p)).ln() as f32
        };
        let ones: Vec<f32> = download(rows.sum_dim(0));
        let bias = upload(ones.into_iter().map(log_odds).collect(), &theta[2].device());
        vec![theta[0].clone(), theta[1].clone(), bias]
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        let independent = || theta[1..].iter().flatten().map(|&z| softplus_f64(f64::from(z))).sum();
        Self::is_independent(theta).then(independent)
    }

    fn has_exact_start(&self) -> bool {
        true
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        if !Self::is_independent(theta) {
            return None;
        }
        let p: Vec<f32> = theta[2].iter().map(|&a| (1.0 / (1.0 + (-f64::from(a)).exp())) as f32).collect();
        let mut draws = stream.uniforms(count, self.dim);
        for row in draws.chunks_exact_mut(self.dim) {
            row.iter_mut().zip(&p).for_each(|(x, p)| *x = f32::from(u8::from(*x < *p)));
        }
        Some(draws)
    }

    fn enumerated_log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        let (h, d) = (self.config.hidden, self.dim);
        let as_f64 = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let [weight, hidden, visible] = [&theta[0], &theta[1], &theta[2]].map(|values| as_f64(values));
        if h <= d && h <= MOST_UNITS {
            return Some(log_sum(&weight, &hidden, &visible));
        }
        let transposed: Vec<f64> =
            (0..d).flat_map(|i| (0..h).map(move |j| (i, j))).map(|(i, j)| weight[j * d + i]).collect();
        (d <= MOST_UNITS).then(|| log_sum(&transposed, &visible, &hidden))
    }
}
