//! `(U, ∇ₓU)` of a whole perceptron in one launch on a GPU, and K Langevin steps.
//!
//! A cube takes a tile of walkers through every layer and back. Three files make the form that serves most networks: `form.rs` cuts a launch into
//! tiles and sums, `slab.rs` multiplies with weights in shared memory, `network.rs` strings the layers together; `chain.rs` and `chain/launch.rs` launch it, once for one
//! evaluation and once for a chain of steps. Samples of many coordinates and very wide layers, whose tiles do not fit shared memory with all that a step needs,
//! have an evaluation of their own (`kernel.rs`, `products.rs`): weights from global memory, `z_l` in a scratch buffer. The reference is the tensor form
//! (`explicit.rs`).
//!
//! Limits, beyond which the tensor form serves: at most [`MAX_LAYERS`] − 1 hidden layers; hidden widths whose activations of four
//! walkers, twice, fit the adapter's shared memory (1,024 where that is 32 KiB); activations but for `gelu`.

/// Weights of the first layer, of those between, of the last, and biases, as kernel arguments.
macro_rules! layer_arguments {
    ($layers:expr) => {{
        let (mut weights, mut biases) =
            (std::collections::VecDeque::new(), cubecl::prelude::SequenceArg::new());
        for (weight, bias) in $layers {
            weights.push_back(burn_cubecl::kernel::into_contiguous(weight).into_buffer_arg());
            biases.push(burn_cubecl::kernel::into_contiguous(bias).into_buffer_arg());
        }
        let first = weights.pop_front().expect("two layers or more");
        let last = weights.pop_back().expect("two layers or more");
        (first, weights.into_iter().collect(), last, biases)
    }};
}

mod chain;
mod form;
pub(super) mod grads;
mod kernel;
pub(super) mod layers;
pub(crate) mod math;
mod network;
pub(super) mod partials;
mod products;
mod slab;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::{Cube, CubeBackend};
use cubecl::client::Client;

use super::activation::Activation;
use super::chain::{Accepted, Chain, ChainEnd, ChainRule, ChainState};
use form::Form;
pub use form::with_tile;
use network::Network;

/// The most linear layers of a fused perceptron.
const MAX_LAYERS: usize = 5;
/// What a kernel of `kernel.rs` is compiled for.
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

/// How one evaluation is made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// By `chain.rs`.
    Tiled(Network),
    /// By `kernel.rs`.
    Wide(Plan),
}

/// The operations a GPU provides. Call [`energy_and_grad`] and [`chain`] instead. Weights and biases beyond the plan's layers are not looked at.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
#[allow(clippy::too_many_arguments, clippy::type_complexity)]
trait PerceptronOps: Backend {
    /// `U`, `[walkers]`, and `∇ₓU`, `[walkers, dim]`.
    #[fusion(meta = |x, _w0, _b0, _w1, _b1, _w2, _b2, _w3, _b3, _w4, _b4, _way, _c| {
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
        way: Way,
        confinement: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Positions, energies, gradients and log-weights after a chain, and the two numbers of [`Accepted`], `[1]` each.
    #[fusion(meta = |x, energy, grad, hi, lo, _w0, _b0, _w1, _b1, _w2, _b2, _w3, _b3, _w4, _b4, _network, _c, _chain| {
        let number = TensorSpec::new(Shape::from([1]), x.dtype);
        (x.clone(), energy.clone(), grad.clone(), hi.clone(), lo.clone(), number.clone(), number)
    })]
    fn perceptron_chain(
        x: FloatTensor<Self>,
        energy: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
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
        network: Network,
        confinement: f32,
        chain: Chain,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
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
        way: Way,
        confinement: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let layers = [(w0, b0), (w1, b1), (w2, b2), (w3, b3), (w4, b4)].into_iter();
        match way {
            Way::Tiled(network) => {
                let count = network.hidden.len() + 1;
                chain::energy_and_grad(x, layers.take(count), network, confinement)
            }
            Way::Wide(plan) => {
                let count = plan.hidden.len() + 1;
                kernel::energy_and_grad(x, layers.take(count), plan, confinement)
            }
        }
    }

    fn perceptron_chain(
        x: FloatTensor<Self>,
        energy: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
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
        network: Network,
        confinement: f32,
        chain: Chain,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let layers = [(w0, b0), (w1, b1), (w2, b2), (w3, b3), (w4, b4)].into_iter();
        let count = network.hidden.len() + 1;
        let state = [x, energy, grad, hi, lo];
        let (state, [last, mean]) = chain::chain(state, layers.take(count), network, confinement, chain);
        let [x, energy, grad, hi, lo] = state;
        (x, energy, grad, hi, lo, last, mean)
    }
}

