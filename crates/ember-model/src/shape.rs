//! The shape of one sample.

use std::fmt;

use crate::random::{Stream, normal_pair};

/// The shape of one sample; positions are stored flat, `[walkers, dim]`, in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleShape {
    /// A vector of `dim` coordinates.
    Flat(usize),
    /// An image: channels, height, width (row-major, channel first).
    Image([usize; 3]),
}

impl SampleShape {
    /// Coordinates of one sample; of sides that nobody has checked yet, no more than a number holds.
    pub fn dim(&self) -> usize {
        match *self {
            Self::Flat(dim) => dim,
            Self::Image([c, h, w]) => c.saturating_mul(h).saturating_mul(w),
        }
    }
}

impl fmt::Display for SampleShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat(dim) => write!(f, "[{dim}]"),
            Self::Image([c, h, w]) => write!(f, "[{c}, {h}, {w}]"),
        }
    }
}

/// Where a model's density lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Support {
    /// All of `ℝ^d`.
    #[default]
    Unbounded,
    /// The cube `[−1, 1]^d`, the range of pixels.
    Cube,
}

impl Support {
    /// Whether a point lies in it; one with a coordinate that is not a number lies in none but all of `ℝ^d`.
    pub fn contains(self, x: &[f32]) -> bool {
        match self {
            Self::Unbounded => true,
            Self::Cube => x.iter().all(|x| x.abs() <= 1.0),
        }
    }

    /// The part of `(low, high)` that one coordinate can be in: all of the coordinate's range where they do not meet.
    pub fn meet(self, (low, high): (f64, f64)) -> (f64, f64) {
        match self {
            Self::Unbounded => (low, high),
            Self::Cube if low < 1.0 && high > -1.0 => (low.max(-1.0), high.min(1.0)),
            Self::Cube => (-1.0, 1.0),
        }
    }

    /// `log ∫ e^{−½ c x²} dx` of one coordinate over the support.
    pub fn gaussian_log_z(self, precision: f64) -> f64 {
        match self {
            // ½ ln(2π/c)
            Self::Unbounded => 0.5 * (2.0 * std::f64::consts::PI / precision).ln(),
            Self::Cube => {
                // Simpson's rule on [0, 1], twice; the integrand is smooth, and flat beyond a few standard deviations.
                let end = 1f64.min(12.0 / precision.sqrt());
                let cells = 4_000;
                let step = end / f64::from(cells);
                let f = |i: i32| (-0.5 * precision * (f64::from(i) * step).powi(2)).exp();
                let inner: f64 = (1..cells).map(|i| if i % 2 == 1 { 4.0 * f(i) } else { 2.0 * f(i) }).sum();
                (2.0 * step / 3.0 * (f(0) + inner + f(cells))).ln()
            }
        }
    }

    /// Draws of the density `∝ e^{−½ c |x|²}` on the support, row-major `[count, dim]`: exact, on the cube by rejection, so that
    /// attempt t of every coordinate uses the numbers of `stream` at step t.
    pub fn gaussian_draws(self, dim: usize, precision: f64, count: usize, stream: Stream) -> Vec<f32> {
        let std = precision.sqrt().recip() as f32;
        if self == Self::Unbounded {
            let mut draws = stream.normals(count, dim);
            draws.iter_mut().for_each(|z| *z *= std);
            return draws;
        }
        let mut draws = Vec::with_capacity(count * dim);
        for walker in 0..count {
            for coordinate in 0..dim {
                draws.push(cut_gaussian(precision, |attempt| {
                    stream.attempt(attempt).bits(coordinate as u32, walker as u32)
                }));
            }
        }
        draws
    }
}

/// One draw of `∝ e^{−½ c x²}` on `[−1, 1]`: from the Gaussian itself where that mostly lies inside, else from the uniform.
fn cut_gaussian(precision: f64, words: impl Fn(u32) -> [u32; 4]) -> f32 {
    let wide = precision < 2.0;
    let mut attempt = 0;
    loop {
        let [a, b, ..] = words(attempt);
        let x = if wide {
            let x = 2.0 * f64::from(a) * (-32f64).exp2() - 1.0;
            // accepted with probability e^{−½ c x²} ≥ e^{−1}
            let kept = f64::from(b) * (-32f64).exp2() < (-0.5 * precision * x * x).exp();
            if kept { x } else { f64::NAN }
        } else {
            f64::from(normal_pair(a, b)[0]) / precision.sqrt()
        };
        if x.abs() <= 1.0 {
            return x as f32;
        }
        attempt += 1;
    }
}
