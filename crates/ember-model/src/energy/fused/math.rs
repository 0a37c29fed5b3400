//! Activations and their slopes on a GPU, of four numbers at a time.

use cubecl::prelude::*;

use crate::energy::activation::Activation;

/// Four walkers side by side.
pub(in crate::energy) type Lanes = Vector<f32, Const<4>>;

#[cube]
fn sigmoid(z: f32) -> f32 {
    1.0f32 / (1.0f32 + (-z).exp())
}

/// `1 − 2/(e^{2z} + 1)`: a driver's own `tanh` may overflow.
#[cube]
fn tanh(z: f32) -> f32 {
    1.0f32 - 2.0f32 / ((2.0f32 * z).exp() + 1.0f32)
}

#[cube]
fn value_of(z: f32, #[comptime] activation: Activation) -> f32 {
    match activation {
        Activation::Silu => z * sigmoid(z),
        Activation::Tanh => tanh(z),
        // max(z, 0) + log(1 + e^{−|z|})
        Activation::Softplus => select(z > 0.0f32, z, 0.0f32) + (1.0f32 + (-z.abs()).exp()).ln(),
        Activation::Relu => select(z < 0.0f32, 0.0f32, z),
        Activation::LeakyRelu => select(z < 0.0f32, 0.2f32 * z, z),
        Activation::Gelu => z,
    }
}

/// `a′(z)` of one number.
#[cube]
pub(super) fn slope_of(z: f32, #[comptime] activation: Activation) -> f32 {
    match activation {
        Activation::Silu => {
            let sigma = sigmoid(z);
            sigma + z * sigma * (1.0f32 - sigma)
        }
        Activation::Tanh => {
            let a = tanh(z);
            1.0f32 - a * a
        }
        Activation::Softplus => sigmoid(z),
        Activation::Relu => select(z > 0.0f32, 1.0f32, 0.0f32),
        Activation::LeakyRelu => select(z < 0.0f32, 0.2f32, 1.0f32),
        Activation::Gelu => 1.0f32.runtime(),
    }
}

/// `a(z)`.
#[cube]
pub(in crate::energy) fn values(z: Lanes, #[comptime] activation: Activation) -> Lanes {
    let mut out = Lanes::empty();
    #[unroll]
    for i in 0..4usize {
        out.insert(i, value_of(z.extract(i), activation));
    }
    out
}

/// `a′(z)`.
#[cube]
pub(in crate::energy) fn slopes(z: Lanes, #[comptime] activation: Activation) -> Lanes {
    let mut out = Lanes::empty();
    #[unroll]
    for i in 0..4usize {
        out.insert(i, slope_of(z.extract(i), activation));
    }
    out
}
