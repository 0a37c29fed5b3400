//! `ember bench`: one JSON line a measurement. Times exclude start-up and warm-up and end with a device synchronisation.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::activation::Activation;
use ember_model::energy::chain::{Chain, ChainRule, ChainState};
use ember_model::flow::Mask;
use ember_model::flow::real_nvp::RealNvp;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::device::langevin_proposal;
use ember_sampler::weights::LogWeights;
use ember_sampler::{FlowProposal, KernelConfig, Noise, Scheme, Walkers, WeightRule, reduce, resample};
use serde_json::{Value, json};

use crate::config::{Adam, Config, OptimizerConfig};
use crate::error::Error;
use crate::memory::Need;
use crate::store::opened;
use crate::store::tensor_file::TensorFile;
use crate::training::optimizer::Optimizer;
use crate::training::trainer::Trainer;

pub mod device_check;
mod gather;
mod random_model;

pub use random_model::random_model;

/// Steps, updates or calls before the clock starts.
const WARM_UP: u64 = 3;

/// A stopwatch over wall-clock and processor time.
struct Clock {
    wall: Instant,
    cpu: f64,
}

impl Clock {
    fn start() -> Self {
        Self { wall: Instant::now(), cpu: cpu_seconds() }
    }

    /// Seconds by the wall clock and of processor time, after the device is done.
    fn stop(&self, device: &Device) -> Result<(f64, f64), Error> {
        device.sync().map_err(|error| Error::failed(format!("the device failed: {error:?}")))?;
        Ok((self.wall.elapsed().as_secs_f64(), cpu_seconds() - self.cpu))
    }
}

/// Processor time of this process, all threads, in seconds.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Largest resident memory of this process so far, in bytes, where the system tells.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Where the energy and the start points of `ember bench langevin` come from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Files.
    Files {
        /// A weight file.
        model: &'a Path,
        /// A file with `position` `[N, d]`.
        positions: &'a Path,
    },
    /// Drawn; see [`random_model`].
    Random {
        /// The `[energy]` table with `dim` or `shape`.
        energy: &'a str,
        /// Start points N.
        walkers: usize,
    },
}

impl Source<'_> {
    fn load(&self, device: &Device) -> Result<(EnergyModel, Tensor<2>), Error> {
        match *self {
            Self::Files { model, positions: path } => {
                let model = opened::open(model, device)?.model;
                let (position, shape) = positions(path, &model)?;
                Ok((model, Tensor::from_data(TensorData::new(position, shape), device)))
            }
            Self::Random { energy, walkers } => random_model(energy, walkers, device),
        }
    }
}

/// What `ember bench langevin` runs.
pub struct Langevin<'a> {
    /// The energy and the start points.
    pub source: Source<'a>,
    /// The transition.
    pub kernel: KernelConfig,
    /// Steps K.
    pub steps: u64,
    /// Whether log-weights are earned.
    pub weighted: bool,
}

/// Langevin steps per second at fixed θ.
///
/// # Errors
/// Files that cannot be read or do not fit each other.
pub fn langevin(bench: &Langevin<'_>, device: &Device, label: &str) -> Result<Value, Error> {
    let (model, start) = bench.source.load(device)?;
    let [n, d] = start.dims();
    let mean_energy_start = f64::from(download(reduce::mean(model.energy(start.clone())))[0]);
    // The last step number must fit, and so do all before it.
    Noise::at(0, 0, bench.steps, 1, 0)?;
    let run = |steps: u64| -> Result<(Walkers, f64, f64, f64), Error> {
        let walkers = Walkers::new(&model, start.clone(), 0.0);
        device.sync().map_err(|error| Error::failed(format!("the device failed: {error:?}")))?;
        let clock = Clock::start();
        let (walkers, accept_rate) = steps_in_a_row(bench, &model, walkers, steps);
        let (wall, cpu) = clock.stop(device)?;
        let rate = accept_rate.map_or(1.0, |rate| f64::from(download(rate)[0]));
        Ok((walkers, wall, cpu, rate))
    };
    run(WARM_UP)?;
    let (walkers, wall, cpu, accept_rate) = run(bench.steps)?;
    let summary = walkers.summary();
    let variance = download(walkers.position.clone().var(0).mean())[0];
    Ok(json!({
        "bench": "langevin", "device": label, "walkers": n, "dim": d, "steps": bench.steps,
        "seconds": wall, "steps_per_s": bench.steps as f64 / wall, "steps_per_cpu_s": bench.steps as f64 / cpu,
        "mean_energy_start": mean_energy_start, "variance_end": variance,
        "log_mean_weight": summary.log_mean_exp, "accept_rate": accept_rate,
    }))
}

