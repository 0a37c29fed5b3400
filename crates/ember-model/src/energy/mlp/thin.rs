//! Products with a side too short for a matrix product: sums of scaled rows. Numbers are `[coordinates, rows]`.

use multiversion::multiversion;

use super::super::elementwise::settled;

const LANES: usize = 16;

/// `z = W x`: `z: [out, rows]`, `weight: [out, width]`, `x: [width, rows]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn product(z: &mut [f32], weight: &[f32], x: &[f32], rows: usize) {
    let width = x.len() / rows;
    for (z, weight) in z.chunks_exact_mut(rows).zip(weight.chunks_exact(width)) {
        z.fill(0.0);
        add_rows_times(z, weight, x);
    }
}

/// `z += w x`: `z: [rows]`, `weight: [width]`, `x: [width, rows]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_product(z: &mut [f32], weight: &[f32], x: &[f32], rows: usize) {
    add_rows_times(&mut z[..rows], weight, x);
}

#[inline(always)]
fn add_rows_times(z: &mut [f32], weight: &[f32], x: &[f32]) {
    for (&w, x) in weight.iter().zip(x.chunks_exact(z.len())) {
        for (z, x) in z.iter_mut().zip(x) {
            *z += w * x;
        }
    }
}

/// `to = Wᵀ δ`: `to: [width, rows]`, `weight: [out, width]`, `delta: [out, rows]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn transposed_product(to: &mut [f32], weight: &[f32], delta: &[f32], rows: usize) {
    let width = to.len() / rows;
    to.fill(0.0);
    for (delta, weight) in delta.chunks_exact(rows).zip(weight.chunks_exact(width)) {
        for (to, &w) in to.chunks_exact_mut(rows).zip(weight) {
            for (to, delta) in to.iter_mut().zip(delta) {
                *to += w * delta;
            }
        }
    }
}

/// `to += a bᵀ`: `to: [m, k]`, `a: [m, rows]`, `b: [k, rows]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_outer(to: &mut [f32], a: &[f32], b: &[f32], rows: usize) {
    let width = b.len() / rows;
    for (to, a) in to.chunks_exact_mut(width).zip(a.chunks_exact(rows)) {
        for (to, b) in to.iter_mut().zip(b.chunks_exact(rows)) {
            *to += dot(a, b);
        }
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (blocks_a, blocks_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in blocks_a.zip(blocks_b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += a * b;
        }
    }
    lanes.iter().sum::<f32>() + rest
}

/// `z_{j,r} *= w_j s_r`: `z: [width, rows]`, `weight: [width]`, `seed: [rows]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn multiply_by_outer(z: &mut [f32], weight: &[f32], seed: &[f32]) {
    for (z, &w) in z.chunks_exact_mut(seed.len()).zip(weight) {
        for (z, s) in z.iter_mut().zip(seed) {
            *z = settled(*z * (w * s));
        }
    }
}

/// `to_{j,r} = z_{j,r} s_r` and `sums_j += Σ_r to_{j,r}`: `to` and `z: [width, rows]`, `seed: [rows]`, `sums: [width]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn scale_columns(to: &mut [f32], sums: &mut [f32], z: &[f32], seed: &[f32]) {
    let rows = seed.len();
    for ((to, z), sum) in to.chunks_exact_mut(rows).zip(z.chunks_exact(rows)).zip(sums) {
        let mut lanes = [0.0f32; LANES];
        let (to_blocks, to_rest) = to.as_chunks_mut::<LANES>();
        let ((z_blocks, z_rest), (seed_blocks, seed_rest)) =
            (z.as_chunks::<LANES>(), seed.as_chunks::<LANES>());
        for ((to, z), s) in to_blocks.iter_mut().zip(z_blocks).zip(seed_blocks) {
            for lane in 0..LANES {
                to[lane] = settled(z[lane] * s[lane]);
                lanes[lane] += to[lane];
            }
        }
        for ((to, z), s) in to_rest.iter_mut().zip(z_rest).zip(seed_rest) {
            *to = settled(z * s);
            lanes[0] += *to;
        }
        *sum += lanes.iter().sum::<f32>();
    }
}
