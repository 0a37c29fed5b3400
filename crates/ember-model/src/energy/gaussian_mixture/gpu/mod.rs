//! The mixture on a GPU: `(U, ∇U)` in one launch, a chain of Langevin steps in one, the gradient in θ with the energies in two, in one where a single cube has all rows.
//!
//! Two, because sums over rows cross cubes, and a cube may not read what another has written in the same launch. One launch would need
//! each cube to walk all rows for a part of the coordinates, and to find all responsibilities anew: at 20,000 rows of 50 coordinates
//! more than the launch that it saves. The reference is the tensor form in the parent module.
//!
//! Limits, beyond which the tensor form serves: terms of all modes for a cube's rows must fit the shared memory (7,000 modes where that
//! is 32 KiB); those of `partials.rs` for the gradient in θ.

mod chain;
mod kernel;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{Cube, CubeBackend};
use cubecl::client::Client;
use cubecl::{CubeCount, CubeDim};

use crate::energy::chain::{Accepted, Chain, ChainEnd, ChainRule, ChainState};
use crate::energy::fused::partials;
use crate::energy::{WeightedGrads, explicit};
use crate::flat::Layout;
use kernel::{AT_ONCE, THREADS, energy_and_grad_kernel, weighted_grads_kernel};

/// Coordinates that are worth a thread of their own.
const COORDINATES: usize = 8;
/// Rows over which a cube adds up before it adds to its row of sums, where they fit.
const BLOCK: usize = 32;
/// The most cubes of an evaluation: each goes on with other rows.
const CUBES: usize = 65_535;

/// What a kernel is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Plan {
    /// Coordinates of a sample.
    dim: usize,
    /// K.
    modes: usize,
    /// Threads of a row, a power of two.
    lanes: usize,
    /// How often a cube takes as many rows as it has threads for, before it adds up.
    passes: usize,
    /// Terms, one or two.
    terms: usize,
    /// The gradient in θ.
    layout: Layout,
}

impl Plan {
    /// The plan of the fewest lanes that fit the adapter.
    fn new(client: &Client, dim: usize, modes: usize, terms: usize, block: usize) -> Option<Self> {
        let hardware = &client.properties().hardware;
        // The state, θ, what the state becomes, counts, scratch, and the launch's own numbers: a chain has the most.
        if (hardware.max_units_per_cube as usize) < THREADS || hardware.max_bindings < 15 {
            return None;
        }
        let room = (hardware.max_shared_memory_size / size_of::<f32>()).checked_sub(AT_ONCE * THREADS)?;
        let least = dim.div_ceil(COORDINATES).next_power_of_two().min(THREADS);
        let lanes = std::iter::successors(Some(least), |lanes| Some(2 * lanes))
            .take_while(|lanes| *lanes <= THREADS)
            .find(|lanes| THREADS / lanes * modes <= room)?;
        let at_once = THREADS / lanes;
        let passes = (block.div_ceil(at_once)).min(room / (at_once * modes)).max(1);
        let layout = Layout::new([modes * dim, modes].into_iter());
        let plan = Self { dim, modes, lanes, passes, terms, layout };
        (plan.rounds() <= partials::ROUNDS).then_some(plan)
    }

    /// Rounds of a thread's loops for one block of rows, the gradient in θ included, and a few to spare.
    fn rounds(&self) -> usize {
        let at_once = THREADS / self.lanes;
        let own = self.dim.div_ceil(self.lanes);
        let shares = (AT_ONCE * at_once).div_ceil(THREADS) * (1 + self.sharing());
        let softmax = self.modes.div_ceil(AT_ONCE) * (1 + self.dim.div_ceil(4 * self.lanes) + shares)
            + 3 * self.modes
            + 2;
        let force = own * (1 + self.modes);
        let outputs = (self.modes * self.dim).div_ceil(THREADS) + self.modes.div_ceil(THREADS);
        self.passes * (softmax + self.modes) + force + outputs * (2 + self.block()) + THREADS + 16
    }

    /// Lanes of a row that have a coordinate.
    fn sharing(&self) -> usize {
        self.lanes.min(self.dim.div_ceil(4))
    }

    /// Rows whose terms stand in shared memory.
    fn block(&self) -> usize {
        THREADS / self.lanes * self.passes
    }
}

