//! `ember eval --mixing`: how a run's own kernel mixes at its θ, along chains that start at its walkers, drawn by weight.

use burn::tensor::{Int, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::Walkers;
use ember_sampler::diagnostics::chains::{LANE, MOST_CHAINS};
use ember_sampler::diagnostics::{ChainOptions, Mixing, along};
use ember_sampler::evidence::smc::AnnealedPath;

use crate::dataset::Modes;
use crate::error::Error;
use crate::logging::Listener;
use crate::store::opened::Opened;
use crate::view::draw::by_weight;

/// [`along`] for a subject's own kernel, from its walkers (at the model's θ) by weight, else from draws of the model, else of its
/// tractable start. `modes` are the data's, where they are known.
///
/// # Errors
/// A kernel that needs a flow where there is none, nothing to start from, or as [`along`].
pub fn of_subject(
    subject: &Opened,
    walkers: Option<&Walkers>,
    modes: Option<&Modes>,
    steps: usize,
    seed: u64,
) -> Result<Mixing, Error> {
    let model = &subject.model;
    let (position, starts) = starts(model, walkers, seed)?;
    let kernel = subject.kernel()?;
    let mode_of = modes.map(|modes| |x: &[f64]| modes.of(x));
    let options = ChainOptions {
        mode_of: mode_of.as_ref().map(|mode_of| mode_of as &dyn Fn(&[f64]) -> usize),
        progress: &Listener::default(),
        ..ChainOptions::new(steps, seed)
    };
    let seen = along(model, &*kernel, position, options).map_err(named)?;
    Ok(seen.named(subject.kernel_config(), starts))
}

/// At most [`MOST_CHAINS`] starting positions, `[chains, dim]`, and what they are.
fn starts(
    model: &EnergyModel,
    walkers: Option<&Walkers>,
    seed: u64,
) -> Result<(Tensor<2>, &'static str), Error> {
    let stream = Stream::new(seed, Purpose::Sample).lane(LANE);
    if let Some(walkers) = walkers {
        let chains = walkers.count().min(MOST_CHAINS);
        let picked =
            by_weight(walkers, chains, stream.uniform_f64(0)).into_iter().map(|i| i as i32).collect();
        return Ok((walkers.position.clone().select(0, indices(picked, model)), "walkers"));
    }
    let start = || AnnealedPath::of(model).map(|path| (path.start().draw(MOST_CHAINS, stream), "start"));
    let near = || model.start().draw(MOST_CHAINS, stream).map(|rows| (rows, "start"));
    let draws = model.draw(MOST_CHAINS, stream).map(|rows| (rows, "draws"));
    let (rows, starts) = draws.or_else(start).or_else(near).ok_or_else(|| {
        Error::usage(
            "--mixing: no walkers to start from, and the model has neither exact draws nor a tractable start: give the run, or take \
             the walkers along (`ember export --walkers`)",
        )
    })?;
    Ok((Tensor::from_data(TensorData::new(rows, [MOST_CHAINS, model.dim()]), model.device()), starts))
}

fn indices(picked: Vec<i32>, model: &EnergyModel) -> Tensor<1, Int> {
    let count = picked.len();
    Tensor::from_data(TensorData::new(picked, [count]), model.device())
}

fn named(error: ember_sampler::Error) -> Error {
    match error {
        ember_sampler::Error::NotFinite(message) => Error::failed(format!("--mixing: {message}")),
        other => other.into(),
    }
}
