//! Activations on `f32` slices with their derivatives: the CPU twin of [`Activation::forward`].
//!
//! `e^x` is Cephes' `expf` (Moshier 1989): `e^x = 2^n e^r`, `|r| ≤ ½ ln 2`, a polynomial of degree 6 in `r`. Plain loops without
//! branches, compiled for AVX2 and AVX-512 beside the baseline and picked at run time; no fused multiply-add, so that every
//! processor gives the same bits. Relative errors are 1·10⁻⁷ for `e^x`, 2·10⁻⁷ for SiLU and tanh, 3·10⁻⁷ for the others and for
//! slopes (the tests measure it). Values, slopes and signals below [`NEGLIGIBLE`] become 0: they count for nothing, but products of two of
//! them are subnormal numbers, which slow a processor down many times, and a network far from its data is full of them.

use multiversion::multiversion;

use super::activation::Activation;

/// A product of two numbers that are larger is a normal number.
pub(crate) const NEGLIGIBLE: f32 = 1.1e-19;

/// x, or 0 where it is [`NEGLIGIBLE`]. NaN stays NaN.
#[inline(always)]
pub(crate) fn settled(x: f32) -> f32 {
    if x.abs() < NEGLIGIBLE { 0.0 } else { x }
}

/// `e^x` between −87.3 and 88, where it is a normal number; beyond, its value there. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to an integer, kept in the low bits
    let x = x.clamp(-87.3, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut p = 1.987_569_2e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 0.166_666_65;
    p = p * r + 0.5;
    let y = (p * (r * r) + r) + 1.0;
    y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// `(σ(x) x, its derivative)`.
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let e = exp(-x);
    let sigma = 1.0 / (1.0 + e);
    let value = x * sigma;
    // σ (1 + x (1 − σ)), 1 − σ = e σ
    (value, sigma + value * (e * sigma))
}

/// `(tanh x, 1 − tanh² x)`.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> (f32, f32) {
    let e = exp(-2.0 * x.abs());
    let inverse = 1.0 / (1.0 + e);
    let far = ((1.0 - e) * inverse).copysign(x);
    // Near 0, Cephes' tanhf: 1 − e would lose digits.
    let s = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * s + 2.063_908_8e-2;
    p = p * s - 5.373_971_5e-2;
    p = p * s + 0.133_314_42;
    p = p * s - 0.333_332_8;
    let near = p * s * x + x;
    if x.abs() < 0.625 { (near, 1.0 - near * near) } else { (far, 4.0 * e * inverse * inverse) }
}

/// `(log(1 + e^x), σ(x))`.
#[inline(always)]
pub(crate) fn softplus(x: f32) -> (f32, f32) {
    let e = exp(-x.abs());
    // log(1 + e) = 2 artanh(s), s = e / (2 + e) ≤ ⅓
    let s = e / (2.0 + e);
    let s2 = s * s;
    let mut p = 1.0 / 15.0;
    for odd in [13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = p * s2 + 1.0 / odd;
    }
    let inverse = 1.0 / (1.0 + e);
    (x.max(0.0) + 2.0 * s * p, if x < 0.0 { e * inverse } else { inverse })
}

/// `(x Φ(x), Φ(x) + x φ(x))`: in f64 with Numerical Recipes' `erfcc`, relative error 1.2·10⁻⁷.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> (f32, f32) {
    const ERFC: [f64; 9] = [
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let x = f64::from(x);
    let z = x.abs() * std::f64::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let polynomial = ERFC.iter().rev().fold(0.0, |p, c| p * t + c);
    let half_erfc = 0.5 * t * (-z * z - 1.26551223 + t * polynomial).exp();
    let cdf = if x < 0.0 { half_erfc } else { 1.0 - half_erfc };
    let pdf = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    ((x * cdf) as f32, (cdf + x * pdf) as f32)
}

/// `max(x, slope x)` for a slope in [0, 1). A NaN stays one.
#[inline(always)]
fn leaky(x: f32, slope: f32) -> (f32, f32) {
    (if x < 0.0 { slope * x } else { x }, if x < 0.0 { slope } else { 1.0 })
}

/// `max(x, 0)` with derivative 0 at 0.
#[inline(always)]
fn relu(x: f32) -> (f32, f32) {
    (if x <= 0.0 { 0.0 } else { x }, if x <= 0.0 { 0.0 } else { 1.0 })
}

#[inline(always)]
fn map(z: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    for z in z {
        *z = settled(f(*z).0);
    }
}

