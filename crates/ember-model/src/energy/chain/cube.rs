//! The parts of a Langevin step that do not depend on the energy, for kernels that run a chain. Each works on one number or one walker;
//! how walkers are spread over threads is the kernel's own affair.
//!
//! The arithmetic is that of the step made of three launches (`ember-sampler/src/device/cube/`), term by term.

// What the macros make has no documentation of its own.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments, missing_docs)]

use burn::tensor::{DType, Shape};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{Chain, ChainRule};
use crate::random::cube::{Counter, counter, later};

/// A chain as a kernel argument. Numbers that change from launch to launch only: what the kernel is compiled for is a [`Rule`].
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Steps {
    pub count: u32,
    pub stride: u32,
    pub step_size: f32,
    pub half_step: f32,
    pub noise_scale: f32,
    pub grad_clip: f32,
    pub scale: f32,
    pub confinement: f32,
    pub noise: Counter,
    pub accept: Counter,
    /// 0, which no compiler knows; see [`two_sum()`].
    pub zero: u32,
}

/// What a kernel of a chain is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What follows a move.
    pub rule: ChainRule,
    /// Whether gradients are clipped.
    pub clipped: bool,
    /// Whether the energy is scaled or confined.
    pub tempered: bool,
}

impl Rule {
    /// That of a chain.
    pub fn of(chain: &Chain) -> Self {
        Self { rule: chain.rule, clipped: chain.grad_clip.is_some(), tempered: !chain.is_plain() }
    }

    /// Whether log-weights are earned.
    pub fn is_weighted(&self) -> bool {
        self.rule == ChainRule::Ula { weighted: true }
    }

    /// Whether steps may be rejected.
    pub fn rejects(&self) -> bool {
        self.rule == ChainRule::Mala
    }
}

/// `chain` as a kernel argument.
pub fn steps(chain: &Chain) -> StepsLaunch {
    StepsLaunch::new(
        chain.steps,
        chain.stride,
        chain.step_size,
        0.5 * chain.step_size,
        chain.noise_scale,
        chain.grad_clip.unwrap_or(0.0),
        chain.scale,
        chain.confinement,
        counter(chain.noise),
        counter(chain.accept),
        0,
    )
}

/// The noise of sub-step `step`.
#[cube]
pub fn noise_at(steps: &Steps, step: u32) -> Counter {
    later(&steps.noise, step * steps.stride)
}

/// The uniforms of sub-step `step`.
#[cube]
pub fn accept_at(steps: &Steps, step: u32) -> Counter {
    later(&steps.accept, step * steps.stride)
}

/// One coordinate's gradient under the chain's temperature.
#[cube]
pub fn tempered_grad(grad: f32, x: f32, steps: &Steps, #[comptime] rule: Rule) -> f32 {
    let mut value = grad;
    if comptime!(rule.tempered) {
        value = steps.scale * grad + steps.confinement * x;
    }
    value
}

/// The energy under the chain's temperature; `square` is `|x|²`.
#[cube]
pub fn tempered_energy(energy: f32, square: f32, steps: &Steps, #[comptime] rule: Rule) -> f32 {
    let mut value = energy;
    if comptime!(rule.tempered) {
        value = steps.scale * energy + 0.5 * steps.confinement * square;
    }
    value
}

/// The gradient that a step follows, `D(x)/h`, of one coordinate.
#[cube]
pub fn followed(grad: f32, steps: &Steps, #[comptime] rule: Rule) -> f32 {
    let mut value = grad;
    if comptime!(rule.clipped) {
        let limit = steps.grad_clip;
        value = select(grad > limit, limit, select(grad < -limit, -limit, grad));
    }
    value
}

/// `x − h ∇U + s ξ` of one coordinate; `grad` is [`followed()`].
#[cube]
pub fn moved(x: f32, grad: f32, noise: f32, steps: &Steps) -> f32 {
    x - steps.step_size * grad + steps.noise_scale * noise
}

/// A coordinate's part of the work, `(∇U(x) + ∇U(y))·(y − x + (h/2)(∇U(x) − ∇U(y)))`; the gradients are [`followed()`].
#[cube]
pub fn work_of(x: f32, gx: f32, y: f32, gy: f32, half_step: f32) -> f32 {
    (gx + gy) * (y - x + half_step * (gx - gy))
}

/// `log [ρ̃(y) π(y→x) / (ρ̃(x) π(x→y))] = U(x) − U(y) + ½ Σ work`: what ULA earns, and MALA's `log a`.
#[cube]
pub fn log_ratio(ux: f32, uy: f32, work: f32) -> f32 {
    ux - uy + 0.5 * work
}

