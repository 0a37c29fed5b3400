//! `--ladder`: parallel tempering over a run's own checkpoints (`ember_sampler::evidence::ladder`), with the start of the run as the lowest
//! rung where it can be drawn.
//!
//! The candidates are the checkpoints that the run kept, up to the one asked for; the fewest are taken whose neighbours still exchange.
//! Rungs are moved by the run's own kernel where that leaves a model invariant and needs no flow, else by MALA: never by ULA.

use std::path::PathBuf;

use burn::tensor::Tensor;
use ember_model::energy::blockwise::Blockwise;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::evidence::ladder::{
    Foot, LadderOptions, Rung, Spacing, Tempered, refined, spaced, temper,
};
use ember_sampler::evidence::{AUDIT_LANE, Ensembles};
use ember_sampler::kernel::Mala;
use ember_sampler::statistics::Estimate;
use ember_sampler::{Boundary, KernelConfig, Walkers, WeightRule};
use serde::Serialize;

use crate::error::Error;
use crate::logging::Listener;
use crate::store::checkpoint::{self, dir_name};
use crate::store::opened::{self, Opened};
use crate::view::draw::by_weight;

/// The least mean acceptance of exchanges that the pilot run asks for; trials let through what exchanges a little less often.
const LEAST_SWAPS: f64 = 0.3;
const LEAST_TRIED: f64 = 0.25;
/// A pair that exchanges less often holds up the ladder.
const FEW_SWAPS: f64 = 0.15;
/// Ladders come in this many groups: the repeats of whatever is measured of the top rung.
const REPEATS: usize = 8;
/// Beyond this many coordinates a sample costs a network of an image's size.
const LARGE: usize = 256;

/// Sizes of a ladder, where they were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct LadderSizes {
    /// Independent ladders.
    pub ladders: Option<usize>,
    /// Sweeps that count.
    pub sweeps: Option<usize>,
    /// Kernel steps of each rung in a sweep.
    pub moves: Option<usize>,
}

/// One rung as it was found.
#[derive(Clone, Debug, Serialize)]
pub struct RungReport {
    /// Updates of the checkpoint; 0 is the start of the run.
    pub step: u64,
    /// `log ∫ e^{−U}`, where that of the lowest rung is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_z: Option<Estimate>,
    /// Fraction of the exchanges with the rung above that were made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_rate: Option<f64>,
    /// Fraction of local moves that were taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_rate: Option<f64>,
    /// The kernel's step size there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_size: Option<f64>,
}

/// What a ladder found.
#[derive(Clone, Debug, Serialize)]
pub struct LadderReport {
    /// Lowest first.
    pub rungs: Vec<RungReport>,
    /// Checkpoints that there were to choose from, the start included.
    pub candidates: usize,
    /// Independent ladders.
    pub ladders: usize,
    /// Sweeps that count.
    pub sweeps: usize,
    /// Sweeps before those.
    pub burn_in: usize,
    /// Kernel steps of each rung in a sweep.
    pub moves: usize,
    /// What moves the rungs.
    pub kernel: KernelConfig,
    /// Ways from the lowest rung to the top and back, all ladders together.
    pub round_trips: usize,
    /// Ladders that made at least one.
    pub ladders_with_round_trips: usize,
    /// Of the top rung, each rung weighted to the one above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_z_forward: Option<Estimate>,
    /// Of the top rung, each rung weighted to the one below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_z_reverse: Option<Estimate>,
    /// Kernel steps of one chain, all rungs and ladders together, but for the choice of rungs.
    pub kernel_steps: u64,
    /// Whether the ladders hardly pass, so that the top rung is not to be trusted; `caveat` says why.
    pub doubtful: bool,
    /// What the figures do not tell.
    pub caveat: &'static str,
}

/// A ladder that was run.
pub struct Climbed {
    /// What was found.
    pub report: LadderReport,
    found: Tempered,
}

impl Climbed {
    /// log Z of the model, where there is an exact start.
    pub fn log_z(&self) -> Option<Estimate> {
        self.report.rungs.last().and_then(|rung| rung.log_z)
    }

