//! Resampling masses in integers: what `exp` and a prefix sum of a million floats cannot give.
//!
//! A log-weight `A_i` becomes `q_i = 2⁶²·exp(A_i − max A)` as an integer. Differences, exponentials and sums are all integer
//! operations, so the result does not depend on the order of the sums, on the device, on fused multiply-adds
//! or on a library's `exp`. The relative error of `q_i` is below `2⁻³⁶`; the prefix sums are exact.
//!
//! # Steps
//! 1. `d = max A − A_i` in units of 2⁻⁴⁰ (coarser where `|max A| ≥ 2²²`, where `f32` itself is), by shifting significands.
//! 2. `t = d·log₂e` in units of 2⁻⁵⁶, a 64 × 64 bit product; `d ≥ 64` counts as weight 0.
//! 3. `2^−t`: the integer part is a shift, eight bits come from a table, and the rest, below 2⁻⁸, from
//!    `1 − e^{−y} = y − y²/2 + y³/6`.
//! 4. `S_i = N·C_i/T` with 32 fractional bits: slots begun or filled up to walker `i`, by one multiplication with `⌈N·2⁹⁴/T⌉`.
//!
//! The GPU runs the same steps on pairs of 32-bit words (`cube/masses.rs`) and finds the same bits.

use multiversion::multiversion;

/// Fractional bits of `d` while `|max A| < 2²²`.
pub(crate) const FRACTION: i32 = 40;
/// `log₂e · 2⁶³`.
pub(crate) const LOG2_E: u64 = 0xB8AA_3B29_5C17_F0BC;
/// `ln 2 · 2³²`.
pub(crate) const LN_2: u32 = 0xB172_17F8;
/// `2³² / 6`.
pub(crate) const SIXTH: u32 = 0x2AAA_AAAB;
/// `2⁶²·2^{−i/256}`.
pub(crate) const EXP2_TABLE: [u64; 256] = exp2_table();

const CHUNK: usize = 256;

/// `2^(−2^(b−8))` in units of 2⁻⁶³, for each bit `b` of a table entry's number.
pub(crate) const EXP2_ROOTS: [u64; 8] = exp2_roots();

/// Square roots of square roots, in integers: the same bits wherever it is compiled.
const fn exp2_roots() -> [u64; 8] {
    let mut roots = [0u64; 8];
    let mut root = 1u64 << 62;
    let mut b = 8;
    while b > 0 {
        b -= 1;
        root = ((root as u128) << 63).isqrt() as u64;
        roots[b] = root;
    }
    roots
}

/// Products of the roots, rounded down one after the other.
const fn exp2_table() -> [u64; 256] {
    let mut table = [0u64; 256];
    let mut i = 0;
    while i < 256 {
        let mut product = 1u128 << 63;
        let mut b = 0;
        while b < 8 {
            if i >> b & 1 == 1 {
                product = (product * EXP2_ROOTS[b] as u128) >> 63;
            }
            b += 1;
        }
        table[i] = (product >> 1) as u64;
        i += 1;
    }
    table
}

/// How log-weights are put on a fixed point, given the largest of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Bits of the largest log-weight.
    max: u32,
    /// Fractional bits.
    fraction: i32,
    /// Beyond 2³⁰ neighbouring floats differ by 64 or more: only the largest have any weight.
    huge: bool,
}

impl Scale {
    fn new(max: f32) -> Self {
        let bits = max.to_bits();
        // |max| in [2^exponent, 2^(exponent + 1))
        let exponent = (bits >> 23 & 0xFF) as i32 - 127;
        Self { max: bits, fraction: FRACTION - (exponent - 21).clamp(0, 9), huge: exponent >= 30 }
    }
}

/// Masses `q_i` of the log-weights and their sum, `Σ q_i`.
pub(crate) fn masses(log_weights: &[f32]) -> (Vec<u64>, u128) {
    let scale = Scale::new(maximum(log_weights));
    let mut masses = vec![0; log_weights.len()];
    let mut total = 0;
    for (masses, log_weights) in masses.chunks_mut(CHUNK).zip(log_weights.chunks(CHUNK)) {
        total += if scale.huge {
            huge_masses(masses, log_weights, scale.max)
        } else {
            mass_chunk(masses, log_weights, scale)
        };
    }
    (masses, total)
}

/// The largest log-weight; NaN counts as no weight.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn maximum(log_weights: &[f32]) -> f32 {
    let mut best = [f32::NEG_INFINITY; 16];
    let chunks = log_weights.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (best, value) in best.iter_mut().zip(chunk) {
            *best = if *value > *best { *value } else { *best };
        }
    }
    best.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

