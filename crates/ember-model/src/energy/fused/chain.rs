//! K Langevin steps of a tile of walkers under a perceptron, in one launch: positions, gradients and weights stay on the processor that moves
//! the tile. And one evaluation by the same code.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use std::collections::VecDeque;

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::form::Form;
use super::math::Lanes;
use super::network::{Network, evaluate};
use crate::energy::chain::Chain;
use crate::energy::chain::cube::{
    self, Rule, Steps, accept_at, followed, is_taken, log_ratio, moved, noise_at, tempered_energy,
    tempered_grad, two_sum, work_of,
};
use crate::random::cube::{normals, open_uniform};

/// The most cubes: each goes on with another tile, so that scratch stays small.
const CUBES: usize = 1024;
/// The most scratch, in bytes: it should stay in the card's cache, and fit a binding.
const SCRATCH: usize = 96 << 20;

/// Operations of one launch of a chain at most. Drivers kill what runs for a second or two, and a screen stands still meanwhile: this is .2 s on a
/// slow integrated GPU (2·10¹¹ operations a second), a millisecond on a large card, which a launch of 30 µs hardly lengthens.
const OPERATIONS: f64 = 4e10;

/// What a chain's kernel is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Plan {
    network: Network,
    rule: Rule,
}

/// Four walkers' numbers `from[first + lane]`; rows beyond the last repeat it.
#[cube]
fn load(from: &[f32], first: usize, rows: usize) -> Lanes {
    let mut out = Lanes::empty();
    #[unroll]
    for lane in 0..4usize {
        out.insert(lane, from[select(first + lane < rows, first + lane, rows - 1)]);
    }
    out
}

/// The reverse; nothing is written beyond the last row.
#[cube]
fn save(value: Lanes, to: &mut [f32], first: usize, rows: usize) {
    #[unroll]
    for lane in 0..4usize {
        if first + lane < rows {
            to[first + lane] = value.extract(lane);
        }
    }
}

/// Coordinates of the tile that begins at `first_row` to shared memory, `[coordinate, group]`.
#[cube]
fn load_rows(
    from: &[f32],
    to: &mut Shared<[Lanes]>,
    first_row: usize,
    rows: usize,
    #[comptime] dim: usize,
    #[comptime] form: Form,
) {
    let groups = comptime!(form.groups());
    let mut item = UNIT_POS as usize;
    while item < comptime!(dim * groups) {
        let i = item / groups;
        let first = first_row + 4 * (item % groups);
        let mut out = Lanes::empty();
        #[unroll]
        for lane in 0..4usize {
            let row = select(first + lane < rows, first + lane, rows - 1);
            out.insert(lane, from[row * dim + i]);
        }
        to[item] = out;
        item += comptime!(form.threads());
    }
}

/// The reverse, from `begin` on.
#[cube]
fn save_rows(
    from: &Shared<[Lanes]>,
    begin: usize,
    to: &mut [f32],
    first_row: usize,
    rows: usize,
    #[comptime] dim: usize,
    #[comptime] form: Form,
) {
    let groups = comptime!(form.groups());
    let mut item = UNIT_POS as usize;
    while item < comptime!(dim * groups) {
        let i = item / groups;
        let first = first_row + 4 * (item % groups);
        let value = from[begin + item];
        #[unroll]
        for lane in 0..4usize {
            if first + lane < rows {
                to[(first + lane) * dim + i] = value.extract(lane);
            }
        }
        item += comptime!(form.threads());
    }
}

/// Rows of the activations that no unit writes are read by the last slab: 0 times what is there must be 0.
#[cube]
fn clear(buffer: &mut Shared<[Lanes]>, #[comptime] form: Form) {
    let mut item = UNIT_POS as usize;
    while item < comptime!(form.units() * form.groups()) {
        buffer[item] = Lanes::new(0.0f32);
        item += comptime!(form.threads());
    }
    sync_cube();
}

