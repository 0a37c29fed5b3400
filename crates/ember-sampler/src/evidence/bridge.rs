//! Bridge sampling between a flow and the model (Meng and Wong 1996), with the optimal bridge.
//!
//! With `n₁` draws of q, `n₂` samples of the model and `s_i = n_i/(n₁ + n₂)`, Meng and Wong iterate
//! `r ← E_q[l/(s₂ l/r + s₁)] / E_ρ[1/(s₂ l/r + s₁)]`, `l = e^{−U}/q`. Its fixed point is the one root of the monotone score
//! `n₁ E_q[σ(η − c)] = n₂ E_ρ[σ(c − η)]`, `η = log l + log(n₂/n₁)`, `c = log r` (Geyer 1994), found here by bisection.
//!
//! One r for each repeat of an ensemble, with its own draws of q; `E_ρ` is the repeat's weighted mean, and `n₂` its ess, so that a
//! repeat of few effective walkers leans on the flow. `n₂` enters as the optimum only: any value is consistent. Walkers that
//! descend from one another count as their weights say, though they are dependent: `n₂` is then too large, which costs precision
//! and not truth. The value is the log of the mean r (the mean of log r is low by half its variance), with its standard error over
//! the repeats. Where the walkers are those of an audit or a tempered SMC, the estimate shares them with that method's. Cost:
//! `n₁` flow passes and energies and `n₂` densities of the flow a repeat. Fails where q and the model do not overlap, and misses a
//! mode that neither reaches.

use ember_model::EnergyModel;
use ember_model::params::download;

use super::by_flow::{BRIDGE_LANE, FlowEstimate, FlowOptions, log_ratios_at, log_ratios_at_draws, stream};
use super::ensembles::Ensembles;
use crate::FlowProposal;
use crate::error::Error;
use crate::statistics::log_mean_z;
use crate::weights::normalised;

/// Below this overlap, flow and model hardly meet.
const LOW_OVERLAP: f64 = 0.01;
/// Halvings of the bracket around log Z: the widest is below 10⁶, so 10⁻¹² is left.
const HALVINGS: usize = 60;

/// log Z of the model by draws of `flow` and by `ensembles`, whose walkers are cached at the model's θ.
///
/// # Errors
/// A log-ratio that is not finite, fewer than two repeats.
pub fn bridge(
    model: &EnergyModel,
    flow: &FlowProposal,
    ensembles: &Ensembles,
    options: FlowOptions,
) -> Result<FlowEstimate, Error> {
    let count = ensembles.log_z.len();
    if count < 2 {
        return Err(Error::options(
            "bridge sampling from 1 repeat: at least 2 are needed for a standard error",
        ));
    }
    let walkers = &ensembles.walkers;
    let at_model = log_ratios_at(flow, walkers.position.clone(), walkers.energy.clone())?;
    let per_repeat = walkers.count() / count;
    let (mut repeats, mut overlap) = (Vec::with_capacity(count), 0.0);
    for (r, at_model) in at_model.chunks_exact(per_repeat).enumerate() {
        let at_flow = log_ratios_at_draws(model, flow, options.draws, stream(options.seed, BRIDGE_LANE, r))?;
        let log_weights = walkers.log_weights.value().narrow(0, r * per_repeat, per_repeat);
        let weights: Vec<f64> = download(normalised(log_weights)).into_iter().map(f64::from).collect();
        let found = bridged(&at_flow, at_model, &weights);
        if !found.log_z.is_finite() {
            return Err(Error::not_finite(format!(
                "bridge sampling: the weights of repeat {r} are not finite, or no draw of the flow lies where the model does"
            )));
        }
        repeats.push(found.log_z);
        overlap += found.overlap / count as f64;
    }
    let doubtful = overlap < LOW_OVERLAP;
    let caveat = if doubtful {
        "flow and model overlap by less than .01: neither the value nor its standard error can be trusted; modes that neither \
         the flow nor the walkers reach are not counted"
    } else {
        "modes that neither the flow nor the walkers reach are not counted"
    };
    let log_z = log_mean_z(&repeats);
    Ok(FlowEstimate { log_z, repeats, nearness: overlap, pareto_k: None, withheld: false, doubtful, caveat })
}

/// One bridge.
#[derive(Clone, Copy, Debug)]
pub struct Bridged {
    /// `log r`.
    pub log_z: f64,
    /// `∫ ρ q/(s₂ ρ + s₁ q)`, in (0, 1]: 1 where model and flow are the same.
    pub overlap: f64,
}

/// The optimal bridge between draws of q, with `log l` `[n₁]`, and samples of the model with `log l` `[n]` and weights `[n]` that sum
/// to 1. NaN where a weight is, or where no draw of q has `l > 0`.
///
/// # Panics
/// If the samples and their weights differ in number.
pub fn bridged(at_flow: &[f64], at_model: &[f64], weights: &[f64]) -> Bridged {
    assert_eq!(at_model.len(), weights.len(), "one weight a sample");
    let n1 = at_flow.len() as f64;
    let n2 = weights.iter().map(|w| w * w).sum::<f64>().recip();
    let shift = (n2 / n1).ln();
    // E_q[σ(η − c)]
    let mean_flow = |c: f64| at_flow.iter().map(|log_l| sigmoid(log_l + shift - c)).sum::<f64>() / n1;
    // E_ρ[σ(c − η)]
    let mean_model = |c: f64| -> f64 {
        at_model.iter().zip(weights).map(|(log_l, w)| w * sigmoid(c - shift - log_l)).sum()
    };
    let finite = at_flow.iter().chain(at_model).copied().filter(|log_l| log_l.is_finite());
    let (low, high) =
        finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), l| (low.min(l), high.max(l)));
    if !n2.is_finite() || at_flow.iter().all(|log_l| !log_l.is_finite()) {
        return Bridged { log_z: f64::NAN, overlap: 0.0 };
    }
    // The root lies within log(n₁ + n₂) of the log-ratios.
    let margin = shift.abs() + (n1 + n2).ln() + 10.0;
    let (mut low, mut high) = (low - margin, high + margin);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if n1 * mean_flow(middle) > n2 * mean_model(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    let log_z = 0.5 * (low + high);
    // ∫ ρ q/(s₂ ρ + s₁ q) = E_q[σ(η − c)]/s₂
    Bridged { log_z, overlap: mean_flow(log_z) * (n1 + n2) / n2 }
}

pub(super) fn sigmoid(x: f64) -> f64 {
    (1.0 + (-x).exp()).recip()
}
