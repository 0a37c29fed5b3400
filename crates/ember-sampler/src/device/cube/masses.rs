//! `device/masses.rs` on 32-bit words: the same steps, the same bits.

use burn::tensor::DType;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{empty, grid};
use super::scan::{Combine, fold_all, load};
use super::words::{Wide, Wider, less, multiply_high, narrow, shift_left, shift_right, subtract};
use crate::device::masses::{EXP2_ROOTS, LN_2, LOG2_E, SIXTH};

/// Words of [`ToSlots`](crate::device::masses::ToSlots): shift, reciprocal low, reciprocal high.
const CONSTANTS: usize = 3;
/// Words of the table of powers of two.
pub(super) const TABLE: usize = 512;

/// Fills a table of `2⁶²·2^{−i/256}` in the cube's memory, the bits of [`EXP2_TABLE`](crate::device::masses::EXP2_TABLE): entries are
/// products of eight constants, which costs less than a buffer would. Every thread of the cube takes part.
#[cube]
pub(super) fn fill_table(table: &mut Shared<[u32]>) {
    let mut entry = UNIT_POS;
    while entry < 256u32 {
        let mut product = Wide { low: 0u32, high: 0x8000_0000u32 };
        #[unroll]
        for bit in 0..8usize {
            if (entry >> comptime!(bit as u32)) & 1u32 == 1u32 {
                // product · root · 2⁻⁶³
                let root = Wide {
                    low: comptime!((2 * EXP2_ROOTS[bit]) as u32).runtime(),
                    high: comptime!(((2 * EXP2_ROOTS[bit]) >> 32) as u32).runtime(),
                };
                let next = multiply_high(&product, &root);
                product.low = next.low;
                product.high = next.high;
            }
        }
        let half = shift_right(&product, 1u32);
        table[2 * entry as usize] = half.low;
        table[2 * entry as usize + 1] = half.high;
        entry += CUBE_DIM;
    }
    sync_cube();
}

/// A float's exponent, 0 to 255.
#[cube]
pub(super) fn exponent_field(bits: u32) -> u32 {
    (bits >> 23u32) & 255u32
}

/// A float in units of `2^−fraction`, truncated; `scaled` is its exponent field plus `fraction`.
#[cube]
fn fixed(bits: u32, scaled: u32) -> Wide {
    let significand = Wide { low: (bits & 0x7F_FFFFu32) | 0x80_0000u32, high: 0u32 };
    let left = select(scaled > 150u32, scaled - 150u32, 0u32);
    let right = select(scaled < 150u32, 150u32 - scaled, 0u32);
    let magnitude = shift_right(
        &shift_left(&significand, select(left > 39u32, 39u32, left)),
        select(right > 63u32, 63u32, right),
    );
    let negative = subtract(&Wide { low: 0u32, high: 0u32 }, &magnitude);
    let sign = bits >> 31u32;
    Wide {
        low: select(sign == 1u32, negative.low, magnitude.low),
        high: select(sign == 1u32, negative.high, magnitude.high),
    }
}

/// `2⁶²·2^−t`, `t` in units of 2⁻⁵⁶.
#[cube]
fn exp2_minus(t: &Wide, table: &Shared<[u32]>) -> Wide {
    let entry = ((t.high >> 16u32) & 255u32) as usize;
    let value = Wide { low: table[2 * entry], high: table[2 * entry + 1] };
    // 1 − e^{−y} = y − y²/2 + y³/6
    let y = u32::mul_hi((t.low >> 16u32) | (t.high << 16u32), comptime!(LN_2));
    let y2 = u32::mul_hi(y, y);
    let y3 = u32::mul_hi(y2, y);
    let e = y - (y2 >> 9u32) + (u32::mul_hi(y3, comptime!(SIXTH)) >> 16u32);
    let part = u32::mul_hi((value.high << 1u32) | (value.low >> 31u32), e);
    let value = subtract(&value, &Wide { low: part << 23u32, high: part >> 9u32 });
    let bits = t.high >> 24u32;
    shift_right(&value, select(bits > 63u32, 63u32, bits))
}

/// An unsigned word in the order of the floats; NaN counts as `−∞`.
#[cube]
pub(super) fn key_of(bits: u32) -> u32 {
    let number = (bits & 0x7FFF_FFFFu32) <= 0x7F80_0000u32;
    let bits = select(number, bits, 0xFF80_0000u32);
    bits ^ select(bits >> 31u32 == 1u32, 0xFFFF_FFFFu32, 0x8000_0000u32)
}

#[cube(launch)]
fn key_kernel(log_weights: &[u32], keys: &mut [u32]) {
    if ABSOLUTE_POS < keys.len() {
        keys[ABSOLUTE_POS] = key_of(log_weights[ABSOLUTE_POS]);
    }
}

/// The float of a key.
#[cube]
pub(super) fn bits_of(key: u32) -> u32 {
    key ^ select(key >> 31u32 == 1u32, 0x8000_0000u32, 0xFFFF_FFFFu32)
}

/// The key of the largest log-weight.
///
/// Not burn's maximum, which one thread looks for alone: lavapipe ends loops after 65,535 rounds, so it missed most of a million.
fn largest(log_weights: CubeTensor) -> CubeTensor {
    let n = log_weights.meta.num_elements();
    let keys = empty(&log_weights, n, DType::U32);
    let (count, dim) = grid(&keys.client, n);
    key_kernel::launch(
        &keys.client,
        count,
        dim,
        log_weights.into_buffer_arg(),
        keys.clone().into_buffer_arg(),
    );
    fold_all(keys, Combine::Maximum)
}

