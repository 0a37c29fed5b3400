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
}
