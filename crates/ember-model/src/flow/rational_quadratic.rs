//! Monotone rational-quadratic splines (Durkan, Bekasov, Murray and Papamakarios 2019, equations 4–8; Gregory and Delbourgo 1982).
//!
//! On `[−B, B]` K bins with widths `w`, heights `h` and slopes `δ` at the knots, 1 at both ends; outside, the identity. With
//! `s = h/w` and `ξ = (x − x_k)/w` in the bin of x:
//!
//! ```text
//! g(x)   = y_k + h (s ξ² + δ_k ξ(1−ξ)) / D,   D = s + (δ_{k+1} + δ_k − 2s) ξ(1−ξ)
//! g'(x)  = s² (δ_{k+1} ξ² + 2s ξ(1−ξ) + δ_k (1−ξ)²) / D²
//! ```
//! The inverse is the root in [0, 1] of a quadratic in ξ, as `2c / (−b − √(b² − 4ac))`: no difference of close numbers.

use burn::tensor::{Int, Tensor, activation};

/// Bins and the smallest width, height and slope.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spline {
    /// K.
    pub bins: usize,
    /// B.
    pub bound: f64,
    /// Smallest width of a bin, as a fraction of 2B.
    pub min_width: f64,
    /// Smallest height of a bin, as a fraction of 2B.
    pub min_height: f64,
    /// Smallest slope at a knot.
    pub min_derivative: f64,
}

/// What the spline has in the bin of each point, `[n, m]` each.
struct Bin {
    /// `x_k`, and w.
    x: [Tensor<2>; 2],
    /// `y_k`, and h.
    y: [Tensor<2>; 2],
    /// `δ_k` and `δ_{k+1}`.
    slope: [Tensor<2>; 2],
}

impl Spline {
    /// Numbers a spline takes: K for widths, K for heights, K − 1 for slopes.
    pub fn numbers(&self) -> usize {
        3 * self.bins - 1
    }

    /// `(g(x), log g'(x))` for each of m splines. `raw: [n, m, numbers]`, `x: [n, m]`; `raw = 0` is the identity.
    pub fn apply(&self, raw: Tensor<3>, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let inner = self.clamp(x.clone());
        let [xs, ys, slopes] = self.knots(raw);
        let bin = self.bin(inner.clone(), &xs, [&xs, &ys, &slopes]);
        let xi = (inner - bin.x[0].clone()) / bin.x[1].clone();
        let (value, log_slope) = rational_quadratic(bin, xi);
        self.with_tails(x, value, log_slope)
    }

    /// `(g⁻¹(y), log (g⁻¹)'(y))`, shapes as in [`Spline::apply`].
    pub fn invert(&self, raw: Tensor<3>, y: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let inner = self.clamp(y.clone());
        let [xs, ys, slopes] = self.knots(raw);
        let bin = self.bin(inner.clone(), &ys, [&xs, &ys, &slopes]);
        let xi = root(&bin, inner);
        let value = bin.x[0].clone() + xi.clone() * bin.x[1].clone();
        let (_, log_slope) = rational_quadratic(bin, xi);
        self.with_tails(y, value, log_slope.neg())
    }

    fn clamp(&self, x: Tensor<2>) -> Tensor<2> {
        x.clamp(-self.bound, self.bound)
    }

    /// The spline inside, the identity outside: values at the clamped points are finite, so that nothing outside is `0 · ∞`.
    fn with_tails(&self, x: Tensor<2>, value: Tensor<2>, log_slope: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let outside = x.clone().abs().greater_equal_elem(self.bound);
        (value.mask_where(outside.clone(), x), log_slope.mask_fill(outside, 0.0))
    }

    /// Knots `x_k`, `y_k` and slopes `δ_k`, `[n, m, K + 1]` each.
    fn knots(&self, raw: Tensor<3>) -> [Tensor<3>; 3] {
        let [n, m, _] = raw.dims();
        let k = self.bins;
        let xs = self.partition(raw.clone().narrow(2, 0, k), self.min_width);
        let ys = self.partition(raw.clone().narrow(2, k, k), self.min_height);
        // δ = min + softplus(raw + c), 1 at raw = 0
        let offset = (1.0 - self.min_derivative).exp_m1().ln();
        let inner = activation::softplus(raw.narrow(2, 2 * k, k - 1).add_scalar(offset), 1.0);
        let end = Tensor::<3>::ones([n, m, 1], &inner.device());
        let slopes = Tensor::cat(vec![end.clone(), inner.add_scalar(self.min_derivative), end], 2);
        [xs, ys, slopes]
    }

