//! `pinwheel`: `f = (1 + .3 ξ₀, .1 ξ₁)`, turned by the angle `−(2πk/5 + ¼ e^{f₀})` of arm k, times 2.
//!
//! The density is a change of variables. Turning keeps `r = |f| = |x|/2`; with `f = r (cos α, sin α)` and φ the angle of x, the
//! preimages are the solutions α of `h(α) = α − ¼ e^{r cos α} = φ + 2πj/5`, one for each whole j (arms and full turns are both
//! multiples of 2π/5), and the Jacobian is `4 |1 + ¼ e^{f₀} f₁| = 4 |h′(α)|`. h is monotone on at most three pieces of the circle;
//! on each the solutions are found by safeguarded Newton steps, so the density is exact but for rounding. Where r > 1.7, h folds: there
//! the density is infinite on a line, at a level of e^{−18} of the peak that holds 1e-8 of the mass.

use std::f64::consts::{PI, TAU};

use super::shape::{LogSum, Point, Shape};

const ARMS: u32 = 5;
const STDS: Point = [0.3, 0.1];
const RATE: f64 = 0.25;
const SCALE: f64 = 2.0;

/// Five bent arms.
#[derive(Debug)]
pub(super) struct Pinwheel;

/// `h(α)` and `h′(α)` at the radius r.
fn unturned(r: f64, alpha: f64) -> (f64, f64) {
    let (sin, cos) = alpha.sin_cos();
    let turn = RATE * (r * cos).exp();
    (alpha - turn, 1.0 + turn * r * sin)
}

/// The zero of an increasing or decreasing `f` (value and slope) in [low, high]: Newton's steps, bisection where they leave it.
fn zero(mut low: f64, mut high: f64, f: impl Fn(f64) -> (f64, f64)) -> f64 {
    let rising = f(high).0 >= f(low).0;
    let mut x = 0.5 * (low + high);
    for _ in 0..100 {
        let (value, slope) = f(x);
        if (value > 0.0) == rising {
            high = x;
        } else {
            low = x;
        }
        let newton = x - value / slope;
        let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        if (next - x).abs() < 1e-14 || high - low < 1e-14 {
            return next;
        }
        x = next;
    }
    x
}

/// The ends of the pieces of [−π, π] on which h is monotone.
fn pieces(r: f64) -> Vec<f64> {
    let slope = |alpha: f64| unturned(r, alpha).1;
    // r sin α e^{r cos α} is least where r sin² α = cos α.
    let cos = 2.0 * r / (1.0 + (1.0 + 4.0 * r * r).sqrt());
    let steepest = -cos.acos();
    if slope(steepest) >= 0.0 {
        return vec![-PI, PI];
    }
    // Bisection alone: h″ is not needed then.
    let fold = |low: f64, high: f64| zero(low, high, |alpha| (slope(alpha), f64::INFINITY));
    vec![-PI, fold(-PI, steepest), fold(steepest, 0.0), PI]
}

impl Shape for Pinwheel {
    fn masses(&self) -> Vec<f64> {
        vec![1.0 / f64::from(ARMS); ARMS as usize]
    }

    fn point(&self, label: u32, _uniform: [f64; 3], normal: Point) -> Point {
        let f = [1.0 + STDS[0] * normal[0], STDS[1] * normal[1]];
        let angle = TAU * f64::from(label) / f64::from(ARMS) + RATE * f[0].exp();
        let (sin, cos) = angle.sin_cos();
        [SCALE * (f[0] * cos + f[1] * sin), SCALE * (f[1] * cos - f[0] * sin)]
    }

    fn log_prob(&self, x: Point) -> f64 {
        let (r, phi) = (x[0].hypot(x[1]) / SCALE, x[1].atan2(x[0]));
        let unit = TAU / f64::from(ARMS);
        let mut sum = LogSum::new();
        for ends in pieces(r).windows(2) {
            let (a, b) = (unturned(r, ends[0]).0, unturned(r, ends[1]).0);
            let (low, high) = (a.min(b), a.max(b));
            // Whole j with low ≤ φ + 2πj/5 < high.
            let (first, end) = (((low - phi) / unit).ceil() as i64, ((high - phi) / unit).ceil() as i64);
            for j in first..end {
                let target = phi + unit * j as f64;
                let alpha = zero(ends[0], ends[1], |alpha| {
                    let (value, slope) = unturned(r, alpha);
                    (value - target, slope)
                });
                let (a, b) = ((r * alpha.cos() - 1.0) / STDS[0], r * alpha.sin() / STDS[1]);
                sum.add(-0.5 * (a * a + b * b) - unturned(r, alpha).1.abs().ln());
            }
        }
        // Normals of both features, 4 |h′|, a fifth for each arm.
        sum.value() - (TAU * STDS[0] * STDS[1] * SCALE * SCALE * f64::from(ARMS)).ln()
    }
}
