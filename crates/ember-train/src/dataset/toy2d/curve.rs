//! The density of a point on a curve plus noise, `ρ(x) = ∫ w(t) K(x − p(t)) dt`, by Gauss–Legendre quadrature along the curve.
//!
//! A panel of 8 nodes is exact for polynomials of degree 15. On a panel as long as 3 standard deviations of the noise the error is
//! 4e-9 of the integrand's peak where the curve is straight. Towards the ends of a curve panels are shorter, down to ¼: far beyond
//! an end the integrand falls off steeply from it. The tests compare with plain sums. Panels that are too far away to matter (a
//! factor of e^{−30}) are passed over.

use super::shape::{LogSum, NEGLIGIBLE, Point};

/// Panel length in standard deviations of the noise.
const PANEL: f64 = 3.0;
/// The same at the ends of a curve.
const END_PANEL: f64 = 0.25;

/// Half of the nodes and weights of the 8-point Gauss–Legendre rule on [−1, 1] (DLMF 3.5); the others mirror them.
const RULE: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_5),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_3),
];

/// Nodes and weights of the rule on `[from, to]`.
pub(super) fn gauss_legendre(from: f64, to: f64) -> [(f64, f64); 8] {
    let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
    std::array::from_fn(|i| {
        let (node, weight) = RULE[i / 2];
        let node = if i % 2 == 0 { node } else { -node };
        (middle + half * node, half * weight)
    })
}

/// What a point of the curve is spread by.
pub(super) trait Kernel: std::fmt::Debug + Send + Sync {
    /// `log K(d)`.
    fn log_density(&self, d: Point) -> f64;

    /// The standard deviation of its Gaussian part.
    fn std(&self) -> f64;

    /// How far the rest reaches: `K(d)` is between Gaussians at the distances |d| ± reach.
    fn reach(&self) -> f64;
}

/// `N(0, σ² I)`.
#[derive(Debug)]
pub(super) struct Noise(pub(super) f64);

impl Kernel for Noise {
    fn log_density(&self, d: Point) -> f64 {
        let variance = self.0 * self.0;
        -0.5 * (d[0] * d[0] + d[1] * d[1]) / variance - (std::f64::consts::TAU * variance).ln()
    }

    fn std(&self) -> f64 {
        self.0
    }

    fn reach(&self) -> f64 {
        0.0
    }
}

#[derive(Debug)]
struct Panel {
    centre: Point,
    /// No node is farther from the centre.
    radius: f64,
    /// Places and log-weights.
    nodes: [(Point, f64); 8],
}

/// Curves with noise.
#[derive(Debug)]
pub(super) struct Curve<K> {
    kernel: K,
    panels: Vec<Panel>,
}

impl<K: Kernel> Curve<K> {
    /// Without any curve yet.
    pub(super) fn new(kernel: K) -> Self {
        Self { kernel, panels: Vec::new() }
    }

    /// Adds the curve `place(t)` for t in `range` with the density `weight(t)`; `speed(t)` = |d place/dt|.
    pub(super) fn add(
        mut self,
        range: (f64, f64),
        weight: impl Fn(f64) -> f64,
        speed: impl Fn(f64) -> f64,
        place: impl Fn(f64) -> Point,
    ) -> Self {
        let (std, mut from) = (self.kernel.std(), range.0);
        while from < range.1 {
            // As long as the way to the nearer end.
            let way = (from - range.0).min(0.5 * (range.1 - from)) * speed(from);
            let step = way.clamp(END_PANEL * std, PANEL * std);
            // By the speed at the middle of the panel that the speed at its beginning gives.
            let middle = from + 0.5 * step / speed(from);
            let to = (from + step / speed(middle)).min(range.1);
            let nodes = gauss_legendre(from, to).map(|(t, dt)| (place(t), (weight(t) * dt).ln()));
            let centre = place(0.5 * (from + to));
            let radius = nodes.iter().map(|(node, _)| distance(*node, centre)).fold(0.0, f64::max);
            self.panels.push(Panel { centre, radius, nodes });
            from = to;
        }
        self
    }

    /// `log ρ(x)`.
    pub(super) fn log_prob(&self, x: Point) -> f64 {
        let reach = self.kernel.reach();
        let farthest = |panel: &Panel| distance(x, panel.centre) + panel.radius + reach;
        let nearest = self.panels.iter().map(farthest).fold(f64::INFINITY, f64::min);
        // −near²/2σ² < −nearest²/2σ² − NEGLIGIBLE
        let bound = (nearest * nearest + 2.0 * NEGLIGIBLE * self.kernel.std().powi(2)).sqrt();
        let mut sum = LogSum::new();
        for panel in &self.panels {
            if distance(x, panel.centre) - panel.radius - reach > bound {
                continue;
            }
            for (node, log_weight) in &panel.nodes {
                sum.add(log_weight + self.kernel.log_density([x[0] - node[0], x[1] - node[1]]));
            }
        }
        sum.value()
    }
}

fn distance(a: Point, b: Point) -> f64 {
    ((a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)).sqrt()
}
