//! The precision of a network's matrix products.
//!
//! | | numbers that are multiplied | sums |
//! |---|---|---|
//! | `f32` | 24 bits | f32 |
//! | `tf32` | 11 bits, by tensor cores | f32 |
//! | `bf16` | 8 bits, by tensor cores | f32, rounded to 8 bits once |
//!
//! Only the products of hidden layers are at it; activations, the last layer (whose output is the energy, of which weights are
//! made), and everything beside the network stay f32. U and ∇U of a network at bf16 are those of a slightly other energy, by some
//! 2⁻⁸ of what a hidden layer puts out; a kernel's α uses the same numbers, so that weights are exact for it but for rounding.
//!
//! What a device has is the caller's to ask. burn takes tensor cores at tf32 for f32 products, unasked, on a device that knows the
//! type: CUDA devices do, which are not built, and none that wgpu reaches does, through WGSL or SPIR-V (Vulkan's cooperative
//! matrices have no such component). There f32 is f32.

use std::fmt::{self, Display};

use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

/// A precision of matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Single precision with its fraction cut to 10 bits.
    Tf32,
    /// Single precision with its fraction cut to 7 bits.
    Bf16,
}

impl Precision {
    /// Every precision, finest first.
    pub const ALL: [Self; 3] = [Self::F32, Self::Tf32, Self::Bf16];

    /// Whether it is that of everything else.
    pub fn is_f32(&self) -> bool {
        *self == Self::F32
    }
}

impl Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        })
    }
}

/// `a b` at a precision; f32 in and out. `a: [n, k]`, `b: [k, m]` → `[n, m]`.
pub(crate) fn product(a: Tensor<2>, b: Tensor<2>, precision: Precision) -> Tensor<2> {
    match precision {
        // A device that has tf32 uses it for products of f32.
        Precision::F32 | Precision::Tf32 => a.matmul(b),
        Precision::Bf16 => a.cast(DType::BF16).matmul(b.cast(DType::BF16)).cast(DType::F32),
    }
}