/// The operations a GPU provides. Call the functions of this module instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait MixtureOps: Backend {
    /// `U`, `[rows]`, and `∇U`, `[rows, dim]`.
    #[fusion(meta = |x, _means, _logits, _plan| {
        (TensorSpec::new(Shape::from([x.shape[0]]), x.dtype), x.clone())
    })]
    fn mixture_energy_and_grad(
        x: FloatTensor<Self>,
        means: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Positions, energies, gradients and log-weights after a chain, and the two numbers of [`Accepted`], `[1]` each.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    #[fusion(meta = |x, energy, grad, hi, lo, _means, _logits, _plan, _chain| {
        let number = TensorSpec::new(Shape::from([1]), x.dtype);
        (x.clone(), energy.clone(), grad.clone(), hi.clone(), lo.clone(), number.clone(), number)
    })]
    fn mixture_chain(
        x: FloatTensor<Self>,
        energy: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        means: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        plan: Plan,
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

    /// The flat gradient, `[layout.total]`, and the energies of both terms, `[rows]`. A second term that the plan does not count is not
    /// looked at, and its energies are no numbers.
    #[allow(clippy::too_many_arguments)]
    #[fusion(meta = |x0, _v0, x1, _v1, _means, _logits, plan, _cubes| {
        let vector = |len: usize| TensorSpec::new(Shape::from([len]), x0.dtype);
        (vector(plan.layout.total), vector(x0.shape[0]), vector(x1.shape[0]))
    })]
    fn mixture_weighted_grads(
        x0: FloatTensor<Self>,
        v0: FloatTensor<Self>,
        x1: FloatTensor<Self>,
        v1: FloatTensor<Self>,
        means: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        plan: Plan,
        cubes: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn empty(like: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, DType::F32)
}

impl MixtureOps for CubeBackend {
    fn mixture_energy_and_grad(
        x: FloatTensor<Self>,
        means: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        plan: Plan,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, means, logits) = (into_contiguous(x), into_contiguous(means), into_contiguous(logits));
        let rows = x.meta.shape()[0];
        let client = x.client.clone();
        let (energy, grad) = (empty(&x, Shape::from([rows])), empty(&x, Shape::from([rows, plan.dim])));
        energy_and_grad_kernel::launch(
            &client,
            CubeCount::new_1d(rows.div_ceil(plan.block()).min(CUBES) as u32),
            CubeDim::new_1d(THREADS as u32),
            x.into_buffer_arg(),
            means.into_buffer_arg(),
            logits.into_buffer_arg(),
            energy.clone().into_buffer_arg(),
            grad.clone().into_buffer_arg(),
            rows,
            plan,
        );
        (energy, grad)
    }

    fn mixture_chain(
        x: FloatTensor<Self>,
        energy: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        means: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        plan: Plan,
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
        let (state, [last, mean]) = chain::chain([x, energy, grad, hi, lo], [means, logits], plan, chain);
        let [x, energy, grad, hi, lo] = state;
        (x, energy, grad, hi, lo, last, mean)
    }

    fn mixture_weighted_grads(
        x0: FloatTensor<Self>,
        v0: FloatTensor<Self>,
        x1: FloatTensor<Self>,
        v1: FloatTensor<Self>,
        means: FloatTensor<Self>,
        logits: FloatTensor<Self>,
        plan: Plan,
        cubes: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [x0, v0, x1, v1, means, logits] = [x0, v0, x1, v1, means, logits].map(into_contiguous);
        let (rows0, rows1) = (x0.meta.shape()[0], x1.meta.shape()[0]);
        let client = x0.client.clone();
        let (energy0, energy1) = (empty(&x0, Shape::from([rows0])), empty(&x0, Shape::from([rows1])));
        let sums = empty(&x0, Shape::from([cubes * plan.layout.total]));
        // A second term that is not there has no tiles.
        let rows1 = if plan.terms == 2 { rows1 } else { 0 };
        let tiles0 = rows0.div_ceil(plan.block());
        let tiles = tiles0 + rows1.div_ceil(plan.block());
        weighted_grads_kernel::launch(
            &client,
            CubeCount::new_1d(cubes as u32),
            CubeDim::new_1d(THREADS as u32),
            x0.into_buffer_arg(),
            v0.into_buffer_arg(),
            x1.into_buffer_arg(),
            v1.into_buffer_arg(),
            means.into_buffer_arg(),
            logits.into_buffer_arg(),
            energy0.clone().into_buffer_arg(),
            energy1.clone().into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            rows0,
            rows1,
            tiles0,
            tiles,
            plan,
        );
        (partials::sum(sums, cubes), energy0, energy1)
    }
}

/// The client of plain tensors on a GPU, off the tape.
fn client(theta: &[Tensor<1>], x: &Tensor<2>) -> Option<Client> {
    if x.dtype() != DType::F32 || x.dims()[0] == 0 || theta.iter().any(|tensor| tensor.dtype() != DType::F32)
    {
        return None;
    }
    theta.iter().try_for_each(|tensor| tensor.clone().try_into_primitive::<Cube>().map(drop)).ok()?;
    let on_gpu = x.clone().try_into_primitive::<Cube>().ok()?;
    Some(on_gpu.client.device().client())
}

