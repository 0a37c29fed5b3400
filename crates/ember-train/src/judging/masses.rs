//! The model's own masses: how much of `ρ_θ` belongs to each mode of the data's law, read off the model and not off the walkers that
//! trained it.
//!
//! | method | where | error |
//! |---|---|---|
//! | `exact` | mixtures | none |
//! | `grid` | one and two dimensions | of the midpoint rule |
//! | `audit`, `ladder`, `smc` | independent walkers | standard error over repeats |
//! | `importance` | a known truth ρ* | standard error over repeats |
//!
//! Importance sampling draws x from ρ* and weighs it by `w = e^{−U(x)}/ρ*(x)`: `mass_k = Σ w 1[x in mode k] / Σ w`, one evaluation a draw.
//! log Z is not needed. The weights spread like `e^{KL}`, and the ess fraction says how much is left: below a per cent or so few
//! draws decide, the masses are off and their standard errors too small. Where Pareto k̂ of the weights is above .7 the masses are withheld. What ρ* never draws, such as a mode that only the model
//! has, is not seen at all, whatever the ess fraction.

use ember_model::EnergyModel;
use ember_model::params::download;

use crate::dataset::{Modes, Truth};
use ember_model::energy::blockwise::energies;
use ember_sampler::diagnostics::pareto;
use ember_sampler::evidence::Ensembles;
use ember_sampler::statistics::{Estimate, ess_fraction, ratio};

/// The method's name.
pub const IMPORTANCE: &str = "importance";
/// Independent repeats of an importance estimate, and draws of each.
const REPEATS: u32 = 16;
const DRAWS: usize = 2_048;

/// The model's masses, the method, and their standard errors.
#[derive(Clone, Debug)]
pub struct Masses {
    /// `[modes]`, in the data set's order.
    pub value: Vec<f64>,
    /// As in the module's table.
    pub method: &'static str,
    /// `[modes]`, where the masses are estimates.
    pub standard_error: Option<Vec<f64>>,
}

impl Masses {
    /// Without a standard error.
    pub fn known(value: Vec<f64>, method: &'static str) -> Self {
        Self { value, method, standard_error: None }
    }

    fn estimated(estimates: impl Iterator<Item = Estimate>, method: &'static str) -> Self {
        let (value, standard_error) = estimates.map(|e| (e.value, e.standard_error)).unzip();
        Self { value, method, standard_error: Some(standard_error) }
    }
}

/// Weighted frequencies of independent walkers, with standard errors over the repeats.
pub fn by_ensembles(ensembles: &Ensembles, modes: &Modes, method: &'static str) -> Masses {
    let walkers = &ensembles.walkers;
    let per_repeat = walkers.count() / ensembles.log_z.len();
    let dim = walkers.dim();
    let position = download(walkers.position.clone());
    let repeats: Vec<Vec<f64>> = position
        .chunks_exact(per_repeat * dim)
        .enumerate()
        .map(|(r, rows)| {
            let slice = walkers.log_weights.value().narrow(0, r * per_repeat, per_repeat);
            let weights: Vec<f32> = download(ember_sampler::weights::normalised(slice));
            sums(rows, dim, weights.iter().map(|&w| f64::from(w)), modes)
        })
        .collect();
    let per_mode = |k: usize| repeats.iter().map(|masses| masses[k]).collect::<Vec<_>>();
    Masses::estimated((0..modes.count()).map(|k| Estimate::mean(&per_mode(k))), method)
}

/// Masses by importance sampling, and what their weights are worth.
#[derive(Clone, Debug)]
pub struct Importance {
    /// With standard errors over the repeats.
    pub masses: Masses,
    /// `(Σw)² / Σw² / n` of all draws.
    pub ess_fraction: f64,
    /// Pareto k̂ of the weights; see [`ember_sampler::diagnostics::pareto`].
    pub pareto_k: f64,
    /// Whether k̂ is above its limit, .7: the masses are then not to be shown.
    pub withheld: bool,
}

/// The model's masses from 16 × 2,048 draws of the truth: a pure function of the model, the truth and the seed.
pub fn by_importance(model: &EnergyModel, truth: &Truth, modes: &Modes, seed: u64) -> Importance {
    let dim = truth.dim();
    let repeats: Vec<(Vec<f32>, Vec<f64>)> = (0..REPEATS)
        .map(|repeat| {
            let rows = truth.draw(DRAWS, seed, repeat);
            // log w = −U − log ρ*; an energy that is not a number weighs nothing.
            let log_w = energies(model, &rows).into_iter().zip(truth.log_probs(&rows));
            let log_w = log_w
                .map(|(u, log_p)| -f64::from(u) - log_p)
                .map(|w| if w.is_nan() { f64::NEG_INFINITY } else { w });
            let log_w = log_w.collect();
            (rows, log_w)
        })
        .collect();
    let all: Vec<f64> = repeats.iter().flat_map(|(_, log_w)| log_w).copied().collect();
    let max = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weighted = |(rows, log_w): &(Vec<f32>, Vec<f64>)| {
        sums(rows, dim, log_w.iter().map(|log_w| (log_w - max).exp()), modes)
    };
    let per_repeat: Vec<Vec<f64>> = repeats.iter().map(weighted).collect();
    // Σ_r a_r / Σ_r b_r: one quotient of all draws is less biased than the mean of the repeats' quotients.
    let of_mode = |k: usize| {
        let pairs: Vec<(f64, f64)> = per_repeat.iter().map(|sums| (sums[k], sums.iter().sum())).collect();
        ratio(&pairs)
    };
    let pareto_k = pareto::shape(&all);
    Importance {
        pareto_k,
        withheld: pareto::is_heavy(pareto_k, all.len()),
        masses: Masses::estimated((0..modes.count()).map(of_mode), IMPORTANCE),
        ess_fraction: ess_fraction(&all),
    }
}

/// Sums of weights by mode, `[K]`, of `rows` `[n, dim]`.
fn sums(rows: &[f32], dim: usize, weights: impl Iterator<Item = f64>, modes: &Modes) -> Vec<f64> {
    let mut sums = vec![0.0; modes.count()];
    for (row, weight) in rows.chunks_exact(dim).zip(weights) {
        let x: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        sums[modes.of(&x)] += weight;
    }
    sums
}