/// The steps, numbered from 0, and the mean of their acceptances, `[1]`, added up where the walkers are.
fn steps_in_a_row(
    bench: &Langevin<'_>,
    model: &EnergyModel,
    walkers: Walkers,
    steps: u64,
) -> (Walkers, Option<Tensor<1>>) {
    let kernel = bench.kernel.as_dyn();
    let noise = |step: u64| Noise { seed: 0, lane: 0, step };
    if bench.weighted || kernel.weight_rule() == WeightRule::Invariant {
        let (walkers, info) = kernel.steps(model, model, walkers, steps, &noise);
        return (walkers, info.mean_accept_rate);
    }
    // Plain unadjusted Langevin, as unweighted samplers run it.
    let h = kernel.step_size().expect("unadjusted Langevin has a step size");
    let chain = Chain {
        rule: ChainRule::Ula { weighted: false },
        step_size: h as f32,
        noise_scale: (2.0 * h).sqrt() as f32,
        scale: 1.0,
        confinement: 0.0,
        grad_clip: None,
        steps: u32::try_from(steps).expect("step numbers fit 32 bits"),
        noise: noise(0).stream(Purpose::Noise),
        accept: noise(0).stream(Purpose::Accept),
        stride: 1,
    };
    let walkers = unweighted_chain(model, &walkers, &chain).unwrap_or_else(|| {
        (0..steps).fold(walkers, |walkers, step| unweighted_step(model, walkers, &chain.part(step as u32, 1)))
    });
    (walkers, None)
}

/// In one piece, where the energy takes the steps so.
fn unweighted_chain(model: &EnergyModel, walkers: &Walkers, chain: &Chain) -> Option<Walkers> {
    let from = ChainState {
        position: walkers.position.clone(),
        energy: walkers.energy.clone(),
        energy_grad: walkers.energy_grad.clone(),
        log_weights: (walkers.log_weights.value(), walkers.log_weights.compensation()),
    };
    let ChainState { position, energy, energy_grad, .. } = model.chain(&from, chain)?.state;
    Some(Walkers { position, energy, energy_grad, ..walkers.clone() })
}

fn unweighted_step(model: &EnergyModel, walkers: Walkers, step: &Chain) -> Walkers {
    let (h, scale) = (step.step_size, step.noise_scale);
    let position = langevin_proposal(walkers.position, walkers.energy_grad, h, scale, step.noise);
    let (energy, energy_grad) = model.energy_and_grad(position.clone());
    let log_weights = LogWeights::zeros(&energy);
    Walkers { position, energy, energy_grad, log_weights, ..walkers }
}

fn positions(path: &Path, model: &EnergyModel) -> Result<(Vec<f32>, [usize; 2]), Error> {
    let tensors = TensorFile::read(path)?.into_host_tensors(path)?;
    let found = tensors.into_iter().find(|tensor| tensor.name == "position");
    let tensor = found.ok_or_else(|| Error::checkpoint(path, "no tensor `position` [N, d]"))?;
    match tensor.shape.as_slice() {
        &[n, d] if d == model.dim() => Ok((tensor.values, [n, d])),
        shape => {
            let message = format!("`position` has shape {shape:?}, the energy needs [N, {}]", model.dim());
            Err(Error::checkpoint(path, message))
        }
    }
}

/// Training updates per second.
///
/// # Errors
/// As [`Trainer::new`] and [`Trainer::update`].
pub fn train(config: Config, updates: u64, device: &Device, program_start: Instant) -> Result<Value, Error> {
    // Without a negative phase no kernel step is made.
    let walks = config.objective.as_dyn().has_negative_phase();
    let steps_per_update = config.kernel.steps_per_update * u64::from(walks);
    let mut trainer = Trainer::new(config, device)?;
    trainer.update(false)?;
    device.sync().map_err(|error| Error::failed(format!("the device failed: {error:?}")))?;
    let first = program_start.elapsed().as_secs_f64();
    for _ in 0..WARM_UP {
        trainer.update(false)?;
    }
    device.sync().map_err(|error| Error::failed(format!("the device failed: {error:?}")))?;
    let clock = Clock::start();
    for _ in 0..updates {
        trainer.update(false)?;
    }
    let (wall, cpu) = clock.stop(device)?;
    Ok(json!({
        "bench": "train", "updates": updates, "updates_per_s": updates as f64 / wall,
        "updates_per_cpu_s": updates as f64 / cpu,
        "langevin_steps_per_s": (updates * steps_per_update) as f64 / wall,
        "seconds_to_first_update": first, "peak_memory_bytes": peak_memory_bytes(),
    }))
}

