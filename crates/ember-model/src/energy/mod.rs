//! The energy traits, and one file per energy.

pub mod activation;
pub mod based;
pub mod blockwise;
pub mod chain;
pub mod composed;
pub(crate) mod conditioned;
pub mod conv;
pub(crate) mod elementwise;
mod enumeration;
pub(crate) mod explicit;
#[cfg(feature = "wgpu")]
pub(crate) mod fused;
pub mod gaussian;
pub mod gaussian_mixture;
mod levelled;
pub mod levels;
mod line;
pub mod mlp;
pub(crate) mod network;
mod planes;
pub mod rbm;
pub mod resnet;
pub mod score;
mod spectral;
mod table;
pub mod tilted;

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;

use crate::error::ModelError;
use crate::flow::{Flow, NonFinite};
use crate::params::{HostTensor, ParamSpec};
use crate::precision::Precision;
use crate::random::Stream;
use crate::shape::Support;
use chain::{Chain, ChainEnd, ChainState};
use levels::Levels;
use score::{ScoreGrads, ScoreLoss};

#[cfg(feature = "wgpu")]
pub use fused::with_tile;
pub use table::EnergyTable;

/// An energy `U_θ` at fixed parameters: what kernels and estimators see.
pub trait Energy: Send + Sync {
    /// Coordinates of one sample.
    fn dim(&self) -> usize;

    /// `U_θ(x)`. `x: [walkers, dim]` → `[walkers]`.
    fn energy(&self, x: Tensor<2>) -> Tensor<1>;

    /// `(U_θ(x), ∇ₓU_θ(x))`, off the autodiff tape. `x: [walkers, dim]` → `[walkers]`, `[walkers, dim]`.
    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        grad_by_autodiff(|x| self.energy(x), x)
    }

    /// [`Energy::energy_and_grad`], and the pass itself where the energy keeps it: its parameter gradients then cost less.
    fn energy_and_grad_kept(&self, x: Tensor<2>) -> Evaluation {
        let (energy, grad) = self.energy_and_grad(x);
        (energy, grad, None)
    }

    /// K Langevin steps in one piece (`chain.rs`); `None` where the energy or its device has no such form. ULA may begin with the pair of
    /// another θ, MALA needs that of this energy.
    fn chain(&self, _from: &ChainState, _chain: &Chain) -> Option<ChainEnd> {
        None
    }

    /// `log ∫ e^{−U_θ}` where it is known in closed form.
    fn log_z(&self) -> Option<f64> {
        None
    }

    /// Hidden units, of a law of zeros and ones that has them: [`Energy::block_gibbs`] then moves its points. `None` of a density.
    fn hidden_units(&self) -> Option<usize> {
        None
    }

    /// See [`Architecture::block_gibbs`].
    ///
    /// # Panics
    /// Without hidden units.
    fn block_gibbs(&self, _v: Tensor<2>, _coins: [Tensor<2>; 2]) -> Tensor<2> {
        panic!("block Gibbs needs an energy with hidden units");
    }
}

/// `U: [walkers]`, `∇ₓU: [walkers, dim]`, and the pass that gave them where it was kept.
pub type Evaluation = (Tensor<1>, Tensor<2>, Option<Arc<dyn Pass>>);

/// One evaluation of `(U_θ, ∇ₓU_θ)` with its activations and back-propagated signals: weights enter the parameter gradients only
/// as factors of the signals, so that they need not be known when the positions move (two phases, 3 units of work in place of 5).
pub trait Pass: Debug + Send + Sync {
    /// `Σ_b w_b ∂_θU(x_b)` at the pass's θ and positions, one flat gradient a parameter. `weights: [batch]`.
    fn weighted_param_grads(&self, weights: &Tensor<1>) -> Vec<Tensor<1>>;
}

impl<E: Energy + ?Sized> Energy for &E {
    fn dim(&self) -> usize {
        (**self).dim()
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        (**self).energy(x)
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        (**self).energy_and_grad(x)
    }

    fn energy_and_grad_kept(&self, x: Tensor<2>) -> Evaluation {
        (**self).energy_and_grad_kept(x)
    }

    fn chain(&self, from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        (**self).chain(from, chain)
    }

