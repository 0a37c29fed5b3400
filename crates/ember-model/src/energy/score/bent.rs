//! Activations with three derivatives, and the element-wise steps of `form.rs`: plain loops without branches, as in `elementwise.rs`.

use multiversion::multiversion;

use super::super::activation::Activation;
use super::super::elementwise::{self, exp, settled, tanh};

/// `a, a′, a″, a‴`.
type Bent = (f32, f32, f32, f32);

/// With `s = σ(x)`, `q = 1 − 2s`: `a″ = s (1 − s) (2 + x q)`, `a‴ = s (1 − s) (3q + x (q² − 2 s (1 − s)))`.
#[inline(always)]
fn silu(x: f32) -> Bent {
    let e = exp(-x);
    let sigma = 1.0 / (1.0 + e);
    let rest = e * sigma;
    let (value, both, q) = (x * sigma, sigma * rest, rest - sigma);
    let third = both * (3.0 * q + x * (q * q - 2.0 * both));
    (value, sigma + value * rest, both * (2.0 + x * q), third)
}

/// `a″ = −2 a a′`, `a‴ = a′ (6a² − 2)`.
#[inline(always)]
fn tanh_bent(x: f32) -> Bent {
    let (value, slope) = tanh(x);
    (value, slope, -2.0 * value * slope, slope * (6.0 * value * value - 2.0))
}

/// `a′ = s`, `a″ = s (1 − s)`, `a‴ = s (1 − s) (1 − 2s)`.
#[inline(always)]
fn softplus(x: f32) -> Bent {
    let (value, sigma) = elementwise::softplus(x);
    let e = exp(-x.abs());
    let inverse = 1.0 / (1.0 + e);
    let rest = if x < 0.0 { inverse } else { e * inverse };
    let both = sigma * rest;
    (value, sigma, both, both * (rest - sigma))
}

/// `a″ = φ (2 − x²)`, `a‴ = x φ (x² − 4)`.
#[inline(always)]
fn gelu(x: f32) -> Bent {
    let (value, slope) = elementwise::gelu(x);
    let square = x * x;
    let density = exp(-0.5 * square) * 0.398_942_3;
    (value, slope, density * (2.0 - square), x * density * (square - 4.0))
}

#[inline(always)]
fn kinked(x: f32, slope: f32) -> Bent {
    if x <= 0.0 { (slope * x, slope, 0.0, 0.0) } else { (x, 1.0, 0.0, 0.0) }
}

/// What an activation leaves of one layer, `[width, rows]` each: `a` and its three derivatives.
pub(in crate::energy) struct Bends<'a> {
    pub value: &'a mut [f32],
    pub slope: &'a mut [f32],
    pub second: &'a mut [f32],
    pub third: &'a mut [f32],
}

#[inline(always)]
fn map(bends: &mut Bends<'_>, bias: &[f32], rows: usize, f: impl Fn(f32) -> Bent) {
    let parts = bends.value.chunks_exact_mut(rows).zip(bends.slope.chunks_exact_mut(rows));
    let parts = parts.zip(bends.second.chunks_exact_mut(rows)).zip(bends.third.chunks_exact_mut(rows));
    for ((((value, slope), second), third), &b) in parts.zip(bias) {
        for (((value, slope), second), third) in value.iter_mut().zip(slope).zip(second).zip(third) {
            let (a, a1, a2, a3) = f(*value + b);
            (*value, *slope, *second, *third) = (settled(a), settled(a1), settled(a2), settled(a3));
        }
    }
}

/// Puts `a(z + b)` and its derivatives where `z` was and beside it.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(in crate::energy) fn activate(activation: Activation, bends: &mut Bends<'_>, bias: &[f32], rows: usize) {
    match activation {
        Activation::Silu => map(bends, bias, rows, silu),
        Activation::Tanh => map(bends, bias, rows, tanh_bent),
        Activation::Softplus => map(bends, bias, rows, softplus),
        Activation::Gelu => map(bends, bias, rows, gelu),
        Activation::Relu => map(bends, bias, rows, |x| kinked(x, 0.0)),
        Activation::LeakyRelu => map(bends, bias, rows, |x| kinked(x, 0.2)),
    }
}

