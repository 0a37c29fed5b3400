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
//! type: CUDA devices do, and none that wgpu reaches does, through WGSL or SPIR-V (Vulkan's cooperative matrices have no such
//! component). f32 is f32 everywhere: see [`crate::product`].

use std::fmt::{self, Display};

use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::product::matmul;

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

/// The precisions of products on a GPU; `None` for any other device. Through WGSL there is f32 alone; SPIR-V has tensor cores at bf16
/// where the driver lists them; CUDA has them at bf16 and tf32.
#[cfg(feature = "wgpu")]
pub fn of_gpu(device: &burn::tensor::Device) -> Option<Vec<Precision>> {
    use burn::backend::{Backend as _, DTypeUsage, Dispatch, DispatchDevice};
    use cubecl::prelude::Scalar;

    let dispatch = device.as_dispatch();
    let DispatchDevice::Cube(cube) = dispatch else { return None };
    let mut found = vec![Precision::F32];
    if matches!(cube, cubecl::Device::Cuda(_))
        && cube.client().properties().supports_type(cubecl::tf32::elem_type_native())
    {
        found.push(Precision::Tf32);
    }
    let needed = DTypeUsage::Storage | DTypeUsage::Accelerated;
    if Dispatch::dtype_usage(dispatch, DType::BF16).is_superset(needed) {
        found.push(Precision::Bf16);
    }
    Some(found)
}

/// `a b` at a precision; f32 in and out. `a: [n, k]`, `b: [k, m]` → `[n, m]`.
pub fn product(a: Tensor<2>, b: Tensor<2>, precision: Precision) -> Tensor<2> {
    match precision {
        Precision::F32 => matmul(a, b),
        // A device that has tf32 uses it for products of f32.
        Precision::Tf32 => a.matmul(b),
        Precision::Bf16 => a.cast(DType::BF16).matmul(b.cast(DType::BF16)).cast(DType::F32),
    }
}
