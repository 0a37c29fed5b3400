//! `ember bench`: one JSON line a measurement. Times exclude start-up and warm-up and end with a device synchronisation.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::device::langevin_proposal;
use ember_sampler::weights::LogWeights;
use ember_sampler::{KernelConfig, Noise, Scheme, Walkers, WeightRule, reduce, resample};
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::Error;
use crate::record;
use crate::tensor_file::TensorFile;
use crate::trainer::Trainer;

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

/// What `ember bench langevin` runs.
pub struct Langevin<'a> {
    /// A weight file.
    pub model: &'a Path,
    /// A file with `position` `[N, d]`.
    pub positions: &'a Path,
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
    let model = record::open(bench.model, device)?.model;
    let (position, [n, d]) = positions(bench.positions, &model)?;
    let start = Tensor::<2>::from_data(TensorData::new(position, [n, d]), device);
    let mean_energy_start = f64::from(download(reduce::mean(model.energy(start.clone())))[0]);
    let run = |steps: u64| -> Result<(Walkers, f64, f64, f64), Error> {
        let mut walkers = Walkers::new(&model, start.clone(), 0.0);
        let mut accepted = Vec::new();
        device.sync().map_err(|error| Error::failed(format!("the device failed: {error:?}")))?;
        let clock = Clock::start();
        for step in 0..steps {
            let noise = Noise::at(0, 0, step, 1, 0)?;
            walkers = one_step(bench, &model, walkers, &noise, &mut accepted);
        }
        let (wall, cpu) = clock.stop(device)?;
        let rate =
            if accepted.is_empty() { 1.0 } else { f64::from(download(Tensor::cat(accepted, 0).mean())[0]) };
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

fn one_step(
    bench: &Langevin<'_>,
    model: &EnergyModel,
    walkers: Walkers,
    noise: &Noise,
    accepted: &mut Vec<Tensor<1>>,
) -> Walkers {
    let kernel = bench.kernel.as_dyn();
    if bench.weighted || kernel.weight_rule() == WeightRule::Invariant {
        let (walkers, info) = kernel.step(model, walkers, noise);
        accepted.extend(info.accept_rate);
        return walkers;
    }
    // Plain unadjusted Langevin, as unweighted samplers run it.
    let h = kernel.step_size().expect("unadjusted Langevin has a step size");
    let stream = noise.stream(Purpose::Noise);
    let noise_scale = (2.0 * h).sqrt() as f32;
    let position = langevin_proposal(walkers.position, walkers.energy_grad, h as f32, noise_scale, stream);
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

/// Resamplings per second of `count` log-weights `N(0, 1)`, and how far counts stray from `N·W` computed in f64.
///
/// # Errors
/// The device fails.
pub fn resampling(count: usize, scheme: Scheme, device: &Device) -> Result<Value, Error> {
    let log_weights = Stream::new(0, Purpose::Start).normals(count, 1);
    let tensor = Tensor::<1>::from_data(TensorData::new(log_weights.clone(), [count]), device);
    let stream = |call: u64| Stream::new(0, Purpose::Resampling).at(call);
    let mut max_deviation: f64 = 0.0;
    for call in 0..WARM_UP {
        let ancestors = resample(scheme, tensor.clone(), stream(call)?);
        let ancestors: Vec<i64> = ancestors.into_data().iter::<i64>().collect();
        max_deviation = max_deviation.max(count_deviation(&log_weights, &ancestors));
    }
    let clock = Clock::start();
    let mut calls = 0;
    // At least half a second, and at least ten calls.
    while calls < 10 || clock.wall.elapsed().as_secs_f64() < 0.5 {
        resample(scheme, tensor.clone(), stream(WARM_UP + calls)?);
        calls += 1;
        if calls.is_multiple_of(16) {
            device.sync().map_err(|error| Error::failed(format!("the device failed: {error:?}")))?;
        }
    }
    let (wall, cpu) = clock.stop(device)?;
    Ok(json!({
        "bench": "resample", "count": count, "scheme": scheme, "per_s": calls as f64 / wall,
        "per_cpu_s": calls as f64 / cpu, "max_count_deviation": max_deviation,
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
