//! `ember sample`: draws from a run, a checkpoint or a weight file.

use burn::tensor::{Int, Tensor, TensorData};
use ember_model::energy::blockwise::Blockwise;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, MOST_NUMBERS, SampleShape};
use ember_sampler::{Noise, Walkers};

use crate::cli::SampleArgs;
use crate::error::Error;
use crate::judging::bits::Bits;
use crate::judging::eval_options::EvalOptions;
use crate::judging::ladder::{LadderReport, LadderSizes, Planned};
use crate::logging::Listener;
use crate::memory::{self, Sizes};
use crate::store::opened::{self, Opened};
use crate::store::samples::Samples;
use crate::training::trainer::walkers_at_theta;
use crate::view::denoise::denoised;
use crate::{device, logging};
use ember_sampler::evidence::smc::{self, AnnealedPath, SmcOptions};

/// Ladders of `--ladder` where more samples are asked for, sweeps between two that are kept, and sweeps at the least.
const MOST_LADDERS: usize = 256;
const APART: usize = 5;
const LEAST_SWEEPS: usize = 200;
/// Lane of the generator that sampling uses, apart from training's.
const LANE: u32 = 1 << 18;

pub(super) fn run(args: &SampleArgs) -> Result<(), Error> {
    logging::init();
    if args.count == 0 {
        return Err(Error::usage("--count 0: expected at least 1 sample"));
    }
    Samples::check_path(&args.out)?;
    let selected = device::select(&args.device.device)?;
    let mut subject = opened::open(&args.path, &selected.device)?;
    selected.check_precision(subject.model.spec().precision, &args.path)?;
    if args.ema {
        subject = subject.averaged(&args.path)?;
    }
    if let Some(level) = args.level {
        subject = subject.at_level(level)?;
    }
    let image = match subject.model.spec().shape {
        SampleShape::Image(shape) => Some(shape),
        SampleShape::Flat(_) => None,
    };
    Samples::check_shape(&args.out, image)?;
    let dim = subject.model.dim();
    if args.count.checked_mul(dim).is_none_or(|numbers| numbers > MOST_NUMBERS) {
        return Err(Error::usage(format!(
            "--count {}: samples of {dim} coordinates are more than {MOST_NUMBERS} numbers, the most a tensor can hold",
            args.count
        )));
    }
    let room = selected.room();
    let need = |walkers| Sizes { dim, walkers, ..Sizes::default() }.need(&room);
    memory::check_count("--count", args.count, need, &room)?;
    let sigma = args.denoise.then(|| data_noise(&subject, args)).transpose()?;
    let (mut walkers, step_size) = match args.ladder.sizes() {
        Some(sizes) => (climbed(&subject, sizes, args)?, None),
        None => draw(&subject, args)?,
    };
    subject.step_size = subject.step_size.or(step_size);
    if args.steps > 0 {
        let kernel = subject.kernel()?;
        // The last one fits, and so do all before it.
        let numbers = kernel.noise_steps();
        Noise::at(args.seed, LANE, args.steps - 1, numbers, 0)?;
        let noise = |step: u64| Noise { seed: args.seed, lane: LANE, step: step * numbers };
        let model = &subject.model;
        walkers = kernel.steps(model, model, walkers, args.steps, &noise).0;
    }
    if let Some(sigma) = sigma {
        walkers.position = denoised(&subject.model, walkers.position, sigma);
        walkers.energy = subject.model.energy(walkers.position.clone());
    }
    let samples = Samples {
        n: walkers.count(),
        dim: walkers.dim(),
        image,
        bits: subject.model.is_discrete(),
        samples: download(walkers.position),
        energy: download(walkers.energy),
        log_weights: download(walkers.log_weights.value()),
    };
    samples.write(&args.out)?;
    super::print(&format!("{}\n", args.out.display()))
}

/// The standard deviation of the noise in the run's data.
fn data_noise(subject: &Opened, args: &SampleArgs) -> Result<f64, Error> {
    let path = args.path.display();
    let Some(config) = &subject.config else {
        return Err(Error::usage(format!(
            "--denoise: {path} does not say what noise the data had; a run or a checkpoint was expected"
        )));
    };
    let sigma = config.dataset.as_dyn().augmentation().noise;
    if sigma > 0.0 {
        return Ok(sigma);
    }
    Err(Error::usage(format!(
        "--denoise: the data of {path} had no noise (`[dataset]` in its config), so there is none to take away"
    )))
}

