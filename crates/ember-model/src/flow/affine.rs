//! The affine coupling (Dinh et al. 2017, equations 4 and 5): `x_m = z_m ⊙ e^s + t`, `x_k = z_k`, `(s, t)` a function of `z_k`.
//!
//! `s = b tanh(r/b)` with r the network's output and b the bound: near 0 it is r, and no layer scales by more than `e^b`.
//! `log |det ∂x/∂z| = Σ_j s_j`. Both directions cost one evaluation of the network.

use burn::tensor::Tensor;

use super::chain::Layer;
use super::conditioner::{Conditioner, init_layers};
use crate::params::ParamSpec;
use crate::random::Stream;

/// An affine coupling on `[first | second]`.
#[derive(Debug)]
pub(super) struct AffineCoupling<C: Conditioner> {
    /// Coordinates of the first and of the second part.
    pub parts: [usize; 2],
    /// Whether the first part moves, given the second; else the second moves, given the first.
    pub moves_first: bool,
    /// From the part that stays to `[r | t]`, each as wide as the part that moves.
    pub conditioner: C,
    /// b, the bound of `|s|`.
    pub log_scale_bound: f64,
}

impl<C: Conditioner> AffineCoupling<C> {
    /// The part that stays and the part that moves.
    fn split(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let [first, second] = self.parts;
        let (a, b) = (x.clone().narrow(1, 0, first), x.narrow(1, first, second));
        if self.moves_first { (b, a) } else { (a, b) }
    }

    fn join(&self, stays: Tensor<2>, moved: Tensor<2>) -> Tensor<2> {
        Tensor::cat(if self.moves_first { vec![moved, stays] } else { vec![stays, moved] }, 1)
    }

    /// `(s, t)`.
    fn scale_and_shift(&self, theta: &[Tensor<1>], stays: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let width = self.parts[usize::from(!self.moves_first)];
        let output = self.conditioner.apply(theta, stays);
        let raw = output.clone().narrow(1, 0, width);
        let shift = output.narrow(1, width, width);
        (raw.div_scalar(self.log_scale_bound).tanh().mul_scalar(self.log_scale_bound), shift)
    }
}

impl<C: Conditioner> Layer for AffineCoupling<C> {
    fn params(&self) -> Vec<ParamSpec> {
        self.conditioner.params()
    }

    fn init(&self, stream: &dyn Fn(usize) -> Stream) -> Vec<Vec<f32>> {
        init_layers(&self.params(), stream)
    }

    fn forward(&self, theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let (stays, moves) = self.split(z);
        let (s, t) = self.scale_and_shift(theta, stays.clone());
        let log_det = s.clone().sum_dim(1).squeeze_dim::<1>(1);
        (self.join(stays, moves * s.exp() + t), log_det)
    }

    fn inverse(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let (stays, moves) = self.split(x);
        let (s, t) = self.scale_and_shift(theta, stays.clone());
        let log_det = s.clone().sum_dim(1).squeeze_dim::<1>(1).neg();
        (self.join(stays, (moves - t) * s.neg().exp()), log_det)
    }
}
