//! `rings` and `circles`: `x = R_k (cos 2πu, sin 2πu) + σ ξ`.
//!
//! With r = |x|, `ρ*(x) = Σ_k w_k/(2πσ²) e^{−(r² + R_k²)/2σ²} I₀(r R_k/σ²)` (Rice): exact but for rounding.

use std::f64::consts::TAU;

use super::shape::{LogSum, Point, Shape};
use crate::dataset::truth::Modes;

/// Noisy circles around the origin, equal masses.
#[derive(Debug)]
pub(super) struct Rings {
    radii: Vec<f64>,
    std: f64,
}

impl Rings {
    pub(super) fn new(radii: &[f64], std: f64) -> Self {
        Self { radii: radii.to_vec(), std }
    }
}

impl Shape for Rings {
    fn masses(&self) -> Vec<f64> {
        vec![1.0 / self.radii.len() as f64; self.radii.len()]
    }

    fn point(&self, label: u32, [u, ..]: [f64; 3], normal: Point) -> Point {
        let (sin, cos) = (TAU * u).sin_cos();
        let radius = self.radii[label as usize];
        [radius * cos + self.std * normal[0], radius * sin + self.std * normal[1]]
    }

    fn log_prob(&self, x: Point) -> f64 {
        let (r, variance) = (x[0].hypot(x[1]), self.std * self.std);
        let mut sum = LogSum::new();
        for radius in &self.radii {
            // −(r² + R²)/2σ² + z = −(r − R)²/2σ² with z = rR/σ²
            sum.add(log_i0e(r * radius / variance) - 0.5 * (r - radius).powi(2) / variance);
        }
        sum.value() - (TAU * variance * self.radii.len() as f64).ln()
    }

    fn modes(&self) -> Option<Modes> {
        Some(Modes::Rings(self.radii.clone()))
    }
}

/// `log(e^{−z} I₀(z))` for z ≥ 0 (DLMF 10.25.2, 10.40.1).
fn log_i0e(z: f64) -> f64 {
    let (mut term, mut sum, mut k) = (1.0, 1.0, 1.0);
    if z < 30.0 {
        // I₀(z) = Σ (z²/4)^k / k!²: all terms are positive.
        while term > 1e-17 * sum {
            term *= 0.25 * z * z / (k * k);
            sum += term;
            k += 1.0;
        }
        return sum.ln() - z;
    }
    // e^{−z} I₀(z) ~ (2πz)^{−½} Σ ((2k−1)!!)² / (k! (8z)^k); its least term is below e^{−2z}.
    while term > 1e-17 * sum {
        term *= (2.0 * k - 1.0) * (2.0 * k - 1.0) / (8.0 * k * z);
        sum += term;
        k += 1.0;
    }
    sum.ln() - 0.5 * (TAU * z).ln()
}