/// Whether MALA takes the proposal: `log u < log a` with u inside `(0, 1)`, and never where the ratio is NaN or the energy not finite.
/// By bits: a driver may take it that there are no NaN.
#[cube]
pub fn is_taken(uniform: f32, log_ratio: f32, energy: f32) -> bool {
    let ratio_bits = u32::reinterpret(log_ratio) & 0x7FFF_FFFFu32;
    let energy_bits = u32::reinterpret(energy) & 0x7FFF_FFFFu32;
    uniform.ln() < log_ratio && ratio_bits <= 0x7F80_0000u32 && energy_bits < 0x7F7F_FFFFu32
}

/// The same number, by a way no shader compiler looks through: `zero` is known at run time only. Drivers simplify
/// `(a + b) − a` to `b`, which is the very error the compensation must see (Mesa does, with WGSL's blessing).
#[cube]
pub fn opaque(value: f32, zero: u32) -> f32 {
    f32::reinterpret(u32::reinterpret(value) ^ zero)
}

/// An unevaluated sum of two numbers.
#[derive(CubeType, Clone, Copy)]
pub struct Pair {
    pub hi: f32,
    pub lo: f32,
}

/// `hi + lo + delta`, Knuth's two-sum of `hi` and `delta + lo`. A sum that is not finite has no compensation, and a walker without weight,
/// `hi = −∞`, stays without. By bits: a driver may take it that there are no infinities.
#[cube]
pub fn two_sum(hi: f32, lo: f32, delta: f32, zero: u32) -> Pair {
    let b = opaque(delta + lo, zero);
    let sum = opaque(hi + b, zero);
    let b_seen = opaque(sum - hi, zero);
    let a_seen = opaque(sum - b_seen, zero);
    let rest = opaque(hi - a_seen, zero) + opaque(b - b_seen, zero);
    let is_dead = u32::reinterpret(hi) == 0xFF80_0000u32;
    let is_finite = (u32::reinterpret(sum) & 0x7FFF_FFFFu32) < 0x7F80_0000u32;
    Pair { hi: select(is_dead, hi, sum), lo: select(is_finite && !is_dead, rest, 0.0f32) }
}

/// Threads that add up the counts of a chain.
const COUNTERS: usize = 256;

/// `counts` holds the steps taken by each cube's walkers: the last ones, `[parts]`, then all, `[parts]`. One cube.
#[cube(launch)]
fn fractions_kernel(
    counts: &[u32],
    last_fraction: &mut [f32],
    fraction: &mut [f32],
    parts: usize,
    last: f32,
    all: f32,
) {
    let mut sums = Shared::<[u32]>::new_slice(comptime!(2 * COUNTERS));
    let thread = UNIT_POS as usize;
    let mut last_sum = 0u32;
    let mut all_sum = 0u32;
    let mut part = thread;
    while part < parts {
        last_sum += counts[part];
        all_sum += counts[parts + part];
        part += COUNTERS;
    }
    sums[thread] = last_sum;
    sums[COUNTERS + thread] = all_sum;
    sync_cube();
    if thread == 0 {
        let mut last_total = 0u32;
        let mut all_total = 0u32;
        for i in 0..COUNTERS {
            last_total += sums[i];
            all_total += sums[COUNTERS + i];
        }
        last_fraction[0] = f32::cast_from(last_total) / last;
        fraction[0] = f32::cast_from(all_total) / all;
    }
}

/// The most steps of a chain of MALA that one launch can count.
pub fn countable_steps(walkers: usize) -> u32 {
    (u32::MAX as usize / walkers.max(1)).max(1) as u32
}

/// Buffer for the counts of `parts` cubes or tiles.
pub fn counts_like(like: &CubeTensor, parts: usize) -> CubeTensor {
    empty_device_contiguous_dtype(
        like.client.clone(),
        like.device.clone(),
        Shape::from([2 * parts.max(1)]),
        DType::U32,
    )
}

/// A number beside `like`.
pub fn number_like(like: &CubeTensor) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), Shape::from([1]), DType::F32)
}

/// The two numbers of [`super::Accepted`] from the counts of a launch of `steps` steps.
pub fn fractions(counts: CubeTensor, parts: usize, walkers: usize, steps: u32) -> (CubeTensor, CubeTensor) {
    let (last, mean) = (number_like(&counts), number_like(&counts));
    let client = counts.client.clone();
    let walkers = walkers as f64;
    fractions_kernel::launch(
        &client,
        CubeCount::new_1d(1),
        CubeDim::new_1d(COUNTERS as u32),
        counts.into_buffer_arg(),
        last.clone().into_buffer_arg(),
        mean.clone().into_buffer_arg(),
        parts,
        walkers as f32,
        (walkers * f64::from(steps)) as f32,
    );
    (last, mean)
}
