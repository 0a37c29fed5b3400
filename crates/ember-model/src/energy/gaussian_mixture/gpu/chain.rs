//! K Langevin steps of a mixture's walkers in one launch. A walker's lanes take it through all of a step; each lane owns blocks of four
//! coordinates, as the noise comes in fours, and keeps them in a scratch buffer that no other thread looks at.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::Plan;
use super::kernel::{AT_ONCE, Row, THREADS, softmax_of, terms_of};
use crate::energy::chain::Chain;
use crate::energy::chain::cube::{
    self, Rule, Steps, accept_at, followed, is_taken, log_ratio, moved, noise_at, tempered_energy,
    tempered_grad, two_sum, work_of,
};
use crate::energy::fused::partials::ROUNDS;
use crate::random::cube::{normals, open_uniform};

/// The most cubes: each goes on with other walkers, so that scratch stays small.
const CUBES: usize = 1024;
/// The most scratch, in bytes: it should stay in the card's cache, and fit a binding.
const SCRATCH: usize = 96 << 20;
/// Operations of one launch of a chain at most, as of a perceptron's (`fused/chain.rs`): drivers kill what runs for seconds.
const OPERATIONS: f64 = 4e10;

/// What a chain's kernel is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct ChainPlan {
    mixture: Plan,
    rule: Rule,
}

/// Leaves `e^{t_k − max}` of the cube's walkers in `numbers`; their coordinates stand from `begin` on.
#[cube]
fn softmax_in(
    state: &mut [f32],
    begin: usize,
    means: &[f32],
    logits: &[f32],
    numbers: &mut Shared<[f32]>,
    parts: &mut Shared<[f32]>,
    #[comptime] plan: Plan,
) -> Row {
    let dim = comptime!(plan.dim);
    let modes = comptime!(plan.modes);
    let lanes = comptime!(plan.lanes);
    let thread = UNIT_POS as usize;
    let mut mode = 0usize;
    while mode < modes {
        let mut squares = Array::<f32>::new(AT_ONCE);
        #[unroll]
        for m in 0..AT_ONCE {
            squares[m] = 0.0f32;
        }
        let mut block = thread % lanes;
        while block < comptime!(plan.dim.div_ceil(4)) {
            #[unroll]
            for four in 0..4usize {
                let j = 4 * block + four;
                if j < dim {
                    let value = state[begin + j];
                    #[unroll]
                    for m in 0..AT_ONCE {
                        let k = select(mode + m < modes, mode + m, modes - 1);
                        let gap = value - means[k * dim + j];
                        squares[m] = squares[m] + gap * gap;
                    }
                }
            }
            block += lanes;
        }
        #[unroll]
        for m in 0..AT_ONCE {
            parts[comptime!(m * THREADS) + thread] = squares[m];
        }
        sync_cube();
        terms_of(logits, numbers, parts, mode, 0usize, comptime!(plan.clone()));
        sync_cube();
        mode += AT_ONCE;
    }
    softmax_of(numbers, 0usize, comptime!(plan.clone()))
}

/// The sum of a row's lanes' numbers, in each of its threads. Every thread of the cube takes part.
#[cube]
fn row_sum(
    value: f32,
    parts: &mut Shared<[f32]>,
    #[comptime] lanes: usize,
    #[comptime] sharing: usize,
) -> f32 {
    let thread = UNIT_POS as usize;
    parts[thread] = value;
    sync_cube();
    let begin = thread / lanes * lanes;
    let mut sum = parts[begin];
    for lane in 1..sharing {
        sum += parts[begin + lane];
    }
    sync_cube();
    sum
}

