//! Loops over one block of rows, coordinate by coordinate: `[coordinates, rows]`.

use multiversion::multiversion;

use crate::energy::elementwise::{exp, tanh};

/// Data to latent: `z = (x − t) e^{−s}`, `s = b tanh(r/b)`, and `log_det −= Σ_j s_j`.
///
/// `x` becomes z; `raw`, r, becomes `tanh′(r/b)` and `shift`, t, becomes `e^{−s}`: what [`pull_back`] needs.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn to_latent(bound: f32, raw: &mut [f32], shift: &mut [f32], x: &mut [f32], log_det: &mut [f64]) {
    let rows = log_det.len();
    let numbers = raw.chunks_exact_mut(rows).zip(shift.chunks_exact_mut(rows)).zip(x.chunks_exact_mut(rows));
    for ((raw, shift), x) in numbers {
        for (((raw, shift), x), log_det) in raw.iter_mut().zip(shift).zip(x).zip(&mut *log_det) {
            let (value, slope) = tanh(*raw / bound);
            let s = value * bound;
            let scale = exp(-s);
            *x = (*x - *shift) * scale;
            (*raw, *shift) = (slope, scale);
            *log_det -= f64::from(s);
        }
    }
}

/// Latent to data: `x = z e^s + t`, `log_det += Σ_j s_j`. `z` becomes x.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn to_data(bound: f32, raw: &[f32], shift: &[f32], z: &mut [f32], log_det: &mut [f64]) {
    let rows = log_det.len();
    let numbers = raw.chunks_exact(rows).zip(shift.chunks_exact(rows)).zip(z.chunks_exact_mut(rows));
    for ((raw, shift), z) in numbers {
        for (((&raw, shift), z), log_det) in raw.iter().zip(shift).zip(z).zip(&mut *log_det) {
            let s = tanh(raw / bound).0 * bound;
            *z = *z * exp(s) + shift;
            *log_det += f64::from(s);
        }
    }
}

/// Back through [`to_latent`]: of a loss with gradient `grad` in z and `weight` in `−log_det`,
/// `∂x = ∂z e^{−s}`, `∂t = −∂z e^{−s}`, `∂r = (w − ∂z z) tanh′(r/b)`.
///
/// `slope` becomes ∂r, `scale` ∂t, `grad` ∂x.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn pull_back(slope: &mut [f32], scale: &mut [f32], grad: &mut [f32], z: &[f32], weight: &[f32]) {
    let rows = weight.len();
    let numbers = slope.chunks_exact_mut(rows).zip(scale.chunks_exact_mut(rows));
    for (((slope, scale), grad), z) in numbers.zip(grad.chunks_exact_mut(rows)).zip(z.chunks_exact(rows)) {
        for ((((slope, scale), grad), z), w) in slope.iter_mut().zip(scale).zip(grad).zip(z).zip(weight) {
            *slope *= w - *grad * z;
            *grad *= *scale;
            *scale = -*grad;
        }
    }
}

/// `to_r += Σ_j z_{j,r}²`, `z: [coordinates, rows]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_squares(to: &mut [f64], z: &[f32]) {
    for z in z.chunks_exact(to.len()) {
        for (to, &z) in to.iter_mut().zip(z) {
            *to += f64::from(z) * f64::from(z);
        }
    }
}

/// `Σ_r a_r b_r`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
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
