//! What the tests share: devices, and assertions that count standard errors.

pub mod architecture;
pub mod calibration;
pub mod composed;
pub mod configs;
pub mod coverage;
pub mod explicit;
pub mod far;
pub mod flows;
pub mod fuzzed;
#[cfg(feature = "wgpu")]
pub mod gpu_work;
pub mod images;
pub mod proposals;
pub mod resumed;
pub mod small;
pub mod toys;

use burn::tensor::Device;

/// The CPU device.
pub fn cpu() -> Device {
    Device::flex()
}

/// The GPU path: the first Vulkan adapter, software ones included. `None` (with a line that says so) where there is none.
///
/// # Panics
/// Where there is none and `EMBER_REQUIRE_GPU=1`.
pub fn gpu() -> Option<Device> {
    match ember_train::device::select("wgpu") {
        Ok(selected) => return Some(selected.device),
        Err(error) => eprintln!("no GPU device: {error}"),
    }
    assert!(
        std::env::var("EMBER_REQUIRE_GPU").as_deref() != Ok("1"),
        "EMBER_REQUIRE_GPU=1, but this build or machine has no Vulkan adapter"
    );
    eprintln!("skipped: no Vulkan adapter");
    None
}

/// Asserts `|estimate − exact| ≤ factor · standard_error`.
#[track_caller]
pub fn assert_within_se(estimate: f64, exact: f64, standard_error: f64, factor: f64) {
    let z = (estimate - exact) / standard_error;
    // Compared without the quotient: an exact zero has no standard error. A NaN anywhere fails.
    assert!(
        (estimate - exact).abs() <= factor * standard_error,
        "{estimate} is {z:.2} standard errors ({standard_error:.3e}) from {exact}, more than {factor}"
    );
}

/// Asserts `|estimate − exact| ≥ factor · standard_error`: a broken variant must be seen.
#[track_caller]
pub fn assert_beyond_se(estimate: f64, exact: f64, standard_error: f64, factor: f64) {
    let z = (estimate - exact) / standard_error;
    assert!(
        z.abs() >= factor,
        "{estimate} is only {z:.2} standard errors ({standard_error:.3e}) from {exact}, expected at least {factor}"
    );
}

/// The factor "4 standard errors" stands for when the standard error comes from `repeats` independent runs: Student's t
/// quantile of the two-sided normal probability 6·10⁻⁵ (Cornish–Fisher expansion).
pub fn four_se(repeats: usize) -> f64 {
    let (z, n) = (4.0_f64, (repeats - 1) as f64);
    z + (z.powi(3) + z) / (4.0 * n) + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * n * n)
}

/// Mean and standard error of independent values.
pub fn mean_se(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let square = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
    (mean, (square / (n - 1.0) / n).sqrt())
}

/// `Σ a / Σ b` over independent repeats and its standard error, from the residuals `a − ratio · b`.
pub fn ratio_se(pairs: &[(f64, f64)]) -> (f64, f64) {
    let (a, b) = pairs.iter().fold((0.0, 0.0), |(a, b), pair| (a + pair.0, b + pair.1));
    let ratio = a / b;
    let n = pairs.len() as f64;
    let square: f64 = pairs.iter().map(|pair| (pair.0 - ratio * pair.1).powi(2)).sum();
    (ratio, (square * n / (n - 1.0)).sqrt() / b)
}
