//! `(U, ∇ₓU)` of a whole perceptron in one launch on a GPU.
//!
//! A cube takes a tile of walkers through every layer and back: activations and signals stay in shared memory, weights are read
//! from global memory and reused by the tile's walkers. What the backward pass needs of the forward one, `z_l` of each hidden layer,
//! goes through a scratch buffer that a cube uses again for its next tile: recomputing it would double the work, and keeping it in
//! shared memory would quarter the tile. The reference is the tensor form (`explicit.rs`).
//!
//! Limits, beyond which the tensor form serves: at most [`MAX_LAYERS`] − 1 hidden layers; hidden widths whose activations of four
//! walkers, twice, fit the adapter's shared memory (1,024 where that is 32 KiB); activations but for `gelu`.

mod kernel;
pub(super) mod layers;
pub(super) mod math;
mod products;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::{Cube, CubeBackend};

use super::activation::Activation;

/// The most linear layers of a fused perceptron.
const MAX_LAYERS: usize = 5;

/// What a kernel is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Plan {
    /// Coordinates of a sample.
    dim: usize,
    /// Hidden widths.
    hidden: Vec<usize>,
    activation: Activation,
    /// Walkers a cube takes at a time.
    tile: usize,
    /// Whether there is a `½ c |x|²`.
    confined: bool,
}

/// The operation a GPU provides. Call [`energy_and_grad`] instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait PerceptronOps: Backend {
    /// `U`, `[walkers]`, and `∇ₓU`, `[walkers, dim]`. Weights and biases beyond the plan's layers are not looked at.
    #[allow(clippy::too_many_arguments)]
    #[fusion(meta = |x, _w0, _b0, _w1, _b1, _w2, _b2, _w3, _b3, _w4, _b4, _plan, _c| {
        (TensorSpec::new(Shape::from([x.shape[0]]), x.dtype), x.clone())
    })]
    fn perceptron_energy_and_grad(
        x: FloatTensor<Self>,
        w0: FloatTensor<Self>,
        b0: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        w3: FloatTensor<Self>,
        b3: FloatTensor<Self>,
        w4: FloatTensor<Self>,
        b4: FloatTensor<Self>,
        plan: Plan,
        confinement: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl PerceptronOps for CubeBackend {
    fn perceptron_energy_and_grad(
        x: FloatTensor<Self>,
        w0: FloatTensor<Self>,
        b0: FloatTensor<Self>,
        w1: FloatTensor<Self>,
        b1: FloatTensor<Self>,
        w2: FloatTensor<Self>,
        b2: FloatTensor<Self>,
        w3: FloatTensor<Self>,
        b3: FloatTensor<Self>,
        w4: FloatTensor<Self>,
        b4: FloatTensor<Self>,
        plan: Plan,
        confinement: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let layers = [(w0, b0), (w1, b1), (w2, b2), (w3, b3), (w4, b4)];
        kernel::energy_and_grad(x, layers.into_iter().take(plan.hidden.len() + 1), plan, confinement)
    }
}

/// `(U, ∇ₓU)` of the perceptron `theta` (`W_0, b_0, W_1, …`, flat) plus `½ c |x|²` at `x: [walkers, dim]`, in one launch; `None`
/// where the tensors are on no GPU, on the tape, or beyond the limits above.
pub(super) fn energy_and_grad(
    theta: &[Tensor<1>],
    x: &Tensor<2>,
    activation: Activation,
    confinement: f64,
) -> Option<(Tensor<1>, Tensor<2>)> {
    let layers = theta.len() / 2;
    let is_plain = x.dtype() == DType::F32 && theta.iter().all(|tensor| tensor.dtype() == DType::F32);
    if !(2..=MAX_LAYERS).contains(&layers) || activation == Activation::Gelu || !is_plain {
        return None;
    }
    let on_gpu = x.clone().try_into_primitive::<Cube>().ok()?;
    let hidden: Vec<usize> =
        theta[..2 * (layers - 1)].chunks_exact(2).map(|layer| layer[1].dims()[0]).collect();
    let tile = kernel::tile(&on_gpu.client.device().client(), &hidden, layers)?;
    drop(on_gpu);
    let plan = Plan { dim: x.dims()[1], hidden, activation, tile, confined: confinement != 0.0 };
    // Slots beyond the last layer hold any tensor.
    let slot = |i: usize| theta.get(i).unwrap_or(&theta[0]).clone().into_dispatch();
    let (energy, grad) = <Dispatch as PerceptronOps>::perceptron_energy_and_grad(
        x.clone().into_dispatch(),
        slot(0),
        slot(1),
        slot(2),
        slot(3),
        slot(4),
        slot(5),
        slot(6),
        slot(7),
        slot(8),
        slot(9),
        plan,
        confinement as f32,
    );
    Some((Tensor::from_dispatch(energy), Tensor::from_dispatch(grad)))
}
