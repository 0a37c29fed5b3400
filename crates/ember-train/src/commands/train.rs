//! `ember train`: a new run folder, from the config to the masses it found.

use std::path::Path;

use crate::cli::TrainArgs;
use crate::config::{Config, Loaded};
use crate::error::Error;
use crate::store::checkpoint::{self, atomic};
use crate::store::lock::RunLock;
use crate::store::metrics::MetricsWriter;
use crate::training::run::{Run, Signals};
use crate::training::trainer::Trainer;
use crate::{device, logging, memory, shell};

pub(super) fn run(args: &TrainArgs) -> Result<(), Error> {
    logging::init();
    let Loaded { config, name } = Config::load(&args.config, &args.overrides())?;
    let dir =
        args.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{name}-seed{}", config.seed)));
    if dir.symlink_metadata().is_ok() {
        return Err(exists(&dir));
    }
    let selected = device::select(&args.device.device)?;
    selected.check_precision(config.precision, &args.config)?;
    memory::check(&config, &selected.room(), &args.config)?;
    let signals = Signals::listen("nothing was written")?;
    // Everything that can be wrong with the config is found before anything is written.
    let mut trainer = Trainer::new(config, &selected.device)?;
    let sources = trainer.config.dataset.as_dyn().sources()?;
    let _lock = create(&dir, &mut trainer, &selected.label)?;
    tracing::info!(run = %dir.display(), device = %selected.name, parameters = trainer.model.param_count(), "training");
    if let Some(message) = trainer.config.kernel.temperature_in_words() {
        tracing::info!("{message}");
    }
    let mut run = Run {
        metrics: MetricsWriter::create(&dir)?,
        dir,
        device_label: selected.label,
        device_name: selected.name,
        time_before: 0.0,
        sources,
        draw: super::picture::samples,
    };
    run.train(&mut trainer, &signals)?;
    super::summary::print(&run.dir, trainer)
}

/// The run folder with its config appears whole or not at all, and is this process's from the start. A start that took more than the config
/// and the data, of other runs or fitted first, is in it as a checkpoint: the run never needs them again.
fn create(dir: &Path, trainer: &mut Trainer, device_label: &str) -> Result<RunLock, Error> {
    let unwritable = |source| Error::unwritable(dir, source);
    let parent = atomic::folder_of(dir);
    atomic::create_folders(&parent).map_err(unwritable)?;
    let staging = atomic::temp_folder(&parent, "run").map_err(|error| error.before_the_run(dir))?;
    let lock = RunLock::take(staging.path())?;
    trainer.config.write(&staging.path().join("config.toml")).map_err(|error| error.before_the_run(dir))?;
    if trainer.config.starts_from_elsewhere() {
        trainer.check()?;
        checkpoint::save(staging.path(), &trainer.to_state(device_label), 1)?;
    }
    match atomic::commit_new_folder(staging, dir) {
        // Another process was faster.
        Err(_) if dir.symlink_metadata().is_ok() => Err(exists(dir)),
        committed => committed.map(|()| lock).map_err(unwritable),
    }
}

fn exists(dir: &Path) -> Error {
    let hint = format!("Continue it with `{}`, or give another --out.", shell::resume(dir));
    Error::OutputExists { path: dir.to_owned(), hint }
}
