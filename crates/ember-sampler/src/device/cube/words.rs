//! Arithmetic on 64 and 96 bits in 32-bit words: WGSL has nothing wider.

use cubecl::prelude::*;

/// 64 bits.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Wide {
    pub(super) low: u32,
    pub(super) high: u32,
}

/// 96 bits.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Wider {
    pub(super) low: u32,
    pub(super) middle: u32,
    pub(super) high: u32,
}

/// 1 where `sum`, the wrapped sum of `term` and another word, overflowed.
#[cube]
pub(super) fn carry(sum: u32, term: u32) -> u32 {
    select(sum < term, 1u32, 0u32)
}

#[cube]
pub(super) fn less(a: &Wide, b: &Wide) -> bool {
    a.high < b.high || (a.high == b.high && a.low < b.low)
}

/// `a − b`, wrapping.
#[cube]
pub(super) fn subtract(a: &Wide, b: &Wide) -> Wide {
    let borrow = select(a.low < b.low, 1u32, 0u32);
    Wide { low: a.low - b.low, high: a.high - b.high - borrow }
}

/// `a << bits` for `bits < 64`.
#[cube]
pub(super) fn shift_left(a: &Wide, bits: u32) -> Wide {
    let mut low = a.low;
    let mut high = a.high;
    if bits >= 32u32 {
        high = a.low << (bits - 32u32);
        low = 0u32;
    } else if bits > 0u32 {
        high = (a.high << bits) | (a.low >> (32u32 - bits));
        low = a.low << bits;
    }
    Wide { low, high }
}

/// `a >> bits` for `bits < 64`.
#[cube]
pub(super) fn shift_right(a: &Wide, bits: u32) -> Wide {
    let mut low = a.low;
    let mut high = a.high;
    if bits >= 32u32 {
        low = a.high >> (bits - 32u32);
        high = 0u32;
    } else if bits > 0u32 {
        low = (a.low >> bits) | (a.high << (32u32 - bits));
        high = a.high >> bits;
    }
    Wide { low, high }
}

/// The high 64 bits of the 128-bit product.
#[cube]
pub(super) fn multiply_high(a: &Wide, b: &Wide) -> Wide {
    let middle_1 = u32::mul_hi(a.low, b.low) + a.low * b.high;
    let carry_1 = carry(middle_1, a.low * b.high);
    let middle_2 = middle_1 + a.high * b.low;
    let carry_2 = carry(middle_2, a.high * b.low);
    let cross = u32::mul_hi(a.low, b.high) + u32::mul_hi(a.high, b.low);
    let carry_3 = carry(cross, u32::mul_hi(a.high, b.low));
    let low_1 = cross + a.high * b.high;
    let carry_4 = carry(low_1, a.high * b.high);
    let carries = carry_1 + carry_2;
    let low = low_1 + carries;
    let carry_5 = carry(low, carries);
    Wide { low, high: u32::mul_hi(a.high, b.high) + carry_3 + carry_4 + carry_5 }
}

/// `sum += term`.
#[cube]
pub(super) fn accumulate(sum: &mut Wider, term: &Wider) {
    let low = sum.low + term.low;
    let carry_1 = carry(low, term.low);
    let middle_1 = sum.middle + term.middle;
    let carry_2 = carry(middle_1, term.middle);
    let middle = middle_1 + carry_1;
    let carry_3 = carry(middle, carry_1);
    sum.low = low;
    sum.middle = middle;
    sum.high = sum.high + term.high + carry_2 + carry_3;
}

/// The low 64 bits of `a >> bits`, for `bits ≤ 32`.
#[cube]
pub(super) fn narrow(a: &Wider, bits: u32) -> Wide {
    let mut low = a.low;
    let mut high = a.middle;
    if bits >= 32u32 {
        low = a.middle;
        high = a.high;
    } else if bits > 0u32 {
        low = (a.low >> bits) | (a.middle << (32u32 - bits));
        high = (a.middle >> bits) | (a.high << (32u32 - bits));
    }
    Wide { low, high }
}
