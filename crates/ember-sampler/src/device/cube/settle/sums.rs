//! Sums over log-weights by a cube: every thread adds up its own, the threads' sums meet in shared memory in a fixed order, so that
//! the same population gives the same bits in every run.

// Kernels are translated by a macro: what is known at compile time stays apart.
#![allow(clippy::collapsible_if)]

use cubecl::prelude::*;

use crate::device::cube::masses::{bits_of, exponent_field, key_of};
use ember_model::energy::chain::cube::{Pair, opaque};

/// Threads of a cube.
pub(super) const THREADS: usize = 256;
/// Words of a cube's partial [`Sums`].
pub(super) const PARTIAL: usize = 5;
/// Words of what later kernels need of a group: whether it is due, the largest log-weight, `Σ e^{A − max}`, `log_mean_exp`.
pub(super) const STATE: usize = 4;

/// The key of `−∞`.
const NO_WEIGHT: u32 = 0x007F_FFFF;
/// A gradient from 2⁶³ on counts as not finite: its square might not be.
const LARGE: u32 = 190;
/// A log-weight is NaN or `+∞`.
const BAD_WEIGHT: u32 = 1;
/// An energy or a gradient is not finite.
const BAD_ENERGY: u32 = 2;

/// Sums of some walkers.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Sums {
    /// Key of the largest log-weight.
    pub(super) max: u32,
    /// `Σ e^{A − max}`.
    pub(super) sum: f32,
    /// `Σ e^{2(A − max)}`.
    pub(super) square: f32,
    /// `Σ e^{A − max} U`.
    pub(super) energy: f32,
    /// What is not finite.
    pub(super) bad: u32,
}

/// What the sums say of a group; floats as bits, for a NaN that is told from numbers must not be one.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) ess: u32,
    pub(super) log_mean_exp: u32,
    pub(super) energy: u32,
    pub(super) health: u32,
    pub(super) due: bool,
}

/// `e^{A − max}`; 0 from e⁻⁸⁷ on, where devices differ about the smallest numbers.
#[cube]
pub(super) fn weight(log_weight: f32, max: f32) -> f32 {
    let below = log_weight - max;
    select(below > -87.0f32, below.exp(), 0.0f32)
}

/// The largest of the threads' words. Every thread of the cube takes part, here and below.
#[cube]
pub(super) fn largest(value: u32, words: &mut Shared<[u32]>) -> u32 {
    let thread = UNIT_POS as usize;
    words[thread] = value;
    sync_cube();
    #[unroll]
    for halving in 1..=comptime!(THREADS.ilog2() as usize) {
        let width = comptime!(THREADS >> halving);
        if thread < width {
            let (own, other) = (words[thread], words[thread + width]);
            words[thread] = select(other > own, other, own);
        }
        sync_cube();
    }
    let found = words[0];
    sync_cube();
    found
}

/// The threads' sums, all taken under the same `max`, in one.
#[cube]
fn total(own: &Sums, words: &mut Shared<[u32]>, floats: &mut Shared<[f32]>) -> Sums {
    let thread = UNIT_POS as usize;
    words[thread] = own.bad;
    floats[thread] = own.sum;
    floats[thread + comptime!(THREADS)] = own.square;
    floats[thread + comptime!(2 * THREADS)] = own.energy;
    sync_cube();
    #[unroll]
    for halving in 1..=comptime!(THREADS.ilog2() as usize) {
        let width = comptime!(THREADS >> halving);
        if thread < width {
            words[thread] = words[thread] | words[thread + width];
            #[unroll]
            for plane in 0..3usize {
                let at = thread + comptime!(plane * THREADS);
                floats[at] = floats[at] + floats[at + width];
            }
        }
        sync_cube();
    }
    let (sum, square) = (floats[0], floats[comptime!(THREADS)]);
    let (energy, bad) = (floats[comptime!(2 * THREADS)], words[0]);
    sync_cube();
    Sums { max: own.max, sum, square, energy, bad }
}

/// Sums of the walkers `begin .. end`, with their gradients' health.
#[cube]
pub(super) fn sums_of_range(
    log_weights: &[f32],
    energy: &[f32],
    grad: &[f32],
    begin: usize,
    end: usize,
    dim: usize,
    words: &mut Shared<[u32]>,
    floats: &mut Shared<[f32]>,
    #[comptime] with_energy: bool,
) -> Sums {
    let thread = UNIT_POS as usize;
    let mut key = 0u32;
    let mut bad = 0u32;
    let mut i = begin + thread;
    while i < end {
        let bits = u32::reinterpret(log_weights[i]);
        let own = key_of(bits);
        key = select(own > key, own, key);
        let odd = (bits & 0x7FFF_FFFFu32) > 0x7F80_0000u32 || bits == 0x7F80_0000u32;
        bad = bad | select(odd, BAD_WEIGHT, 0u32);
        i += THREADS;
    }
    let max_key = largest(key, words);
    let max = f32::reinterpret(bits_of(max_key));
    let mut sum = 0.0f32;
    let mut square = 0.0f32;
    let mut energies = 0.0f32;
    let mut i = begin + thread;
    while i < end {
        let weight = weight(log_weights[i], max);
        sum += weight;
        square += weight * weight;
        if with_energy {
            let u = energy[i];
            energies += weight * u;
            let odd = exponent_field(u32::reinterpret(u)) == 255u32;
            bad = bad | select(odd, BAD_ENERGY, 0u32);
        }
        i += THREADS;
    }
    if with_energy {
        let mut j = begin * dim + thread;
        while j < end * dim {
            let odd = exponent_field(u32::reinterpret(grad[j])) >= LARGE;
            bad = bad | select(odd, BAD_ENERGY, 0u32);
            j += THREADS;
        }
    }
    total(&Sums { max: max_key, sum, square, energy: energies, bad }, words, floats)
}