    /// The points kept of the top rung, oldest first, `[n, dim]`.
    pub fn samples(&self) -> Tensor<2> {
        Tensor::cat(self.found.top.clone(), 0)
    }

    /// The same as 8 repeats of walkers of equal weights, of independent ladders each.
    pub fn ensembles(&self, model: &EnergyModel) -> Ensembles {
        let log_z = self.log_z().map_or(f64::NAN, |log_z| log_z.value);
        let walkers = Walkers::new(&Blockwise(model.clone()), self.found.grouped(REPEATS), log_z);
        Ensembles::new(walkers, REPEATS, AUDIT_LANE)
    }
}

/// A candidate for a rung.
enum Candidate {
    Model(Box<EnergyModel>),
    Checkpoint(PathBuf),
}

/// A ladder that can be run: its sizes, and what its rungs are chosen from.
pub struct Planned<'a> {
    subject: &'a Opened,
    /// Each with its update, the lowest first.
    candidates: Vec<(u64, Candidate)>,
    sizes: LadderSizes,
    kept: usize,
    seed: u64,
}

impl<'a> Planned<'a> {
    /// Ladders over the checkpoints of a subject's run, up to the subject. The top rung's points are to be kept `kept` times. Nothing is run.
    ///
    /// # Errors
    /// A weight file, a run of a flow or of one checkpoint; a checkpoint that cannot be read.
    pub fn of(subject: &'a Opened, sizes: LadderSizes, kept: usize, seed: u64) -> Result<Self, Error> {
        Ok(Self { subject, candidates: candidates(subject)?, sizes, kept, seed })
    }

    /// Whether [`Climbed::log_z`] will be there: that of the lowest rung is known.
    pub fn has_log_z(&self) -> bool {
        self.start().and_then(Energy::log_z).is_some()
    }

    /// The start of the run, where it can be drawn.
    fn start(&self) -> Option<&EnergyModel> {
        match &self.candidates[0].1 {
            Candidate::Model(model) => Some(model),
            Candidate::Checkpoint(_) => None,
        }
    }

    /// Runs the ladders.
    ///
    /// # Errors
    /// A checkpoint that cannot be read, is of another energy, or is the lowest and has no walkers; energies that are not finite.
    pub fn climb(&self) -> Result<Climbed, Error> {
        let Self { subject, candidates, sizes, kept, seed } = self;
        let (sizes, kept, seed) = (*sizes, *kept, *seed);
        let kernel = kernel(subject);
        let (model, device) = (&subject.model, subject.model.device());
        let open = |i: usize| -> Result<Rung, Error> {
            let energy = match &candidates[i].1 {
                Candidate::Model(model) => (**model).clone(),
                Candidate::Checkpoint(dir) => opened::open(dir, device)?.model,
            };
            if energy.spec() != model.spec() {
                let message =
                    format!("--ladder: the checkpoint of update {} is of another energy", candidates[i].0);
                return Err(Error::usage(message));
            }
            let step_size = subject.step_size.or(kernel.as_dyn().step_size()).unwrap_or_default();
            Ok(Rung {
                energy: Box::new(Blockwise(energy)),
                kernel: kernel.as_dyn().with_step_size(step_size),
            })
        };
        let first = self.start();
        let draw = |count, stream| first.and_then(|model| model.draw(count, stream)).unwrap_or_default();
        let foot = match (first.and_then(Energy::log_z), &candidates[0].1) {
            (Some(log_z), _) => Foot::Exact { log_z, draw: &draw },
            (None, Candidate::Checkpoint(dir)) => Foot::Points(points(&opened::open(dir, device)?, seed)?),
            (None, Candidate::Model(_)) => Foot::Points(points(subject, seed)?),
        };
        let listener = Listener::default();
        let large = model.dim() > LARGE;
        let spacing = Spacing {
            least: LEAST_SWAPS,
            walkers: if large { 128 } else { 1_024 },
            moves: 8,
            seed,
            progress: &listener,
        };
        let chosen = spaced(candidates.len(), open, &foot, device, spacing)?;
        let ladders = sizes.ladders.unwrap_or(if large { 32 } else { 128 }).next_multiple_of(REPEATS);
        let moves = sizes.moves.unwrap_or(5);
        let trial = LadderOptions {
            ladders: 32,
            sweeps: 20,
            burn_in: 20,
            moves,
            kept: 1,
            seed: !seed,
            progress: &listener,
        };
        let chosen = refined(chosen, open, &foot, device, LEAST_TRIED, trial)?;
        let (numbers, mut rungs): (Vec<usize>, Vec<Rung>) = chosen.into_iter().unzip();
        // Way up and down through n rungs takes a few sweeps a rung.
        let sweeps = sizes.sweeps.unwrap_or((10 * rungs.len()).max(200)).max(2 * kept);
        let options =
            LadderOptions { ladders, sweeps, burn_in: sweeps / 2, moves, kept, seed, progress: &listener };
        let found = temper(&mut rungs, &foot, device, options)?;
        let steps: Vec<u64> = numbers.iter().map(|&number| candidates[number].0).collect();
        let adjacent: Vec<bool> = numbers.windows(2).map(|pair| pair[1] - pair[0] == 1).collect();
        warn_of_gaps(&steps, &adjacent, &found.swap_rates);
        Ok(Climbed { report: report(&steps, candidates.len(), kernel, options, &found), found })
    }
}