/// What [`resampling`] needs at least: log-weights twice, and 64-bit ancestors on the device and in host memory; with `gather`, the
/// positions and their copies.
pub fn resampling_need(count: usize, gather: usize) -> Need {
    let bytes = (count as u64).saturating_mul(8);
    let positions = (count as u64).saturating_mul(gather as u64).saturating_mul(4);
    Need {
        host: bytes,
        device: bytes.saturating_mul(2).saturating_add(positions.saturating_mul(2)),
        // Positions may be in pages of their own; a row is not.
        largest: (bytes / 2).max((gather as u64).saturating_mul(4)),
    }
}

/// Resamplings per second of `count` log-weights `N(0, 1)`, and how far counts stray from `N·W` computed in f64. With `gather`, also
/// resamplings that gather positions of as many coordinates, and the rate at which the device copies them. Positions are in pages of
/// `largest` bytes at most.
///
/// # Errors
/// The device fails.
pub fn resampling(
    count: usize,
    scheme: Scheme,
    gather: Option<usize>,
    largest: u64,
    device: &Device,
) -> Result<Value, Error> {
    let log_weights = Stream::new(0, Purpose::Start).normals(count, 1);
    let tensor = Tensor::<1>::from_data(TensorData::new(log_weights.clone(), [count]), device);
    let stream = |call: u64| Ok(Stream::new(0, Purpose::Resampling).at(call)?);
    let mut max_deviation: f64 = 0.0;
    for call in 0..WARM_UP {
        let ancestors = resample(scheme, tensor.clone(), stream(call)?);
        let ancestors: Vec<i64> = ancestors.into_data().iter::<i64>().collect();
        max_deviation = max_deviation.max(count_deviation(&log_weights, &ancestors));
    }
    let [per_s, per_cpu_s] = rates(device, WARM_UP, SYNC_EVERY, |call| {
        resample(scheme, tensor.clone(), stream(call)?);
        Ok(())
    })?;
    let mut result = json!({
        "bench": "resample", "count": count, "scheme": scheme, "per_s": per_s,
        "per_cpu_s": per_cpu_s, "max_count_deviation": max_deviation,
    });
    if let (Some(dim), Value::Object(result)) = (gather, &mut result)
        && let Value::Object(gathered) = gather::measure(scheme, &tensor, dim, largest, stream, device)?
    {
        result.extend(gathered);
    }
    Ok(result)
}

/// Calls after which [`rates`] waits for the device.
const SYNC_EVERY: u64 = 16;

/// Calls of `f` per second of wall-clock and of processor time, timed for at least half a second and at least ten calls, waiting for the
/// device every `sync_every` of them. `f` is given the number of the call, from `first` on.
fn rates(
    device: &Device,
    first: u64,
    sync_every: u64,
    mut f: impl FnMut(u64) -> Result<(), Error>,
) -> Result<[f64; 2], Error> {
    device.sync().map_err(|error| Error::failed(format!("the device failed: {error:?}")))?;
    let clock = Clock::start();
    let mut calls = 0;
    while calls < 10 || clock.wall.elapsed().as_secs_f64() < 0.5 {
        f(first + calls)?;
        calls += 1;
        if calls.is_multiple_of(sync_every) {
            device.sync().map_err(|error| Error::failed(format!("the device failed: {error:?}")))?;
        }
    }
    let (wall, cpu) = clock.stop(device)?;
    Ok([calls as f64 / wall, calls as f64 / cpu])
}

/// What `ember bench flow` runs: RealNVP by halves, whose networks have two hidden layers with ReLU.
pub struct Flow {
    /// Coordinates.
    pub dim: usize,
    /// Couplings.
    pub layers: usize,
    /// Width of the hidden layers.
    pub hidden: usize,
    /// Rows of a batch.
    pub batch: usize,
}

