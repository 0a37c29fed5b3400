//! The compensated sum of a log-weight, on processors.

/// `hi + lo + delta` as an unevaluated sum, Knuth's two-sum of `hi` and `delta + lo`: no branch on the numbers' sizes, no f64.
///
/// A sum that is not finite has no compensation, where the formula has `∞ − ∞`. A walker without weight, `hi = −∞`, stays without,
/// whatever its energy becomes: it would be `−∞ + ∞` at a return from an infinite energy.
pub(super) fn two_sum(hi: f32, lo: f32, delta: f32) -> (f32, f32) {
    if hi == f32::NEG_INFINITY {
        return (hi, 0.0);
    }
    let b = delta + lo;
    let sum = hi + b;
    let b_seen = sum - hi;
    let a_seen = sum - b_seen;
    let lo = (hi - a_seen) + (b - b_seen);
    (sum, if sum.is_finite() { lo } else { 0.0 })
}

/// [`two_sum`] of every walker: the new `hi` and `lo`.
pub(super) fn two_sums(hi: &[f32], lo: &[f32], delta: &[f32]) -> (Vec<f32>, Vec<f32>) {
    hi.iter().zip(lo).zip(delta).map(|((&hi, &lo), &delta)| two_sum(hi, lo, delta)).unzip()
}