/// The client of the GPU that has x and a perceptron that it can take in one launch, and the hidden widths.
fn served(theta: &[Tensor<1>], x: &Tensor<2>, activation: Activation) -> Option<(Client, Vec<usize>)> {
    let layers = theta.len() / 2;
    let is_plain = x.dtype() == DType::F32 && theta.iter().all(|tensor| tensor.dtype() == DType::F32);
    if !(2..=MAX_LAYERS).contains(&layers) || activation == Activation::Gelu || !is_plain {
        return None;
    }
    let on_gpu = x.clone().try_into_primitive::<Cube>().ok()?;
    let hidden = theta[..2 * (layers - 1)].chunks_exact(2).map(|layer| layer[1].dims()[0]).collect();
    Some((on_gpu.client.device().client(), hidden))
}

/// The network of `network.rs`, where a tile of it fits.
fn network(
    client: &Client,
    [walkers, dim]: [usize; 2],
    hidden: &[usize],
    activation: Activation,
    confinement: f64,
) -> Option<Network> {
    // Weights, biases, the state and what it becomes, counts, scratch, and the launch's own numbers.
    let bindings = 2 * (hidden.len() + 1) + 13;
    if (client.properties().hardware.max_bindings as usize) < bindings {
        return None;
    }
    let form = Form::choose(client, dim, hidden.iter().copied().max()?, walkers)?;
    Some(Network { dim, hidden: hidden.to_vec(), activation, confined: confinement != 0.0, form })
}

/// `(U, ∇ₓU)` of the perceptron `theta` (`W_0, b_0, W_1, …`, flat) plus `½ c |x|²` at `x: [walkers, dim]`, in one launch; `None`
/// where the tensors are on no GPU, on the tape, or beyond the limits above.
pub(super) fn energy_and_grad(
    theta: &[Tensor<1>],
    x: &Tensor<2>,
    activation: Activation,
    confinement: f64,
) -> Option<(Tensor<1>, Tensor<2>)> {
    let (client, hidden) = served(theta, x, activation)?;
    let way = match network(&client, x.dims(), &hidden, activation, confinement) {
        Some(network) => Way::Tiled(network),
        None => {
            let tile = kernel::tile(&client, &hidden, hidden.len() + 1)?;
            let confined = confinement != 0.0;
            Way::Wide(Plan { dim: x.dims()[1], hidden, activation, tile, confined })
        }
    };
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
        way,
        confinement as f32,
    );
    Some((Tensor::from_dispatch(energy), Tensor::from_dispatch(grad)))
}

/// A chain of the same perceptron; `None` as above, and where a tile with all that a step needs does not fit the adapter.
pub(super) fn chain(
    theta: &[Tensor<1>],
    from: &ChainState,
    chain: &Chain,
    activation: Activation,
    confinement: f64,
) -> Option<ChainEnd> {
    let (client, hidden) = served(theta, &from.position, activation)?;
    let walkers = from.position.dims()[0];
    let network = network(&client, from.position.dims(), &hidden, activation, confinement)?;
    let most = chain::most_steps(&network, walkers);
    Some(ChainEnd::in_parts(from, chain, most, |from, part| {
        let slot = |i: usize| theta.get(i).unwrap_or(&theta[0]).clone().into_dispatch();
        let (position, energy, energy_grad, hi, lo, last, mean) =
            <Dispatch as PerceptronOps>::perceptron_chain(
                from.position.clone().into_dispatch(),
                from.energy.clone().into_dispatch(),
                from.energy_grad.clone().into_dispatch(),
                from.log_weights.0.clone().into_dispatch(),
                from.log_weights.1.clone().into_dispatch(),
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
                network.clone(),
                confinement as f32,
                *part,
            );
        let log_weights = match part.rule {
            ChainRule::Ula { weighted: true } => (Tensor::from_dispatch(hi), Tensor::from_dispatch(lo)),
            _ => from.log_weights.clone(),
        };
        let state = ChainState {
            position: Tensor::from_dispatch(position),
            energy: Tensor::from_dispatch(energy),
            energy_grad: Tensor::from_dispatch(energy_grad),
            log_weights,
        };
        let accepted = (part.rule == ChainRule::Mala)
            .then(|| Accepted { last: Tensor::from_dispatch(last), mean: Tensor::from_dispatch(mean) });
        ChainEnd { state, accepted }
    }))
}
