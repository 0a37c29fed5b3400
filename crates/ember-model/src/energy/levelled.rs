//! A network that knows the noise level: `U(x, σ) = net(x, τ(σ)) + ½ c |x|²`, τ as in `levels.rs`.
//!
//! To everything that samples or evaluates it is the energy at one level, `U(x, σ_k)`: the smallest unless [`Architecture::at_level`] took
//! another. At one level τ is a number, and the first layer `W x + w τ + b` is one of x alone with the bias `b + w τ`: the energy is then the
//! network's own kind on d inputs, with every fast path of that (explicit passes, one launch, chains). The cost is that of copying the first
//! layer.
//!
//! Objectives that train all levels see [`Joint`], the energy over rows `[x, τ]` with the same θ. The confinement acts on x alone, so that at
//! every level the starting model is `N(0, I/c)`, with its log Z.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::chain::{Chain, ChainEnd, ChainState};
use super::levels::Levels;
use super::line;
use super::network::confine;
use super::score::{Directions, Pull, ScoreGrads, ScoreLoss};
use super::{Architecture, Evaluation, Pass, WeightedGrads};
use crate::params::ParamSpec;
use crate::precision::Precision;
use crate::random::Stream;

/// The energy at one level, `[batch, d]` → `[batch]`.
#[derive(Clone, Debug)]
pub(super) struct Levelled<N> {
    /// The network on d inputs, with its confinement.
    alone: N,
    joint: Joint<N>,
    /// And which of them it is at.
    levels: Levels,
}

/// The energy over rows `[x, τ]`: `[batch, d + 1]` → `[batch]`. Its gradient's last column is `∂U/∂τ`.
#[derive(Clone, Debug)]
pub(super) struct Joint<N> {
    /// The network on d + 1 inputs, without confinement.
    net: N,
    /// c.
    pub(super) confinement: f64,
}

impl<N: Architecture> Levelled<N> {
    /// `alone` is the network on d inputs with its confinement, `net` the one on d + 1 without.
    pub fn new(alone: N, net: N, levels: Levels) -> Self {
        assert_eq!(net.dim(), alone.dim() + 1, "one more input for the level");
        assert!(net.confinement().is_none(), "the level is not confined");
        let confinement = alone.confinement().unwrap_or_default();
        Self { alone, joint: Joint::new(net, confinement), levels }
    }

    /// τ of its level.
    fn input(&self) -> f32 {
        self.levels.input()
    }

    /// θ of the network on x alone: weight `W`, bias `b + w τ`, and the other layers. Differentiable in θ.
    fn folded(&self, theta: &[Tensor<1>]) -> Vec<Tensor<1>> {
        let ([h], d) = (theta[1].dims(), self.alone.dim());
        let weight = theta[0].clone().reshape([h, d + 1]);
        let bias = theta[1].clone() + weight.clone().narrow(1, d, 1).reshape([h]).mul_scalar(self.input());
        let first = [weight.narrow(1, 0, d).reshape([h * d]), bias];
        first.into_iter().chain(theta[2..].iter().cloned()).collect()
    }
}

/// Gradients of θ from those of the folded θ: `∂w = τ ∂b`.
fn unfolded(mut grads: Vec<Tensor<1>>, dim: usize, input: f32) -> Vec<Tensor<1>> {
    let [h] = grads[1].dims();
    let of_level = grads[1].clone().mul_scalar(input).reshape([h, 1]);
    grads[0] = Tensor::cat(vec![grads[0].clone().reshape([h, dim]), of_level], 1).reshape([h * (dim + 1)]);
    grads
}

/// A pass of the network on x alone.
#[derive(Debug)]
struct LevelledPass {
    inner: Arc<dyn Pass>,
    dim: usize,
    input: f32,
}

impl Pass for LevelledPass {
    fn weighted_param_grads(&self, weights: &Tensor<1>) -> Vec<Tensor<1>> {
        unfolded(self.inner.weighted_param_grads(weights), self.dim, self.input)
    }
}