#[cube(launch)]
fn mixture_chain_kernel(
    x: &[f32],
    energy: &[f32],
    grad: &[f32],
    hi: &[f32],
    lo: &[f32],
    means: &[f32],
    logits: &[f32],
    x_out: &mut [f32],
    energy_out: &mut [f32],
    grad_out: &mut [f32],
    hi_out: &mut [f32],
    lo_out: &mut [f32],
    counts: &mut [u32],
    state: &mut [f32],
    rows: usize,
    tiles: usize,
    steps: &Steps,
    #[comptime] plan: ChainPlan,
) {
    let rule = comptime!(plan.rule);
    let dim = comptime!(plan.mixture.dim);
    let modes = comptime!(plan.mixture.modes);
    let lanes = comptime!(plan.mixture.lanes);
    let sharing = comptime!(plan.mixture.sharing());
    let at_once = comptime!(THREADS / plan.mixture.lanes);
    let stride = comptime!(plan.mixture.block());
    let blocks = comptime!(plan.mixture.dim.div_ceil(4));
    let mut numbers = Shared::<[f32]>::new_slice(comptime!(plan.mixture.modes * plan.mixture.block()));
    let mut parts = Shared::<[f32]>::new_slice(comptime!(AT_ONCE * THREADS));
    let mut taken_counts = Shared::<[u32]>::new_slice(comptime!(2 * THREADS));
    let thread = UNIT_POS as usize;
    let lane = thread % lanes;
    let own = thread / lanes;
    // Positions and gradients before the step and after it, by turns.
    let half = comptime!(2 * plan.mixture.dim);
    let scratch = (CUBE_POS * at_once + own) * comptime!(4 * plan.mixture.dim);

    let mut tile = CUBE_POS;
    while tile < tiles {
        let is_row = tile * at_once + own < rows;
        let row = select(is_row, tile * at_once + own, rows - 1);
        let mut block = lane;
        while block < blocks {
            #[unroll]
            for four in 0..4usize {
                let j = 4 * block + four;
                if j < dim {
                    state[scratch + j] = x[row * dim + j];
                    state[scratch + dim + j] = grad[row * dim + j];
                }
            }
            block += lanes;
        }
        let mut own_energy = energy[row];
        let mut own_hi = 0.0f32;
        let mut own_lo = 0.0f32;
        if comptime!(rule.is_weighted()) {
            own_hi = hi[row];
            own_lo = lo[row];
        }
        let mut last_count = 0u32;
        let mut all_count = 0u32;

        for step in 0..steps.count {
            let from = scratch + (step % 2) as usize * half;
            let to = scratch + ((step + 1) % 2) as usize * half;

            // y = x − h ∇U(x) + s ξ
            let counter = noise_at(steps, step);
            let mut block = lane;
            while block < blocks {
                let noise = normals(block as u32, row as u32, &counter);
                #[unroll]
                for four in 0..4usize {
                    let j = 4 * block + four;
                    if j < dim {
                        let own_noise = if comptime!(four == 0) {
                            noise.a
                        } else if comptime!(four == 1) {
                            noise.b
                        } else if comptime!(four == 2) {
                            noise.c
                        } else {
                            noise.d
                        };
                        let drift = followed(state[from + dim + j], steps, rule);
                        state[to + j] = moved(state[from + j], drift, own_noise, steps);
                    }
                }
                block += lanes;
            }

            // ∇U(y) = y − Σ_k r_k m_k
            let found = softmax_in(
                state,
                to,
                means,
                logits,
                &mut numbers,
                &mut parts,
                comptime!(plan.mixture.clone()),
            );
            let scale = 1.0f32 / found.total;
            let mut work = 0.0f32;
            let mut square = 0.0f32;
            let mut block = lane;
            while block < blocks {
                #[unroll]
                for four in 0..4usize {
                    let j = 4 * block + four;
                    if j < dim {
                        let mut pull = 0.0f32;
                        for k in 0..modes {
                            pull += numbers[k * stride + own] * means[k * dim + j];
                        }
                        let y = state[to + j];
                        let gy = tempered_grad(y - scale * pull, y, steps, rule);
                        state[to + dim + j] = gy;
                        if comptime!(rule.is_weighted() || rule.rejects()) {
                            let gx = followed(state[from + dim + j], steps, rule);
                            let gy = followed(gy, steps, rule);
                            work += work_of(state[from + j], gx, y, gy, steps.half_step);
                        }
                        if comptime!(rule.tempered) {
                            square += y * y;
                        }
                    }
                }
                block += lanes;
            }
            if comptime!(rule.tempered) {
                square = row_sum(square, &mut parts, lanes, sharing);
            }
            let after = tempered_energy(found.energy, square, steps, rule);

            // A += log ratio, or y with probability min(1, ratio). All threads of a row come to the same.
            if comptime!(rule.is_weighted() || rule.rejects()) {
                let work = row_sum(work, &mut parts, lanes, sharing);
                let ratio = log_ratio(own_energy, after, work);
                if comptime!(rule.is_weighted()) {
                    let sum = two_sum(own_hi, own_lo, ratio, steps.zero);
                    own_hi = sum.hi;
                    own_lo = sum.lo;
                }
                if comptime!(rule.rejects()) {
                    let counter = accept_at(steps, step);
                    let takes = is_taken(open_uniform(row as u32, &counter), ratio, after);
                    last_count = select(takes && is_row && lane == 0, 1u32, 0u32);
                    all_count += last_count;
                    own_energy = select(takes, after, own_energy);
                    if !takes {
                        let mut block = lane;
                        while block < blocks {
                            #[unroll]
                            for four in 0..4usize {
                                let j = 4 * block + four;
                                if j < dim {
                                    state[to + j] = state[from + j];
                                    state[to + dim + j] = state[from + dim + j];
                                }
                            }
                            block += lanes;
                        }
                    }
                } else {
                    own_energy = after;
                }
            } else {
                own_energy = after;
            }
            // The terms are written over in the next step.
            sync_cube();
        }

        let end = scratch + (steps.count % 2) as usize * half;
        if is_row {
            let mut block = lane;
            while block < blocks {
                #[unroll]
                for four in 0..4usize {
                    let j = 4 * block + four;
                    if j < dim {
                        x_out[row * dim + j] = state[end + j];
                        grad_out[row * dim + j] = state[end + dim + j];
                    }
                }
                block += lanes;
            }
            if lane == 0 {
                energy_out[row] = own_energy;
                if comptime!(rule.is_weighted()) {
                    hi_out[row] = own_hi;
                    lo_out[row] = own_lo;
                }
            }
        }
        if comptime!(rule.rejects()) {
            taken_counts[thread] = last_count;
            taken_counts[THREADS + thread] = all_count;
            sync_cube();
            if thread == 0 {
                let mut last = 0u32;
                let mut all = 0u32;
                for other in 0..at_once {
                    last += taken_counts[other * lanes];
                    all += taken_counts[THREADS + other * lanes];
                }
                counts[tile] = last;
                counts[tiles + tile] = all;
            }
            sync_cube();
        }
        tile += CUBE_COUNT;
    }
}