fn huge_masses(masses: &mut [u64], log_weights: &[f32], max: u32) -> u128 {
    let mut total = 0;
    for (mass, log_weight) in masses.iter_mut().zip(log_weights) {
        *mass = if log_weight.to_bits() == max && log_weight.is_finite() { 1 << 62 } else { 0 };
        total += u128::from(*mass);
    }
    total
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn mass_chunk(masses: &mut [u64], log_weights: &[f32], scale: Scale) -> u128 {
    let max = fixed(scale.max, scale.fraction).0;
    let mut exponents = [0u64; CHUNK];
    for (t, log_weight) in exponents.iter_mut().zip(log_weights) {
        *t = exponent(log_weight.to_bits(), max, scale.fraction);
    }
    let (mut low, mut high) = (0u64, 0u64);
    for (mass, t) in masses.iter_mut().zip(&exponents) {
        *mass = exp2_minus(*t);
        low += *mass & 0xFFFF_FFFF;
        high += *mass >> 32;
    }
    (u128::from(high) << 32) + u128::from(low)
}

/// A float in units of `2^−fraction`, truncated, and whether its magnitude reaches `2⁶³` of them.
#[inline(always)]
fn fixed(bits: u32, fraction: i32) -> (i64, bool) {
    let significand = u64::from(bits & 0x7F_FFFF | 0x80_0000);
    let shift = (bits >> 23 & 0xFF) as i32 - 150 + fraction;
    let (left, right) = (shift.clamp(0, 39) as u64, (-shift).clamp(0, 63) as u64);
    let magnitude = ((significand << left) >> right) as i64;
    (if bits >> 31 == 1 { -magnitude } else { magnitude }, shift > 39)
}

/// `t = (max − A)·log₂e` in units of 2⁻⁵⁶; `u64::MAX` for no weight.
#[inline(always)]
fn exponent(bits: u32, max: i64, fraction: i32) -> u64 {
    let (value, far) = fixed(bits, fraction);
    let d = max.wrapping_sub(value) as u64;
    let far = far | (d >> (fraction + 6) as u64 != 0);
    // t·2⁵⁶ = (d·2⁵⁷)·(log₂e·2⁶³) / 2⁶⁴, with d below 64
    let d = (d << (FRACTION - fraction) as u64) << 17;
    let t = mul_high(d, LOG2_E);
    if far { u64::MAX } else { t }
}

/// `2⁶²·2^−t`, `t` in units of 2⁻⁵⁶.
#[inline(always)]
fn exp2_minus(t: u64) -> u64 {
    let table = EXP2_TABLE[(t >> 48 & 0xFF) as usize];
    // y = ln 2 · (the rest of the fraction), in units of 2⁻⁴⁰
    let y = ((t >> 16 & 0xFFFF_FFFF) * u64::from(LN_2)) >> 32;
    let y2 = (y * y) >> 32; // 2⁻⁴⁸
    let y3 = (y2 * y) >> 32; // 2⁻⁵⁶
    // 1 − e^{−y} = y − y²/2 + y³/6
    let e = y - (y2 >> 9) + (((y3 * u64::from(SIXTH)) >> 32) >> 16);
    let value = table - ((((table >> 31) * e) >> 32) << 23);
    value >> (t >> 56).min(63)
}

/// The high half of a product of 64-bit words, in 32-bit pieces that vector instructions have.
#[inline(always)]
fn mul_high(a: u64, b: u64) -> u64 {
    let (a_low, a_high, b_low, b_high) = (a & 0xFFFF_FFFF, a >> 32, b & 0xFFFF_FFFF, b >> 32);
    let low = (a_low * b_low) >> 32;
    let middle = a_high * b_low + low;
    let middle_2 = a_low * b_high + (middle & 0xFFFF_FFFF);
    a_high * b_high + (middle >> 32) + (middle_2 >> 32)
}

/// Turns prefix sums of masses into slots: `S = N·C/T` with 32 fractional bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ToSlots {
    /// Bits that are dropped so that `T` has 62.
    shift: u32,
    /// `⌈N·2⁹⁴/T⌉` of the shifted `T`.
    reciprocal: u64,
    /// `N·2³²`.
    end: u64,
}

impl ToSlots {
    /// `total` must be `2⁶²` or more; `count` below `2³¹`.
    pub(crate) fn new(total: u128, count: usize) -> Self {
        debug_assert!(total >= 1 << 62 && count < 1 << 31);
        let shift = 128 - total.leading_zeros() - 62;
        let end = (count as u64) << 32;
        let reciprocal = (u128::from(end) << 62).div_ceil(total >> shift) as u64;
        Self { shift, reciprocal, end }
    }

    /// Slots, with 32 fractional bits, of a mass or of a sum of masses: monotone, and exactly `N·2³²` at the total.
    #[inline(always)]
    pub(crate) fn slots(&self, mass: u128) -> u64 {
        let shifted = (mass >> self.shift) as u64;
        let product = (u128::from(shifted << 2) * u128::from(self.reciprocal)) >> 64;
        (product as u64).min(self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masses_have_thirty_six_bits() {
        for max in [0.0f32, 1.5, -3.25, 1e-3, 700.0, -12345.678, 3.9e6, -4.1e6, 8.4e6, 1e8, -5e8] {
            let log_weights: Vec<f32> =
                (0..3000).map(|k| max - k as f32 * 0.0137 * (1.0 + 1e-4 * k as f32)).collect();
            let largest = log_weights.iter().copied().fold(f32::MIN, f32::max);
            let (masses, total) = masses(&log_weights);
            assert_eq!(total, masses.iter().map(|q| u128::from(*q)).sum());
            for (a, q) in log_weights.iter().zip(masses) {
                let exact = (f64::from(*a) - f64::from(largest)).exp() * 62f64.exp2();
                let error = (q as f64 - exact).abs();
                assert!(
                    error <= exact * (-36f64).exp2() + 1.0 || exact < 1.0,
                    "{a} under {max}: {q} against {exact}"
                );
            }
        }
    }

    #[test]
    fn weights_that_are_none() {
        let (masses, total) = masses(&[f32::NEG_INFINITY, 0.0, f32::NAN, -70.0, -1e30, -0.0]);
        assert_eq!(masses, [0, 1 << 62, 0, 0, 0, 1 << 62]);
        assert_eq!(total, 1 << 63);
        assert_eq!(super::masses(&[f32::NEG_INFINITY; 3]).1, 0);
        assert_eq!(super::masses(&[f32::MAX, f32::MAX, -f32::MAX]).0, [1 << 62, 1 << 62, 0]);
    }
}