impl<N: Architecture + Clone + 'static> Architecture for Levelled<N> {
    fn kind(&self) -> &'static str {
        self.alone.kind()
    }

    fn dim(&self) -> usize {
        self.alone.dim()
    }

    fn is_network(&self) -> bool {
        self.alone.is_network()
    }

    fn widest(&self) -> usize {
        self.alone.widest()
    }

    fn params(&self) -> Vec<ParamSpec> {
        self.joint.params()
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        self.joint.init(seed)
    }

    fn set_precision(&mut self, precision: Precision) {
        self.alone.set_precision(precision);
        self.joint.net.set_precision(precision);
    }

    fn levels(&self) -> Option<&Levels> {
        Some(&self.levels)
    }

    fn at_level(&self, level: usize) -> Option<Box<dyn Architecture>> {
        Some(Box::new(Self { levels: self.levels.moved(level)?, ..self.clone() }))
    }

    fn on_levels(&self) -> Option<Box<dyn Architecture>> {
        Some(Box::new(self.joint.clone()))
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        self.alone.energy(&self.folded(theta), x)
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        self.alone.energy_and_grad(&self.folded(theta), x)
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        let (u, grad, pass) = self.alone.energy_and_grad_kept(&self.folded(theta), x);
        let (dim, input) = (self.alone.dim(), self.input());
        (u, grad, pass.map(|inner| Arc::new(LevelledPass { inner, dim, input }) as Arc<dyn Pass>))
    }

    fn chain(&self, theta: &[Tensor<1>], from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        self.alone.chain(&self.folded(theta), from, chain)
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let found = self.alone.weighted_param_grads(&self.folded(theta), terms);
        WeightedGrads { grads: unfolded(found.grads, self.alone.dim(), self.input()), ..found }
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        self.alone.jet(&self.folded(theta), x, v)
    }

    fn jet_order(&self) -> usize {
        self.alone.jet_order()
    }

    fn score_grads(&self, theta: &[Tensor<1>], x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        let found = self.alone.score_grads(&self.folded(theta), x, loss)?;
        Some(ScoreGrads { grads: unfolded(found.grads, self.alone.dim(), self.input()), ..found })
    }

    // What is known in closed form is known of a network whose last layer is zero: it does not depend on the first.
    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        self.alone.log_z(theta)
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        self.alone.draw(theta, count, stream)
    }

    fn confinement(&self) -> Option<f64> {
        self.alone.confinement()
    }

    fn starts_at_base(&self) -> bool {
        self.alone.starts_at_base()
    }

    fn is_base_alone(&self, theta: &[Vec<f32>]) -> bool {
        self.alone.is_base_alone(theta)
    }
}

impl<N: Architecture> Joint<N> {
    /// `net` is the network over `[x, τ]`, without confinement.
    pub fn new(net: N, confinement: f64) -> Self {
        Self { net, confinement }
    }

    /// The pair with the confinement's part.
    fn confined(&self, u: Tensor<1>, grad: Tensor<2>, x: &Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        if self.confinement == 0.0 {
            return (u, grad);
        }
        let sample = self.sample(x);
        let of_level = sample.clone().narrow(1, 0, 1).zeros_like();
        let pull = Tensor::cat(vec![sample.clone().mul_scalar(self.confinement), of_level], 1);
        (confine(u, sample, self.confinement), grad + pull)
    }

    /// The x of rows `[x, τ]`.
    fn sample(&self, rows: &Tensor<2>) -> Tensor<2> {
        rows.clone().narrow(1, 0, self.net.dim() - 1)
    }
}

impl<N: Architecture + Clone + 'static> Architecture for Joint<N> {
    fn kind(&self) -> &'static str {
        self.net.kind()
    }

    fn dim(&self) -> usize {
        self.net.dim()
    }

    fn widest(&self) -> usize {
        self.net.widest()
    }

    fn params(&self) -> Vec<ParamSpec> {
        self.net.params()
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        self.net.init(seed)
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        confine(self.net.energy(theta, x.clone()), self.sample(&x), self.confinement)
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (u, grad) = self.net.energy_and_grad(theta, x.clone());
        self.confined(u, grad, &x)
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        let (u, grad, pass) = self.net.energy_and_grad_kept(theta, x.clone());
        let (u, grad) = self.confined(u, grad, &x);
        (u, grad, pass)
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let mut found = self.net.weighted_param_grads(theta, terms);
        for (energy, (x, _)) in found.energies.iter_mut().zip(terms) {
            *energy = confine(energy.clone(), self.sample(x), self.confinement);
        }
        found
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        let u = self.net.jet(theta, x.clone(), v.clone())?;
        Some(line::confine(u, self.sample(&x), self.sample(&v), self.confinement))
    }

    fn jet_order(&self) -> usize {
        self.net.jet_order()
    }

    /// `ε − σ ∇U` is `(ε − σ c x) − σ ∇net`: the confinement goes into the noise. σ of the level's column is to be 0.
    fn score_grads(&self, theta: &[Tensor<1>], x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        let (Pull::Residual { noise, sigma }, Directions::None) = (loss.pull, loss.directions) else {
            return None;
        };
        let noise = noise.clone() - (sigma.clone() * x.clone()).mul_scalar(self.confinement);
        self.net.score_grads(theta, x, &ScoreLoss { pull: Pull::Residual { noise: &noise, sigma }, ..*loss })
    }

    fn log_z(&self, _theta: &[Vec<f32>]) -> Option<f64> {
        // Over [x, τ] there is no density.
        None
    }

    fn draw(&self, _theta: &[Vec<f32>], _count: usize, _stream: Stream) -> Option<Vec<f32>> {
        None
    }

    fn is_base_alone(&self, theta: &[Vec<f32>]) -> bool {
        self.net.is_base_alone(theta)
    }
}
