//! Weighted points in host memory, and the ranges that show them.

/// Points with log-weights, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Cloud<'a> {
    /// `[N, dim]` row-major.
    pub position: &'a [f32],
    /// Coordinates of one point.
    pub dim: usize,
    /// A, `[N]`; `None` for equal weights.
    pub log_weights: Option<&'a [f32]>,
}

/// A finite point with its weight; the weights sum to 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) x: f64,
    /// The second coordinate, 0 where there is none.
    pub(super) y: f64,
    pub(super) weight: f64,
}

/// The finite points of a cloud.
#[derive(Clone, Debug, Default)]
pub(super) struct Points {
    pub(super) points: Vec<Point>,
    /// Points left out.
    pub(super) non_finite: usize,
    /// `(Σw)² / Σw² / N`.
    pub(super) ess_fraction: f64,
}

impl<'a> Cloud<'a> {
    /// Points with equal weights.
    pub fn unweighted(position: &'a [f32], dim: usize) -> Self {
        Self { position, dim, log_weights: None }
    }

    /// Number of points N.
    pub fn count(&self) -> usize {
        self.position.len().checked_div(self.dim).unwrap_or(0)
    }

    /// The finite points with `W = softmax(A)`. A log-weight of −∞ is a weight of 0.
    pub(super) fn finite(&self) -> Points {
        let count = self.count();
        let log_weight = |i: usize| self.log_weights.map_or(0.0, |a| f64::from(a[i]));
        let usable = |&i: &usize| {
            let shown = &self.position[i * self.dim..i * self.dim + self.dim.min(2)];
            shown.iter().all(|x| x.is_finite()) && log_weight(i) < f64::INFINITY
        };
        let usable: Vec<usize> = (0..count).filter(usable).collect();
        let max = usable.iter().map(|&i| log_weight(i)).fold(f64::NEG_INFINITY, f64::max);
        // Drawing only: the sampler's weights are exponentiated in `weights.rs`.
        let mut points: Vec<Point> = usable
            .iter()
            .map(|&i| Point {
                x: f64::from(self.position[i * self.dim]),
                y: if self.dim > 1 { f64::from(self.position[i * self.dim + 1]) } else { 0.0 },
                weight: if max.is_finite() { (log_weight(i) - max).exp() } else { 1.0 },
            })
            .collect();
        let sum: f64 = points.iter().map(|point| point.weight).sum();
        let square: f64 = points.iter().map(|point| point.weight.powi(2)).sum();
        points.iter_mut().for_each(|point| point.weight /= sum);
        Points {
            non_finite: count - points.len(),
            ess_fraction: sum * sum / square / points.len() as f64,
            points,
        }
    }
}

/// The interval that shows all but the outermost 0.1 % of the values, with a margin. Never empty.
pub(super) fn range(mut values: Vec<f64>) -> (f64, f64) {
    if values.is_empty() {
        return (-1.0, 1.0);
    }
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len() - 1;
    let at = |quantile: f64| values[(quantile * last as f64).round() as usize];
    let (low, high) = (at(0.001), at(0.999));
    // Everything is shown where that costs little room.
    let room = 0.3 * (high - low);
    let low = values[0].max(low - room);
    let high = values[last].min(high + room);
    let margin = 0.06 * (high - low);
    let least = 1e-6 * low.abs().max(high.abs());
    if high - low > least {
        (low - margin, high + margin)
    } else {
        let half = (0.1 * low.abs()).max(1.0);
        (low - half, high + half)
    }
}

/// Ranges of both coordinates, equally long unless they differ so much that a square would hide one.
pub(super) fn square_ranges(clouds: &[&Cloud<'_>]) -> ((f64, f64), (f64, f64)) {
    let points: Vec<Points> = clouds.iter().map(|cloud| cloud.finite()).collect();
    let points = || points.iter().flat_map(|cloud| &cloud.points);
    let x = range(points().map(|point| point.x).collect());
    let y = range(points().map(|point| point.y).collect());
    let (width, height) = (x.1 - x.0, y.1 - y.0);
    let side = width.max(height);
    if side > 5.0 * width.min(height) {
        return (x, y);
    }
    let widened = |(from, to): (f64, f64)| {
        let grow = 0.5 * (side - (to - from));
        (from - grow, to + grow)
    };
    (widened(x), widened(y))
}

/// 1234567 as `1 234 567`.
pub(crate) fn grouped(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `10 000 walkers, ess 0.83, 3 not finite, 5 outside`.
pub(super) fn note(name: &str, points: &Points, weighted: bool, outside: usize) -> String {
    let count = points.points.len() + points.non_finite;
    let plural = if count == 1 { "" } else { "s" };
    let mut note = format!("{} {name}{plural}", grouped(count));
    if weighted && !points.points.is_empty() {
        note += &format!(", ess fraction {:.2}", points.ess_fraction);
    }
    if points.non_finite > 0 {
        note += &format!(", {} not finite (left out)", grouped(points.non_finite));
    }
    if outside > 0 {
        note += &format!(", {} outside the axes", grouped(outside));
    }
    note
}
