//! Philox and Box–Muller in a kernel: the same counters, and for integers the same bits, as on the processor.

// Coefficients as published; what the macros make has no documentation of its own.
#![allow(clippy::excessive_precision, clippy::assign_op_pattern, missing_docs)]

use cubecl::prelude::*;

use super::{HALF_CELL, LARGEST_OPEN, PHILOX_M, PHILOX_ROUNDS, PHILOX_W, Stream};

/// The four words of a block.
#[derive(CubeType, Clone, Copy)]
pub struct Block {
    pub a: u32,
    pub b: u32,
    pub c: u32,
    pub d: u32,
}

/// What a kernel needs of a [`Stream`]: its key and the last two counter words.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub struct Counter {
    pub key_low: u32,
    pub key_high: u32,
    pub step: u32,
    pub purpose: u32,
}

/// `stream` as a kernel argument.
pub fn counter(stream: Stream) -> CounterLaunch {
    let ([key_low, key_high], [step, purpose]) = (stream.key(), stream.counter_tail());
    CounterLaunch::new(key_low, key_high, step, purpose)
}

/// The counter of the stream `lanes` lanes further on.
#[cube]
pub fn further(counter: &Counter, lanes: u32) -> Counter {
    Counter {
        key_low: counter.key_low,
        key_high: counter.key_high,
        step: counter.step,
        purpose: counter.purpose + (lanes << 8u32),
    }
}

/// The counter of the stream `by` step numbers later.
#[cube]
pub fn later(counter: &Counter, by: u32) -> Counter {
    Counter {
        key_low: counter.key_low,
        key_high: counter.key_high,
        step: counter.step + by,
        purpose: counter.purpose,
    }
}

/// The words of a block of four coordinates of a walker; see [`Stream::bits`].
#[cube]
pub fn philox(block: u32, walker: u32, counter: &Counter) -> Block {
    let mut a = block;
    let mut b = walker;
    let mut c = counter.step;
    let mut d = counter.purpose;
    let mut key_low = counter.key_low;
    let mut key_high = counter.key_high;
    for _ in 0..PHILOX_ROUNDS {
        let high_0 = u32::mul_hi(a, comptime!(PHILOX_M[0]));
        let low_0 = a * comptime!(PHILOX_M[0]);
        let high_1 = u32::mul_hi(c, comptime!(PHILOX_M[1]));
        let low_1 = c * comptime!(PHILOX_M[1]);
        a = high_1 ^ b ^ key_low;
        b = low_1;
        c = high_0 ^ d ^ key_high;
        d = low_0;
        key_low += comptime!(PHILOX_W[0]);
        key_high += comptime!(PHILOX_W[1]);
    }
    Block { a, b, c, d }
}

/// The word of `block` at `lane`, 0 to 3.
#[cube]
pub fn word(block: &Block, lane: u32) -> u32 {
    let first = select(lane == 0u32, block.a, block.b);
    let last = select(lane == 2u32, block.c, block.d);
    select(lane < 2u32, first, last)
}

/// `√(−2 ln u)` with `u = a·2⁻³² + 2⁻³³` rounded once; the logarithm of Cephes.
#[cube]
pub fn radius(a: u32) -> f32 {
    let whole = f32::cast_from(a >> 16u32) * 65536.0f32 + f32::cast_from(a & 0xFFFFu32);
    let u = whole * comptime!(1.0f32 / 4_294_967_296.0) + comptime!(1.0f32 / 8_589_934_592.0);
    let bits = u32::reinterpret(u);
    // u = (1 + f)·2^exponent with 1 + f in [√½, √2); exponent ≤ 0, so 127 is added while unsigned
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
    let ln = f + y + 0.693359375f32 * e;
    (f32::new(-2.0f32) * ln).sqrt()
}

/// Four standard normals of a walker, those of [`Stream::normals`].
#[derive(CubeType, Clone, Copy)]
pub struct Normals {
    pub a: f32,
    pub b: f32,
    pub c: f32,
    pub d: f32,
}

/// The normals of a block of four coordinates of a walker.
#[cube]
pub fn normals(block: u32, walker: u32, counter: &Counter) -> Normals {
    let words = philox(block, walker, counter);
    let radius_0 = radius(words.a);
    let turn_0 = turn(words.b);
    let radius_1 = radius(words.c);
    let turn_1 = turn(words.d);
    Normals {
        a: radius_0 * turn_0.cos,
        b: radius_0 * turn_0.sin,
        c: radius_1 * turn_1.cos,
        d: radius_1 * turn_1.sin,
    }
}

/// A uniform number in `[0, 1)` with 24 bits: column 0 of [`Stream::uniforms`].
#[cube]
pub fn uniform(walker: u32, counter: &Counter) -> f32 {
    let words = philox(0u32, walker, counter);
    f32::cast_from(words.a >> 8u32) * comptime!(1.0f32 / 16_777_216.0)
}

/// A uniform number inside `(0, 1)`, of which a logarithm may be taken: column 0 of [`Stream::open_uniforms`].
#[cube]
pub fn open_uniform(walker: u32, counter: &Counter) -> f32 {
    let u = uniform(walker, counter) + comptime!(HALF_CELL);
    select(u < comptime!(LARGEST_OPEN), u, comptime!(LARGEST_OPEN))
}

/// A cosine and a sine.
#[derive(CubeType, Clone, Copy)]
pub struct Turn {
    pub cos: f32,
    pub sin: f32,
}

/// `cos` and `sin` of `2π·b·2⁻³²`: a GPU's own are good to `1e-3` only.
#[cube]
pub fn turn(b: u32) -> Turn {
    let quarter = (b + comptime!(1u32 << 29)) >> 30u32;
    let rest = i32::reinterpret(b - (quarter << 30u32));
    let x = f32::cast_from(rest) * comptime!(std::f32::consts::TAU / 4_294_967_296.0);
    let z = x * x;
    let sine = ((8.3321608736e-3f32 - 1.9515295891e-4f32 * z) * z - 1.6666654611e-1f32) * z * x + x;
    let cosine =
        ((2.443315711809948e-5f32 * z - 1.388731625493765e-3f32) * z + 4.166664568298827e-2f32) * z * z
            - 0.5f32 * z
            + 1.0f32;
    let odd = (quarter & 1u32) == 1u32;
    let c = select(odd, sine, cosine);
    let s = select(odd, cosine, sine);
    let cos = select(((quarter + 1u32) & 2u32) != 0u32, -c, c);
    let sin = select((quarter & 2u32) != 0u32, -s, s);
    Turn { cos, sin }
}
