//! `ember eval`: judges a run, a checkpoint or a weight file.

use std::path::Path;

use ember_model::SampleShape;

use crate::ais::AisOptions;
use crate::cli::EvalArgs;
use crate::dataset::load_any;
use crate::error::Error;
use crate::judging::eval::{Evaluation, evaluate_with};
use crate::judging::eval_options::EvalOptions;
use crate::judging::ood::Against;
use crate::store::metrics::EvalWriter;
use crate::store::record::{self, Opened};
use crate::{device, logging};

pub(super) fn run(args: &EvalArgs) -> Result<(), Error> {
    logging::init();
    let selected = device::select(&args.device.device)?;
    let mut subject = record::open(&args.path, &selected.device)?;
    selected.check_precision(subject.model.spec().precision, &args.path)?;
    if args.ema {
        subject = subject.averaged(&args.path)?;
    }
    let network = super::features::open(args, &subject, &selected.device)?;
    let seed = subject.config.as_ref().map_or(0, |config| config.seed);
    let mut evaluation = evaluate_with(&subject, &options(args, &subject, seed)?)?;
    if let Some(network) = &network {
        evaluation.features = Some(super::features::distances(network, &subject, args.feature_samples)?);
    }
    let value = match &subject.run {
        Some(run) => keep(run, &evaluation)?,
        None => value_of(&evaluation)?,
    };
    if args.json {
        return super::print(&format!("{value}\n"));
    }
    super::print(&super::summary::table(&evaluation))
}

/// Adds an evaluation to the `eval.jsonl` of its run. A read-only run folder can still be judged.
pub(super) fn keep(run: &Path, evaluation: &Evaluation) -> Result<serde_json::Value, Error> {
    let value = value_of(evaluation)?;
    if let Err(error) = EvalWriter::append(run, &value) {
        tracing::warn!("{error}: the result is not kept in the run folder");
    }
    Ok(value)
}

fn value_of(evaluation: &Evaluation) -> Result<serde_json::Value, Error> {
    serde_json::to_value(evaluation)
        .map_err(|error| Error::failed(format!("the evaluation cannot be written as JSON: {error}")))
}

fn options(args: &EvalArgs, subject: &Opened, seed: u64) -> Result<EvalOptions, Error> {
    let ais = args.ais.then(|| AisOptions {
        chains: args.chains as usize,
        temperatures: args.temperatures.map(|count| count as usize),
        seed,
        ..AisOptions::default()
    });
    let shape = subject.model.spec().shape;
    let like = match shape {
        SampleShape::Image(shape) => Some(shape),
        SampleShape::Flat(_) => None,
    };
    let against = match &args.against {
        None => None,
        Some(dir) => Some(Against::new(dir, load_any(dir, like)?, shape)?),
    };
    Ok(EvalOptions {
        repeats: args.repeats as usize,
        seed,
        smc_walkers: args.smc_walkers.map(|count| count as usize),
        smc_moves: args.smc_moves.map(|count| count as usize),
        smc_ess: args.smc_ess,
        estimators: args.estimators.clone(),
        mixing: args.mixing.map(|steps| steps as usize),
        ais,
        against,
    })
}