/// The mass of a log-weight under the largest one; both as bits of floats.
#[cube]
pub(super) fn mass(bits: u32, max_bits: u32, table: &Shared<[u32]>) -> Wide {
    let max_exponent = exponent_field(max_bits);
    let mut mass = Wide { low: 0u32, high: 0u32 };
    if max_exponent >= 157u32 {
        // neighbouring floats differ by 64 or more
        let some = bits == max_bits && exponent_field(bits) < 255u32;
        mass.high = select(some, 0x4000_0000u32, 0u32);
    } else {
        let coarser = select(max_exponent > 148u32, max_exponent - 148u32, 0u32);
        let fraction = 40u32 - coarser;
        let scaled = exponent_field(bits) + fraction;
        let d = subtract(&fixed(max_bits, max_exponent + fraction), &fixed(bits, scaled));
        let beyond = shift_right(&d, fraction + 6u32);
        if scaled <= 189u32 && beyond.low == 0u32 && beyond.high == 0u32 {
            let log2_e = Wide {
                low: comptime!(LOG2_E as u32).runtime(),
                high: comptime!((LOG2_E >> 32) as u32).runtime(),
            };
            let t = multiply_high(&shift_left(&d, coarser + 17u32), &log2_e);
            let value = exp2_minus(&t, table);
            mass.low = value.low;
            mass.high = value.high;
        }
    }
    mass
}

#[cube(launch)]
fn mass_kernel(log_weights: &[f32], max: &[u32], masses: &mut [u32]) {
    let n = log_weights.len();
    let mut table = Shared::<[u32]>::new_slice(TABLE);
    fill_table(&mut table);
    if ABSOLUTE_POS < n {
        let mass = mass(u32::reinterpret(log_weights[ABSOLUTE_POS]), bits_of(max[0]), &table);
        masses[ABSOLUTE_POS] = mass.low;
        masses[n + ABSOLUTE_POS] = mass.high;
    }
}

/// Masses `q_i`, in planes of low and high words.
pub(super) fn masses(log_weights: CubeTensor) -> CubeTensor {
    let n = log_weights.meta.num_elements();
    let max = largest(log_weights.clone());
    let output = empty(&log_weights, 2 * n, DType::U32);
    let (count, dim) = grid(&output.client, n);
    mass_kernel::launch(
        &output.client,
        count,
        dim,
        log_weights.into_buffer_arg(),
        max.into_buffer_arg(),
        output.clone().into_buffer_arg(),
    );
    output
}

/// Words of [`ToSlots`](crate::device::masses::ToSlots).
#[derive(CubeType, Clone, Copy)]
pub(super) struct Constants {
    pub(super) shift: u32,
    pub(super) low: u32,
    pub(super) high: u32,
}

/// Shifts the total to 62 bits and divides `N·2⁹⁴` by it, bit by bit.
#[cube]
pub(super) fn constants_of(total: &Wider, n: usize) -> Constants {
    let mut divisor = Wide { low: total.low, high: total.middle };
    let mut high = total.high;
    let mut shift = 0u32;
    while high != 0u32 || divisor.high >= 0x4000_0000u32 {
        divisor.low = (divisor.low >> 1u32) | (divisor.high << 31u32);
        divisor.high = (divisor.high >> 1u32) | (high << 31u32);
        high = high >> 1u32;
        shift += 1u32;
    }
    let mut rest = Wide { low: n as u32, high: 0u32 };
    let mut quotient = Wide { low: 0u32, high: 0u32 };
    for _ in 0..94u32 {
        rest.high = (rest.high << 1u32) | (rest.low >> 31u32);
        rest.low = rest.low << 1u32;
        quotient.high = (quotient.high << 1u32) | (quotient.low >> 31u32);
        quotient.low = quotient.low << 1u32;
        if !less(&rest, &divisor) {
            let reduced = subtract(&rest, &divisor);
            rest.low = reduced.low;
            rest.high = reduced.high;
            quotient.low = quotient.low | 1u32;
        }
    }
    if rest.low != 0u32 || rest.high != 0u32 {
        quotient.low += 1u32;
        quotient.high += select(quotient.low == 0u32, 1u32, 0u32);
    }
    Constants { shift, low: quotient.low, high: quotient.high }
}

/// One thread.
#[cube(launch)]
fn constants_kernel(cumulative: &[u32], constants: &mut [u32], n: usize) {
    if ABSOLUTE_POS == 0 {
        let found = constants_of(&load(cumulative, n - 1, n, 3u32), n);
        constants[0] = found.shift;
        constants[1] = found.low;
        constants[2] = found.high;
    }
}

/// The constants of `S = N·C/T`, from the prefix sums.
pub(super) fn constants(cumulative: CubeTensor, n: usize) -> CubeTensor {
    let output = empty(&cumulative, CONSTANTS, DType::U32);
    let (count, dim) = grid(&output.client, 1);
    constants_kernel::launch(
        &output.client,
        count,
        dim,
        cumulative.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        n,
    );
    output
}

/// The constants as a kernel stored them.
#[cube]
pub(super) fn stored(constants: &[u32]) -> Constants {
    Constants { shift: constants[0], low: constants[1], high: constants[2] }
}

/// Slots, with 32 fractional bits, of a mass or of a sum of masses.
#[cube]
pub(super) fn to_slots(mass: &Wider, constants: &Constants, n: usize) -> Wide {
    let shifted = shift_left(&narrow(mass, constants.shift), 2u32);
    let product = multiply_high(&shifted, &Wide { low: constants.low, high: constants.high });
    let end = product.high >= n as u32;
    Wide { low: select(end, 0u32, product.low), high: select(end, n as u32, product.high) }
}
