//! Group norm of one image `[h·w, c]`, and what else is done channel by channel.
//!
//! With `x̂ = (x − mean)/√(var + ε)` over a group of N numbers, `z = s x̂ + t` and `δ = ∂/∂z`:
//! `∂t = Σ δ`, `∂s = Σ δ x̂` over pixels, `∂x = (s δ − Σ s δ/N − x̂ Σ s δ x̂/N)/√(var + ε)`. Sums are in f64.

use multiversion::multiversion;

use super::EPSILON;

/// Group norm, and where its scales stand in θ; its shifts follow.
#[derive(Debug)]
pub(super) struct GroupNorm {
    pub channels: usize,
    groups: usize,
    pub scale: usize,
}

impl GroupNorm {
    /// The norm whose scales come at `next`.
    pub fn new(next: &mut usize, channels: usize, groups: usize) -> Self {
        let scale = *next;
        *next += 2;
        Self { channels, groups, scale }
    }

    /// `x̂` of an image, and `1/√(var + ε)` of each channel.
    pub fn normalise(&self, x: &[f32], normalised: &mut [f32], inverse: &mut [f32]) {
        let mut sums = vec![0.0; self.channels];
        add_channels(&mut sums, x);
        let means = self.group_means(&sums, x.len());
        subtract(normalised, x, &means.map(|mean| mean as f32).collect::<Vec<_>>());
        sums.fill(0.0);
        add_products(&mut sums, normalised, normalised);
        for (inverse, variance) in inverse.iter_mut().zip(self.group_means(&sums, x.len())) {
            *inverse = (1.0 / (variance + EPSILON).sqrt()) as f32;
        }
        multiply_channels(normalised, inverse);
    }

    /// `δ` of an image to `∂x`. `sums`, `[2, c]`: the image's part of `∂t`, and that of `∂s`.
    pub fn backward(
        &self,
        scale: &[f32],
        signal: &mut [f32],
        normalised: &[f32],
        inverse: &[f32],
        sums: &mut [f32],
    ) {
        let mut found = [vec![0.0; self.channels], vec![0.0; self.channels]];
        add_channels(&mut found[0], signal);
        add_products(&mut found[1], signal, normalised);
        let means = found.map(|found| {
            let scaled: Vec<f64> = found.iter().zip(scale).map(|(sum, &s)| sum * f64::from(s)).collect();
            let means: Vec<f32> = self.group_means(&scaled, signal.len()).map(|mean| mean as f32).collect();
            (found, means)
        });
        for (to, (found, _)) in sums.chunks_exact_mut(self.channels).zip(&means) {
            to.iter_mut().zip(found).for_each(|(to, &sum)| *to = sum as f32);
        }
        differentiate(signal, normalised, scale, inverse, [&means[0].1, &means[1].1]);
    }

    /// The mean over its group for each channel, from sums over the pixels of an image of `numbers`.
    fn group_means(&self, sums: &[f64], numbers: usize) -> impl Iterator<Item = f64> {
        let (size, len) = (self.channels / self.groups, (numbers / self.groups) as f64);
        sums.chunks_exact(size)
            .flat_map(move |sums| std::iter::repeat_n(sums.iter().sum::<f64>() / len, size))
    }
}

/// `sums_c += Σ_p x_{p,c}`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn add_channels(sums: &mut [f64], x: &[f32]) {
    for x in x.chunks_exact(sums.len()) {
        for (sum, &x) in sums.iter_mut().zip(x) {
            *sum += f64::from(x);
        }
    }
}

/// `sums_c += Σ_p a_{p,c} b_{p,c}`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn add_products(sums: &mut [f64], a: &[f32], b: &[f32]) {
    for (a, b) in a.chunks_exact(sums.len()).zip(b.chunks_exact(sums.len())) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
}

/// `to = x − means`, channel by channel.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn subtract(to: &mut [f32], x: &[f32], means: &[f32]) {
    for (to, x) in to.chunks_exact_mut(means.len()).zip(x.chunks_exact(means.len())) {
        for ((to, x), mean) in to.iter_mut().zip(x).zip(means) {
            *to = x - mean;
        }
    }
}

/// `z *= factors`, channel by channel.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn multiply_channels(z: &mut [f32], factors: &[f32]) {
    for z in z.chunks_exact_mut(factors.len()) {
        for (z, factor) in z.iter_mut().zip(factors) {
            *z *= factor;
        }
    }
}

/// `to = scale · x̂ + shift`, channel by channel.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(super) fn scale_and_shift(to: &mut [f32], normalised: &[f32], scale: &[f32], shift: &[f32]) {
    for (to, x) in to.chunks_exact_mut(scale.len()).zip(normalised.chunks_exact(scale.len())) {
        for (((to, x), scale), shift) in to.iter_mut().zip(x).zip(scale).zip(shift) {
            *to = x * scale + shift;
        }
    }
}

/// `δ ← (s δ − m₀ − x̂ m₁) · inverse`, channel by channel.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn differentiate(signal: &mut [f32], normalised: &[f32], scale: &[f32], inverse: &[f32], means: [&[f32]; 2]) {
    for (signal, x) in signal.chunks_exact_mut(scale.len()).zip(normalised.chunks_exact(scale.len())) {
        let channels = scale.iter().zip(inverse).zip(means[0]).zip(means[1]);
        for ((signal, x), (((scale, inverse), mean), slope)) in signal.iter_mut().zip(x).zip(channels) {
            *signal = (scale * *signal - mean - x * slope) * inverse;
        }
    }
}
