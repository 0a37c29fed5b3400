//! Importance sampling from a flow: `Z = E_q[l]`, `log l = −U − log q`.
//!
//! R repeats of M draws; each repeat's mean is an unbiased Z, and their spread is the standard error. Cost: `R M` passes of the
//! flow and energies, no gradient. Fails where q is thinner than the model: the variance of l is then large or infinite, and
//! a mode that q does not reach is missing, and nothing shows it. The ess fraction `(Σ l)²/(n Σ l²)` falls towards 0 in the first case
//! and stays high in the second; Pareto k̂ (`pareto.rs`) tells an infinite variance where the ess fraction does not, and above .7 the
//! estimate is withheld.

use ember_model::EnergyModel;

use super::by_flow::{FlowEstimate, FlowOptions, IMPORTANCE_LANE, log_ratios_at_draws, stream};
use crate::FlowProposal;
use crate::diagnostics::pareto;
use crate::error::Error;
use crate::statistics::{ess_fraction, log_mean_z};

/// With fewer effective draws a repeat, its Z rests on a handful of draws, and repeats agree by chance.
const FEW_DRAWS: f64 = 100.0;

/// log Z of the model by draws of `flow`.
///
/// # Errors
/// A log-ratio that is not finite, or no draw where the model has mass.
pub fn importance(
    model: &EnergyModel,
    flow: &FlowProposal,
    options: FlowOptions,
) -> Result<FlowEstimate, Error> {
    let (mut repeats, mut all) = (Vec::with_capacity(options.repeats), Vec::new());
    for r in 0..options.repeats {
        let log_l =
            log_ratios_at_draws(model, flow, options.draws, stream(options.seed, IMPORTANCE_LANE, r))?;
        repeats.push(log_mean_z(&log_l).value);
        all.extend(log_l);
    }
    if repeats.iter().any(|log_z| !log_z.is_finite()) {
        return Err(Error::not_finite(format!(
            "none of the {} draws of a repeat of importance sampling has an energy that is finite",
            options.draws
        )));
    }
    let nearness = ess_fraction(&all);
    let (k, few) = (pareto::shape(&all), nearness * (options.draws as f64) < FEW_DRAWS);
    let heavy = pareto::is_heavy(k, all.len());
    let doubtful = few || heavy;
    let caveat = if few {
        "fewer than 100 effective draws a repeat: neither the value nor its standard error can be trusted; modes that the flow \
         does not reach are not counted"
    } else if heavy {
        "Pareto k of the weights is above .7: their variance is infinite or nearly so, and neither the value nor its standard error can \
         be trusted; modes that the flow does not reach are not counted"
    } else {
        "modes that the flow does not reach are not counted"
    };
    let log_z = log_mean_z(&repeats);
    Ok(FlowEstimate { log_z, repeats, nearness, pareto_k: Some(k), withheld: heavy, doubtful, caveat })
}
