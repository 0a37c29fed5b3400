//! K Langevin steps of a tile of walkers under a perceptron, in one launch: positions, gradients and weights stay on the processor that moves
//! the tile. And one evaluation by the same code.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

mod launch;

use cubecl::prelude::*;

use super::form::Form;
use super::math::Lanes;
use super::network::{Network, evaluate};
use crate::energy::chain::cube::{
    Rule, Steps, accept_at, followed, is_taken, log_ratio, moved, noise_at, tempered_energy, tempered_grad,
    two_sum, work_of,
};
use crate::random::cube::{normals, open_uniform};
pub(super) use launch::{chain, energy_and_grad, most_steps};

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
