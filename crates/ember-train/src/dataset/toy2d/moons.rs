//! `moons`: `make_moons(noise = .1)·2 + (−1, −.2)`, two half circles of radius 2 with noise of σ = .2.
//!
//! Label 0 is the upper half circle around (−1, −.2), label 1 the lower one around (1, .8). The density is a quadrature along
//! both (error 1e-8 of the peak).

use std::f64::consts::PI;

use super::curve::{Curve, Noise};
use super::shape::{Point, Shape};

const STD: f64 = 0.2;
const RADIUS: f64 = 2.0;

/// The half circles.
#[derive(Debug)]
pub(super) struct Moons(Curve<Noise>);

/// The point at the angle t in [0, π] of a half circle.
fn place(label: u32, t: f64) -> Point {
    let (sin, cos) = t.sin_cos();
    if label == 0 {
        [RADIUS * cos - 1.0, RADIUS * sin - 0.2]
    } else {
        [1.0 - RADIUS * cos, 0.8 - RADIUS * sin]
    }
}

impl Moons {
    pub(super) fn new() -> Self {
        let density = |_| 0.5 / PI;
        let arc = |curve: Curve<Noise>, label| curve.add((0.0, PI), density, |_| RADIUS, |t| place(label, t));
        Self([0, 1].into_iter().fold(Curve::new(Noise(STD)), arc))
    }
}

impl Shape for Moons {
    fn masses(&self) -> Vec<f64> {
        vec![0.5; 2]
    }

    fn point(&self, label: u32, [u, ..]: [f64; 3], normal: Point) -> Point {
        let [x, y] = place(label, PI * u);
        [x + STD * normal[0], y + STD * normal[1]]
    }

    fn log_prob(&self, x: Point) -> f64 {
        self.0.log_prob(x)
    }
}
