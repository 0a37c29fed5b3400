//! A law of the plane as its file writes it: a point from a label and five random numbers, and the density.

use std::fmt::Debug;
use std::sync::Arc;

use ember_model::random::Stream;

use crate::dataset::truth::{Law, Modes, Truth};

/// A point of the plane.
pub(super) type Point = [f64; 2];

/// One set of the plane.
pub(super) trait Shape: Debug + Send + Sync + 'static {
    /// The mass of each label, summing to 1.
    fn masses(&self) -> Vec<f64>;

    /// The sample of a label from uniform numbers in [0, 1) and standard normals.
    fn point(&self, label: u32, uniform: [f64; 3], normal: Point) -> Point;

    /// `log ρ*(x)`.
    fn log_prob(&self, x: Point) -> f64;

    /// How a point is told to be of a label's mode, where it can be.
    fn modes(&self) -> Option<Modes> {
        None
    }
}

/// The law of a shape with its masses and modes.
pub(super) fn truth(shape: impl Shape) -> Truth {
    let (masses, modes) = (shape.masses(), shape.modes());
    Truth::new(Arc::new(Planar(shape)), masses, modes)
}

#[derive(Debug)]
struct Planar<S>(S);

impl<S: Shape> Law for Planar<S> {
    fn dim(&self) -> usize {
        2
    }

    fn log_prob(&self, x: &[f64]) -> f64 {
        self.0.log_prob([x[0], x[1]])
    }

    /// Labels, uniform numbers, normals.
    fn lanes(&self) -> u32 {
        3
    }

    fn draw(&self, count: usize, stream: Stream, first: u32) -> (Vec<f32>, Vec<u32>) {
        let labels = stream.lane(first).categorical(count, &self.0.masses());
        let uniforms = stream.lane(first + 1).uniforms(count, 3);
        let normals = stream.lane(first + 2).normals(count, 2);
        let numbers = uniforms.chunks_exact(3).zip(normals.chunks_exact(2));
        let point = |(&label, (u, n)): (&u32, (&[f32], &[f32]))| {
            let point = self.0.point(label, [u[0], u[1], u[2]].map(f64::from), [n[0], n[1]].map(f64::from));
            point.map(|x| x as f32)
        };
        (labels.iter().zip(numbers).flat_map(point).collect(), labels)
    }
}

/// Terms this many nats below the largest, a factor of 1e-13, are passed over.
pub(super) const NEGLIGIBLE: f64 = 30.0;

/// `log Σ e^t` of terms that come one after another.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogSum {
    max: f64,
    sum: f64,
}

impl LogSum {
    pub(super) fn new() -> Self {
        Self { max: f64::NEG_INFINITY, sum: 0.0 }
    }

    pub(super) fn add(&mut self, term: f64) {
        if term > self.max {
            self.sum = self.sum * (self.max - term).exp() + 1.0;
            self.max = term;
        } else if term > self.max - NEGLIGIBLE {
            self.sum += (term - self.max).exp();
        }
    }

    pub(super) fn value(self) -> f64 {
        self.max + self.sum.ln()
    }
}
