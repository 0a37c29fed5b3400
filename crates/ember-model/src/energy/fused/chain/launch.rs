//! How much of the kernels one launch does, and the launches.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Plan, chain_kernel, evaluation_kernel};
use crate::energy::chain::Chain;
use crate::energy::chain::cube::{self, Rule};
use crate::energy::fused::network::Network;

/// The most cubes: each goes on with another tile, so that scratch stays small.
const CUBES: usize = 1024;
/// The most scratch, in bytes: it should stay in the card's cache, and fit a binding.
const SCRATCH: usize = 96 << 20;

/// Operations of one launch of a chain at most. Drivers kill what runs for a second or two, and a screen stands still meanwhile: this is .2 s on a
/// slow integrated GPU (2·10¹¹ operations a second), a millisecond on a large card, which a launch of 30 µs hardly lengthens.
const OPERATIONS: f64 = 4e10;

/// Rounds of loops in one launch: fewer than the 65,535 that software Vulkan allows, and as good as none to a card.
const ROUNDS: usize = 60_000;

/// The most steps of one launch of a chain of so many walkers.
pub(in crate::energy::fused) fn most_steps(network: &Network, walkers: usize) -> u32 {
    let by_time = OPERATIONS / (network.operations() * walkers.max(1) as f64);
    let cubes = walkers.div_ceil(network.form.tile).min(cubes(network)).max(1);
    let turns = walkers.div_ceil(network.form.tile).div_ceil(cubes).max(1);
    let by_rounds = ROUNDS / (turns * network.rounds());
    (by_time as u32).min(by_rounds as u32).min(cube::countable_steps(walkers)).max(1)
}

/// The most cubes of a launch.
fn cubes(network: &Network) -> usize {
    CUBES.min((SCRATCH / (16 * network.scratch().max(1))).max(1))
}

/// A launch of `rows` walkers: how many tiles and cubes, and scratch for them.
struct Launch {
    tiles: usize,
    cubes: usize,
    scratch: CubeTensor,
}

impl Launch {
    fn new(like: &CubeTensor, rows: usize, network: &Network) -> Self {
        let tiles = rows.div_ceil(network.form.tile);
        let cubes = tiles.min(cubes(network));
        let len = cubes * 4 * network.scratch().max(1);
        Self { tiles, cubes, scratch: empty(like, Shape::from([len])) }
    }

    fn count(&self) -> CubeCount {
        CubeCount::new_1d(self.cubes as u32)
    }
}

fn empty(like: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, DType::F32)
}

fn vector(network: &Network) -> usize {
    if network.is_of_vectors() { 4 } else { 1 }
}

/// `(U, ∇ₓU)`, `[rows]` and `[rows, dim]`, in one launch; `layers` are weights and biases.
pub(in crate::energy::fused) fn energy_and_grad(
    x: CubeTensor,
    layers: impl Iterator<Item = (CubeTensor, CubeTensor)>,
    network: Network,
    confinement: f32,
) -> (CubeTensor, CubeTensor) {
    let x = into_contiguous(x);
    let rows = x.meta.shape()[0];
    let (energy, grad) = (empty(&x, Shape::from([rows])), empty(&x, Shape::from([rows, network.dim])));
    if rows == 0 {
        return (energy, grad);
    }
    let launch = Launch::new(&x, rows, &network);
    let (first, between, last, biases) = layer_arguments!(layers);
    evaluation_kernel::launch(
        &x.client.clone(),
        launch.count(),
        CubeDim::new_1d(network.form.threads() as u32),
        vector(&network),
        x.into_buffer_arg(),
        first,
        between,
        last,
        biases,
        energy.clone().into_buffer_arg(),
        grad.clone().into_buffer_arg(),
        launch.scratch.clone().into_buffer_arg(),
        rows,
        launch.tiles,
        confinement,
        network,
    );
    (energy, grad)
}

/// Positions, energies, gradients, both parts of the log-weights.
pub(in crate::energy::fused) type State<T> = [T; 5];

/// The state after a chain, and the two numbers of [`crate::energy::chain::Accepted`], which mean nothing where nothing is rejected.
pub(in crate::energy::fused) fn chain(
    state: State<CubeTensor>,
    layers: impl Iterator<Item = (CubeTensor, CubeTensor)>,
    network: Network,
    confinement: f32,
    chain: Chain,
) -> (State<CubeTensor>, [CubeTensor; 2]) {
    let [x, energy, grad, hi, lo] = state.map(into_contiguous);
    let rows = x.meta.shape()[0];
    let like = |tensor: &CubeTensor| empty(&x, tensor.meta.shape().clone());
    if rows == 0 {
        let accepted = [cube::number_like(&x), cube::number_like(&x)];
        return ([x, energy, grad, hi, lo], accepted);
    }
    let (x_out, energy_out, grad_out) = (like(&x), like(&energy), like(&grad));
    let rule = Rule::of(&chain);
    // Weights that nothing is added to are handed on; the kernel has a place to write to all the same.
    let (hi_out, lo_out) = match rule.is_weighted() {
        true => (like(&hi), like(&lo)),
        false => (empty(&x, Shape::from([1])), empty(&x, Shape::from([1]))),
    };
    let launch = Launch::new(&x, rows, &network);
    let counts = cube::counts_like(&x, if rule.rejects() { launch.tiles } else { 1 });
    let (first, between, last, biases) = layer_arguments!(layers);
    let plan = Plan { network, rule };
    chain_kernel::launch(
        &x.client.clone(),
        launch.count(),
        CubeDim::new_1d(plan.network.form.threads() as u32),
        vector(&plan.network),
        x.into_buffer_arg(),
        energy.into_buffer_arg(),
        grad.into_buffer_arg(),
        hi.clone().into_buffer_arg(),
        lo.clone().into_buffer_arg(),
        first,
        between,
        last,
        biases,
        x_out.clone().into_buffer_arg(),
        energy_out.clone().into_buffer_arg(),
        grad_out.clone().into_buffer_arg(),
        hi_out.clone().into_buffer_arg(),
        lo_out.clone().into_buffer_arg(),
        counts.clone().into_buffer_arg(),
        launch.scratch.clone().into_buffer_arg(),
        rows,
        launch.tiles,
        confinement,
        cube::steps(&chain),
        plan,
    );
    let (hi, lo) = if rule.is_weighted() { (hi_out, lo_out) } else { (hi, lo) };
    let (last, mean) = match rule.rejects() {
        true => cube::fractions(counts, launch.tiles, rows, chain.steps),
        false => (cube::number_like(&x_out), cube::number_like(&x_out)),
    };
    ([x_out, energy_out, grad_out, hi, lo], [last, mean])
}