/// Tiles of so many walkers, and the cubes for them.
fn extent(plan: &Plan, rows: usize) -> (usize, usize) {
    let at_once = THREADS / plan.lanes;
    let scratch = at_once * 4 * plan.dim * size_of::<f32>();
    let tiles = rows.div_ceil(at_once);
    (tiles, tiles.min(CUBES).min((SCRATCH / scratch).max(1)))
}

/// The most steps of one launch, or `None` where not one goes.
pub(super) fn most_steps(plan: &Plan, rows: usize) -> Option<u32> {
    let (tiles, cubes) = extent(plan, rows);
    let own = plan.dim.div_ceil(4 * plan.lanes);
    // Of a step: the moves, the softmax with its gradient, sums over lanes, and what is not taken.
    let rounds = plan.rounds() + own * (4 * plan.modes + 3) + 2 * plan.lanes + 16;
    let by_rounds = ROUNDS / (tiles.div_ceil(cubes.max(1)).max(1) * rounds);
    let work = (plan.dim * (5 * plan.modes + 60) + 20 * plan.modes + 60) as f64;
    let by_time = (OPERATIONS / (work * rows.max(1) as f64)) as u32;
    let most = (by_rounds as u32).min(by_time.max(1)).min(cube::countable_steps(rows));
    (by_rounds > 0).then_some(most)
}

/// Positions, energies, gradients, both parts of the log-weights.
pub(super) type State<T> = [T; 5];

/// The state after a chain, and the two numbers of [`crate::energy::chain::Accepted`], which mean nothing where nothing is rejected.
pub(super) fn chain(
    state: State<CubeTensor>,
    [means, logits]: [CubeTensor; 2],
    plan: Plan,
    chain: Chain,
) -> (State<CubeTensor>, [CubeTensor; 2]) {
    let [x, energy, grad, hi, lo] = state.map(into_contiguous);
    let [means, logits] = [means, logits].map(into_contiguous);
    let rows = x.meta.shape()[0];
    let client = x.client.clone();
    let empty =
        |shape: Shape| empty_device_contiguous_dtype(client.clone(), x.device.clone(), shape, DType::F32);
    let like = |tensor: &CubeTensor| empty(tensor.meta.shape().clone());
    let (x_out, energy_out, grad_out) = (like(&x), like(&energy), like(&grad));
    let rule = Rule::of(&chain);
    // Weights that nothing is added to are handed on; the kernel has a place to write to all the same.
    let (hi_out, lo_out) = match rule.is_weighted() {
        true => (like(&hi), like(&lo)),
        false => (empty(Shape::from([1])), empty(Shape::from([1]))),
    };
    let (tiles, cubes) = extent(&plan, rows);
    let scratch = empty(Shape::from([cubes * THREADS / plan.lanes * 4 * plan.dim]));
    let counts = cube::counts_like(&x, if rule.rejects() { tiles } else { 1 });
    mixture_chain_kernel::launch(
        &client,
        CubeCount::new_1d(cubes as u32),
        CubeDim::new_1d(THREADS as u32),
        x.clone().into_buffer_arg(),
        energy.into_buffer_arg(),
        grad.into_buffer_arg(),
        hi.clone().into_buffer_arg(),
        lo.clone().into_buffer_arg(),
        means.into_buffer_arg(),
        logits.into_buffer_arg(),
        x_out.clone().into_buffer_arg(),
        energy_out.clone().into_buffer_arg(),
        grad_out.clone().into_buffer_arg(),
        hi_out.clone().into_buffer_arg(),
        lo_out.clone().into_buffer_arg(),
        counts.clone().into_buffer_arg(),
        scratch.into_buffer_arg(),
        rows,
        tiles,
        cube::steps(&chain),
        ChainPlan { mixture: plan, rule },
    );
    let (hi, lo) = if rule.is_weighted() { (hi_out, lo_out) } else { (hi, lo) };
    let (last, mean) = match rule.rejects() {
        true => cube::fractions(counts, tiles, rows, chain.steps),
        false => (cube::number_like(&x_out), cube::number_like(&x_out)),
    };
    ([x_out, energy_out, grad_out, hi, lo], [last, mean])
}
