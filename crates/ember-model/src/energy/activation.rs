//! Activation functions, under PyTorch's names.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// `1/√(2π)`.
const FRAC_1_SQRT_2_PI: f64 = 0.398_942_280_401_432_7;

/// The non-linearity between layers. Smooth ones (`silu`, `tanh`, `softplus`, `gelu`) give smooth forces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x σ(x)`.
    #[default]
    Silu,
    /// `tanh x`.
    Tanh,
    /// `log(1 + e^x)`.
    Softplus,
    /// `x Φ(x)`.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0.2 x)`: slope .2, as the image networks of Carbone et al. use.
    LeakyRelu,
}

impl Activation {
    /// Applies the function to every element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => activation::silu(x),
            Self::Tanh => activation::tanh(x),
            Self::Softplus => activation::softplus(x, 1.0),
            Self::Gelu => activation::gelu(x),
            Self::Relu => activation::relu(x),
            Self::LeakyRelu => activation::leaky_relu(x, 0.2),
        }
    }

    /// The chain rule: `above ∘ a′(z)`, off the tape, for explicit backward passes.
    pub fn back<const D: usize>(self, z: Tensor<D>, above: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Silu => {
                // a′ = σ (1 + z (1 − σ))
                let sigma = activation::sigmoid(z.clone());
                above * (sigma.clone() * (z * sigma.neg().add_scalar(1.0)).add_scalar(1.0))
            }
            Self::Tanh => {
                let a = z.tanh();
                above * (a.clone() * a).neg().add_scalar(1.0)
            }
            Self::Softplus => above * activation::sigmoid(z),
            Self::Gelu => {
                // a′ = Φ(z) + z φ(z)
                let cdf = z.clone().mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
                let density = (z.clone() * z.clone()).mul_scalar(-0.5).exp().mul_scalar(FRAC_1_SQRT_2_PI);
                above * (cdf + z * density)
            }
            // By masks: a slope made of truth values is a kernel of its own for each of its steps.
            Self::Relu => above.mask_fill(z.lower_equal_elem(0.0), 0.0),
            Self::LeakyRelu => {
                let small = above.clone().mul_scalar(0.2);
                above.mask_where(z.lower_elem(0.0), small)
            }
        }
    }

    /// The function along a line: `(a(z), a′(z) z′, a″(z) z′² + a′(z) z″)`, differentiable in all three. Without `z″` it is 0.
    pub(super) fn along<const D: usize>(
        self,
        z: Tensor<D>,
        first: Tensor<D>,
        second: Option<Tensor<D>>,
    ) -> [Tensor<D>; 3] {
        let value = self.forward(z.clone());
        let slope = |tensor: Tensor<D>| match self {
            // a″ is 0 wherever it exists.
            Self::Relu => Some(tensor.mask_fill(z.clone().lower_equal_elem(0.0), 0.0)),
            Self::LeakyRelu => {
                let small = tensor.clone().mul_scalar(0.2);
                Some(tensor.mask_where(z.clone().lower_elem(0.0), small))
            }
            _ => None,
        };
        if let Some(sloped) = slope(first.clone()) {
            let second = second.and_then(slope).unwrap_or_else(|| first.zeros_like());
            return [value, sloped, second];
        }
        let [slope, bend] = self.slope_and_bend(z, &value);
        let bent = bend * first.clone() * first.clone();
        let second = match second {
            Some(second) => bent + slope.clone() * second,
            None => bent,
        };
        [value, slope * first, second]
    }

    /// Whether it has a second derivative everywhere.
    pub fn is_smooth(self) -> bool {
        !matches!(self, Self::Relu | Self::LeakyRelu)
    }

    /// `a′(z)` and `a″(z)` of a smooth function, whose `a(z)` is at hand.
    fn slope_and_bend<const D: usize>(self, z: Tensor<D>, value: &Tensor<D>) -> [Tensor<D>; 2] {
        let one_less = |x: Tensor<D>| x.neg().add_scalar(1.0);
        match self {
            Self::Tanh => {
                // 1 − a², −2a (1 − a²)
                let slope = one_less(value.clone() * value.clone());
                [slope.clone(), (slope * value.clone()).mul_scalar(-2.0)]
            }
            Self::Softplus => {
                // σ, σ (1 − σ)
                let sigma = activation::sigmoid(z);
                [sigma.clone(), sigma.clone() * one_less(sigma)]
            }
            Self::Gelu => {
                // Φ + z φ, φ (2 − z²)
                let square = z.clone() * z.clone();
                let cdf = z.clone().mul_scalar(FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
                let density = square.clone().mul_scalar(-0.5).exp().mul_scalar(FRAC_1_SQRT_2_PI);
                [cdf + z * density.clone(), density * square.neg().add_scalar(2.0)]
            }
            // Silu: σ (1 + z (1 − σ)), σ (1 − σ) (2 + z (1 − 2σ))
            _ => {
                let sigma = activation::sigmoid(z.clone());
                let rest = one_less(sigma.clone());
                let slope = sigma.clone() * (z.clone() * rest.clone()).add_scalar(1.0);
                let bend = (z * (rest.clone() - sigma.clone())).add_scalar(2.0);
                [slope, sigma * rest * bend]
            }
        }
    }
}
