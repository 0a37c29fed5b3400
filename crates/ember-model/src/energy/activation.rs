//! Activation functions, under PyTorch's names.

use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// The non-linearity between layers. Smooth ones (`silu`, `tanh`, `softplus`, `gelu`) give smooth forces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}
