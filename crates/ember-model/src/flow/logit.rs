//! The logit transform of pixels (Dinh et al. 2017, section 4.1): `z = logit(p)`, `p = α + (1 − 2α) (x + 1)/2` for x in [−1, 1].
//!
//! Beyond [−1, 1] it goes on as its tangent, so that it is a bijection of all of ℝ: the density stays normalised and finite
//! everywhere. `dz/dx = (1 − 2α)/2 / (p (1 − p))` inside and its value at the ends outside. That value is about
//! 1/(2α), and the rounding of pixels near ±1 grows by it: 6·10⁻⁷ for the usual α = .05, .03 for 10⁻⁶.

use burn::tensor::{Tensor, activation};

use super::chain::Layer;

/// The transform with its α, in (0, ½).
#[derive(Clone, Debug)]
pub(super) struct Logit {
    pub alpha: f64,
}

impl Logit {
    /// `dp/dx`.
    fn gain(&self) -> f64 {
        0.5 * (1.0 - 2.0 * self.alpha)
    }

    /// `dz/dx` at ±1 and beyond.
    fn end_slope(&self) -> f64 {
        self.gain() / (self.alpha * (1.0 - self.alpha))
    }

    /// z at x = 1.
    fn end(&self) -> f64 {
        ((1.0 - self.alpha) / self.alpha).ln()
    }

    /// `log dz/dx` where the logit inside is `z`: `1/(p (1 − p)) = (1 + e^z)(1 + e^{−z})`.
    fn log_slope(&self, z: Tensor<2>) -> Tensor<1> {
        let both = activation::softplus(z.clone(), 1.0) + activation::softplus(z.neg(), 1.0);
        both.add_scalar(self.gain().ln()).sum_dim(1).squeeze_dim::<1>(1)
    }
}

impl Layer for Logit {
    fn forward(&self, _theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let inside = z.clone().clamp(-self.end(), self.end());
        let log_det = self.log_slope(inside.clone()).neg();
        // (p − ½) / (dp/dx) = x, and p − ½ = ½ tanh(z/2) loses no digits.
        let x = inside.clone().mul_scalar(0.5).tanh().mul_scalar(0.5 / self.gain());
        (x + (z - inside).div_scalar(self.end_slope()), log_det)
    }

    fn inverse(&self, _theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let inside = x.clone().clamp(-1.0, 1.0);
        let half = inside.clone().mul_scalar(self.gain());
        // log p − log(1 − p)
        let z = half.clone().add_scalar(0.5).log() - half.neg().add_scalar(0.5).log();
        let log_det = self.log_slope(z.clone());
        (z + (x - inside).mul_scalar(self.end_slope()), log_det)
    }
}
