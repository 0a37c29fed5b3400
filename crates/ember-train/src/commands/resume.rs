//! `ember resume`: on from the newest intact checkpoint, bit for bit.

use std::io;
use std::path::Path;

use burn::tensor::Device;

use crate::cli::ResumeArgs;
use crate::config::{Config, Overrides};
use crate::error::Error;
use crate::store::checkpoint;
use crate::store::lock::RunLock;
use crate::store::metrics::{self, MetricsWriter};
use crate::training::run::{Run, Signals};
use crate::training::trainer::Trainer;
use crate::{
    device, logging, memory, shell,
    store::{folder, record},
    training::watchdog,
};

pub(super) fn run(args: &ResumeArgs) -> Result<(), Error> {
    logging::init();
    let dir = &args.run;
    let path = dir.join("config.toml");
    match std::fs::metadata(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(Error::read(path, source)),
        Ok(about) if about.is_file() => {}
        _ => {
            let message = "no config.toml in it: this is no run folder (`ember train` makes one)";
            return Err(Error::checkpoint(dir, message));
        }
    }
    let _lock = RunLock::take(dir)?;
    let overrides = Overrides { steps: args.steps, ..Overrides::default() };
    let config = Config::load(&path, &overrides)?.config;
    let selected = device::select(&args.device.device)?;
    selected.check_precision(config.precision, &path)?;
    memory::check(&config, &selected.room(), &path)?;
    let signals = Signals::listen(format!("nothing is lost; go on with: {}", shell::resume(dir)))?;
    let mut trainer = restore(dir, config, &selected.device, &selected.label)?;
    let sources = trainer.config.dataset.as_dyn().sources()?;
    if trainer.step > trainer.config.steps {
        return Err(Error::usage(format!(
            "{} is at update {}, beyond --steps {}",
            dir.display(),
            trainer.step,
            trainer.config.steps
        )));
    }
    if args.steps.is_some() {
        trainer.config.write(&path)?;
    }
    folder::give_up_after(dir, trainer.step)?;
    watchdog::resume(dir, trainer.rollbacks)?;
    let metrics = MetricsWriter::resume(dir, trainer.step)?;
    let time_before = metrics::read(dir)?.last().map_or(0.0, |line| line.time_s);
    if trainer.step == trainer.config.steps {
        tracing::info!("already at update {}; `--steps N` trains on", trainer.step);
    } else {
        tracing::info!(run = %dir.display(), device = %selected.name, from = trainer.step, "resuming");
    }
    let mut run = Run {
        dir: dir.clone(),
        device_label: selected.label,
        device_name: selected.name,
        metrics,
        time_before,
        sources,
        draw: super::picture::samples,
    };
    run.train(&mut trainer, &signals)?;
    super::summary::print(dir, trainer)
}

/// The state of the newest intact checkpoint, or that before the first update where none was written yet.
fn restore(dir: &Path, config: Config, device: &Device, label: &str) -> Result<Trainer, Error> {
    if !checkpoint::has_any(dir)? {
        tracing::info!("no checkpoint yet: starting from update 0");
        return Trainer::new(config, device);
    }
    let (origin, found) = checkpoint::newest_intact(dir)?;
    let now = record::environment(label);
    if found.environment != now {
        tracing::warn!(
            "the checkpoint is from {} on {} with {} threads, this is {} on {} with {}: the run goes on, but not bit for bit",
            found.environment.ember_version,
            found.environment.device,
            found.environment.threads,
            now.ember_version,
            now.device,
            now.threads
        );
    }
    record::check_config(&config, &found, &dir.join("config.toml"))?;
    Trainer::from_state(config, &found, &origin, device)
}