    fn log_z(&self) -> Option<f64> {
        (**self).log_z()
    }

    fn hidden_units(&self) -> Option<usize> {
        (**self).hidden_units()
    }

    fn block_gibbs(&self, v: Tensor<2>, coins: [Tensor<2>; 2]) -> Tensor<2> {
        (**self).block_gibbs(v, coins)
    }
}

/// `Σ_t Σ_b w_{t,b} ∂_θU(x_{t,b})` and the energies met on the way.
#[derive(Clone, Debug)]
pub struct WeightedGrads {
    /// One flat gradient per parameter, in the order of [`Architecture::params`].
    pub grads: Vec<Tensor<1>>,
    /// `U_θ(x_t)` of every term, `[batch_t]`, off the tape.
    pub energies: Vec<Tensor<1>>,
}

/// An energy as a pure function of `(θ, x)`. `theta` holds one flat `[len]` tensor per entry of [`Self::params`].
pub trait Architecture: Debug + Send + Sync {
    /// The energy's `kind` in a config.
    fn kind(&self) -> &'static str;

    /// Coordinates of one sample.
    fn dim(&self) -> usize;

    /// The parameters, in order.
    fn params(&self) -> Vec<ParamSpec>;

    /// Starting values, one flat vector per parameter: a pure function of the seed.
    fn init(&self, seed: u64) -> Vec<Vec<f32>>;

    /// `U_θ(x)`. `x: [batch, dim]` → `[batch]`.
    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1>;

