//! log Z by every estimator that is available, and the one that is reported as the model's.
//!
//! The order is exact, which an enumeration of all states is too, > `audit` > `ladder` > `smc` > `importance`; the on-line value of the training walkers is biased low and never counts
//! (ALGORITHMS 1.6). An estimator whose value is not finite gives way to the next, and says so. With a flow, importance and bridge sampling cost a few thousand energies and stand beside the first one.

use burn::tensor::{Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::{FlowProposal, Walkers};
use serde::Serialize;

use crate::error::Error;
use crate::judging::bits::Bits;
use crate::judging::estimator::Estimator;
use crate::judging::eval_options::EvalOptions;
use crate::judging::ladder::{Climbed, LadderReport, Planned};
use crate::logging::Listener;
use ember_sampler::evidence::Ensembles;
use ember_sampler::evidence::smc::{self, AnnealedPath};
use ember_sampler::evidence::{FlowEstimate, FlowOptions, bridge, importance};
use ember_sampler::statistics::{Estimate, t95};

/// With fewer starting walkers represented per repeat, a repeat rests on a handful of families and they agree by chance.
const FEW_ANCESTORS: usize = 10;
/// The name of log Z by [`Climbed`].
const LADDER: &str = "ladder";
/// Lane of the exact draws that a bridge takes where the model can be drawn.
const DRAWS_LANE: u32 = (1 << 22) + (1 << 21);

/// An estimate of log Z.
#[derive(Clone, Debug, Serialize)]
pub struct LogZ {
    /// The estimate.
    pub value: f64,
    /// Its standard error over independent repeats; 0 where exact.
    pub standard_error: f64,
    /// `exact`, `enumeration`, `audit`, `ladder`, `smc` or `importance`.
    pub method: &'static str,
    /// Independent repeats behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<usize>,
    /// `[low, high]`: the 95 % interval by Student's t with repeats − 1 degrees of freedom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_95: Option<[f64; 2]>,
    /// Temperatures of the tempered SMC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperatures: Option<usize>,
    /// Starting walkers still represented in all repeats together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinct_ancestors: Option<usize>,
    /// What the figure does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caveat: Option<&'static str>,
}

impl LogZ {
    fn exact(value: f64) -> Self {
        Self::known(value, "exact")
    }

    fn known(value: f64, method: &'static str) -> Self {
        Self {
            value,
            standard_error: 0.0,
            method,
            repeats: None,
            interval_95: None,
            temperatures: None,
            distinct_ancestors: None,
            caveat: None,
        }
    }

    fn of(estimate: &LogZEstimate) -> Self {
        let half = t95(estimate.repeats - 1) * estimate.standard_error;
        Self {
            standard_error: estimate.standard_error,
            method: estimate.method,
            repeats: Some(estimate.repeats),
            interval_95: Some([estimate.value - half, estimate.value + half]),
            caveat: Some(estimate.caveat),
            ..Self::exact(estimate.value)
        }
    }
}

/// log Z by one estimator, to be compared with the others'.
#[derive(Clone, Debug, Serialize)]
pub struct LogZEstimate {
    /// `audit`, `ladder`, `smc`, `importance` or `bridge`.
    pub method: &'static str,
    /// The estimate.
    pub value: f64,
    /// Its standard error over the repeats.
    pub standard_error: f64,
    /// Independent repeats behind it.
    pub repeats: usize,
    /// Importance sampling: ess fraction of the model's density over the flow's, under the flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ess_fraction: Option<f64>,
    /// Importance sampling: Pareto k̂ of those weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pareto_k: Option<f64>,
    /// Whether k̂ is above .7, so that the value is never taken as the model's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
    /// Bridge sampling: overlap of flow and model, in (0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<f64>,
    /// Whether too little came through for the standard error to be trusted; `caveat` says what.
    pub doubtful: bool,
    /// What the figure does not tell.
    pub caveat: &'static str,
}

impl LogZEstimate {
    fn of_ensembles(ensembles: &Ensembles, method: &'static str, ancestors: usize) -> Self {
        let (estimate, repeats) = (ensembles.log_z(), ensembles.log_z.len());
        let doubtful = ancestors < FEW_ANCESTORS * repeats;
        let caveat = if doubtful {
            "too few starting walkers still have descendants: the standard error cannot be trusted; take more moves and temperatures \
             or walkers; modes that no repeat visits are not counted"
        } else {
            "modes that no repeat visits are not counted"
        };
        Self {
            method,
            value: estimate.value,
            standard_error: estimate.standard_error,
            repeats,
            ess_fraction: None,
            pareto_k: None,
            withheld: false,
            overlap: None,
            doubtful,
            caveat,
        }
    }

    /// `None` where the lowest rung's log Z is not known.
    fn of_ladder(climbed: &Climbed) -> Option<Self> {
        let Estimate { value, standard_error } = climbed.log_z()?;
        Some(Self {
            method: LADDER,
            value,
            standard_error,
            repeats: climbed.report.ladders,
            ess_fraction: None,
            pareto_k: None,
            withheld: false,
            overlap: None,
            doubtful: climbed.report.doubtful,
            caveat: climbed.report.caveat,
        })
    }

    fn of_flow(method: Estimator, found: &FlowEstimate) -> Self {
        let Estimate { value, standard_error } = found.log_z;
        let of = |estimator: Estimator| (method == estimator).then_some(found.nearness);
        Self {
            method: method.name(),
            value,
            standard_error,
            repeats: found.repeats.len(),
            ess_fraction: of(Estimator::Importance),
            pareto_k: found.pareto_k,
            withheld: found.withheld,
            overlap: of(Estimator::Bridge),
            doubtful: found.doubtful,
            caveat: found.caveat,
        }
    }
}

/// Independent weighted walkers at the model's θ, and what they are called.
pub type Independent = (Ensembles, &'static str);

/// What was found.
pub struct Found {
    /// The one to report.
    pub log_z: LogZ,
    /// Each estimator's.
    pub estimates: Vec<LogZEstimate>,
    /// The walkers behind `log_z` where it is an estimate by walkers.
    pub independent: Option<Independent>,
    /// Estimators that were tried and gave no finite value, each with what was found.
    pub failures: Vec<Failure>,
    /// The ladder, where one was run.
    pub ladder: Option<LadderReport>,
}

/// An estimator of log Z that was tried and failed: the next one took its place.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// `audit`, `smc`, `importance` or `bridge`.
    pub method: &'static str,
    /// What was found.
    pub message: String,
}

/// log Z of a model, with its audit and with a flow that covers it where there are such.
///
/// # Errors
/// As [`log_z_beside`].
pub fn log_z(
    model: &EnergyModel,
    audit: Option<&Ensembles>,
    flow: Option<&FlowProposal>,
    options: &EvalOptions,
) -> Result<Found, Error> {
    log_z_beside(model, audit, None, flow, options)
}

/// [`log_z`] with a ladder.
///
/// # Errors
/// Before anything is run: log Z that is not available, an estimator that was named and is not available. Then one that fails and is not
/// optional.
pub fn log_z_beside(
    model: &EnergyModel,
    audit: Option<&Ensembles>,
    ladder: Option<&Planned<'_>>,
    flow: Option<&FlowProposal>,
    options: &EvalOptions,
) -> Result<Found, Error> {
    let listener = Listener::default();
    let path = AnnealedPath::of(model).map(|path| path.telling(&listener));
    let enumerated = model.enumerated_log_z();
    let has_start = path.is_some() || model.is_discrete();
    refuse(options, enumerated.is_some(), audit.is_some(), has_start, flow.is_some())?;
    let exact = model.log_z().or(enumerated);
    let of_ladder = ladder.is_some_and(Planned::has_log_z);
    let has_any = exact.is_some() || audit.is_some() || of_ladder || has_start || flow.is_some();
    if !has_any || (options.ais.is_some() && !has_start) {
        return Err(ember_sampler::Error::NoStart.into());
    }
    let wanted =
        |estimator| options.estimators.contains(&Estimator::All) || options.estimators.contains(&estimator);
    let (mut estimates, mut failures) = (Vec::new(), Vec::new());
    let named = |estimator| options.estimators.contains(&estimator);
    let mut log_z = match (model.log_z(), enumerated) {
        (_, Some(value)) => Some(LogZ::known(value, Estimator::Enumeration.name())),
        (exact, None) => exact.map(LogZ::exact),
    };
    let mut independent: Option<Independent> = None;
    if let Some(audit) = audit {
        let mut audit = audit.clone();
        audit.walkers = audit.walkers.reweight(model);
        match audit.fault() {
            Some(fault) => failed(&mut failures, Estimator::Audit, format!("the [audit]: {fault}"), &named)?,
            None => {
                let ancestors = audit.walkers.distinct_ancestors();
                let estimate = LogZEstimate::of_ensembles(&audit, "audit", ancestors);
                log_z.get_or_insert(LogZ { distinct_ancestors: Some(ancestors), ..LogZ::of(&estimate) });
                estimates.push(estimate);
                independent = Some((audit, "audit"));
            }
        }
    }
    let ladder = ladder.map(Planned::climb).transpose()?;
    if let Some(climbed) = &ladder {
        if let Some(estimate) = LogZEstimate::of_ladder(climbed) {
            log_z.get_or_insert(LogZ::of(&estimate));
            estimates.push(estimate);
        }
        independent.get_or_insert_with(|| (climbed.ensembles(model), LADDER));
    }
    let smc_wanted = wanted(Estimator::Smc);
    if let Some(path) = path.filter(|_| log_z.is_none() || smc_wanted) {
        match smc::along(&path, options.smc(model.dim())).map_err(Error::from) {
            Ok(result) => {
                let ancestors = result.ensembles.walkers.distinct_ancestors();
                let estimate = LogZEstimate::of_ensembles(&result.ensembles, "smc", ancestors);
                log_z.get_or_insert(LogZ {
                    temperatures: Some(result.temperatures),
                    distinct_ancestors: Some(ancestors),
                    ..LogZ::of(&estimate)
                });
                estimates.push(estimate);
                independent.get_or_insert((result.ensembles, "smc"));
            }
            // A flow gives another estimate, and what is exact needs none.
            Err(error) if !named(Estimator::Smc) && (log_z.is_some() || flow.is_some()) => {
                failed(&mut failures, Estimator::Smc, error.to_string(), &named)?;
            }
            Err(error) => return Err(error),
        }
    }
    if model.is_discrete() {
        let bits = Bits { model, options, progress: &listener };
        if log_z.is_none() || smc_wanted {
            let (ensembles, temperatures) = bits.smc()?;
            let ancestors = ensembles.walkers.distinct_ancestors();
            let estimate = LogZEstimate::of_ensembles(&ensembles, "smc", ancestors);
            log_z.get_or_insert(LogZ {
                temperatures: Some(temperatures),
                distinct_ancestors: Some(ancestors),
                ..LogZ::of(&estimate)
            });
            estimates.push(estimate);
            independent.get_or_insert((ensembles, "smc"));
        }
        if let Some(ensembles) = bits.ais()? {
            // Nothing is resampled: every chain is a family of its own.
            estimates.push(LogZEstimate::of_ensembles(&ensembles, "ais", usize::MAX));
        }
    }
    let sizes = FlowOptions::for_dim(model.dim(), options.repeats, options.seed);
    for estimator in [Estimator::Importance, Estimator::Bridge] {
        let Some(flow) = flow.filter(|_| exact.is_none() || wanted(estimator)) else { continue };
        let found = match estimator {
            Estimator::Bridge => {
                let drawn = || drawn(model, sizes);
                let samples = independent.as_ref().map(|(walkers, _)| walkers.clone()).or_else(drawn);
                samples.map(|samples| bridge(model, flow, &samples, sizes))
            }
            _ => Some(importance(model, flow, sizes)),
        };
        match found {
            Some(Ok(found)) => estimates.push(LogZEstimate::of_flow(estimator, &found)),
            Some(Err(error)) => failed(&mut failures, estimator, Error::from(error).to_string(), &named)?,
            None if named(estimator) => {
                return Err(Error::usage(
                    "--estimators bridge: bridge sampling needs samples of the model beside a flow: an [audit], a tractable \
                     start for tempered SMC, or exact draws",
                ));
            }
            None => {}
        }
    }
    if log_z.is_none() {
        let found = estimates.iter().find(|estimate| estimate.method == "importance");
        if let Some(k) = found.filter(|found| found.withheld).and_then(|found| found.pareto_k) {
            let message = format!(
                "importance sampling: Pareto k of its weights is {k:.2}, above .7, so its value is withheld"
            );
            failed(&mut failures, Estimator::Importance, message, &|_| false)?;
        }
        log_z = found.filter(|found| !found.withheld).map(LogZ::of);
    }
    // Exact: nothing has to be judged by walkers.
    let independent = independent.filter(|_| exact.is_none() || model.is_discrete());
    let log_z = log_z.ok_or_else(|| none_left(&failures))?;
    let ladder = ladder.map(|climbed| climbed.report);
    Ok(Found { log_z, estimates, independent, failures, ladder })
}

/// Notes that an estimator failed, and warns: the next one takes its place. An error where it was named.
fn failed(
    failures: &mut Vec<Failure>,
    estimator: Estimator,
    message: String,
    named: &impl Fn(Estimator) -> bool,
) -> Result<(), Error> {
    if named(estimator) {
        return Err(Error::failed(format!("--estimators {}: {message}", estimator.name())));
    }
    tracing::warn!("no log Z by `{}`: {message}", estimator.name());
    failures.push(Failure { method: estimator.name(), message });
    Ok(())
}

/// Why there is no log Z at all.
fn none_left(failures: &[Failure]) -> Error {
    let found: Vec<&str> = failures.iter().map(|failure| failure.message.as_str()).collect();
    Error::failed(format!("no estimator of log Z gave a finite value: {}", found.join("; ")))
}

/// An estimator that was named and has nothing to work on.
fn refuse(
    options: &EvalOptions,
    is_enumerable: bool,
    has_audit: bool,
    has_start: bool,
    has_flow: bool,
) -> Result<(), Error> {
    for estimator in &options.estimators {
        let needs = match estimator {
            Estimator::Importance | Estimator::Bridge if !has_flow => {
                "a flow: a tilted energy has its base, a flow-assisted run its proposal"
            }
            Estimator::Enumeration if !is_enumerable => {
                "an energy of kind \"rbm\" with at most 20 hidden or 20 visible units, whose states can be counted"
            }
            Estimator::Audit if !has_audit => {
                "an [audit] in the run's config; of noise levels it is of the smallest"
            }
            Estimator::Smc if !has_start => {
                "a tractable start: energy.confinement > 0, energy.base = \"gaussian\", a flow as base, or a cube"
            }
            _ => continue,
        };
        let name = estimator.name();
        return Err(Error::usage(format!(
            "--estimators {name}: this model lacks what {name} needs: {needs}. `--estimators all` takes those that are available"
        )));
    }
    Ok(())
}

/// Exact draws of the model in R repeats; `None` where it cannot be drawn.
fn drawn(model: &EnergyModel, sizes: FlowOptions) -> Option<Ensembles> {
    let count = sizes.repeats * sizes.draws;
    let values = model.draw(count, Stream::new(sizes.seed, Purpose::Anneal).lane(DRAWS_LANE))?;
    let x = Tensor::from_data(TensorData::new(values, [count, model.dim()]), model.device());
    let walkers = Walkers::new(model, x, model.log_z()?);
    Some(Ensembles::new(walkers, sizes.repeats, DRAWS_LANE))
}