/// The start of the run where it can be drawn, the checkpoints in between, and the subject itself; each with its update.
fn candidates(subject: &Opened) -> Result<Vec<(u64, Candidate)>, Error> {
    let Some(config) = &subject.config else {
        return Err(Error::usage(
            "--ladder: the rungs of a ladder are the checkpoints of a run, and a weight file has none: give the run folder",
        ));
    };
    if subject.model.flow().is_some() {
        return Err(Error::usage(
            "--ladder: the model is a flow, which is drawn exactly and has log Z = 0: no ladder is needed, leave it out",
        ));
    }
    let Some(run) = &subject.run else {
        return Err(Error::usage(
            "--ladder: the rungs of a ladder are the checkpoints of a run, and this checkpoint lies in no run folder: give the run folder",
        ));
    };
    let mut kept = checkpoint::kept(run)?;
    kept.retain(|&(step, _)| step <= subject.step);
    if kept.len() < 2 {
        let output = &config.output;
        return Err(Error::usage(format!(
            "--ladder: the run keeps one checkpoint up to update {}, and a ladder needs several: train with a smaller \
             output.checkpoint_every (now {}) and a larger output.keep_checkpoints (now {}), such as 1000",
            subject.step, output.checkpoint_every, output.keep_checkpoints
        )));
    }
    let mut candidates: Vec<(u64, Candidate)> = Vec::with_capacity(kept.len() + 1);
    let start = match subject.model.is_discrete() {
        // The first checkpoint without its couplings.
        true => Some(opened::open(&kept[0].1, subject.model.device())?.model.start()),
        false => start(&subject.model, config.seed)?,
    };
    if let Some(start) = start {
        candidates.push((0, Candidate::Model(Box::new(start))));
    }
    for (step, dir) in kept {
        if step > 0 || candidates.is_empty() {
            let top = step == subject.step;
            let found = match top {
                true => Candidate::Model(Box::new(subject.model.clone())),
                false => Candidate::Checkpoint(dir),
            };
            candidates.push((step, found));
        }
    }
    Ok(candidates)
}

/// The model that the run started from, if it can be drawn and its log Z is known: a new θ of the run's seed, but for what training leaves
/// alone (a base, a frozen bias). A model of another θ would serve as well: what makes it exact is the draw.
fn start(model: &EnergyModel, seed: u64) -> Result<Option<EnergyModel>, Error> {
    let fresh = EnergyModel::init(model.spec().clone(), seed, model.device())?;
    let frozen = model.params().into_iter().map(|param| param.learning_rate_scale == 0.0);
    let theta = frozen.zip(fresh.theta().iter().zip(model.theta()));
    let theta = theta.map(|(frozen, (new, old))| if frozen { old.clone() } else { new.clone() }).collect();
    let mut start = fresh.with_theta(theta);
    if let (Some(_), Some(base)) = (model.tilt_part(), model.flow_part()) {
        start = start.with_base(base.theta());
    }
    let stream = Stream::new(seed, Purpose::Anneal);
    Ok((start.log_z().is_some() && start.draw(1, stream).is_some()).then_some(start))
}