    /// `(U_θ(x), ∇ₓU_θ(x))` with θ frozen, in one backward pass.
    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        grad_by_autodiff(|x| self.energy(theta, x), x)
    }

    /// [`Architecture::energy_and_grad`] and the pass itself, where the energy can keep it.
    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        let (energy, grad) = self.energy_and_grad(theta, x);
        (energy, grad, None)
    }

    /// See [`Energy::chain`].
    fn chain(&self, _theta: &[Tensor<1>], _from: &ChainState, _chain: &Chain) -> Option<ChainEnd> {
        None
    }

    /// The seam of the loss: weighted parameter gradients of the terms `(x_t: [batch_t, dim], w_t: [batch_t])`.
    /// The weights are constants. Here by one backward pass over all terms.
    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        weighted_param_grads_by_autodiff(self, theta, terms)
    }

    /// `U`, `vᵀ∇ₓU` and `vᵀ(∇ₓ²U)v` of every row, `[batch]` each, differentiable in θ: for losses that hold derivatives in x, of which
    /// burn's tape has one order. `x, v: [batch, dim]`. Not to be had where [`Architecture::jet_order`] is 0.
    fn jet(&self, _theta: &[Tensor<1>], _x: Tensor<2>, _v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        None
    }

    /// Derivatives in x that [`Architecture::jet`] gives: 2, or 1 for a network with kinks, whose second derivative is 0 wherever it
    /// exists and leaves out what the kinks hold.
    fn jet_order(&self) -> usize {
        0
    }

    /// A loss of the score with its gradient in θ, off the tape; `None` where there is no such form: [`Architecture::jet`] then gives it on the
    /// tape.
    fn score_grads(&self, _theta: &[Tensor<1>], _x: &Tensor<2>, _loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        None
    }

    /// The noise levels that the energy knows of. Everything here is then the energy at one of them ([`Levels::at`]), the smallest at first.
    fn levels(&self) -> Option<&Levels> {
        None
    }

    /// The same energy at another level, 1 the smallest; `None` where there is no such level.
    fn at_level(&self, _level: usize) -> Option<Box<dyn Architecture>> {
        None
    }

    /// The energy at every level: over rows `[x, τ]` of `dim + 1` numbers, τ one of [`Levels::inputs`], with the same θ. A function to
    /// train, no density.
    fn on_levels(&self) -> Option<Box<dyn Architecture>> {
        None
    }

    /// Whether it is a network, which a tilted energy may put on a flow.
    fn is_network(&self) -> bool {
        false
    }

    /// Numbers of the largest layer's output for one sample, where layers are tensors of the whole batch on a GPU; 0 where there are none.
    fn widest(&self) -> usize {
        0
    }

    /// From now on the matrix products of hidden layers are made at `precision`, where the energy has any.
    fn set_precision(&mut self, _precision: Precision) {}

    /// `log Z_θ` where it is known in closed form.
    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64>;

    /// `log Z_θ` by a sum over all states, in f64, of a law of bits with few enough of them.
    fn enumerated_log_z(&self, _theta: &[Vec<f32>]) -> Option<f64> {
        None
    }

    /// See [`Energy::hidden_units`].
    fn hidden_units(&self) -> Option<usize> {
        None
    }

    /// One sweep of block Gibbs: hidden units given `v: [n, dim]`, then visible ones given those → `[n, dim]`. `coins` are uniform in
    /// `[0, 1)`: `[n, hidden]` and `[n, dim]`.
    ///
    /// # Panics
    /// Without hidden units.
    fn block_gibbs(&self, _theta: &[Tensor<1>], _v: Tensor<2>, _coins: [Tensor<2>; 2]) -> Tensor<2> {
        panic!("a {} has no hidden units", self.kind());
    }

    /// θ of the law that walkers are drawn from, where that is not θ itself: of an exact start next to θ. The change to θ is then the first
    /// that they are weighted for.
    fn start_theta(&self, theta: &[Tensor<1>]) -> Vec<Tensor<1>> {
        theta.to_vec()
    }

    /// `count` exact draws of `ρ_θ`, row-major `[count, dim]`, where the model can be drawn.
    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>>;

    /// `c` where `½ c |x|²` confines the energy: `N(0, I/c)` is then its tractable start.
    fn confinement(&self) -> Option<f64> {
        None
    }

    /// κ ≥ 0 where U grows as `½ κ |x|²` far out, up to terms linear in |x|, at every θ: a network's confinement. `None` where θ decides.
    fn growth(&self) -> Option<f64> {
        self.is_network().then(|| self.confinement().unwrap_or(0.0))
    }

    /// Means and variances `[dim]` of independent normals near `ρ_θ`, or near what it stands on: of them an energy that is composed of
    /// this one makes its start.
    fn moments(&self, _theta: &[Vec<f32>]) -> Option<[Vec<f64>; 2]> {
        let (c, dim) = (self.confinement()?, self.dim());
        Some([vec![0.0; dim], vec![c.recip(); dim]])
    }

    /// Whether Z can be finite on a support, where the table alone tells.
    ///
    /// # Errors
    /// The key at fault.
    fn check_support(&self, _support: Support) -> Result<(), ModelError> {
        Ok(())
    }

    /// Whether the starting θ makes the network zero, so that [`Architecture::is_base_alone`] holds there. No θ is made.
    fn starts_at_base(&self) -> bool {
        false
    }

    /// Whether [`Architecture::log_z`] of the starting θ is known, and that model can be drawn. No θ is made: a config is checked before
    /// there is memory for one.
    fn has_exact_start(&self) -> bool {
        self.starts_at_base() && self.confinement().is_some()
    }

    /// Whether `U_θ` is its base alone (the confinement, or a Gaussian): a network whose last layer is zero.
    fn is_base_alone(&self, _theta: &[Vec<f32>]) -> bool {
        false
    }

    /// What the network is added to, `[batch]`: `½ c |x|²` or the Gaussian; `None` where there is nothing.
    fn base_energy(&self, _theta: &[Tensor<1>], x: Tensor<2>) -> Option<Tensor<1>> {
        let c = self.confinement()?;
        Some((x.clone() * x).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5 * c))
    }

    /// Whether the last two parameters are the mean and the precision of a Gaussian base, to be fitted before a run.
    fn has_gaussian_base(&self) -> bool {
        false
    }

    /// Means `[K][dim]` and masses `[K]` where the energy is a mixture of unit-covariance Gaussians.
    fn mixture(&self, _theta: &[Vec<f32>]) -> Option<Mixture> {
        None
    }

    /// The flow whose `−log_prob` is the energy.
    fn flow(&self) -> Option<&dyn Flow> {
        None
    }

    /// The network and the flow of a tilted energy; θ is the network's, then the flow's.
    fn tilt_and_base(&self) -> Option<[Arc<dyn Architecture>; 2]> {
        None
    }

    /// Whether parts of θ are to be set from data before a run; see [`Flow::data_init`].
    fn has_data_init(&self) -> bool {
        false
    }

    /// θ with those parts set from `rows: [n, dim]`; else θ itself.
    fn data_init(&self, theta: &[Tensor<1>], _rows: Tensor<2>) -> Vec<Tensor<1>> {
        theta.to_vec()
    }

    /// Where a number that is not finite first appears in `U_θ(x)`, where the energy has layers to name. Waits for the device.
    fn first_non_finite_layer(&self, _theta: &[Tensor<1>], _x: Tensor<2>) -> Option<NonFinite> {
        None
    }

    /// The tensors of a weight file. θ itself unless the file's form is a normalised one.
    fn export(&self, theta: &[Vec<f32>]) -> Vec<HostTensor> {
        self.params()
            .into_iter()
            .zip(theta)
            .map(|(spec, values)| HostTensor { name: spec.name, shape: spec.shape, values: values.clone() })
            .collect()
    }
}

