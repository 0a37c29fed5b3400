//! `pinwheel`: `f = (1 + .3 ξ₀, .1 ξ₁)`, turned by the angle `−(2πk/5 + ¼ e^{f₀})` of arm k, times 2.
//!
//! The density is a change of variables. Turning keeps `r = |f| = |x|/2`; with `f = r (cos α, sin α)` and φ the angle of x, the
//! preimages are the solutions α of `h(α) = α − ¼ e^{r cos α} = φ + 2πj/5`, one for each whole j (arms and full turns are both
//! multiples of 2π/5), and the Jacobian is `4 |1 + ¼ e^{f₀} f₁| = 4 |h′(α)|`. h is monotone on at most three pieces of the circle;
//! on each the solutions are found by safeguarded Newton steps, so the density is exact but for rounding. Where r > 1.7, h folds: there
//! the density is infinite on a line, at a level of e^{−18} of the peak.

use std::f64::consts::{PI, TAU};

use super::shape::{LogSum, NEGLIGIBLE, Point, Shape};

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
        if (next - x).abs() < 1e-12 {
            return next;
        }
        x = next;
    }
    x
}

/// The ends of the pieces of [0, π] and of [−π, 0] on which h is monotone, from 0 outwards.
fn pieces(r: f64) -> [Vec<f64>; 2] {
    let right = vec![0.0, PI];
    // r sin α e^{r cos α}, and with it h′, is least where r sin² α = cos α.
    let cos = 2.0 * r / (1.0 + (1.0 + 4.0 * r * r).sqrt());
    let steepest = -cos.acos();
    if unturned(r, steepest).1 >= 0.0 {
        return [right, vec![0.0, -PI]];
    }
    // h″ = ¼ e^{r cos α} (r cos α − r² sin² α)
    let slope = |alpha: f64| {
        let (sin, cos) = (r * alpha.sin(), r * alpha.cos());
        (1.0 + RATE * cos.exp() * sin, RATE * cos.exp() * (cos - sin * sin))
    };
    [right, vec![0.0, zero(steepest, 0.0, slope), zero(-PI, steepest, slope), -PI]]
}

/// `½ |ξ|²` of the normals behind the features of the preimage α.
fn exponent(r: f64, alpha: f64) -> f64 {
    let (sin, cos) = alpha.sin_cos();
    0.5 * (((r * cos - 1.0) / STDS[0]).powi(2) + (r * sin / STDS[1]).powi(2))
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
        let (mut sum, mut least) = (LogSum::new(), f64::INFINITY);
        let farthest = exponent(r, PI);
        for side in pieces(r) {
            'outwards: for ends in side.windows(2) {
                // Where h is at both ends, in units of the targets; whole j between them are targets.
                let [from, to] = [0, 1].map(|i| (unturned(r, ends[i]).0 - phi) / unit);
                let targets = from.min(to).ceil() as i64..from.max(to).ceil() as i64;
                let count = targets.end - targets.start;
                for i in 0..count {
                    let j = if from <= to { targets.start + i } else { targets.end - 1 - i };
                    let target = phi + unit * j as f64;
                    let alpha = zero(ends[0].min(ends[1]), ends[0].max(ends[1]), |alpha| {
                        let (value, slope) = unturned(r, alpha);
                        (value - target, slope)
                    });
                    let exponent = exponent(r, alpha);
                    // Where r is large there are ever more preimages, and few matter. The exponent grows outwards as
                    // far as ± π/2 at least, and beyond that it is no less than there or at π.
                    if exponent.min(farthest) > least + NEGLIGIBLE {
                        break 'outwards;
                    }
                    least = least.min(exponent);
                    sum.add(-exponent - unturned(r, alpha).1.abs().ln());
                }
            }
        }
        // Normals of both features, 4 |h′|, a fifth for each arm.
        sum.value() - (TAU * STDS[0] * STDS[1] * SCALE * SCALE * f64::from(ARMS)).ln()
    }
}