/// Partial sums of cubes, in planes of `count` words each, in one.
#[cube]
pub(super) fn sums_of_partials(
    partials: &[u32],
    count: usize,
    words: &mut Shared<[u32]>,
    floats: &mut Shared<[f32]>,
) -> Sums {
    let thread = UNIT_POS as usize;
    let mut key = 0u32;
    let mut i = thread;
    while i < count {
        let own = partials[i];
        key = select(own > key, own, key);
        i += THREADS;
    }
    let max_key = largest(key, words);
    let max = f32::reinterpret(bits_of(max_key));
    let mut sum = 0.0f32;
    let mut square = 0.0f32;
    let mut energy = 0.0f32;
    let mut bad = 0u32;
    let mut i = thread;
    while i < count {
        // Σ e^{A − max} = Σ_cubes e^{max_c − max} Σ_c e^{A − max_c}
        let scale = weight(f32::reinterpret(bits_of(partials[i])), max);
        sum += scale * f32::reinterpret(partials[count + i]);
        square += scale * scale * f32::reinterpret(partials[2 * count + i]);
        energy += scale * f32::reinterpret(partials[3 * count + i]);
        bad = bad | partials[4 * count + i];
        i += THREADS;
    }
    total(&Sums { max: max_key, sum, square, energy, bad }, words, floats)
}

/// `ln x` of a normal number from 1 on; the logarithm of Cephes, within 2⁻²³ of its size: WGSL promises 2⁻²¹.
#[cube]
fn ln(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    // x = (1 + f)·2^exponent with 1 + f in [√½, √2)
    let biased = (bits + comptime!(0x3F80_0000u32 - 0x3F35_04F3)) >> 23u32;
    let e = f32::cast_from(biased) - 127.0f32;
    let f = f32::reinterpret(bits + ((127u32 - biased) << 23u32)) - 1.0f32;
    let z = f * f;
    let mut y = f * 7.0376836292e-2f32 - 1.1514610310e-1f32;
    y = y * f + 1.1676998740e-1f32;
    y = y * f - 1.2420140846e-1f32;
    y = y * f + 1.4249322787e-1f32;
    y = y * f - 1.6668057665e-1f32;
    y = y * f + 2.0000714765e-1f32;
    y = y * f - 2.4999993993e-1f32;
    y = y * f + 3.3333331174e-1f32;
    y = y * f * z - 2.12194440e-4f32 * e - 0.5f32 * z;
    f + y + 0.693359375f32 * e
}

/// ess, `log_mean_exp`, mean energy and health of a group, and whether it is resampled: never where something is not finite.
#[cube]
pub(super) fn verdict(sums: &Sums, log_count: f32, limit: f32) -> Verdict {
    let weighted = (sums.bad & BAD_WEIGHT) == 0u32 && sums.max > NO_WEIGHT;
    let healthy = weighted && sums.bad == 0u32;
    // (ΣW)²/ΣW²
    let ess = sums.sum * sums.sum / sums.square;
    let log_mean_exp = ln(sums.sum) + f32::reinterpret(bits_of(sums.max)) - log_count;
    Verdict {
        ess: select(weighted, u32::reinterpret(ess), 0x7FC0_0000u32),
        log_mean_exp: select(weighted, u32::reinterpret(log_mean_exp), 0x7FC0_0000u32),
        energy: u32::reinterpret(sums.energy / sums.sum),
        health: select(healthy, 0u32, 0x7F80_0000u32),
        due: healthy && ess < limit,
    }
}

/// `hi + lo + delta`, of which no more is lost than a 2⁻⁴⁷th: the error of `hi + delta` joins `lo`, then the pair is made normal again
/// (T. J. Dekker, Numer. Math. 18 (1971), `add2`).
#[cube]
fn plus(hi: f32, lo: f32, delta: f32, zero: u32) -> Pair {
    let sum = opaque(hi + delta, zero);
    let delta_seen = opaque(sum - hi, zero);
    let hi_seen = opaque(sum - delta_seen, zero);
    let error = opaque(hi - hi_seen, zero) + opaque(delta - delta_seen, zero);
    let rest = opaque(lo + error, zero);
    let high = opaque(sum + rest, zero);
    Pair { hi: high, lo: opaque(rest - opaque(high - sum, zero), zero) }
}

/// Banks a mean weight: `log_z += log_mean_exp`, both parts of number `r` of `groups`. What `lo` has below 2⁻⁵¹ of `hi` is cut off, so
/// that `hi + lo` is exact in `f64`.
#[cube]
pub(super) fn bank(
    log_z: &[f32],
    banked: &mut [f32],
    r: usize,
    groups: usize,
    verdict: &Verdict,
    zero: u32,
    #[comptime] within: bool,
) {
    let mut hi = log_z[r];
    let mut lo = log_z[groups + r];
    if comptime!(!within) {
        if verdict.due {
            let sum = plus(hi, lo, f32::reinterpret(verdict.log_mean_exp), zero);
            let (high, low) = (u32::reinterpret(sum.hi), u32::reinterpret(sum.lo));
            // Bits of `lo`, whose last is worth 2^(e_lo − 23), that lie below 2^(e_hi − 51).
            let (e_high, e_low) = (exponent_field(high), exponent_field(low) + 28u32);
            let below = select(e_high > e_low, e_high - e_low, 0u32);
            let kept = select(below > 23u32, 0u32, (low >> below) << below);
            hi = sum.hi;
            lo = f32::reinterpret(kept);
        }
    }
    banked[r] = hi;
    banked[groups + r] = lo;
}