/// A mixture of unit-covariance Gaussians, in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// Means, `[K][dim]`.
    pub means: Vec<Vec<f64>>,
    /// Masses, `[K]`, summing to 1.
    pub masses: Vec<f64>,
}

impl Mixture {
    /// `log_prob` of one point, by log-sum-exp in f64. `std` is the common standard deviation of the modes.
    pub fn log_prob<T: Copy + Into<f64>>(&self, x: &[T], std: f64) -> f64 {
        let dim = x.len() as f64;
        let terms: Vec<f64> = self
            .means
            .iter()
            .zip(&self.masses)
            .map(|(mean, mass)| {
                let square: f64 = mean.iter().zip(x).map(|(m, &x)| (x.into() - m).powi(2)).sum();
                mass.ln() - 0.5 * square / (std * std)
            })
            .collect();
        let max = terms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = terms.iter().map(|term| (term - max).exp()).sum();
        max + sum.ln() - 0.5 * dim * (2.0 * std::f64::consts::PI * std * std).ln()
    }
}

fn grad_by_autodiff(energy: impl Fn(Tensor<2>) -> Tensor<1>, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
    let x = x.autodiff().require_grad();
    let u = energy(x.clone());
    let mut grads = u.clone().sum().backward();
    let grad = match x.grad_remove(&mut grads) {
        Some(grad) => grad,
        // An energy that is constant in x has no entry on the tape.
        None => x.clone().without_autodiff().zeros_like(),
    };
    (u.without_autodiff(), grad)
}

/// The plain form of [`Architecture::energy_and_grad`]: the reference every explicit form is tested against.
pub fn energy_and_grad_by_autodiff<A: Architecture + ?Sized>(
    architecture: &A,
    theta: &[Tensor<1>],
    x: Tensor<2>,
) -> (Tensor<1>, Tensor<2>) {
    grad_by_autodiff(|x| architecture.energy(theta, x), x)
}

/// The plain form of [`Architecture::weighted_param_grads`]: the reference every explicit form is tested against.
pub fn weighted_param_grads_by_autodiff<A: Architecture + ?Sized>(
    architecture: &A,
    theta: &[Tensor<1>],
    terms: &[(Tensor<2>, Tensor<1>)],
) -> WeightedGrads {
    let theta: Vec<Tensor<1>> = theta.iter().map(|tensor| tensor.clone().autodiff().require_grad()).collect();
    let mut loss: Option<Tensor<1>> = None;
    let mut energies = Vec::with_capacity(terms.len());
    for (x, weights) in terms {
        let u = architecture.energy(&theta, x.clone());
        energies.push(u.clone().without_autodiff());
        let term = (u * weights.clone()).sum();
        loss = Some(match loss {
            Some(loss) => loss + term,
            None => term,
        });
    }
    let mut tape = loss.map(|loss| loss.backward());
    let grads = theta
        .iter()
        .map(|tensor| {
            tape.as_mut()
                .and_then(|tape| tensor.grad_remove(tape))
                .unwrap_or_else(|| tensor.clone().without_autodiff().zeros_like())
        })
        .collect();
    WeightedGrads { grads, energies }
}