/// `count` walkers with equal weights, at the model's θ; and MALA's step size there, where it was found on the way and the subject names no
/// kernel.
fn draw(subject: &Opened, args: &SampleArgs) -> Result<(Walkers, Option<f64>), Error> {
    let model = &subject.model;
    let stream = Stream::new(args.seed, Purpose::Sample);
    // Exact draws of the model in place of a run's few.
    if let Some(walkers) = subject.walkers.clone().filter(|_| !subject.walkers_are_draws()) {
        let weighted = subject.is_weighted();
        let walkers = walkers_at_theta(model, walkers, weighted);
        return Ok((by_weight(walkers, args.count, stream), None));
    }
    if let Some(values) = model.draw(args.count, stream) {
        return Ok((at(model, values), None));
    }
    if model.is_discrete() {
        tracing::warn!(
            "a bare weight file of a law of bits: sampling it by annealing its parameters from the law without couplings; modes that does \
             not visit are missing (`ember export --walkers` takes the training walkers along)"
        );
        let options = EvalOptions {
            repeats: 2,
            seed: args.seed,
            smc_walkers: Some(args.count.max(256)),
            ..EvalOptions::default()
        };
        let listener = Listener::default();
        let (ensembles, _) = Bits { model, options: &options, progress: &listener }.smc()?;
        return Ok((by_weight(ensembles.pooled(), args.count, stream), None));
    }
    match model.level_noise() {
        0.0 => tracing::warn!(
            "a bare weight file: sampling it by tempered SMC from its tractable start; modes the SMC \
             does not visit are missing (`ember export --walkers` takes the training walkers along)"
        ),
        sigma => tracing::warn!(
            "--level: sampling the energy at σ = {sigma} by tempered SMC from its tractable start, for walkers are of level 1; modes the \
             SMC does not visit are missing"
        ),
    }
    let options =
        SmcOptions { walkers: args.count.max(1_000), seed: args.seed, repeats: 2, ..SmcOptions::default() };
    let listener = Listener::default();
    let path = AnnealedPath::of(model).ok_or(ember_sampler::Error::NoStart)?.telling(&listener);
    let result = smc::along(&path, options)?;
    let step_size = subject.config.is_none().then_some(result.step_size);
    Ok((by_weight(result.ensembles.pooled(), args.count, stream), step_size))
}

/// `count` points of the top rung of a ladder over the run's checkpoints: the newest ones of as many sweeps as it takes.
fn climbed(subject: &Opened, sizes: LadderSizes, args: &SampleArgs) -> Result<Walkers, Error> {
    let ladders = sizes.ladders.unwrap_or(args.count.min(MOST_LADDERS)).max(2).next_multiple_of(8);
    let kept = args.count.div_ceil(ladders);
    let least = (APART * kept).max(LEAST_SWEEPS);
    let sizes = LadderSizes { ladders: Some(ladders), sweeps: sizes.sweeps.or(Some(least)), ..sizes };
    let found = Planned::of(subject, sizes, kept, args.seed)?.climb()?;
    let LadderReport { rungs, round_trips, doubtful, caveat, .. } = &found.report;
    let swaps = rungs.iter().filter_map(|rung| rung.swap_rate);
    let (least, most) =
        swaps.fold((1.0_f64, 0.0_f64), |(least, most), rate| (least.min(rate), most.max(rate)));
    tracing::info!(
        "ladder of {} rungs: swap rates {least:.2} to {most:.2}, {round_trips} round trips in {ladders} ladders",
        rungs.len()
    );
    if *doubtful {
        tracing::warn!("--ladder: {caveat} (--ladder-sweeps N)");
    }
    let samples = found.samples();
    let rows = samples.dims()[0];
    Ok(Walkers::new(
        &Blockwise(subject.model.clone()),
        samples.narrow(0, rows - args.count, args.count),
        f64::NAN,
    ))
}

fn at(model: &EnergyModel, values: Vec<f32>) -> Walkers {
    let dim = model.dim();
    let rows = values.len() / dim;
    let position = Tensor::from_data(TensorData::new(values, [rows, dim]), model.device());
    Walkers::new(model, position, f64::NAN)
}

/// A systematic draw of `count` walkers by weight, in a shuffled order.
pub(super) fn by_weight(walkers: Walkers, count: usize, stream: Stream) -> Walkers {
    let picked = crate::view::draw::by_weight(&walkers, count, stream.uniform_f64(0));
    let mut distinct = picked.clone();
    distinct.dedup();
    if distinct.len() < count {
        tracing::warn!(
            "{} of the {count} samples repeat another: there are {} walkers, {} of them drawn; `--steps K` moves them apart",
            count - distinct.len(),
            walkers.count(),
            distinct.len()
        );
    }
    let order = stream.lane(1).permutation(count);
    let picked: Vec<i32> = order.iter().map(|&slot| picked[slot as usize] as i32).collect();
    let device = walkers.position.device();
    let picked = Tensor::<1, Int>::from_data(TensorData::new(picked, [count]), &device);
    walkers.resampled(picked, 0.0)
}
