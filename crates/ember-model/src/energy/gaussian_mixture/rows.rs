//! Loops over one block of rows `x: [rows, dim]` with `means: [K, dim]` and numbers `[K, rows]` of the modes.

use multiversion::multiversion;

use crate::energy::elementwise::exp;

/// Accumulators per sum: enough for the compiler to use vector registers.
const LANES: usize = 16;

/// `t_k = l_k − ½ |x − m_k|²`: differences first, so that far-away means lose no digits.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn log_terms(terms: &mut [f32], x: &[f32], means: &[f32], logits: &[f32]) {
    let (dim, rows) = (means.len() / logits.len(), terms.len() / logits.len());
    for (row, x) in x.chunks_exact(dim).enumerate() {
        for (k, (mean, logit)) in means.chunks_exact(dim).zip(logits).enumerate() {
            terms[k * rows + row] = logit - 0.5 * square_distance(x, mean);
        }
    }
}

#[inline(always)]
fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            let gap = a[lane] - b[lane];
            lanes[lane] += gap * gap;
        }
    }
    let mut rest = 0.0;
    for (a, b) in a_rest.iter().zip(b_rest) {
        rest += (a - b) * (a - b);
    }
    sum(lanes) + rest
}

/// The sum of all lanes, halves added to halves.
#[inline(always)]
fn sum(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// Turns `t: [K, rows]` into responsibilities `r = softmax(t)` and writes `U = −log Σ_k e^{t_k}`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn softmax(terms: &mut [f32], energy: &mut [f32]) {
    const ROWS: usize = 64;
    let rows = energy.len();
    for (start, energy) in (0..rows).step_by(ROWS).zip(energy.chunks_mut(ROWS)) {
        let (mut max, mut sum) = ([f32::NEG_INFINITY; ROWS], [0.0f32; ROWS]);
        for terms in terms.chunks_exact(rows) {
            for (max, &t) in max.iter_mut().zip(&terms[start..start + energy.len()]) {
                *max = max.max(t);
            }
        }
        // A NaN position must give a NaN energy, not the −∞ that `max` would hide it behind: the exponential keeps it.
        for terms in terms.chunks_exact_mut(rows) {
            for ((t, max), sum) in terms[start..start + energy.len()].iter_mut().zip(&max).zip(&mut sum) {
                *t = exp(*t - max);
                *sum += *t;
            }
        }
        for terms in terms.chunks_exact_mut(rows) {
            for (t, sum) in terms[start..start + energy.len()].iter_mut().zip(&sum) {
                *t /= sum;
            }
        }
        for ((u, max), sum) in energy.iter_mut().zip(&max).zip(&sum) {
            *u = -(max + sum.ln());
        }
    }
}

/// `to = s (x − Σ_k r_k m_k)`, the gradient in x.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn pull(to: &mut [f32], x: &[f32], seed: &[f32], means: &[f32], responsibilities: &[f32]) {
    let (rows, dim) = (seed.len(), x.len() / seed.len());
    for (row, ((to, x), s)) in to.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(seed).enumerate() {
        to.copy_from_slice(x);
        for (mean, r) in means.chunks_exact(dim).zip(responsibilities.chunks_exact(rows)) {
            let r = r[row];
            for (to, m) in to.iter_mut().zip(mean) {
                *to -= r * m;
            }
        }
        if *s != 1.0 {
            to.iter_mut().for_each(|to| *to *= s);
        }
    }
}

/// `to_k += Σ_r s_r r_k (m_k − x)`, `to: [K, dim]`: the gradient in the means.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_responsible(
    to: &mut [f32],
    x: &[f32],
    seed: &[f32],
    means: &[f32],
    responsibilities: &[f32],
) {
    let (rows, dim) = (seed.len(), x.len() / seed.len());
    for (row, (x, s)) in x.chunks_exact(dim).zip(seed).enumerate() {
        let modes = to.chunks_exact_mut(dim).zip(means.chunks_exact(dim));
        for ((to, mean), r) in modes.zip(responsibilities.chunks_exact(rows)) {
            let weight = s * r[row];
            for ((to, m), x) in to.iter_mut().zip(mean).zip(x) {
                *to += weight * (m - x);
            }
        }
    }
}

/// `to_k += f Σ_r s_r z_{k,r}`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_row_sums_scaled(to: &mut [f32], z: &[f32], seed: &[f32], factor: f32) {
    for (to, z) in to.iter_mut().zip(z.chunks_exact(seed.len())) {
        let mut lanes = [0.0f32; LANES];
        let ((z_blocks, z_rest), (s_blocks, s_rest)) = (z.as_chunks::<LANES>(), seed.as_chunks::<LANES>());
        for (z, s) in z_blocks.iter().zip(s_blocks) {
            for lane in 0..LANES {
                lanes[lane] += z[lane] * s[lane];
            }
        }
        for (z, s) in z_rest.iter().zip(s_rest) {
            lanes[0] += z * s;
        }
        *to += factor * sum(lanes);
    }
}
