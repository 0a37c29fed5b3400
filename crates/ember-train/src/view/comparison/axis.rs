//! The axis of the mass charts: as narrow as the masses allow, so that they can be told apart where all are small.

use ember_sampler::statistics::Estimate;

/// Distances from tick to tick, at most.
const MOST: f64 = 7.0;
/// The narrowest range of masses that is shown.
const LEAST: f64 = 0.01;
/// Room on either side, of the range.
const ROOM: f64 = 0.04;

/// A part of `[0, 1]` that begins and ends at a tick.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Axis {
    /// From one tick to the next: 1, 2 or 5 times a power of ten.
    step: f64,
    /// The first tick is `first · step`.
    first: u32,
    /// The last one.
    last: u32,
}

impl Axis {
    /// The axis that shows these masses with their bars, and `lines`.
    pub fn of(masses: impl Iterator<Item = Estimate>, lines: &[f64]) -> Self {
        let ends = masses.filter_map(|mass| bar(&mass)).flatten().chain(lines.iter().copied());
        let [low, high] = ends.fold([1.0, 0.0], |[low, high]: [f64; 2], end| [low.min(end), high.max(end)]);
        // Nothing at all to show.
        let [low, high] = if low > high { [0.0, 1.0] } else { [low, high] };
        let half = ((0.5 + ROOM) * (high - low)).max(0.5 * LEAST);
        let middle = 0.5 * (low + high);
        let [low, high] = [(middle - half).max(0.0), (middle + half).min(1.0)];
        let rough = (high - low) / MOST;
        let power = 10f64.powi(rough.log10().floor() as i32);
        let step = [1.0, 2.0, 5.0].map(|m| m * power).into_iter().find(|&step| step >= rough);
        let step = step.unwrap_or(10.0 * power);
        // Of each such step 1 is a multiple.
        let last = (high / step).ceil().min(step.recip().round());
        Self { step, first: (low / step).floor() as u32, last: last as u32 }
    }

    /// Where a mass is, from 0 to 1; outside the axis at its ends.
    pub fn at(&self, mass: f64) -> f64 {
        let (first, last) = (f64::from(self.first), f64::from(self.last));
        ((mass / self.step - first) / (last - first)).clamp(0.0, 1.0)
    }

    /// Every tick.
    pub fn ticks(&self) -> impl Iterator<Item = f64> {
        let step = self.step;
        (self.first..=self.last).map(move |tick| f64::from(tick) * step)
    }
}

/// Two standard errors on either side, as far as masses go; `None` of what is no number.
pub(super) fn bar(mass: &Estimate) -> Option<[f64; 2]> {
    let half = if mass.standard_error.is_finite() { 2.0 * mass.standard_error } else { 0.0 };
    let ends = [mass.value - half, mass.value + half].map(|end| end.clamp(0.0, 1.0));
    mass.value.is_finite().then_some(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(masses: &[(f64, f64)], line: f64) -> Axis {
        let estimate = |&(value, standard_error)| Estimate { value, standard_error };
        Axis::of(masses.iter().map(estimate), &[line])
    }

    fn ticks(axis: Axis) -> Vec<f64> {
        axis.ticks().map(|tick| (tick * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn it_is_as_narrow_as_the_masses() {
        let found = axis(&[(0.118, 0.002), (0.131, 0.001)], 0.125);
        assert_eq!(ticks(found), [0.11, 0.115, 0.12, 0.125, 0.13, 0.135]);
        let spread = axis(&[(0.04, 0.0), (0.31, 0.0)], 0.125);
        assert_eq!(ticks(spread), [0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35]);
    }

    /// However far one lies from the others, it is inside, and so are its bar and the line.
    #[test]
    fn an_outlier_is_inside() {
        for (value, error) in [(0.299, 0.144), (0.9, 0.0), (1.0, 0.2), (0.0, 0.3), (0.02, f64::NAN)] {
            let found = axis(&[(0.125, 0.001), (value, error), (f64::NAN, f64::NAN)], 0.1248);
            let ticks = ticks(found);
            let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
            assert!(low >= 0.0 && high <= 1.0, "{ticks:?}");
            let [from, to] = bar(&Estimate { value, standard_error: error }).expect("a number");
            for inside in [from, value, to, 0.1248] {
                assert!((low..=high).contains(&inside), "{inside} in {ticks:?}");
                assert!((found.at(inside) - (inside - low) / (high - low)).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn ticks_are_few_and_even() {
        for (low, high) in
            [(0.0, 1.0), (0.2, 0.2), (0.0, 0.0), (1.0, 1.0), (0.04, 0.31), (0.49996, 0.50004), (0.66, 0.98)]
        {
            let found = axis(&[(low, 0.0), (high, 0.0)], low);
            let ticks = ticks(found);
            assert!((3..=10).contains(&ticks.len()), "{ticks:?}");
            let step = ticks[1] - ticks[0];
            let digit = step / 10f64.powi((step * 1.000_001).log10().floor() as i32);
            assert!([1.0, 2.0, 5.0].iter().any(|nice| (nice - digit).abs() < 1e-3), "{ticks:?}");
            assert!(ticks.windows(2).all(|pair| (pair[1] - pair[0] - step).abs() < 2e-6), "{ticks:?}");
            // No more than two empty distances.
            let used = (high - low).max(LEAST);
            assert!(ticks[ticks.len() - 1] - ticks[0] <= 1.1 * used + 2.0 * step, "{ticks:?}");
        }
        assert_eq!(ticks(Axis::of(std::iter::empty(), &[])), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
    }
}
