//! `swissroll`: the first and last coordinate of `make_swiss_roll(noise = 1)/5`: `x = t (cos t, sin t)/5 + .2 ξ` with t uniform in
//! [1.5π, 4.5π].
//!
//! The density is a quadrature along the roll (error 1e-8 of the peak).

use std::f64::consts::PI;

use super::curve::{Curve, Noise};
use super::shape::{Point, Shape};

const STD: f64 = 0.2;
const RANGE: (f64, f64) = (1.5 * PI, 4.5 * PI);

/// The roll.
#[derive(Debug)]
pub(super) struct Swissroll(Curve<Noise>);

fn place(t: f64) -> Point {
    let (sin, cos) = t.sin_cos();
    [t * cos / 5.0, t * sin / 5.0]
}

impl Swissroll {
    pub(super) fn new() -> Self {
        let density = |_| 1.0 / (RANGE.1 - RANGE.0);
        // |d/dt t e^{it}| = √(1 + t²)
        let speed = |t: f64| t.hypot(1.0) / 5.0;
        Self(Curve::new(Noise(STD)).add(RANGE, density, speed, place))
    }
}

impl Shape for Swissroll {
    fn masses(&self) -> Vec<f64> {
        vec![1.0]
    }

    fn point(&self, _label: u32, [u, ..]: [f64; 3], normal: Point) -> Point {
        let [x, y] = place(RANGE.0 + (RANGE.1 - RANGE.0) * u);
        [x + STD * normal[0], y + STD * normal[1]]
    }

    fn log_prob(&self, x: Point) -> f64 {
        self.0.log_prob(x)
    }
}