#[inline(always)]
fn map_pair(z: &mut [f32], slope: &mut [f32], f: impl Fn(f32) -> (f32, f32)) {
    for (z, slope) in z.iter_mut().zip(slope) {
        let (value, rise) = f(*z);
        (*z, *slope) = (settled(value), settled(rise));
    }
}

/// `z ← a(z + b)`, `z: [bias.len(), rows]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn activate_biased(activation: Activation, z: &mut [f32], bias: &[f32], rows: usize) {
    for (z, &b) in z.chunks_exact_mut(rows).zip(bias) {
        match activation {
            Activation::Silu => map(z, |x| silu(x + b)),
            Activation::Tanh => map(z, |x| tanh(x + b)),
            Activation::Softplus => map(z, |x| softplus(x + b)),
            Activation::Gelu => map(z, |x| gelu(x + b)),
            Activation::Relu => map(z, |x| relu(x + b)),
            Activation::LeakyRelu => map(z, |x| leaky(x + b, 0.2)),
        }
    }
}

/// `slope ← a′(z + b)`, `z ← a(z + b)`, both `[bias.len(), rows]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn activate_biased_with_slope(
    activation: Activation,
    z: &mut [f32],
    slope: &mut [f32],
    bias: &[f32],
    rows: usize,
) {
    for ((z, slope), &b) in z.chunks_exact_mut(rows).zip(slope.chunks_exact_mut(rows)).zip(bias) {
        match activation {
            Activation::Silu => map_pair(z, slope, |x| silu(x + b)),
            Activation::Tanh => map_pair(z, slope, |x| tanh(x + b)),
            Activation::Softplus => map_pair(z, slope, |x| softplus(x + b)),
            Activation::Gelu => map_pair(z, slope, |x| gelu(x + b)),
            Activation::Relu => map_pair(z, slope, |x| relu(x + b)),
            Activation::LeakyRelu => map_pair(z, slope, |x| leaky(x + b, 0.2)),
        }
    }
}

/// `z ← a(z)`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn activate(activation: Activation, z: &mut [f32]) {
    match activation {
        Activation::Silu => map(z, silu),
        Activation::Tanh => map(z, tanh),
        Activation::Softplus => map(z, softplus),
        Activation::Gelu => map(z, gelu),
        Activation::Relu => map(z, relu),
        Activation::LeakyRelu => map(z, |x| leaky(x, 0.2)),
    }
}

/// `slope ← a′(z)`, `z ← a(z)`; both of one length.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn activate_with_slope(activation: Activation, z: &mut [f32], slope: &mut [f32]) {
    match activation {
        Activation::Silu => map_pair(z, slope, silu),
        Activation::Tanh => map_pair(z, slope, tanh),
        Activation::Softplus => map_pair(z, slope, softplus),
        Activation::Gelu => map_pair(z, slope, gelu),
        Activation::Relu => map_pair(z, slope, relu),
        Activation::LeakyRelu => map_pair(z, slope, |x| leaky(x, 0.2)),
    }
}

/// Adds `bias: [out]` to every row of `z: [rows, out]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn add_bias(z: &mut [f32], bias: &[f32]) {
    for row in z.chunks_exact_mut(bias.len()) {
        add_assign(row, bias);
    }
}

/// Adds every row of `z: [rows, out]` to `sum: [out]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn add_rows(sum: &mut [f32], z: &[f32]) {
    for row in z.chunks_exact(sum.len()) {
        add_assign(sum, row);
    }
}

/// `to ← a · b`, element by element.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn multiply(to: &mut [f32], a: &[f32], b: &[f32]) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to = a * b;
    }
}

/// `to *= from`, element by element.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn multiply_by(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = settled(*to * from);
    }
}

/// `to = factor · from`, element by element.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn scale_by(to: &mut [f32], from: &[f32], factor: f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = settled(factor * from);
    }
}

/// `to_j += Σ_r z_{j,r}`, `z: [coordinates, rows]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn add_row_sums(to: &mut [f32], z: &[f32], rows: usize) {
    const LANES: usize = 16;
    for (to, z) in to.iter_mut().zip(z.chunks_exact(rows)) {
        let mut lanes = [0.0f32; LANES];
        let blocks = z.chunks_exact(LANES);
        let rest: f32 = blocks.remainder().iter().sum();
        for block in blocks {
            for (lane, z) in lanes.iter_mut().zip(block) {
                *lane += z;
            }
        }
        *to += lanes.iter().sum::<f32>() + rest;
    }
}

