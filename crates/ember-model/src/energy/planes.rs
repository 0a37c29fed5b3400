//! A network of images that knows the noise level: `U(x, σ) = net([x, τ(σ)]) + ½ c |x|²`, τ as in `levels.rs`, a channel of the image's size
//! that holds τ in every pixel.
//!
//! Unlike a perceptron's (`levelled.rs`) the level cannot be folded into a bias: padding with zeros cuts the channel off at the border. So the
//! energy at one level is that of rows `[x, τ]` with τ held, and every form that the network has off the tape serves both. The cost is that
//! of one more channel in the first layer.

use burn::tensor::Tensor;

use super::levelled::Joint;
use super::levels::Levels;
use super::network::{gaussian_draws, gaussian_log_z, is_confinement_alone};
use super::score::{Directions, Pull, ScoreGrads, ScoreLoss};
use super::{Architecture, Evaluation, WeightedGrads};
use crate::params::ParamSpec;
use crate::random::Stream;

/// A network of images as one of rows `[x, τ]`: `[batch, d + 1]` → `[batch]`.
#[derive(Clone, Debug)]
pub(super) struct Planes<N> {
    /// On the image with one channel more, without confinement.
    net: N,
    /// Pixels of a channel.
    pixels: usize,
}

impl<N: Architecture> Planes<N> {
    pub fn new(net: N, pixels: usize) -> Self {
        assert!(net.confinement().is_none(), "the level is not confined");
        Self { net, pixels }
    }

    /// d.
    fn sample(&self) -> usize {
        self.net.dim() - self.pixels
    }

    /// Rows `[x, τ]` as images with the channel.
    fn spread(&self, rows: &Tensor<2>) -> Tensor<2> {
        let ([n, _], d) = (rows.dims(), self.sample());
        let plane = rows.clone().narrow(1, d, 1).expand([n, self.pixels]);
        Tensor::cat(vec![rows.clone().narrow(1, 0, d), plane], 1)
    }

    /// The gradient in the rows `[x, τ]` from that in the images.
    fn gathered(&self, grad: &Tensor<2>) -> Tensor<2> {
        let d = self.sample();
        let plane = grad.clone().narrow(1, d, self.pixels).sum_dim(1);
        Tensor::cat(vec![grad.clone().narrow(1, 0, d), plane], 1)
    }
}

impl<N: Architecture + Clone + 'static> Architecture for Planes<N> {
    fn kind(&self) -> &'static str {
        self.net.kind()
    }

    fn dim(&self) -> usize {
        self.sample() + 1
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
        self.net.energy(theta, self.spread(&x))
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (u, grad) = self.net.energy_and_grad(theta, self.spread(&x));
        (u, self.gathered(&grad))
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        let (u, grad, pass) = self.net.energy_and_grad_kept(theta, self.spread(&x));
        (u, self.gathered(&grad), pass)
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let terms: Vec<_> = terms.iter().map(|(x, weights)| (self.spread(x), weights.clone())).collect();
        self.net.weighted_param_grads(theta, &terms)
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        self.net.jet(theta, self.spread(&x), self.spread(&v))
    }

    fn jet_order(&self) -> usize {
        self.net.jet_order()
    }

    /// Of `ε − σ ∇U` with σ = 0 in the level's column, as [`Joint`] has it.
    fn score_grads(&self, theta: &[Tensor<1>], x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        let (Pull::Residual { noise, sigma }, Directions::None) = (loss.pull, loss.directions) else {
            return None;
        };
        let [noise, sigma] = [noise, sigma].map(|rows| self.spread(rows));
        let pull = Pull::Residual { noise: &noise, sigma: &sigma };
        self.net.score_grads(theta, &self.spread(x), &ScoreLoss { pull, ..*loss })
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

/// The energy at one level, `[batch, d]` → `[batch]`.
#[derive(Clone, Debug)]
pub(super) struct AtLevel<N> {
    joint: Joint<Planes<N>>,
    /// And which of them it is at.
    levels: Levels,
}

impl<N: Architecture + Clone + 'static> AtLevel<N> {
    /// `net` is the network on images with one channel more, of so many `pixels`, without confinement.
    pub fn new(net: N, pixels: usize, confinement: f64, levels: Levels) -> Self {
        Self { joint: Joint::new(Planes::new(net, pixels), confinement), levels }
    }

    /// `[x, τ]`.
    fn told(&self, x: &Tensor<2>) -> Tensor<2> {
        let level = x.clone().narrow(1, 0, 1).full_like(self.levels.input());
        Tensor::cat(vec![x.clone(), level], 1)
    }

    /// The part of a gradient that belongs to x.
    fn of_sample(&self, grad: Tensor<2>) -> Tensor<2> {
        grad.narrow(1, 0, self.dim())
    }
}

impl<N: Architecture + Clone + 'static> Architecture for AtLevel<N> {
    fn kind(&self) -> &'static str {
        self.joint.kind()
    }

    fn dim(&self) -> usize {
        self.joint.dim() - 1
    }

    fn is_network(&self) -> bool {
        true
    }

    fn widest(&self) -> usize {
        self.joint.widest()
    }

    fn params(&self) -> Vec<ParamSpec> {
        self.joint.params()
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        self.joint.init(seed)
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
        self.joint.energy(theta, self.told(&x))
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (u, grad) = self.joint.energy_and_grad(theta, self.told(&x));
        (u, self.of_sample(grad))
    }

    fn energy_and_grad_kept(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Evaluation {
        let (u, grad, pass) = self.joint.energy_and_grad_kept(theta, self.told(&x));
        (u, self.of_sample(grad), pass)
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let terms: Vec<_> = terms.iter().map(|(x, weights)| (self.told(x), weights.clone())).collect();
        self.joint.weighted_param_grads(theta, &terms)
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        let held = Tensor::cat(vec![v.clone(), v.narrow(1, 0, 1).zeros_like()], 1);
        self.joint.jet(theta, self.told(&x), held)
    }

    fn jet_order(&self) -> usize {
        self.joint.jet_order()
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        is_confinement_alone(theta, self.joint.confinement)
            .then(|| gaussian_log_z(self.dim(), self.joint.confinement))
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        is_confinement_alone(theta, self.joint.confinement)
            .then(|| gaussian_draws(self.dim(), self.joint.confinement, count, stream))
    }

    fn starts_at_base(&self) -> bool {
        true
    }

    fn is_base_alone(&self, theta: &[Vec<f32>]) -> bool {
        self.joint.is_base_alone(theta)
    }

    fn confinement(&self) -> Option<f64> {
        (self.joint.confinement > 0.0).then_some(self.joint.confinement)
    }
}
