//! All weight arithmetic: the only place where a log-weight is exponentiated, summed or accumulated.

use burn::tensor::Tensor;

use crate::reduce::{max, sum};

/// Log-weights `A` carried as an unevaluated sum `hi + lo` of two f32 tensors, `[walkers]` each.
///
/// One f32 loses half a unit in the last place of `A` at every addition: after 10⁵ steps with `|A| ~ 100` that is a
/// random walk of about 10⁻³. The pair loses only the rounding of each increment (relative 6·10⁻⁸ of the *increment*):
/// `tests/weights.rs` states and checks the error after 10⁵ additions.
#[derive(Clone, Debug)]
pub struct LogWeights {
    hi: Tensor<1>,
    lo: Tensor<1>,
}

impl LogWeights {
    /// Equal weights: `A = 0`.
    pub fn zeros(like: &Tensor<1>) -> Self {
        Self { hi: like.zeros_like(), lo: like.zeros_like() }
    }

    /// Equal weights `A = value`, to double precision.
    pub fn constant(like: &Tensor<1>, value: f64) -> Self {
        let hi = value as f32;
        let lo = (value - f64::from(hi)) as f32;
        let zeros = like.zeros_like();
        Self { hi: zeros.clone().add_scalar(hi), lo: zeros.add_scalar(lo) }
    }

    /// Both parts through the same rearrangement of walkers.
    pub(crate) fn map(&self, f: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        Self { hi: f(self.hi.clone()), lo: f(self.lo.clone()) }
    }

    /// Both parts, each merged with the other's.
    pub(crate) fn zip(self, other: Self, f: impl Fn(Tensor<1>, Tensor<1>) -> Tensor<1>) -> Self {
        Self { hi: f(self.hi, other.hi), lo: f(self.lo, other.lo) }
    }

    /// From stored parts; `lo` is the compensation.
    pub fn from_parts(hi: Tensor<1>, lo: Tensor<1>) -> Self {
        Self { hi, lo }
    }

    /// `A` rounded to f32, `[walkers]`.
    pub fn value(&self) -> Tensor<1> {
        self.hi.clone()
    }

    /// The compensation term: the exact `A` is `value() + compensation()`.
    pub fn compensation(&self) -> Tensor<1> {
        self.lo.clone()
    }

    /// `A +=` what an unadjusted Langevin step of size `step_size` earns; see [`accumulate_ula`](crate::device::accumulate_ula).
    pub(crate) fn accumulate_ula(
        self,
        from: (Tensor<2>, Tensor<1>, Tensor<2>),
        to: (Tensor<2>, Tensor<1>, Tensor<2>),
        step_size: f32,
    ) -> Self {
        let (hi, lo) = crate::device::accumulate_ula((self.hi, self.lo), from, to, step_size);
        Self { hi, lo }
    }

    /// `A += delta` (Knuth's two-sum; no branch, no f64).
    pub fn accumulate(self, delta: Tensor<1>) -> Self {
        let (hi, lo) = crate::device::accumulate(self.hi, self.lo, delta);
        Self { hi, lo }
    }
}

/// Normalised weights `W = softmax(A)`, `[walkers]`, summing to 1.
pub fn normalised(log_weights: Tensor<1>) -> Tensor<1> {
    let (weights, sum, _) = scaled(log_weights);
    weights / sum
}

/// `log(1 + χ²)` of the model that a change `a` `[walkers]` of the log-weights leads to, against the one that walkers with the weights `W`
/// `[walkers]` carry, `[1]`: `e` to its negative is the ess fraction that the change leaves of equal weights. About the variance of `a`
/// where that is small, and exact there to 10⁻⁷ of its root; NaN where a change is not finite.
pub fn log_spread(change: Tensor<1>, weights: &Tensor<1>) -> Tensor<1> {
    // v = e^{a − max a}, χ² = Σ W (v − v̄)² / v̄², v̄ = Σ W v
    let factors = (change.clone() - max(change)).exp();
    let mean = sum(factors.clone() * weights.clone());
    let gap = factors - mean.clone();
    let chi_square = sum(gap.clone() * gap * weights.clone()) / (mean.clone() * mean);
    chi_square.log1p()
}

/// `exp(A − max A)`, its sum `[1]` and `max A` `[1]`.
fn scaled(log_weights: Tensor<1>) -> (Tensor<1>, Tensor<1>, Tensor<1>) {
    let max = max(log_weights.clone());
    let weights = (log_weights - max.clone()).exp();
    let sum = sum(weights.clone());
    (weights, sum, max)
}

/// ess and `log_mean_exp` of `groups` equal consecutive groups of log-weights, `[2·groups]`: ess first.
pub fn grouped_stats(log_weights: Tensor<1>, groups: usize) -> Tensor<1> {
    let [n] = log_weights.dims();
    let size = n / groups;
    let log_weights = log_weights.reshape([groups, size]);
    let max = log_weights.clone().max_dim(1);
    let weights = (log_weights - max.clone()).exp();
    let sum = weights.clone().sum_dim(1);
    let ess = sum.clone() * sum.clone() / (weights.clone() * weights).sum_dim(1);
    let log_mean_exp = sum.log() + max - (size as f64).ln();
    Tensor::cat(vec![ess, log_mean_exp], 0).reshape([2 * groups])
}

/// Device-side statistics of a population, packed so that one read fetches them all.
#[derive(Clone, Debug)]
pub struct WeightStats(Tensor<1>);

/// [`WeightStats`] in host memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// `(ΣW)² / ΣW²`, in `[1, N]`.
    pub ess: f64,
    /// `log (1/N) Σ e^A`.
    pub log_mean_exp: f64,
    /// `Σ W_i U_i`.
    pub energy: f64,
    /// Whether every energy, gradient and log-weight is finite.
    pub finite: bool,
}

impl WeightStats {
    /// Statistics of log-weights `A` `[walkers]` at energies `[walkers]`; `grad_square` is `|∇U|²` `[walkers]`.
    pub fn new(log_weights: Tensor<1>, energy: Tensor<1>, grad_square: Tensor<1>) -> Self {
        let [n] = log_weights.dims();
        // A sum is finite only if every term is; a test for NaN on the device would be compiled away by shader compilers.
        let health = sum(energy.clone() + grad_square);
        let (weights, total, max) = scaled(log_weights);
        let ess = total.clone() * total.clone() / sum(weights.clone() * weights.clone());
        let mean_energy = sum(weights * energy) / total.clone();
        let log_mean_exp = total.log() + max - (n as f64).ln();
        Self(Tensor::cat(vec![ess, log_mean_exp, mean_energy, health], 0))
    }

    /// From packed statistics, `[4]`, that a kernel made.
    #[cfg(feature = "wgpu")]
    pub(crate) fn from_packed(packed: Tensor<1>) -> Self {
        Self(packed)
    }

    /// The packed statistics, `[4]`: for a read shared with other small tensors; see [`Summary::unpack`].
    pub fn packed(self) -> Tensor<1> {
        self.0
    }

    /// Reads the packed statistics: one small transfer.
    pub fn read(self) -> Summary {
        Summary::unpack(&ember_model::params::download(self.0))
    }
}

impl Summary {
    /// From the four values of [`WeightStats::packed`].
    pub fn unpack(v: &[f32]) -> Self {
        Self {
            ess: f64::from(v[0]),
            log_mean_exp: f64::from(v[1]),
            energy: f64::from(v[2]),
            finite: v[1..4].iter().all(|v| v.is_finite()),
        }
    }
}
