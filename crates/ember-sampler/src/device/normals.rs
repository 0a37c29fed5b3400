//! Philox and Box–Muller for processors: sixteen counters at a time, in code that compilers turn into vector instructions.
//!
//! Only additions, multiplications, square roots and integer operations, never a fused multiply-add: the numbers are the same
//! bits on every processor, whatever its vector width and however many threads share the work. Logarithm, sine and cosine are
//! the single precision polynomials of Moshier's Cephes library (`logf.c`, `sinf.c`), after exact range reductions on
//! the integers: within `1e-6` of the reference in [`ember_model::random`].

// Coefficients as published; loops by index over fixed-size arrays, which is what the compiler vectorises.
#![allow(clippy::excessive_precision, clippy::needless_range_loop)]

use ember_model::random::{PHILOX_M, PHILOX_ROUNDS, PHILOX_W, Stream};
use multiversion::multiversion;
use rayon::prelude::*;

/// Counters that are worked on together.
const LANES: usize = 16;
/// Blocks of four numbers in a scratch buffer: 16 KiB, half of a first-level cache.
const SCRATCH_BLOCKS: usize = 1024;
/// Below this many numbers, threads cost more than they bring.
const PARALLEL_FROM: usize = 1 << 16;

type Lane = [u32; LANES];

/// A chunk of the output, of the positions and of the gradients.
type Rows<'a> = ((&'a mut [f32], &'a [f32]), &'a [f32]);

/// `out = x − h·grad + s·ξ` for `dim` coordinates a walker, ξ from `stream`; all slices are row-major `[walkers, dim]`.
pub(super) fn langevin_proposal(
    out: &mut [f32],
    x: &[f32],
    grad: &[f32],
    dim: usize,
    step_size: f32,
    noise_scale: f32,
    stream: Stream,
) {
    if dim == 0 {
        return;
    }
    let blocks = dim.div_ceil(4);
    let rows = (SCRATCH_BLOCKS / blocks).max(1);
    let chunk = rows * dim;
    let work = |(index, rows_of): (usize, Rows<'_>)| {
        let ((out, x), grad) = rows_of;
        let mut noise = vec![0.0; (out.len() / dim * blocks).next_multiple_of(LANES) * 4];
        fill_normals(&mut noise, (index * rows) as u32, blocks, stream);
        let rows = out.chunks_mut(dim).zip(x.chunks(dim)).zip(grad.chunks(dim)).zip(noise.chunks(4 * blocks));
        for (((out, x), grad), noise) in rows {
            propose_row(out, x, grad, noise, step_size, noise_scale);
        }
    };
    if out.len() >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
        out.par_chunks_mut(chunk)
            .zip(x.par_chunks(chunk))
            .zip(grad.par_chunks(chunk))
            .enumerate()
            .for_each(work);
    } else {
        out.chunks_mut(chunk).zip(x.chunks(chunk)).zip(grad.chunks(chunk)).enumerate().for_each(work);
    }
}

/// The words of consecutive blocks of walker 0; `first` is the block of `words[0]`.
pub(crate) fn fill_blocks(words: &mut [[u32; 4]], first: u32, stream: Stream) {
    fill_words(words, [first, 0], [1, 0], stream.key(), stream.counter_tail());
}