impl Flow {
    fn spec(&self) -> EnergySpec {
        let flow = RealNvp {
            layers: self.layers,
            hidden: vec![self.hidden; 2],
            activation: Activation::Relu,
            mask: Mask::Half,
            log_scale_bound: 1.0,
            act_norm: false,
        };
        EnergySpec::new(SampleShape::Flat(self.dim), EnergyConfig::RealNvp(flow))
    }
}

/// Different batches that training is given in turn: made before the clock starts.
const BATCHES: usize = 4;

/// What [`flow`] needs at least: its batches.
pub fn flow_need(dim: usize, batch: usize) -> Need {
    let largest = (dim as u64).saturating_mul(batch as u64).saturating_mul(4);
    Need { host: 0, device: largest.saturating_mul(BATCHES as u64), largest }
}

/// Batches per second: training steps (maximum likelihood, Adam), then log-densities and draws of the flow so trained.
///
/// # Errors
/// A shape that no flow has; the device fails.
pub fn flow(bench: &Flow, device: &Device, label: &str) -> Result<Value, Error> {
    let model = EnergyModel::init(bench.spec(), 0, device)?;
    let (n, d) = (bench.batch, bench.dim);
    let batch = |index: u64| -> Result<Tensor<2>, Error> {
        let values = Stream::new(0, Purpose::Data).at(index)?.normals(n, d);
        Ok(Tensor::from_data(TensorData::new(values, [n, d]), device))
    };
    let batches = (0..BATCHES as u64).map(batch).collect::<Result<Vec<_>, _>>()?;
    let mut optimizer = Optimizer::new(&OptimizerConfig::Adam(Adam::new(1e-4)), model.params());
    // The mean over the batch.
    let weights = Tensor::<1>::full([n], 1.0 / n as f64, device);
    let mut model = model;
    let mut train = |call: u64| {
        let x = batches[call as usize % BATCHES].clone();
        let grads = model.weighted_param_grads(&[(x, weights.clone())]).grads;
        model = optimizer.step_model(call, &model, grads).0;
        Ok(())
    };
    (0..WARM_UP).try_for_each(&mut train)?;
    let [train_per_s, train_per_cpu_s] = rates(device, WARM_UP, SYNC_EVERY, train)?;

    let flow = FlowProposal::of(&model).ok_or_else(|| Error::failed("the benchmark's model is no flow"))?;
    let log_prob = |_| {
        flow.log_prob(batches[0].clone());
        Ok(())
    };
    let sample = |call: u64| {
        flow.sample(n, Stream::new(0, Purpose::Proposal).at(call)?);
        Ok(())
    };
    (0..WARM_UP).try_for_each(log_prob)?;
    let [log_prob_per_s, log_prob_per_cpu_s] = rates(device, WARM_UP, SYNC_EVERY, log_prob)?;
    (0..WARM_UP).try_for_each(sample)?;
    let [sample_per_s, sample_per_cpu_s] = rates(device, WARM_UP, SYNC_EVERY, sample)?;
    let mean_log_prob = download(reduce::mean(flow.log_prob(batches[0].clone())))[0];
    Ok(json!({
        "bench": "flow", "device": label, "dim": d, "layers": bench.layers, "hidden": bench.hidden, "batch": n,
        "params": model.param_count(), "mean_log_prob": mean_log_prob,
        "log_prob_batches_per_s": log_prob_per_s, "log_prob_batches_per_cpu_s": log_prob_per_cpu_s,
        "train_batches_per_s": train_per_s, "train_batches_per_cpu_s": train_per_cpu_s,
        "sample_batches_per_s": sample_per_s, "sample_batches_per_cpu_s": sample_per_cpu_s,
    }))
}

/// `max_i |offspring_i − N W_i|`, W in f64 from the same f32 log-weights.
pub fn count_deviation(log_weights: &[f32], ancestors: &[i64]) -> f64 {
    let max = f64::from(log_weights.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let weights: Vec<f64> = log_weights.iter().map(|&a| (f64::from(a) - max).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let mut counts = vec![0u64; weights.len()];
    ancestors.iter().for_each(|&i| counts[i as usize] += 1);
    let expected = weights.iter().map(|w| w / sum * ancestors.len() as f64);
    counts.iter().zip(expected).map(|(&c, e)| (c as f64 - e).abs()).fold(0.0, f64::max)
}
