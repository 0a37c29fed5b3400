//! `ember eval --features`: FID and KID of the walkers against the run's training data.

use burn::tensor::Device;
use ember_model::SampleShape;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};

use super::sample::by_weight;
use crate::cli::EvalArgs;
use crate::config::Config;
use crate::error::Error;
use crate::judging::features::{
    DEFAULT_SAMPLES, FeatureDistances, FeatureNetwork, FeatureOptions, clean, judge,
};
use crate::store::opened::Opened;
use crate::training::trainer::walkers_at_theta;
use ember_sampler::exact_draws;

/// Reads the network, before anything slow is done, once it is known that there is something to judge.
///
/// # Errors
/// A run without images, a weight file (it names no data), a file that does not hold the network.
pub(super) fn open(
    args: &EvalArgs,
    subject: &Opened,
    device: &Device,
) -> Result<Option<FeatureNetwork>, Error> {
    let Some(path) = &args.features else { return Ok(None) };
    if subject.walkers.is_none() {
        return Err(needs_run());
    }
    image_shape(subject.config.as_ref().ok_or_else(needs_run)?)?;
    FeatureNetwork::read(path, device).map(Some)
}

/// Judges a systematic draw of the walkers by weight, at the model's θ, denoised where the data had noise.
///
/// # Errors
/// Data that cannot be read, features that are not finite.
pub(super) fn distances(
    network: &FeatureNetwork,
    subject: &Opened,
    most: Option<u32>,
) -> Result<FeatureDistances, Error> {
    let config = subject.config.as_ref().ok_or_else(needs_run)?;
    let mut walkers = subject.walkers.clone().ok_or_else(needs_run)?;
    let asked = most.map(|most| most as usize);
    if subject.walkers_are_draws() {
        // As many as are asked for, not a run's few.
        let count = asked.unwrap_or(DEFAULT_SAMPLES);
        walkers = exact_draws(&subject.model, count, config.seed, subject.step)?;
    }
    let count = asked.unwrap_or(DEFAULT_SAMPLES).min(walkers.count());
    if asked.is_some_and(|asked| asked > count) {
        tracing::warn!("--feature-samples: there are {count} walkers, so {count} samples");
    }
    let walkers = walkers_at_theta(&subject.model, walkers, subject.is_weighted());
    let samples = by_weight(walkers, count, Stream::new(config.seed, Purpose::Sample));
    let data = config.dataset.as_dyn().generate(config.seed)?;
    let noise = config.dataset.as_dyn().augmentation().noise;
    let (position, treatment) = clean(&subject.model, samples.position, noise);
    let options = FeatureOptions {
        samples: asked.unwrap_or(count),
        subset_size: None,
        seed: config.seed,
        reference: format!("the training data ({})", config.dataset.kind()),
        treatment,
    };
    judge(network, &download(position), image_shape(config)?, &data.train, &options)
}

fn image_shape(config: &Config) -> Result<[usize; 3], Error> {
    match config.dataset.as_dyn().shape() {
        SampleShape::Image(shape) => Ok(shape),
        flat @ SampleShape::Flat(_) => Err(Error::usage(format!(
            "--features evaluates images; the run's {} has samples of shape {flat}",
            config.dataset.kind()
        ))),
    }
}

fn needs_run() -> Error {
    Error::usage(
        "--features needs walkers and the data they are compared with: a run or a checkpoint, not a weight file",
    )
}
