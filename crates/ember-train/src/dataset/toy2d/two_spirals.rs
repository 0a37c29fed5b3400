//! `2spirals`: `x = ±((−n cos n, n sin n) + .5 (u₁, u₂))/3 + .1 ξ` with `n = 3π √u₀`, the jitter u uniform in the unit square.
//!
//! n has the density `2n/(9π²)`. The jitter's square, of side 1/6, is convolved with the noise one coordinate at a time,
//! `k(d) = ∫_{−1/12}^{1/12} N(d − s; 0, .1²) 6 ds`, by the 8-point rule on quarters (error below 1e-8 of its value); log k is
//! tabulated and read by linear interpolation (error 5e-7). Along the arms by quadrature. In all the error is 1e-6 of the density's
//! logarithm near the arms, 2e-5 at 70 nats below the peak.

use std::f64::consts::{PI, TAU};

use super::curve::{Curve, Kernel, gauss_legendre};
use super::shape::{LogSum, Point, Shape};

const STD: f64 = 0.1;
/// Side of the jitter's square.
const SIDE: f64 = 0.5 / 3.0;
const RANGE: (f64, f64) = (0.0, 3.0 * PI);
/// The table of log k: its spacing and its last distance.
const SPACING: f64 = 2e-4;
const LAST: f64 = 4.0;

/// The arms.
#[derive(Debug)]
pub(super) struct TwoSpirals(Curve<Jitter>);

/// The arm of label 0 without jitter.
fn place(n: f64) -> Point {
    let (sin, cos) = n.sin_cos();
    [-n * cos / 3.0, n * sin / 3.0]
}

/// The other arm is the first one turned by π.
fn sign(label: u32) -> f64 {
    if label == 0 { 1.0 } else { -1.0 }
}

impl TwoSpirals {
    pub(super) fn new() -> Self {
        let density = |n: f64| n / (9.0 * PI * PI);
        let speed = |n: f64| n.hypot(1.0) / 3.0;
        let arm = |curve: Curve<Jitter>, label| {
            // The middle of the jitter's square.
            let middle = |n| place(n).map(|x| sign(label) * (x + 0.5 * SIDE));
            curve.add(RANGE, density, speed, middle)
        };
        Self([0, 1].into_iter().fold(Curve::new(Jitter::new()), arm))
    }
}

impl Shape for TwoSpirals {
    fn masses(&self) -> Vec<f64> {
        vec![0.5; 2]
    }

    fn point(&self, label: u32, [u, v, w]: [f64; 3], normal: Point) -> Point {
        let [x, y] = place(RANGE.1 * u.sqrt());
        let turned = |x: f64| sign(label) * x;
        [turned(x + SIDE * v) + STD * normal[0], turned(y + SIDE * w) + STD * normal[1]]
    }

    fn log_prob(&self, x: Point) -> f64 {
        self.0.log_prob(x)
    }
}

/// Uniform in a square around 0, plus noise.
#[derive(Debug)]
struct Jitter {
    /// log k at the multiples of [`SPACING`].
    log_k: Vec<f64>,
}

/// log k(d).
fn log_k(d: f64) -> f64 {
    let mut sum = LogSum::new();
    // By quarters: far outside, k falls off steeply from the edge of the square.
    let edge = |i: i32| 0.25 * SIDE * f64::from(i);
    for (s, weight) in (-2..2).flat_map(|i| gauss_legendre(edge(i), edge(i + 1))) {
        sum.add((weight / SIDE).ln() - 0.5 * ((d - s) / STD).powi(2));
    }
    sum.value() - 0.5 * (TAU * STD * STD).ln()
}

impl Jitter {
    fn new() -> Self {
        let count = (LAST / SPACING) as usize;
        Self { log_k: (0..=count + 1).map(|i| log_k(SPACING * i as f64)).collect() }
    }

    fn log_k(&self, d: f64) -> f64 {
        let d = d.abs();
        if d >= LAST {
            return log_k(d);
        }
        let place = d / SPACING;
        let (i, part) = (place as usize, place.fract());
        self.log_k[i] + part * (self.log_k[i + 1] - self.log_k[i])
    }
}

impl Kernel for Jitter {
    fn log_density(&self, d: Point) -> f64 {
        self.log_k(d[0]) + self.log_k(d[1])
    }

    fn std(&self) -> f64 {
        STD
    }

    /// Half a diagonal.
    fn reach(&self) -> f64 {
        SIDE * std::f64::consts::FRAC_1_SQRT_2
    }
}
