//! `ember bench`: measurements, one JSON line each.

use std::time::Instant;

use ember_sampler::KernelConfig;
use ember_sampler::kernel::{Mala, Ula};
use serde_json::Value;

use crate::bench::{self, Flow, Langevin, Source};
use crate::cli::{BenchArgs, BenchCommand, BenchKernel, BenchLangevinArgs};
use crate::config::{Config, Overrides};
use crate::device::{self, Selected};
use crate::error::Error;
use crate::{logging, memory};

pub(super) fn run(command: &BenchCommand, start: Instant) -> Result<(), Error> {
    logging::init();
    let (result, json) = match command {
        BenchCommand::Langevin(args) => {
            let selected = prepare(&args.bench)?;
            let kernel = match args.kernel {
                BenchKernel::Ula => KernelConfig::Ula(Ula::new(args.step_size)),
                BenchKernel::Mala => KernelConfig::Mala(Mala::new(args.step_size)),
            };
            let langevin =
                Langevin { source: source(args)?, kernel, steps: args.steps.into(), weighted: args.weighted };
            (bench::langevin(&langevin, &selected.device, &selected.label)?, args.bench.json)
        }
        BenchCommand::Train(args) => {
            let overrides = Overrides { set: args.set.clone(), ..Overrides::default() };
            let config = Config::load(&args.config, &overrides)?.config;
            let selected = prepare(&args.bench)?;
            selected.check_precision(config.precision, &args.config)?;
            memory::check(&config, &selected.room(), &args.config)?;
            (bench::train(config, args.updates, &selected.device, start)?, args.bench.json)
        }
        BenchCommand::Resample(args) => {
            let selected = prepare(&args.bench)?;
            let (count, gather, room) = (args.count as usize, args.gather, selected.room());
            let need = |count| bench::resampling_need(count, gather.unwrap_or(0));
            memory::check_count("--count", count, need, &room)?;
            let largest = args.page_bytes.or(room.largest).unwrap_or(u64::MAX);
            (bench::resampling(count, args.scheme, gather, largest, &selected.device)?, args.bench.json)
        }
        BenchCommand::Flow(args) => {
            let selected = prepare(&args.bench)?;
            let room = selected.room();
            let (dim, batch) = (args.dim, args.batch as usize);
            memory::check_count("--batch", batch, |batch| bench::flow_need(dim, batch), &room)?;
            let flow = Flow { dim: args.dim, layers: args.layers.into(), hidden: args.hidden.into(), batch };
            (bench::flow(&flow, &selected.device, &selected.label)?, args.bench.json)
        }
    };
    super::print(&format!("{}\n", if json { result.to_string() } else { table(&result) }))
}

/// The parser lets one of the two pairs through.
fn source(args: &BenchLangevinArgs) -> Result<Source<'_>, Error> {
    match (&args.model, &args.positions, &args.energy, args.walkers) {
        (Some(model), Some(positions), ..) => Ok(Source::Files { model, positions }),
        (_, _, Some(energy), Some(walkers)) => Ok(Source::Random { energy, walkers: walkers as usize }),
        _ => Err(Error::usage("give --model and --positions, or --energy and --walkers")),
    }
}

/// Sets the threads, then opens the device.
fn prepare(args: &BenchArgs) -> Result<Selected, Error> {
    if let Some(threads) = args.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()
            .map_err(|error| Error::usage(format!("--threads {threads}: {error}")))?;
    }
    device::select(&args.device.device)
}

/// A result for people: one `key value` line each.
fn table(result: &Value) -> String {
    let entries = result.as_object().into_iter().flatten();
    entries.map(|(key, value)| format!("{key:<24} {value}")).collect::<Vec<_>>().join("\n")
}