#[cube(launch)]
fn evaluation_kernel<N: Size>(
    x: &[f32],
    first_weights: &[f32],
    weights: Sequence<Box<[Vector<f32, N>]>>,
    last_weights: &[f32],
    biases: Sequence<Box<[f32]>>,
    energy: &mut [f32],
    grad: &mut [f32],
    scratch: &mut [Lanes],
    rows: usize,
    tiles: usize,
    confinement: f32,
    #[comptime] network: Network,
) {
    let form = comptime!(network.form);
    let dim = comptime!(network.dim);
    let mut buffer = Shared::<[Lanes]>::new_slice(comptime!(form.units() * form.groups()));
    let mut slabs = Shared::<[Lanes]>::new_slice(comptime!(form.slabs()));
    let mut positions = Shared::<[Lanes]>::new_slice(comptime!(dim * form.groups()));
    let mut gradients = Shared::<[Lanes]>::new_slice(comptime!(dim * form.groups()));
    clear(&mut buffer, form);
    let mut tile = CUBE_POS;
    while tile < tiles {
        let first_row = tile * comptime!(form.tile);
        load_rows(x, &mut positions, first_row, rows, dim, form);
        sync_cube();
        let value = evaluate(
            &positions,
            0usize,
            &mut gradients,
            0usize,
            &mut buffer,
            &mut slabs,
            first_weights,
            &weights,
            last_weights,
            &biases,
            scratch,
            confinement,
            comptime!(network.clone()),
        );
        if (UNIT_POS as usize) < comptime!(form.groups()) {
            save(value, energy, first_row + 4 * UNIT_POS as usize, rows);
        }
        save_rows(&gradients, 0usize, grad, first_row, rows, dim, form);
        sync_cube();
        tile += CUBE_COUNT;
    }
}

