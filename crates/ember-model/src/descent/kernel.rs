//! The kernels. A cube adds up the whole gradient where that is short, each cube the same sums in the same order; of a long one, a
//! launch of its own leaves a partial sum for each of at most [`THREADS`] cubes.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(
    clippy::collapsible_if,
    clippy::assign_op_pattern,
    clippy::needless_range_loop,
    clippy::too_many_arguments
)]

use burn::tensor::Shape;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Alarm, Descent, Rule};

/// Threads of a cube, and the most partial sums.
const THREADS: usize = 256;
/// Parameters of a thread.
const EACH: usize = 4;
/// The longest gradient that every cube adds up by itself: 64 rounds of its threads, out of the second-level cache.
const ONE_PASS: usize = 1 << 14;
/// Parameters that are worth a partial sum of their own.
const SLICE: usize = 1 << 12;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Plan {
    adam: bool,
    clips: bool,
    is_negated: bool,
    watches_gap: bool,
    /// Whether the sums come from a launch before.
    has_partials: bool,
}

/// Whether a number is finite, by its bits: comparisons are compiled away.
#[cube]
fn is_finite(value: f32) -> bool {
    (u32::reinterpret(value) & 0x7F80_0000u32) != 0x7F80_0000u32
}

/// The sum of a number of each thread, for all of them. A tree: the same order every time.
#[cube]
fn cube_sum(own: f32, sums: &mut Shared<[f32]>) -> f32 {
    let thread = UNIT_POS as usize;
    sums[thread] = own;
    sync_cube();
    #[unroll]
    for halving in 1..=comptime!(THREADS.ilog2() as usize) {
        let width = comptime!(THREADS >> halving);
        if thread < width {
            sums[thread] = sums[thread] + sums[thread + width];
        }
        sync_cube();
    }
    let sum = sums[0usize];
    sync_cube();
    sum
}

/// A thread's part of `Σ_trained g²` over every `stride`-th element from `first` on.
#[cube]
fn squares(grad: &[f32], scales: &[f32], first: usize, stride: usize) -> f32 {
    let mut sum = 0.0f32;
    let mut i = first;
    while i < grad.len() {
        if scales[i] != 0.0f32 {
            sum += grad[i] * grad[i];
        }
        i += stride;
    }
    sum
}

#[cube(launch)]
fn squares_kernel(grad: &[f32], scales: &[f32], partials: &mut [f32]) {
    let mut sums = Shared::<[f32]>::new_slice(THREADS);
    let own = squares(grad, scales, ABSOLUTE_POS, partials.len() * THREADS);
    let sum = cube_sum(own, &mut sums);
    if UNIT_POS == 0 {
        partials[CUBE_POS] = sum;
    }
}

#[cube(launch)]
fn step_kernel(
    theta: &[f32],
    grad: &[f32],
    scales: &[f32],
    m: &[f32],
    v: &[f32],
    partials: &[f32],
    finite: &[f32],
    gap: &[f32],
    alarm: &[f32],
    next_theta: &mut [f32],
    next_m: &mut [f32],
    next_v: &mut [f32],
    norm_out: &mut [f32],
    next_alarm: &mut [f32],
    learning_rate: f32,
    clip_norm: f32,
    max_gap: f32,
    beta1: f32,
    beta2: f32,
    factor: f32,
    epsilon: f32,
    step_high: u32,
    step_low: u32,
    #[comptime] plan: Plan,
) {
    let thread = UNIT_POS as usize;
    let mut sums = Shared::<[f32]>::new_slice(THREADS);
    let mut own = 0.0f32;
    if comptime!(plan.has_partials) {
        if thread < partials.len() {
            own = partials[thread];
        }
    } else {
        own = squares(grad, scales, thread, THREADS);
    }
    let norm = f32::sqrt(cube_sum(own, &mut sums));

    // What ends a run ends it for every cube alike.
    let mut bad = 0.0f32;
    if thread < finite.len() {
        if !is_finite(finite[thread]) {
            bad = 1.0f32;
        }
    }
    let bad = cube_sum(bad, &mut sums);
    let mut difference = 0.0f32;
    let mut cause = 0.0f32;
    if comptime!(plan.watches_gap) {
        difference = gap[0usize] - gap[1usize];
        if !is_finite(difference) || f32::abs(difference) > max_gap {
            cause = 3.0f32;
        }
    }
    if !is_finite(norm) {
        cause = 2.0f32;
    }
    if bad > 0.0f32 {
        cause = 1.0f32;
    }
    let rang = alarm[0usize] + alarm[1usize] > 0.0f32;
    let holds = !rang && cause == 0.0f32;

    if CUBE_POS == 0 && thread == 0 {
        norm_out[0usize] = norm;
        let rings = !rang && cause > 0.0f32;
        next_alarm[0usize] = select(rings, f32::cast_from(step_high), alarm[0usize]);
        next_alarm[1usize] = select(rings, f32::cast_from(step_low), alarm[1usize]);
        next_alarm[2usize] = select(rings, cause, alarm[2usize]);
        next_alarm[3usize] = select(rings, difference, alarm[3usize]);
        next_alarm[4usize] = select(rings, norm, alarm[4usize]);
    }

    let mut cut = 1.0f32;
    if comptime!(plan.is_negated) {
        cut = -1.0f32;
    }
    if comptime!(plan.clips) {
        // min(1, clip / |G|)
        cut = cut * f32::min(clip_norm / (norm + 1e-12f32), 1.0f32);
    }
    #[unroll]
    for part in 0..EACH {
        let i = CUBE_POS * comptime!(EACH * THREADS) + comptime!(part * THREADS) + thread;
        if i < theta.len() {
            let moves = holds && scales[i] != 0.0f32;
            let g = grad[i] * cut;
            let rate = learning_rate * scales[i];
            let old = theta[i];
            if comptime!(plan.adam) {
                // m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²
                let new_m = m[i] * beta1 + g * (1.0f32 - beta1);
                let new_v = v[i] * beta2 + g * g * (1.0f32 - beta2);
                // θ ← θ − η s κ m / (√v + ε√(1 − β₂ᵗ))
                let new = old - rate * (new_m * factor / (f32::sqrt(new_v) + epsilon));
                next_theta[i] = select(moves, new, old);
                next_m[i] = select(moves, new_m, m[i]);
                next_v[i] = select(moves, new_v, v[i]);
            } else {
                next_theta[i] = select(moves, old - rate * g, old);
            }
        }
    }
}