/// `|x|²`, in f64 until the end.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn square_norm(x: &[f32]) -> f32 {
    let mut lanes = [0.0f64; 8];
    let blocks = x.chunks_exact(lanes.len());
    let rest: f64 = blocks.remainder().iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    for block in blocks {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane += f64::from(x) * f64::from(x);
        }
    }
    (lanes.iter().sum::<f64>() + rest) as f32
}

/// `to += from`, element by element.
#[inline(always)]
pub(crate) fn add_assign(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 6] = [
        Activation::Silu,
        Activation::Tanh,
        Activation::Softplus,
        Activation::Gelu,
        Activation::Relu,
        Activation::LeakyRelu,
    ];

    /// The largest `|found − exact| / |exact|` over a grid of [−range, range].
    fn worst(range: f64, found: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        (-40_000..=40_000)
            .map(|i| (f64::from(i) / 40_000.0 * range) as f32)
            .filter(|&x| x != 0.0)
            .map(|x| {
                let exact = exact(f64::from(x));
                (f64::from(found(x)) - exact).abs() / exact.abs()
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn functions_and_slopes_are_accurate() {
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let found = [
            ("exp", 1e-7, worst(80.0, exp, f64::exp)),
            ("silu", 2e-7, worst(80.0, |x| silu(x).0, |x| x * sigma(x))),
            ("tanh", 2e-7, worst(20.0, |x| tanh(x).0, f64::tanh)),
            ("tanh'", 3e-7, worst(20.0, |x| tanh(x).1, |x| x.cosh().powi(-2))),
            ("softplus", 3e-7, worst(80.0, |x| softplus(x).0, |x| x.exp().ln_1p())),
            ("softplus'", 3e-7, worst(80.0, |x| softplus(x).1, sigma)),
        ];
        for (name, tolerance, worst) in found {
            println!("{name}: {worst:.2e}");
            assert!(worst <= tolerance, "{name}: {worst:.2e}");
        }
        // The slope of SiLU crosses 0 near −1.28: an absolute error, of a function of size 1.
        let slope = |x: f64| sigma(x) * (1.0 + x * sigma(-x));
        for i in -8000..=8000 {
            let x = i as f32 / 100.0;
            let error = (f64::from(silu(x).1) - slope(f64::from(x))).abs();
            assert!(error <= 3e-7, "silu' at {x}: {error:.2e}");
        }
    }

    #[test]
    fn gelu_is_the_gaussian_cdf_times_x() {
        // Φ at 0, 1, −1, 2, −3 (Abramowitz and Stegun, table 26.1).
        for (x, cdf) in [
            (0.0, 0.5),
            (1.0, 0.841_344_746),
            (-1.0, 0.158_655_254),
            (2.0, 0.977_249_868),
            (-3.0, 0.001_349_898),
        ] {
            let exact = f64::from(x) * cdf;
            assert!((f64::from(gelu(x).0) - exact).abs() <= 2e-7 * exact.abs(), "gelu at {x}");
            let h = 1e-2f32;
            let difference = f64::from(gelu(x + h).0 - gelu(x - h).0) / f64::from((x + h) - (x - h));
            assert!((f64::from(gelu(x).1) - difference).abs() <= 1e-4, "gelu' at {x}");
        }
    }

    /// Whatever a layer sees, products of its values, slopes and signals are normal numbers or 0.
    #[test]
    fn products_are_never_subnormal() {
        for activation in ALL {
            let mut z: Vec<f32> = (-4000..=4000).map(|i| 0.05 * i as f32).collect();
            let mut slope = vec![0.0; z.len()];
            activate_with_slope(activation, &mut z, &mut slope);
            let mut signal = slope.clone();
            multiply_by(&mut signal, &z);
            for numbers in [&z, &slope, &signal] {
                let smallest = numbers.iter().map(|x| x.abs()).filter(|&x| x > 0.0).fold(1.0, f32::min);
                assert!((smallest * smallest).is_normal(), "{activation:?}: {smallest:e}");
            }
        }
        assert!(settled(f32::NAN).is_nan() && settled(-2e-19) == -2e-19);
    }

    #[test]
    fn nothing_hides_a_nan() {
        for activation in ALL {
            let mut z = [f32::NAN, 1.0, -1.0];
            activate(activation, &mut z);
            assert!(z[0].is_nan() && z[1].is_finite() && z[2].is_finite(), "{activation:?}: {z:?}");
        }
    }
}