#[cube(launch)]
fn chain_kernel<N: Size>(
    x: &[f32],
    energy: &[f32],
    grad: &[f32],
    hi: &[f32],
    lo: &[f32],
    first_weights: &[f32],
    weights: Sequence<Box<[Vector<f32, N>]>>,
    last_weights: &[f32],
    biases: Sequence<Box<[f32]>>,
    x_out: &mut [f32],
    energy_out: &mut [f32],
    grad_out: &mut [f32],
    hi_out: &mut [f32],
    lo_out: &mut [f32],
    counts: &mut [u32],
    scratch: &mut [Lanes],
    rows: usize,
    tiles: usize,
    confinement: f32,
    steps: &Steps,
    #[comptime] plan: Plan,
) {
    let form = comptime!(plan.network.form);
    let dim = comptime!(plan.network.dim);
    let rule = comptime!(plan.rule);
    let groups = comptime!(form.groups());
    let threads = comptime!(form.threads());
    let size = comptime!(form.tile);
    let half = comptime!(dim * groups);
    let thread = UNIT_POS as usize;
    let mut buffer = Shared::<[Lanes]>::new_slice(comptime!(form.units() * groups));
    let mut slabs = Shared::<[Lanes]>::new_slice(comptime!(form.slabs()));
    // Before the step and after it, by turns.
    let mut positions = Shared::<[Lanes]>::new_slice(comptime!(2 * half));
    let mut gradients = Shared::<[Lanes]>::new_slice(comptime!(2 * half));
    // `[coordinate, walker]`.
    let mut noise = Shared::<[f32]>::new_slice(comptime!(dim.next_multiple_of(4) * size));
    let mut uniforms = Shared::<[f32]>::new_slice(size);
    // 1 where the proposal was taken.
    let mut taken = Shared::<[Lanes]>::new_slice(groups);
    let mut taken_counts = Shared::<[u32]>::new_slice(comptime!(2 * groups));
    clear(&mut buffer, form);

    let mut tile = CUBE_POS;
    while tile < tiles {
        let first_row = tile * size;
        // The four walkers that the first threads keep numbers for.
        let own_row = first_row + 4 * thread;
        let mut own_energy = Lanes::new(0.0f32);
        let mut own_hi = Lanes::new(0.0f32);
        let mut own_lo = Lanes::new(0.0f32);
        let mut last_count = 0u32;
        let mut all_count = 0u32;
        load_rows(x, &mut positions, first_row, rows, dim, form);
        load_rows(grad, &mut gradients, first_row, rows, dim, form);
        if thread < groups {
            own_energy = load(energy, own_row, rows);
            if comptime!(rule.is_weighted()) {
                own_hi = load(hi, own_row, rows);
                own_lo = load(lo, own_row, rows);
            }
        }

        for step in 0..steps.count {
            let from = (step % 2) as usize * half;
            let to = half - from;

            // ξ, and u
            let counter = noise_at(steps, step);
            let mut item = thread;
            while item < comptime!(dim.div_ceil(4) * size) {
                let walker = item % size;
                let block = item / size;
                let four = normals(block as u32, (first_row + walker) as u32, &counter);
                let at = 4 * block * size + walker;
                noise[at] = four.a;
                noise[at + size] = four.b;
                noise[at + 2 * size] = four.c;
                noise[at + 3 * size] = four.d;
                item += threads;
            }
            if comptime!(rule.rejects()) {
                let counter = accept_at(steps, step);
                let mut walker = thread;
                while walker < size {
                    uniforms[walker] = open_uniform((first_row + walker) as u32, &counter);
                    walker += threads;
                }
            }
            sync_cube();

            // y = x − h ∇U(x) + s ξ
            let mut item = thread;
            while item < half {
                let at = item / groups * size + 4 * (item % groups);
                let x = positions[from + item];
                let grad = gradients[from + item];
                let mut y = Lanes::empty();
                #[unroll]
                for lane in 0..4usize {
                    let drift = followed(grad.extract(lane), steps, rule);
                    y.insert(lane, moved(x.extract(lane), drift, noise[at + lane], steps));
                }
                positions[to + item] = y;
                item += threads;
            }
            sync_cube();

            let found = evaluate(
                &positions,
                to,
                &mut gradients,
                to,
                &mut buffer,
                &mut slabs,
                first_weights,
                &weights,
                last_weights,
                &biases,
                scratch,
                confinement,
                comptime!(plan.network.clone()),
            );
            if comptime!(rule.tempered) {
                let mut item = thread;
                while item < half {
                    let y = positions[to + item];
                    let grad = gradients[to + item];
                    let mut out = Lanes::empty();
                    #[unroll]
                    for lane in 0..4usize {
                        out.insert(lane, tempered_grad(grad.extract(lane), y.extract(lane), steps, rule));
                    }
                    gradients[to + item] = out;
                    item += threads;
                }
                sync_cube();
            }

            // A += log ratio, or y with probability min(1, ratio)
            if thread < groups {
                let mut work = Lanes::new(0.0f32);
                let mut square = Lanes::new(0.0f32);
                if comptime!(rule.is_weighted() || rule.rejects() || rule.tempered) {
                    for i in 0..dim {
                        let at = i * groups + thread;
                        let x = positions[from + at];
                        let gx = gradients[from + at];
                        let y = positions[to + at];
                        let gy = gradients[to + at];
                        square += y * y;
                        let mut terms = Lanes::empty();
                        #[unroll]
                        for lane in 0..4usize {
                            let gx = followed(gx.extract(lane), steps, rule);
                            let gy = followed(gy.extract(lane), steps, rule);
                            let term = work_of(x.extract(lane), gx, y.extract(lane), gy, steps.half_step);
                            terms.insert(lane, term);
                        }
                        work += terms;
                    }
                }
                let mut moved_to = Lanes::empty();
                let mut flags = Lanes::new(1.0f32);
                last_count = 0u32;
                #[unroll]
                for lane in 0..4usize {
                    let before = own_energy.extract(lane);
                    let after = tempered_energy(found.extract(lane), square.extract(lane), steps, rule);
                    let ratio = log_ratio(before, after, work.extract(lane));
                    if comptime!(rule.rejects()) {
                        let takes = is_taken(uniforms[4 * thread + lane], ratio, after);
                        flags.insert(lane, select(takes, 1.0f32, 0.0f32));
                        moved_to.insert(lane, select(takes, after, before));
                        last_count += select(takes && own_row + lane < rows, 1u32, 0u32);
                    } else {
                        moved_to.insert(lane, after);
                    }
                    if comptime!(rule.is_weighted()) {
                        let sum = two_sum(own_hi.extract(lane), own_lo.extract(lane), ratio, steps.zero);
                        own_hi.insert(lane, sum.hi);
                        own_lo.insert(lane, sum.lo);
                    }
                }
                own_energy = moved_to;
                all_count += last_count;
                if comptime!(rule.rejects()) {
                    taken[thread] = flags;
                }
            }
            if comptime!(rule.rejects()) {
                sync_cube();
                let mut item = thread;
                while item < half {
                    let flags = taken[item % groups];
                    let mut x = positions[from + item];
                    let mut grad = gradients[from + item];
                    let y = positions[to + item];
                    let new_grad = gradients[to + item];
                    #[unroll]
                    for lane in 0..4usize {
                        let takes = flags.extract(lane) > 0.5f32;
                        x.insert(lane, select(takes, y.extract(lane), x.extract(lane)));
                        grad.insert(lane, select(takes, new_grad.extract(lane), grad.extract(lane)));
                    }
                    positions[to + item] = x;
                    gradients[to + item] = grad;
                    item += threads;
                }
            }
            sync_cube();
        }

        let end = (steps.count % 2) as usize * half;
        save_rows(&positions, end, x_out, first_row, rows, dim, form);
        save_rows(&gradients, end, grad_out, first_row, rows, dim, form);
        if thread < groups {
            save(own_energy, energy_out, own_row, rows);
            if comptime!(rule.is_weighted()) {
                save(own_hi, hi_out, own_row, rows);
                save(own_lo, lo_out, own_row, rows);
            }
        }
        if comptime!(rule.rejects()) {
            if thread < groups {
                taken_counts[thread] = last_count;
                taken_counts[groups + thread] = all_count;
            }
            sync_cube();
            if thread == 0 {
                let mut last = 0u32;
                let mut all = 0u32;
                for group in 0..groups {
                    last += taken_counts[group];
                    all += taken_counts[groups + group];
                }
                counts[tile] = last;
                counts[tiles + tile] = all;
            }
        }
        sync_cube();
        tile += CUBE_COUNT;
    }
}

