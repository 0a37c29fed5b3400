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
fn sum(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = std::array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
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

/// `to_k += Σ_r w_{k,r} (m_k − x)`, `to: [K, dim]`, `weights: [K, rows]`: the gradient in the means. A few coordinates at a time, so
/// that their sums stay in registers.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_pulls(to: &mut [f32], x: &[f32], means: &[f32], weights: &[f32], rows: usize) {
    let dim = x.len() / rows;
    let modes = to.chunks_exact_mut(dim).zip(means.chunks_exact(dim)).zip(weights.chunks_exact(rows));
    for ((to, mean), weights) in modes {
        let whole = dim / LANES * LANES;
        for start in (0..whole).step_by(LANES) {
            let sums = pull_lanes(x, mean, weights, dim, start);
            to[start..start + LANES].iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
        }
        if dim < LANES {
            for (to, (j, m)) in to.iter_mut().zip(mean.iter().enumerate()) {
                *to += x[j..].iter().step_by(dim).zip(weights).map(|(x, w)| w * (m - x)).sum::<f32>();
            }
        } else if whole < dim {
            // The last coordinates with some before them, whose sums are there already.
            let sums = pull_lanes(x, mean, weights, dim, dim - LANES);
            let new = sums.into_iter().skip(LANES - (dim - whole));
            to[whole..].iter_mut().zip(new).for_each(|(to, sum)| *to += sum);
        }
    }
}

/// `Σ_r w_r (m − x_r)` of the coordinates from `start` on: four rows at a time, whose sums do not wait for each other.
#[inline(always)]
fn pull_lanes(x: &[f32], mean: &[f32], weights: &[f32], dim: usize, start: usize) -> [f32; LANES] {
    const ROWS: usize = 4;
    let mean = lanes_at(mean, start);
    let mut sums = [[0.0f32; LANES]; ROWS];
    let (fours, rest) = weights.as_chunks::<ROWS>();
    for (x, weights) in x.chunks_exact(ROWS * dim).zip(fours) {
        for row in 0..ROWS {
            let x = lanes_at(x, row * dim + start);
            for lane in 0..LANES {
                sums[row][lane] += weights[row] * (mean[lane] - x[lane]);
            }
        }
    }
    for (x, w) in x[fours.len() * ROWS * dim..].chunks_exact(dim).zip(rest) {
        let x = lanes_at(x, start);
        for lane in 0..LANES {
            sums[0][lane] += w * (mean[lane] - x[lane]);
        }
    }
    std::array::from_fn(|lane| (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]))
}

/// The numbers from `start` on.
#[inline(always)]
fn lanes_at(values: &[f32], start: usize) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes.copy_from_slice(&values[start..start + LANES]);
    lanes
}

/// `to = s · z` and `sums_k −= Σ_r s_r z_{k,r}`: `to` and `z: [K, rows]`, `seed: [rows]`, `sums: [K]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn scale_rows(to: &mut [f32], sums: &mut [f32], z: &[f32], seed: &[f32]) {
    let rows = seed.len();
    for ((to, z), total) in to.chunks_exact_mut(rows).zip(z.chunks_exact(rows)).zip(sums) {
        to.iter_mut().zip(z).zip(seed).for_each(|((to, z), s)| *to = z * s);
        let mut lanes = [0.0f32; LANES];
        let (blocks, rest) = to.as_chunks::<LANES>();
        for block in blocks {
            for lane in 0..LANES {
                lanes[lane] += block[lane];
            }
        }
        *total -= sum(lanes) + rest.iter().sum::<f32>();
    }
}