/// `(U, ∇U)` at `x: [rows, dim]`, θ the means `[K·dim]` and the logits `[K]`; `None` where a tensor is on no GPU, on the tape, or beyond
/// the limits above.
pub(super) fn energy_and_grad(theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
    let [rows, dim] = x.dims();
    let plan = Plan::new(&client(theta, x)?, dim, theta[1].dims()[0], 1, 1)?;
    if rows.div_ceil(plan.block() * CUBES) * plan.rounds() > partials::ROUNDS {
        return None;
    }
    let [means, logits] = [&theta[0], &theta[1]].map(|tensor| tensor.clone().into_dispatch());
    let x = x.clone().into_dispatch();
    let (energy, grad) = <Dispatch as MixtureOps>::mixture_energy_and_grad(x, means, logits, plan);
    Some((Tensor::from_dispatch(energy), Tensor::from_dispatch(grad)))
}

/// A chain; `None` as in [`energy_and_grad`].
pub(super) fn chain(theta: &[Tensor<1>], from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
    let [walkers, dim] = from.position.dims();
    let client = client(theta, &from.position)?;
    let plan = Plan::new(&client, dim, theta[1].dims()[0], 1, 1)?;
    // Counts of what was taken stand beside the terms in shared memory.
    let shared = size_of::<f32>() * (plan.modes * plan.block() + (AT_ONCE + 2) * THREADS);
    if shared > client.properties().hardware.max_shared_memory_size {
        return None;
    }
    let most = chain::most_steps(&plan, walkers)?;
    Some(ChainEnd::in_parts(from, chain, most, |from, part| {
        let (position, energy, energy_grad, hi, lo, last, mean) = <Dispatch as MixtureOps>::mixture_chain(
            from.position.clone().into_dispatch(),
            from.energy.clone().into_dispatch(),
            from.energy_grad.clone().into_dispatch(),
            from.log_weights.0.clone().into_dispatch(),
            from.log_weights.1.clone().into_dispatch(),
            theta[0].clone().into_dispatch(),
            theta[1].clone().into_dispatch(),
            plan.clone(),
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

/// The weighted gradient in θ with the energies; `None` as in [`energy_and_grad`].
pub(super) fn weighted_param_grads(
    theta: &[Tensor<1>],
    terms: &[(Tensor<2>, Tensor<1>)],
) -> Option<WeightedGrads> {
    if terms.is_empty() {
        return None;
    }
    let serves = |(x, weights): &(Tensor<2>, Tensor<1>)| {
        weights.dtype() == DType::F32
            && weights.clone().try_into_primitive::<Cube>().is_ok()
            && client(theta, x).is_some()
    };
    if !terms.iter().all(serves) {
        return None;
    }
    if terms.len() > 2 {
        let (x, weights, split) = explicit::stacked(terms);
        let found = weighted_param_grads(theta, &[(x, weights)])?;
        return Some(WeightedGrads { energies: split(&found.energies[0]), grads: found.grads });
    }
    let client = client(theta, &terms[0].0)?;
    let plan = Plan::new(&client, terms[0].0.dims()[1], theta[1].dims()[0], terms.len(), BLOCK)?;
    let tiles = terms.iter().map(|(x, _)| x.dims()[0].div_ceil(plan.block())).sum();
    let cubes = partials::rows(&client, tiles, plan.layout.total)?;
    let most = partials::ROUNDS / plan.rounds() * cubes * plan.block();
    let layout = plan.layout.clone();
    Some(partials::in_pieces(terms, most, &layout, |terms| {
        launched(theta, terms, Plan { terms: terms.len(), ..plan.clone() }, cubes)
    }))
}

/// The gradient of one term or two, on at most so many cubes.
fn launched(
    theta: &[Tensor<1>],
    terms: &[(Tensor<2>, Tensor<1>)],
    plan: Plan,
    cubes: usize,
) -> WeightedGrads {
    let [first, second] = [&terms[0], &terms[terms.len() - 1]];
    let layout = plan.layout.clone();
    // A cube without rows would leave no sums.
    let tiles = terms.iter().map(|(x, _)| x.dims()[0].div_ceil(plan.block())).sum::<usize>();
    let (flat, energy0, energy1) = <Dispatch as MixtureOps>::mixture_weighted_grads(
        first.0.clone().into_dispatch(),
        first.1.clone().into_dispatch(),
        second.0.clone().into_dispatch(),
        second.1.clone().into_dispatch(),
        theta[0].clone().into_dispatch(),
        theta[1].clone().into_dispatch(),
        plan,
        cubes.min(tiles),
    );
    let energies = [energy0, energy1].into_iter().take(terms.len()).map(Tensor::from_dispatch).collect();
    WeightedGrads { grads: layout.views(&Tensor::from_dispatch(flat)), energies }
}