/// Rounds of loops in one launch: fewer than the 65,535 that software Vulkan allows, and as good as none to a card.
const ROUNDS: usize = 60_000;

/// The most steps of one launch of a chain of so many walkers.
pub(super) fn most_steps(network: &Network, walkers: usize) -> u32 {
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

/// Weights of the first layer, of those between, of the last, and biases, as kernel arguments.
macro_rules! arguments {
    ($layers:expr) => {{
        let (mut weights, mut biases) = (VecDeque::new(), SequenceArg::new());
        for (weight, bias) in $layers {
            weights.push_back(into_contiguous(weight).into_buffer_arg());
            biases.push(into_contiguous(bias).into_buffer_arg());
        }
        let first = weights.pop_front().expect("two layers or more");
        let last = weights.pop_back().expect("two layers or more");
        (first, weights.into_iter().collect(), last, biases)
    }};
}

fn vector(network: &Network) -> usize {
    if network.is_of_vectors() { 4 } else { 1 }
}

/// `(U, ∇ₓU)`, `[rows]` and `[rows, dim]`, in one launch; `layers` are weights and biases.
pub(super) fn energy_and_grad(
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
    let (first, between, last, biases) = arguments!(layers);
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
pub(super) type State<T> = [T; 5];

/// The state after a chain, and the two numbers of [`crate::energy::chain::Accepted`], which mean nothing where nothing is rejected.
pub(super) fn chain(
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
    let (first, between, last, biases) = arguments!(layers);
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
