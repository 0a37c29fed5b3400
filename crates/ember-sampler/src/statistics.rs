//! Estimates and their standard errors.

use serde::{Deserialize, Deserializer, Serialize};

/// A value with its standard error.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate.
    #[serde(deserialize_with = "nan_if_null")]
    pub value: f64,
    /// Its standard error.
    #[serde(deserialize_with = "nan_if_null")]
    pub standard_error: f64,
}

/// Of serde fields: JSON has no NaN, so that it is written as `null` and read back as NaN.
///
/// # Errors
/// As the deserializer says.
pub fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

impl Estimate {
    /// The mean of independent values, `standard_error = s/√n`. NaN standard error for fewer than two.
    pub fn mean(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
        Self { value: mean, standard_error: (square / (n - 1.0) / n).sqrt() }
    }

    /// `self + other` for independent estimates.
    pub fn plus(self, other: Self) -> Self {
        Self {
            value: self.value + other.value,
            standard_error: self.standard_error.hypot(other.standard_error),
        }
    }
}

/// `log` of the mean of independent unbiased `Z` estimates, from their logarithms. The standard error is the delta method's:
/// `s(Z_r) / (mean Z √R)`; a 95 % interval takes Student's t with R − 1 degrees of freedom.
pub fn log_mean_z(log_z: &[f64]) -> Estimate {
    let max = log_z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let scaled: Vec<f64> = log_z.iter().map(|l| (l - max).exp()).collect();
    let mean = Estimate::mean(&scaled);
    Estimate { value: max + mean.value.ln(), standard_error: mean.standard_error / mean.value }
}

/// `Σ a / Σ b` over independent repeats `(a, b)`; the standard error is that of the residuals `a − ratio·b`.
pub fn ratio(pairs: &[(f64, f64)]) -> Estimate {
    let (a, b) = pairs.iter().fold((0.0, 0.0), |(a, b), pair| (a + pair.0, b + pair.1));
    let (ratio, n) = (a / b, pairs.len() as f64);
    let square: f64 = pairs.iter().map(|pair| (pair.0 - ratio * pair.1).powi(2)).sum();
    Estimate { value: ratio, standard_error: (square * n / (n - 1.0)).sqrt() / b }
}

/// `(Σw)²/(n Σw²)` of n weights, in (0, 1], from their logarithms.
pub fn ess_fraction(log_weights: &[f64]) -> f64 {
    let max = log_weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (first, second) = log_weights.iter().fold((0.0, 0.0), |(first, second), log_w| {
        let w = (log_w - max).exp();
        (first + w, second + w * w)
    });
    first * first / (second * log_weights.len() as f64)
}

/// The two-sided 95 % quantile of Student's t with `degrees` degrees of freedom: tabulated to 10, then Hill's expansion of the
/// normal quantile (error below 10⁻³).
pub fn t95(degrees: usize) -> f64 {
    const TABLE: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    if (1..=TABLE.len()).contains(&degrees) {
        return TABLE[degrees - 1];
    }
    let (z, n) = (1.959_963_985_f64, degrees as f64);
    z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
}
