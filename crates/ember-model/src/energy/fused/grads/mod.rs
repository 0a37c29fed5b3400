//! Weighted parameter gradients of a perceptron in two launches on a GPU, in one where a single cube has all the walkers.
//!
//! `Σ_t Σ_b w_b ∂U/∂θ` of up to two terms (data and walkers) and the energies of all rows. The first launch (`kernel.rs`) takes tiles of
//! rows through the layers and back and leaves a sum for each cube; the second (`partials.rs`) adds the cubes' sums up. Both in a fixed
//! order. Gradients are views of one buffer in the layout of [`flat`](crate::flat). The reference is the tensor form (`explicit.rs`).
//!
//! Limits, beyond which the tensor form serves: those of the fused energy, and parameters of which a sum for each of 132 cubes
//! takes no more than 256 MiB or the adapter's largest buffer (500,000 parameters; 250,000 where that is 128 MiB). More walkers than a
//! launch may take on software Vulkan (some 500,000 of the benchmark's network) go in pieces.

mod kernel;
mod launch;
mod outer;
mod pass;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::{Cube, CubeBackend};

use super::{MAX_LAYERS, partials};
use crate::energy::activation::Activation;
use crate::energy::{WeightedGrads, explicit};
use crate::flat::Layout;

/// Threads of a cube.
const THREADS: usize = 256;

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
    /// The gradients.
    layout: Layout,
}

/// How the work is shared out.
#[derive(Clone, Copy, Debug)]
struct Extent {
    /// Terms, one or two.
    terms: usize,
    /// Cubes of the first launch.
    cubes: usize,
}

/// The operation a GPU provides. Call [`weighted_param_grads`] instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait PerceptronGradOps: Backend {
    /// The flat gradient, `[layout.total]`, and the energies of both terms, `[rows]`: a second term that the extent does not count is not
    /// looked at, and its energies are no numbers. Weights and biases beyond the plan's layers are not looked at.
    #[allow(clippy::too_many_arguments)]
    #[fusion(meta = |x0, _v0, x1, _v1, _w0, _b0, _w1, _b1, _w2, _b2, _w3, _b3, _w4, _b4, plan, _extent, _c| {
        let vector = |len: usize| TensorSpec::new(Shape::from([len]), x0.dtype);
        (vector(plan.layout.total), vector(x0.shape[0]), vector(x1.shape[0]))
    })]
    fn perceptron_weighted_grads(
        x0: FloatTensor<Self>,
        v0: FloatTensor<Self>,
        x1: FloatTensor<Self>,
        v1: FloatTensor<Self>,
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
        extent: Extent,
        confinement: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl PerceptronGradOps for CubeBackend {
    fn perceptron_weighted_grads(
        x0: FloatTensor<Self>,
        v0: FloatTensor<Self>,
        x1: FloatTensor<Self>,
        v1: FloatTensor<Self>,
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
        extent: Extent,
        confinement: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let layers = [(w0, b0), (w1, b1), (w2, b2), (w3, b3), (w4, b4)];
        let layers = layers.into_iter().take(plan.hidden.len() + 1);
        launch::weighted_grads([(x0, v0), (x1, v1)], layers, plan, extent, confinement)
    }
}

/// Gradients of the perceptron `theta` (`W_0, b_0, W_1, …`, flat) plus `½ c |x|²`; `None` where the tensors are on no GPU, on the tape,
/// or beyond the limits above.
pub(in crate::energy) fn weighted_param_grads(
    theta: &[Tensor<1>],
    terms: &[(Tensor<2>, Tensor<1>)],
    activation: Activation,
    confinement: f64,
) -> Option<WeightedGrads> {
    let layers = theta.len() / 2;
    let is_plain = terms.iter().all(|(x, weights)| x.dtype() == DType::F32 && weights.dtype() == DType::F32)
        && theta.iter().all(|tensor| tensor.dtype() == DType::F32);
    if !(2..=MAX_LAYERS).contains(&layers) || activation == Activation::Gelu || !is_plain {
        return None;
    }
    let client = {
        let on_gpu = terms.first()?.0.clone().try_into_primitive::<Cube>().ok()?;
        on_gpu.client.device().client()
    };
    if terms.iter().any(|(x, _)| x.dims()[0] == 0) {
        return None;
    }
    if terms.len() > 2 {
        let (x, weights, split) = explicit::stacked(terms);
        let found = weighted_param_grads(theta, &[(x, weights)], activation, confinement)?;
        return Some(WeightedGrads { energies: split(&found.energies[0]), grads: found.grads });
    }
    let hidden: Vec<usize> =
        theta[..2 * (layers - 1)].chunks_exact(2).map(|layer| layer[1].dims()[0]).collect();
    let tile = launch::tile(&client, &hidden, layers)?;
    let layout = Layout::new(theta.iter().map(|tensor| tensor.dims()[0]));
    let tiles = terms.iter().map(|(x, _)| x.dims()[0].div_ceil(tile)).sum();
    let cubes = partials::rows(&client, tiles, layout.total)?;
    let dim = terms[0].0.dims()[1];
    let plan = Plan { dim, hidden, activation, tile, confined: confinement != 0.0, layout: layout.clone() };
    let turns = partials::ROUNDS / launch::rounds(&plan);
    if turns == 0 {
        return None;
    }
    Some(partials::in_pieces(terms, turns * cubes * tile, &layout, |terms| {
        launched(theta, terms, &plan, cubes, confinement as f32)
    }))
}

/// The gradient of one term or two, on at most so many cubes.
fn launched(
    theta: &[Tensor<1>],
    terms: &[(Tensor<2>, Tensor<1>)],
    plan: &Plan,
    cubes: usize,
    confinement: f32,
) -> WeightedGrads {
    let tiles: usize = terms.iter().map(|(x, _)| x.dims()[0].div_ceil(plan.tile)).sum();
    let extent = Extent { terms: terms.len(), cubes: cubes.min(tiles) };
    // Slots beyond the last layer, or the last term, hold any tensor.
    let slot = |i: usize| theta.get(i).unwrap_or(&theta[0]).clone().into_dispatch();
    let [first, second] = [&terms[0], &terms[terms.len() - 1]];
    let (flat, energy0, energy1) = <Dispatch as PerceptronGradOps>::perceptron_weighted_grads(
        first.0.clone().into_dispatch(),
        first.1.clone().into_dispatch(),
        second.0.clone().into_dispatch(),
        second.1.clone().into_dispatch(),
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
        plan.clone(),
        extent,
        confinement,
    );
    let energies = [energy0, energy1].into_iter().take(terms.len()).map(Tensor::from_dispatch).collect();
    WeightedGrads { grads: plan.layout.views(&Tensor::from_dispatch(flat)), energies }
}
