//! `(U, ∇ₓU)` and weighted parameter gradients of a convolutional network on a GPU, by products of our own (implicit GEMM).
//!
//! Every product is one kernel: its operands are gathered from images, signals and weights where they lie, the sums are f32, what follows
//! it (bias and activation; the slopes of the layer below; the confinement) is done while they are in registers. Nothing chooses among
//! kernels by trying them. Launches of a network of L layers: one that brings all weights into the products' orders (`pack.rs`), `L − 1`
//! forward (`forward.rs`), one for the last layer there and back (`top.rs`), `L − 1` back (`input.rs`); two a layer for the gradients in
//! weights and bias (`weights.rs`). The reference is `explicit.rs`, which also serves what is beyond the limits: one layer alone,
//! `gelu`, an adapter with less than 32 KiB of shared memory.
//!
//! | file | |
//! |---|---|
//! | `plan` | geometry, the three products, tiles |
//! | `gather`, `lanes` | operands |
//! | `products` | a cube's product |
//! | `pack`, `forward`, `top`, `input`, `weights` | a kernel each |
//! | `pass` | a network's pass |

mod forward;
mod gather;
mod input;
mod lanes;
mod launch;
mod pack;
pub(super) mod pass;
mod plan;
mod products;
mod top;
mod weights;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, backend_extension};
use burn::tensor::Shape;
use burn_cubecl::CubeBackend;

use pack::{Packed, packed_len};
use plan::{LANES, Plan};

/// The most layers whose weights one launch packs.
const PACKED: usize = 8;

/// `[n, h, w, c]` of a layer's output.
fn hidden_shape(plan: &Plan, n: usize) -> Shape {
    let [c, h, w] = plan.geometry.output;
    Shape::from([n, h, w, c])
}

/// Of the slopes that a forward pass keeps; where it keeps none there is a stub.
fn slopes_shape(plan: &Plan, n: usize) -> Shape {
    if plan.keeps_slopes() { hidden_shape(plan, n) } else { Shape::from([1, 1, 1, LANES]) }
}

/// The operations a GPU provides. [`pass`] calls them.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait ConvOps: Backend {
    /// The weights of `layers`, packed. Those beyond are not looked at.
    #[allow(clippy::too_many_arguments)]
    #[fusion(meta = |w0, _w1, _w2, _w3, _w4, _w5, _w6, _w7, layers| {
        TensorSpec::new(Shape::from([packed_len(layers)]), w0.dtype)
    })]
    fn conv_pack(
        w0: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        w3: FloatTensor<Self>,
        w4: FloatTensor<Self>,
        w5: FloatTensor<Self>,
        w6: FloatTensor<Self>,
        w7: FloatTensor<Self>,
        layers: Vec<Packed>,
    ) -> FloatTensor<Self>;

    /// `a(z)`, `[n, h, w, out]`, and `a′(z)` where the plan keeps it. `offset`: where in `packed` the layer's weights are.
    #[fusion(meta = |input, _packed, _bias, plan, _offset| (
        TensorSpec::new(hidden_shape(plan, input.shape[0]), input.dtype),
        TensorSpec::new(slopes_shape(plan, input.shape[0]), input.dtype),
    ))]
    fn conv_forward(
        input: FloatTensor<Self>,
        packed: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        plan: Plan,
        offset: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// `U`, `[n]`, and the signal of the hidden tensor, of its shape.
    #[fusion(meta = |hidden, _kept, _weights, _bias, _x, _plan, _confinement| (
        TensorSpec::new(Shape::from([hidden.shape[0]]), hidden.dtype),
        hidden.clone(),
    ))]
    fn conv_top(
        hidden: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        x: FloatTensor<Self>,
        plan: Plan,
        confinement: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The signal below a layer, or of a first layer `∇ₓU`; of the shape of `below`.
    #[fusion(meta = |_signal, _packed, below, _plan, _offset, _confinement| below.clone())]
    fn conv_input(
        signal: FloatTensor<Self>,
        packed: FloatTensor<Self>,
        below: FloatTensor<Self>,
        plan: Plan,
        offset: usize,
        confinement: f32,
    ) -> FloatTensor<Self>;

    /// The gradients in a layer's weights and bias, flat, of signals times their image's factor.
    #[fusion(meta = |input, _signal, _factors, plan| (
        TensorSpec::new(Shape::from([plan.rows(1) * plan.columns()]), input.dtype),
        TensorSpec::new(Shape::from([plan.columns()]), input.dtype),
    ))]
    fn conv_weights(
        input: FloatTensor<Self>,
        signal: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl ConvOps for CubeBackend {
    fn conv_pack(
        w0: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        w3: FloatTensor<Self>,
        w4: FloatTensor<Self>,
        w5: FloatTensor<Self>,
        w6: FloatTensor<Self>,
        w7: FloatTensor<Self>,
        layers: Vec<Packed>,
    ) -> FloatTensor<Self> {
        pack::pack([w0, w1, w2, w3, w4, w5, w6, w7].into_iter().take(layers.len()), layers)
    }

    fn conv_forward(
        input: FloatTensor<Self>,
        packed: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        plan: Plan,
        offset: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        forward::forward(input, packed, bias, plan, offset)
    }

    fn conv_top(
        hidden: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        x: FloatTensor<Self>,
        plan: Plan,
        confinement: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        top::top(hidden, kept, weights, bias, x, plan, confinement)
    }

    fn conv_input(
        signal: FloatTensor<Self>,
        packed: FloatTensor<Self>,
        below: FloatTensor<Self>,
        plan: Plan,
        offset: usize,
        confinement: f32,
    ) -> FloatTensor<Self> {
        input::input(signal, packed, below, plan, offset, confinement)
    }

    fn conv_weights(
        input: FloatTensor<Self>,
        signal: FloatTensor<Self>,
        factors: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        weights::weights(input, signal, factors, plan)
    }
}