/// From `P = above`: `δ = P a′`, `κ = P a″`, `τ = P a‴` (over a‴).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn signals(
    above: &[f32],
    slope: &[f32],
    second: &[f32],
    third: &mut [f32],
    delta: &mut [f32],
    kappa: &mut [f32],
) {
    for (((((p, a), b), c), delta), kappa) in
        above.iter().zip(slope).zip(second).zip(third).zip(delta).zip(kappa)
    {
        *delta = settled(p * a);
        *kappa = settled(p * b);
        *c = settled(*c * p);
    }
}

/// A direction through an activation: `z₁` stays, `h₁ = a′ z₁`, `Σ_s z₁²` grows.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn along(first: &[f32], slope: &[f32], out: &mut [f32], squares: &mut [f32]) {
    for (((z, a), h), square) in first.iter().zip(slope).zip(out).zip(squares) {
        *h = settled(a * z);
        *square += z * z;
    }
}

/// A direction's way back from `P₁ = above`: `dz₁ = P₁ a′ − 2c κ z₁` over `z₁`, and `Σ_s P₁ z₁` grows.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn back_along(
    first: &mut [f32],
    above: &[f32],
    slope: &[f32],
    kappa: &[f32],
    crossed: &mut [f32],
    c: f32,
) {
    for ((((z, p), a), kappa), crossed) in first.iter_mut().zip(above).zip(slope).zip(kappa).zip(crossed) {
        *crossed += p * *z;
        *z = settled(p * a - 2.0 * c * kappa * *z);
    }
}

/// The same below no other layer, where `P₁ = 0`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn back_from_top(first: &mut [f32], kappa: &[f32], c: f32) {
    for (z, kappa) in first.iter_mut().zip(kappa) {
        *z = settled(-2.0 * c * kappa * *z);
    }
}

/// The merged stream without directions: `m = a′ z`, and `κ z` over `z`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn merge(z: &mut [f32], slope: &[f32], kappa: &[f32], out: &mut [f32]) {
    for (((z, a), kappa), m) in z.iter_mut().zip(slope).zip(kappa).zip(out) {
        *m = settled(a * *z);
        *z = settled(kappa * *z);
    }
}

/// What the directions left of one layer.
pub(super) struct Directed<'a> {
    /// a″.
    pub second: &'a [f32],
    /// τ = P a‴.
    pub tau: &'a [f32],
    /// `Σ_s z₁²`.
    pub squares: &'a [f32],
    /// `Σ_s P₁ z₁`.
    pub crossed: &'a [f32],
}

/// Adds their part: `m −= c a″ Σ z₁²`, and `a″ Σ P₁ z₁ − c τ Σ z₁²` to what [`merge`] left in `z`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_directed(z: &mut [f32], out: &mut [f32], directed: &Directed<'_>, c: f32) {
    let parts = directed.second.iter().zip(directed.tau).zip(directed.squares).zip(directed.crossed);
    for ((z, m), (((second, tau), square), crossed)) in z.iter_mut().zip(out).zip(parts) {
        *m = settled(*m - c * second * square);
        *z = settled(*z + second * crossed - c * tau * square);
    }
}

/// `z += Q a′`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_product_of(z: &mut [f32], above: &[f32], slope: &[f32]) {
    for ((z, q), a) in z.iter_mut().zip(above).zip(slope) {
        *z = settled(*z + q * a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each derivative is the slope of the one before.
    #[test]
    fn derivatives_are_slopes_of_each_other() {
        let functions: [fn(f32) -> Bent; 4] = [silu, tanh_bent, softplus, gelu];
        for (name, f) in ["silu", "tanh", "softplus", "gelu"].into_iter().zip(functions) {
            for i in -60..=60 {
                let (x, h) = (i as f32 * 0.1 + 0.03, 4e-3f32);
                let (low, middle, high) = (f(x - h), f(x), f(x + h));
                let width = f64::from((x + h) - (x - h));
                let pairs = [(high.0, low.0, middle.1), (high.1, low.1, middle.2), (high.2, low.2, middle.3)];
                for (order, (high, low, found)) in pairs.into_iter().enumerate() {
                    let slope = (f64::from(high) - f64::from(low)) / width;
                    let error = (slope - f64::from(found)).abs();
                    assert!(error < 6e-4, "{name}, derivative {} at {x}: {found} vs {slope}", order + 1);
                }
            }
        }
    }
}