/// The words of block 0 of consecutive walkers, from walker 0.
pub(super) fn fill_walkers(words: &mut [[u32; 4]], stream: Stream) {
    fill_words(words, [0, 0], [0, 1], stream.key(), stream.counter_tail());
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn propose_row(out: &mut [f32], x: &[f32], grad: &[f32], noise: &[f32], step_size: f32, noise_scale: f32) {
    for (((out, x), grad), noise) in out.iter_mut().zip(x).zip(grad).zip(noise) {
        // x − h ∇U + s ξ
        *out = x - step_size * grad + noise_scale * noise;
    }
}

fn fill_normals(out: &mut [f32], first_walker: u32, blocks: usize, stream: Stream) {
    fill_normals_lanes(out, first_walker, blocks as u32, stream.key(), stream.counter_tail());
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fill_normals_lanes(out: &mut [f32], first_walker: u32, blocks: u32, key: [u32; 2], tail: [u32; 2]) {
    let (mut block, mut walker) = (0u32, first_walker);
    for out in out.chunks_exact_mut(4 * LANES) {
        let mut counter = [[0; LANES], [0; LANES], [tail[0]; LANES], [tail[1]; LANES]];
        for lane in 0..LANES {
            counter[0][lane] = block;
            counter[1][lane] = walker;
            block += 1;
            if block == blocks {
                (block, walker) = (0, walker.wrapping_add(1));
            }
        }
        let [a, b, c, d] = philox(counter, key);
        let [x, y] = normal_pairs(a, b);
        let [z, w] = normal_pairs(c, d);
        for lane in 0..LANES {
            out[4 * lane] = x[lane];
            out[4 * lane + 1] = y[lane];
            out[4 * lane + 2] = z[lane];
            out[4 * lane + 3] = w[lane];
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn fill_words(words: &mut [[u32; 4]], first: [u32; 2], stride: [u32; 2], key: [u32; 2], tail: [u32; 2]) {
    let mut index = 0u32;
    for words in words.chunks_mut(LANES) {
        let [blocks, walkers] = [0, 1].map(|word| {
            std::array::from_fn(|lane| {
                first[word].wrapping_add(stride[word].wrapping_mul(index.wrapping_add(lane as u32)))
            })
        });
        let [a, b, c, d] = philox([blocks, walkers, [tail[0]; LANES], [tail[1]; LANES]], key);
        for (lane, word) in words.iter_mut().enumerate() {
            *word = [a[lane], b[lane], c[lane], d[lane]];
        }
        index = index.wrapping_add(LANES as u32);
    }
}

/// Ten Philox rounds on sixteen counters.
#[inline(always)]
fn philox([mut c0, mut c1, mut c2, mut c3]: [Lane; 4], [mut k0, mut k1]: [u32; 2]) -> [Lane; 4] {
    for _ in 0..PHILOX_ROUNDS {
        for lane in 0..LANES {
            let p0 = u64::from(PHILOX_M[0]) * u64::from(c0[lane]);
            let p1 = u64::from(PHILOX_M[1]) * u64::from(c2[lane]);
            c0[lane] = (p1 >> 32) as u32 ^ c1[lane] ^ k0;
            c1[lane] = p1 as u32;
            c2[lane] = (p0 >> 32) as u32 ^ c3[lane] ^ k1;
            c3[lane] = p0 as u32;
        }
        k0 = k0.wrapping_add(PHILOX_W[0]);
        k1 = k1.wrapping_add(PHILOX_W[1]);
    }
    [c0, c1, c2, c3]
}

/// Box–Muller on sixteen pairs of words.
#[inline(always)]
fn normal_pairs(a: Lane, b: Lane) -> [[f32; LANES]; 2] {
    let mut cosines = [0.0; LANES];
    let mut sines = [0.0; LANES];
    for lane in 0..LANES {
        // r = √(−2 ln u₁)
        let radius = (-2.0 * ln(unit(a[lane]))).sqrt();
        let [cosine, sine] = cos_sin_turns(b[lane]);
        cosines[lane] = radius * cosine;
        sines[lane] = radius * sine;
    }
    [cosines, sines]
}

/// `a·2⁻³² + 2⁻³³`, in `(0, 1]`. The halves convert exactly and their sum is rounded once, as `a as f32` is.
#[inline(always)]
fn unit(a: u32) -> f32 {
    let a = (a >> 16) as i32 as f32 * 65536.0 + (a & 0xFFFF) as i32 as f32;
    a * (1.0 / 4_294_967_296.0) + 1.0 / 8_589_934_592.0
}

/// Natural logarithm of a normal number: `ln(m·2^e)` with `m` in `[√½, √2)`.
#[inline(always)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF: u32 = 0x3F35_04F3;
    let bits = x.to_bits();
    let exponent = (bits.wrapping_sub(SQRT_HALF) as i32) >> 23;
    let f = f32::from_bits(bits.wrapping_sub((exponent << 23) as u32)) - 1.0;
    let e = exponent as f32;
    let z = f * f;
    let mut y = 7.037_683_6e-2;
    y = y * f - 1.151_461e-1;
    y = y * f + 1.167_699_9e-1;
    y = y * f - 1.242_014_1e-1;
    y = y * f + 1.424_932_3e-1;
    y = y * f - 1.666_805_8e-1;
    y = y * f + 2.000_071_5e-1;
    y = y * f - 2.499_999_4e-1;
    y = y * f + 3.333_333_1e-1;
    // ln 2 in two parts, of which the larger is exact: 355/512 and the rest
    y = y * f * z - 2.121_944_4e-4 * e - 0.5 * z;
    f + y + 0.693_359_375 * e
}

/// `cos` and `sin` of `2π·b·2⁻³²`: the nearest quarter turn is split off exactly.
#[inline(always)]
fn cos_sin_turns(b: u32) -> [f32; 2] {
    let quarter = b.wrapping_add(1 << 29) >> 30;
    let rest = b.wrapping_sub(quarter << 30) as i32;
    // angle in [−π/4, π/4]
    let x = rest as f32 * (std::f32::consts::TAU / 4_294_967_296.0);
    let z = x * x;
    let sine = ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1) * z * x + x;
    let cosine = ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2) * z * z - 0.5 * z + 1.0;
    let (c, s) = if quarter & 1 == 0 { (cosine, sine) } else { (sine, cosine) };
    // the sign bits of the quarter: cos < 0 in 1 and 2, sin < 0 in 2 and 3
    let c_sign = (quarter.wrapping_add(1) & 2) << 30;
    let s_sign = (quarter & 2) << 30;
    [f32::from_bits(c.to_bits() ^ c_sign), f32::from_bits(s.to_bits() ^ s_sign)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ember_model::random::normal_pair;

    /// Every corner of the two words, and a sweep: within 1e-6 of the double precision reference.
    #[test]
    fn pairs_agree_with_the_reference() {
        let corners = [
            0,
            1,
            2,
            255,
            256,
            (1 << 24) - 1,
            1 << 24,
            (1 << 29) - 1,
            1 << 29,
            1 << 30,
            3 << 30,
            u32::MAX - 1,
            u32::MAX,
        ];
        let sweep = (0..2000u32).map(|k| k.wrapping_mul(0x9E37_79B9));
        let words: Vec<u32> = corners.into_iter().chain(sweep).collect();
        for a in &words {
            for b in words.iter().take(200) {
                let expected = normal_pair(*a, *b);
                let [x, y] = normal_pairs([*a; LANES], [*b; LANES]);
                assert!((x[0] - expected[0]).abs() < 1e-6, "a {a}, b {b}: {} against {}", x[0], expected[0]);
                assert!((y[0] - expected[1]).abs() < 1e-6, "a {a}, b {b}: {} against {}", y[0], expected[1]);
            }
        }
    }
}
