//! log Z along a ladder, from the energies of each rung's points under its neighbours.
//!
//! With `f = U_i − U_{i+1}` at `x ~ ρ_i` and `g = U_{i+1} − U_i` at `x ~ ρ_{i+1}`, `r = Z_{i+1}/Z_i` has three estimators: forward
//! `r = E_i[e^f]` and reverse `1/r = E_{i+1}[e^g]`, which need one rung to cover the other, and the bridge between both (Bennett 1976;
//! `evidence/bridge.rs`), the root c = log r of `E_i[σ(f − c)] = E_{i+1}[σ(c + g)]`, whose error is the least.
//!
//! Each takes the draws of all ladders together, so that the bias of a logarithm of a mean falls with all of them. The standard error
//! is the delta method's over ladders: every ladder m has an influence `ψ_m` on each log r, `Σ_i ψ_m` on log Z, whatever the
//! correlation of its own draws and rungs; the ladders are independent.

use serde::Serialize;

use super::swaps::Exchange;
use crate::evidence::bridge::{bridged, sigmoid};
use crate::statistics::Estimate;

/// The energies of one pair of neighbours.
#[derive(Clone, Debug)]
pub(super) struct Differences {
    /// `U_i − U_{i+1}` at rung i, `[ladders][turns]`.
    forward: Vec<Vec<f64>>,
    /// `U_{i+1} − U_i` at rung i + 1, `[ladders][turns]`.
    reverse: Vec<Vec<f64>>,
}

impl Differences {
    pub fn new(ladders: usize) -> Self {
        Self { forward: vec![Vec::new(); ladders], reverse: vec![Vec::new(); ladders] }
    }

    pub fn push(&mut self, found: &Exchange) {
        for (series, &value) in self.forward.iter_mut().zip(&found.forward) {
            series.push(value);
        }
        for (series, &value) in self.reverse.iter_mut().zip(&found.reverse) {
            series.push(value);
        }
    }
}

/// `log(Z_i/Z_0)` of a ladder's rungs.
#[derive(Clone, Debug, Serialize)]
pub struct LogRatios {
    /// By the bridge, `[rungs]`, the first 0.
    pub bridge: Vec<Estimate>,
    /// Of the top rung, each rung weighted to the one above.
    pub forward: Estimate,
    /// Of the top rung, each rung weighted to the one below.
    pub reverse: Estimate,
}

impl LogRatios {
    pub(super) fn of(pairs: &[Differences]) -> Self {
        let exact = Estimate { value: 0.0, standard_error: 0.0 };
        let last = |ratios: Vec<Ratio>| chained(&ratios).last().copied().unwrap_or(exact);
        let bridge = chained(&pairs.iter().map(bridge).collect::<Vec<_>>());
        Self {
            bridge: std::iter::once(exact).chain(bridge).collect(),
            forward: last(pairs.iter().map(|pair| mean_exp(&pair.forward)).collect()),
            reverse: last(pairs.iter().map(|pair| mean_exp(&pair.reverse).inverse()).collect()),
        }
    }
}

/// One log r and each ladder's influence on it: `log r ≈ log r* + (1/M) Σ_m ψ_m`.
struct Ratio {
    value: f64,
    influence: Vec<f64>,
}

impl Ratio {
    fn inverse(self) -> Self {
        Self { value: -self.value, influence: self.influence.into_iter().map(|psi| -psi).collect() }
    }
}

/// Sums of log-ratios from the first on, with standard errors `s(Σψ)/√M`.
fn chained(ratios: &[Ratio]) -> Vec<Estimate> {
    let ladders = ratios.first().map_or(0, |ratio| ratio.influence.len());
    let (mut value, mut influence) = (0.0, vec![0.0; ladders]);
    let mut add = |ratio: &Ratio| {
        value += ratio.value;
        influence.iter_mut().zip(&ratio.influence).for_each(|(sum, psi)| *sum += psi);
        Estimate { value, ..Estimate::mean(&influence) }
    };
    ratios.iter().map(&mut add).collect()
}

/// `log mean e^f` over all ladders; `ψ_m = mean_m e^f / mean e^f − 1`.
fn mean_exp(series: &[Vec<f64>]) -> Ratio {
    let all = || series.iter().flatten();
    let max = all().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = |values: &Vec<f64>| values.iter().map(|f| (f - max).exp()).sum::<f64>() / values.len() as f64;
    let means: Vec<f64> = series.iter().map(mean).collect();
    let total = means.iter().sum::<f64>() / means.len() as f64;
    Ratio { value: max + total.ln(), influence: means.iter().map(|mean| mean / total - 1.0).collect() }
}

/// Bennett's bridge; `ψ_m` is the score of ladder m at the root over the score's slope.
fn bridge(pair: &Differences) -> Ratio {
    let at_lower: Vec<f64> = pair.forward.iter().flatten().copied().collect();
    // log e^{−U_{i+1}}/e^{−U_i} at the upper rung's points
    let at_upper: Vec<f64> = pair.reverse.iter().flatten().map(|g| -g).collect();
    let weights = vec![(at_upper.len() as f64).recip(); at_upper.len()];
    let c = bridged(&at_lower, &at_upper, &weights).log_z;
    let slope_at = |eta: &f64| sigmoid(eta - c) * sigmoid(c - eta);
    let mean =
        |values: &[f64], of: &dyn Fn(&f64) -> f64| values.iter().map(of).sum::<f64>() / values.len() as f64;
    let slope = mean(&at_lower, &slope_at) + mean(&at_upper, &slope_at);
    let of_ladder = |(forward, reverse): (&Vec<f64>, &Vec<f64>)| {
        (mean(forward, &|f| sigmoid(f - c)) - mean(reverse, &|g| sigmoid(c + g))) / slope
    };
    Ratio { value: c, influence: pair.forward.iter().zip(&pair.reverse).map(of_ladder).collect() }
}