    /// K + 1 knots from −B to B: parts `min + (1 − K min) softmax(raw)` of the whole. `raw: [n, m, K]`.
    fn partition(&self, raw: Tensor<3>, min: f64) -> Tensor<3> {
        let [n, m, k] = raw.dims();
        let parts = activation::softmax(raw, 2).mul_scalar(1.0 - k as f64 * min).add_scalar(min);
        let inner = parts.cumsum(2).narrow(2, 0, k - 1).mul_scalar(2.0 * self.bound).sub_scalar(self.bound);
        let end = Tensor::<3>::full([n, m, 1], self.bound, &inner.device());
        Tensor::cat(vec![end.clone().neg(), inner, end], 2)
    }

    /// The bin of each `at: [n, m]` among `along`.
    fn bin(&self, at: Tensor<2>, along: &Tensor<3>, [xs, ys, slopes]: [&Tensor<3>; 3]) -> Bin {
        let [n, m] = at.dims();
        // How many inner knots are not above the point: 0 … K − 1.
        let inner = along.clone().without_autodiff().narrow(2, 1, self.bins - 1);
        let at = at.without_autodiff().reshape([n, m, 1]);
        let index = inner.lower_equal(at).int().sum_dim(2);
        let take = |knots: &Tensor<3>, index: Tensor<3, Int>| knots.clone().gather(2, index).reshape([n, m]);
        let pair = |knots: &Tensor<3>| [take(knots, index.clone()), take(knots, index.clone().add_scalar(1))];
        let interval = |knots: &Tensor<3>| {
            let [low, high] = pair(knots);
            [low.clone(), high - low]
        };
        Bin { x: interval(xs), y: interval(ys), slope: pair(slopes) }
    }
}

/// `(g, log g')` at ξ.
fn rational_quadratic(bin: Bin, xi: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
    let Bin { x: [_, w], y: [y, h], slope: [low, high] } = bin;
    let s = h.clone() / w;
    let rest = xi.clone().neg().add_scalar(1.0);
    let both = xi.clone() * rest.clone();
    // D
    let bottom = s.clone() + (high.clone() + low.clone() - s.clone().mul_scalar(2.0)) * both.clone();
    let top = s.clone() * xi.clone() * xi.clone() + low.clone() * both.clone();
    let value = y + h * top / bottom.clone();
    let slope = high * xi.clone() * xi + (s.clone() * both).mul_scalar(2.0) + low * rest.clone() * rest;
    // log g' = 2 log s + log(δ_{k+1} ξ² + 2s ξ(1−ξ) + δ_k (1−ξ)²) − 2 log D
    (value, slope.log() + (s.log() - bottom.log()).mul_scalar(2.0))
}

/// ξ with `g = y`, by the quadratic `a ξ² + b ξ + c = 0` divided by h.
fn root(bin: &Bin, y: Tensor<2>) -> Tensor<2> {
    let eta = (y - bin.y[0].clone()) / bin.y[1].clone();
    let s = bin.y[1].clone() / bin.x[1].clone();
    let [low, high] = bin.slope.clone();
    let excess = eta.clone() * (high + low.clone() - s.clone().mul_scalar(2.0));
    let a = s.clone() - low.clone() + excess.clone();
    let b = low - excess;
    let c = (s * eta).neg();
    // b² − 4ac ≥ 0 but for rounding; at its smallest allowed value the root is still finite and so is its slope.
    let discriminant = (b.clone() * b.clone() - (a * c.clone()).mul_scalar(4.0)).clamp_min(1e-12);
    (c.mul_scalar(2.0) / (b + discriminant.sqrt()).neg()).clamp(0.0, 1.0)
}