/// See `DescentOps::descend`.
pub(super) fn descend(
    buffers: [CubeTensor; 5],
    guard: [CubeTensor; 3],
    descent: Descent,
) -> (CubeTensor, CubeTensor, CubeTensor, CubeTensor, CubeTensor) {
    let [theta, grad, scales, m, v] = buffers.map(into_contiguous);
    let [finite, gap, alarm] = guard.map(into_contiguous);
    let total = theta.meta.num_elements();
    let client = theta.client.clone();
    let empty = |len: usize| {
        let device = theta.device.clone();
        empty_device_contiguous_dtype(client.clone(), device, Shape::from([len]), theta.dtype)
    };
    let has_partials = total > ONE_PASS;
    let partials = if has_partials {
        let count = total.div_ceil(SLICE).min(THREADS);
        let partials = empty(count);
        squares_kernel::launch(
            &client,
            CubeCount::Static(count as u32, 1, 1),
            CubeDim::new_1d(THREADS as u32),
            grad.clone().into_buffer_arg(),
            scales.clone().into_buffer_arg(),
            partials.clone().into_buffer_arg(),
        );
        partials
    } else {
        scales.clone()
    };
    let (next_theta, norm, next_alarm) = (empty(total), empty(1), empty(Alarm::LEN));
    let adam = matches!(descent.rule, Rule::Adam { .. });
    // A rule without moments gives back those it got: one element each is written to, and none is read.
    let (next_m, next_v) = if adam { (empty(total), empty(total)) } else { (empty(1), empty(1)) };
    let (beta1, beta2, factor, epsilon) = match descent.rule {
        Rule::Sgd => (0.0, 0.0, 0.0, 0.0),
        Rule::Adam { beta1, beta2, epsilon, time } => {
            let correction = (1.0 - beta2.powi(time as i32)).sqrt();
            (beta1, beta2, correction / (1.0 - beta1.powi(time as i32)), epsilon * correction)
        }
    };
    let at = descent.step + 1;
    let plan = Plan {
        adam,
        clips: descent.clip_norm.is_some(),
        is_negated: descent.is_negated,
        watches_gap: descent.max_gap.is_some(),
        has_partials,
    };
    step_kernel::launch(
        &client,
        CubeCount::Static(total.div_ceil(EACH * THREADS).max(1) as u32, 1, 1),
        CubeDim::new_1d(THREADS as u32),
        theta.clone().into_buffer_arg(),
        grad.into_buffer_arg(),
        scales.into_buffer_arg(),
        m.clone().into_buffer_arg(),
        v.clone().into_buffer_arg(),
        partials.into_buffer_arg(),
        finite.into_buffer_arg(),
        gap.into_buffer_arg(),
        alarm.into_buffer_arg(),
        next_theta.clone().into_buffer_arg(),
        next_m.clone().into_buffer_arg(),
        next_v.clone().into_buffer_arg(),
        norm.clone().into_buffer_arg(),
        next_alarm.clone().into_buffer_arg(),
        descent.learning_rate,
        descent.clip_norm.unwrap_or(0.0),
        descent.max_gap.unwrap_or(0.0),
        beta1,
        beta2,
        factor,
        epsilon,
        (at >> 16) as u32,
        (at & 0xFFFF) as u32,
        plan,
    );
    match adam {
        true => (next_theta, next_m, next_v, norm, next_alarm),
        false => (next_theta, m, v, norm, next_alarm),
    }
}
