//! The affine coupling (Dinh et al. 2017, equations 4 and 5): `x_m = z_m ⊙ e^s + t`, `x_k = z_k`, `(s, t)` a function of `z_k`.
//!
//! `s = b tanh(r/b)` with r the network's output and b the bound: near 0 it is r, and no layer scales by more than `e^b`.
//! `log |det ∂x/∂z| = Σ_j s_j`. Both directions cost one evaluation of the network.

use burn::tensor::Tensor;

use super::chain::Layer;
use super::conditioner::{Conditioner, MlpConditioner};
use super::parts::Parts;
use super::steps::{Coupling, Step};
use crate::energy::network::init_layers_with;
use crate::params::ParamSpec;
use crate::random::Stream;

/// An affine coupling on `[first | second]`.
#[derive(Debug)]
pub(super) struct AffineCoupling<C: Conditioner> {
    /// Which part moves.
    pub parts: Parts,
    /// From the part that stays to `[r | t]`, each as wide as the part that moves.
    pub conditioner: C,
    /// b, the bound of `|s|`.
    pub log_scale_bound: f64,
}

impl<C: Conditioner> AffineCoupling<C> {
    /// `(s, t)`.
    fn scale_and_shift(&self, theta: &[Tensor<1>], stays: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let width = self.parts.moves();
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
        init_layers_with(&self.params(), stream)
    }

    fn forward(&self, theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let (stays, moves) = self.parts.split(z);
        let (s, t) = self.scale_and_shift(theta, stays.clone());
        let log_det = s.clone().sum_dim(1).squeeze_dim::<1>(1);
        (self.parts.join(stays, moves * s.exp() + t), log_det)
    }

    fn inverse(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let (stays, moves) = self.parts.split(x);
        let (s, t) = self.scale_and_shift(theta, stays.clone());
        let log_det = s.clone().sum_dim(1).squeeze_dim::<1>(1).neg();
        (self.parts.join(stays, (moves - t) * s.neg().exp()), log_det)
    }

    fn cpu_step(&self) -> Option<Step> {
        let MlpConditioner { shapes, activation } = self.conditioner.perceptron()?.clone();
        Some(Step::Coupling(Coupling {
            parts: self.parts,
            shapes,
            activation,
            bound: self.log_scale_bound as f32,
        }))
    }
}