/// What moves the rungs.
fn kernel(subject: &Opened) -> KernelConfig {
    let own = subject.kernel_config();
    let kernel = own.as_dyn();
    if kernel.weight_rule() == WeightRule::Invariant && !kernel.needs_proposals() {
        return own;
    }
    let model = &subject.model;
    let boundary = Boundary::of(model.spec().support);
    KernelConfig::Mala(Mala { boundary, ..Mala::new(0.5 / (model.dim() as f64).cbrt()) })
}

/// The walkers of a checkpoint by weight, row-major: nearly draws of its model.
fn points(subject: &Opened, seed: u64) -> Result<Vec<f32>, Error> {
    let Some(walkers) = subject.walkers.clone() else {
        return Err(Error::usage(
            "--ladder: the lowest checkpoint has no walkers and its model cannot be drawn",
        ));
    };
    let model = &subject.model;
    let walkers = if subject.is_weighted() { walkers.reweight(model) } else { walkers.unweighted() };
    let stream = Stream::new(seed, Purpose::Anneal);
    let picked = by_weight(&walkers, walkers.count(), stream.uniform_f64(0));
    let order = stream.permutation(picked.len());
    let (rows, dim) = (download(walkers.position.clone()), walkers.dim());
    Ok(order.iter().flat_map(|&slot| rows[picked[slot as usize] * dim..][..dim].iter().copied()).collect())
}

/// Names the pairs that hold up the ladder.
fn warn_of_gaps(steps: &[u64], adjacent: &[bool], rates: &[f64]) {
    let name = |step: u64| if step == 0 { "the start of the run".to_owned() } else { dir_name(step) };
    for (i, &rate) in rates.iter().enumerate().filter(|(_, rate)| **rate < FEW_SWAPS) {
        let (from, to) = (steps[i], steps[i + 1]);
        let remedy = if adjacent[i] {
            format!(
                "the run keeps no checkpoint between them: train with output.checkpoint_every below {} and an output.keep_checkpoints \
                 that keeps them all, such as 1000",
                to - from
            )
        } else {
            "trials found no better rung between them".to_owned()
        };
        tracing::warn!(
            "--ladder: {} and {} exchange in {rate:.3} of the attempts, too far apart for a ladder to pass: {remedy}",
            name(from),
            name(to)
        );
    }
}

fn report(
    steps: &[u64],
    candidates: usize,
    kernel: KernelConfig,
    options: LadderOptions<'_>,
    found: &Tempered,
) -> LadderReport {
    let log_z = found.log_z();
    let with_start =
        |ratio: Estimate| found.log_z_start.map(|start| Estimate { value: start + ratio.value, ..ratio });
    let round_trips = found.all_round_trips();
    let blocked = found.swap_rates.iter().any(|&rate| rate < 0.25 * FEW_SWAPS);
    let doubtful = blocked || round_trips < options.ladders;
    let caveat = if blocked {
        "two rungs hardly exchange: neither log Z nor its standard error can be trusted; keep more checkpoints"
    } else if doubtful {
        "fewer round trips than ladders: the top rung still shows where its chains began, and neither log Z nor its standard error can \
         be trusted; take more sweeps"
    } else {
        "modes that no rung's chains visit are not counted"
    };
    LadderReport {
        rungs: (0..steps.len())
            .map(|i| RungReport {
                step: steps[i],
                log_z: log_z.as_ref().map(|log_z| log_z[i]),
                swap_rate: found.swap_rates.get(i).copied(),
                accept_rate: found.accept_rates[i],
                step_size: found.step_sizes[i],
            })
            .collect(),
        candidates,
        ladders: options.ladders,
        sweeps: options.sweeps,
        burn_in: options.burn_in,
        moves: options.moves,
        kernel,
        round_trips,
        ladders_with_round_trips: found.round_trips.iter().filter(|&&trips| trips > 0).count(),
        log_z_forward: with_start(found.log_ratios.forward),
        log_z_reverse: with_start(found.log_ratios.reverse),
        kernel_steps: found.kernel_steps,
        doubtful,
        caveat,
    }
}
