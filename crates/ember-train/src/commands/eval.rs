//! `ember eval`: judges a run, a checkpoint or a weight file.

use ember_model::SampleShape;

use super::kept;
use crate::cli::EvalArgs;
use crate::dataset::load_any;
use crate::error::Error;
use crate::judging::eval::evaluate_with;
use crate::judging::eval_options::EvalOptions;
use crate::judging::ood::Against;
use crate::store::opened::{self, Opened};
use crate::{device, logging};
use ember_sampler::evidence::ais::AisOptions;

pub(super) fn run(args: &EvalArgs) -> Result<(), Error> {
    logging::init();
    let selected = device::select(&args.device.device)?;
    let mut subject = opened::open(&args.path, &selected.device)?;
    selected.check_precision(subject.model.spec().precision, &args.path)?;
    if args.ema {
        subject = subject.averaged(&args.path)?;
    }
    if let Some(level) = args.level {
        subject = subject.at_level(level)?;
    }
    let network = super::features::open(args, &subject, &selected.device)?;
    let seed = subject.config.as_ref().map_or(0, |config| config.seed);
    let mut evaluation = evaluate_with(&subject, &options(args, &subject, seed)?)?;
    if let Some(network) = &network {
        evaluation.features = Some(super::features::distances(network, &subject, args.feature_samples)?);
    }
    let value = match &subject.run {
        Some(run) => kept::keep(run, &evaluation)?,
        None => kept::value_of(&evaluation)?,
    };
    if args.json {
        return super::print(&format!("{value}\n"));
    }
    super::print(&super::summary::table(&evaluation))
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
        ladder: args.ladder.sizes(),
        ais,
        against,
    })
}
