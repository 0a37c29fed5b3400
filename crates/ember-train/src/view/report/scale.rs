//! Axes: which values are shown, and where the ticks are.

/// The largest value that is shown: ends, margins and distances of a scale are finite. Of a logarithmic one, the smallest is its inverse.
const LARGEST: f64 = 1e300;

/// What an axis shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Axis {
    /// The values, but for rare excursions.
    Linear,
    /// Logarithmic where the values are positive and span more than a factor of 30, else [`Axis::Linear`].
    Log,
    /// From 0 to 1.
    Fraction,
}

/// A range with its mapping to `[0, 1]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    log: bool,
}

impl Scale {
    /// The scale that shows `values`, finite ones.
    pub(super) fn of(axis: Axis, mut values: Vec<f64>) -> Self {
        values.iter_mut().for_each(|value| *value = value.clamp(-LARGEST, LARGEST));
        values.sort_unstable_by(f64::total_cmp);
        let (Some(&first), Some(&last)) = (values.first(), values.last()) else {
            return Self { low: 0.0, high: 1.0, log: false };
        };
        match axis {
            Axis::Fraction => Self { low: first.min(0.0), high: last.max(1.0), log: false },
            Axis::Log if first > 1.0 / LARGEST && last > 30.0 * first => {
                Self { low: first / 1.15, high: last * 1.15, log: true }
            }
            _ => {
                let at = |quantile: f64| values[(quantile * (values.len() - 1) as f64).round() as usize];
                // A few wild values must not flatten the rest.
                let (low, high) = (at(0.01), at(0.99));
                let room = 1.5 * (high - low);
                let (low, high) = (first.max(low - room), last.min(high + room));
                let margin = 0.06 * (high - low);
                if margin > 1e-9 * low.abs().max(high.abs()).max(f64::MIN_POSITIVE) {
                    Self { low: low - margin, high: high + margin, log: false }
                } else {
                    let half = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
                    Self { low: low - half, high: high + half, log: false }
                }
            }
        }
    }

    /// The updates up to `last`.
    pub(super) fn updates(last: f64) -> Self {
        Self { low: 0.0, high: last.max(1.0), log: false }
    }

    /// Where `value` is: 0 at the low end, 1 at the high one.
    pub(super) fn at(&self, value: f64) -> f64 {
        if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// Whether `value` is shown.
    pub(super) fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Ticks with their labels, about `count` of them.
    pub(super) fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        if self.log { self.log_ticks(count) } else { self.linear_ticks(count) }
    }

    fn linear_ticks(&self, count: usize) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / count as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = power * [1.0, 2.0, 5.0, 10.0].into_iter().find(|&m| m * power >= rough).unwrap_or(10.0);
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last).take(4 * count).map(|i| (i as f64 * step, label(i as f64 * step, step))).collect()
    }

    fn log_ticks(&self, count: usize) -> Vec<(f64, String)> {
        let (from, to) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let every = ((to - from) as usize).div_ceil(count + 1).max(1);
        let multiples: &[f64] = if to - from <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (from..=to).step_by(every).map(|power| 10f64.powi(power));
        let ticks = powers.flat_map(|power| multiples.iter().map(move |m| m * power));
        ticks.filter(|&tick| self.holds(tick)).map(|tick| (tick, log_label(tick))).collect()
    }
}

/// `0.05`, `200`, `10k`, `1e−5`.
fn log_label(value: f64) -> String {
    if value < 0.999e-3 { format!("{value:.0e}").replace('-', "−") } else { label(value, value) }
}

/// As many decimals as the spacing needs; thousands as `k`, millions as `M`.
fn label(value: f64, step: f64) -> String {
    let (size, step) = (value.abs(), step.abs());
    let text = if value == 0.0 {
        "0".to_owned()
    } else if size >= 1e4 && step >= 100.0 && size < 1e9 {
        let (unit, name) = if size >= 1e6 { (1e6, "M") } else { (1e3, "k") };
        let decimals = (-(step / unit).log10().floor()).clamp(0.0, 4.0) as usize;
        format!("{:.decimals$}{name}", value / unit)
    } else if size >= 1e6 || step < 1e-4 {
        format!("{value:.1e}")
    } else {
        let decimals = (-(step * 1.000_001).log10().floor()).clamp(0.0, 5.0) as usize;
        format!("{value:.decimals$}")
    };
    text.replace('-', "−")
}
