//! `ember train`: a new run folder, from the config to the masses it found.

use std::path::{Path, PathBuf};

use crate::cli::TrainArgs;
use crate::config::{Config, Loaded};
use crate::error::Error;
use crate::metrics::MetricsWriter;
use crate::run::{Run, Signals, resume_command};
use crate::trainer::Trainer;
use crate::{device, logging, memory};

pub(super) fn run(args: &TrainArgs) -> Result<(), Error> {
    logging::init();
    let Loaded { config, name } = Config::load(&args.config, &args.overrides())?;
    let dir =
        args.out.clone().unwrap_or_else(|| Path::new("runs").join(format!("{name}-seed{}", config.seed)));
    if dir.symlink_metadata().is_ok() {
        let hint = format!("Continue it with `{}`, or give another --out.", resume_command(&dir));
        return Err(Error::OutputExists { path: dir, hint });
    }
    let selected = device::select(&args.device.device)?;
    selected.check_precision(config.precision, &args.config)?;
    memory::check(&config, &selected.room(), &args.config)?;
    let signals = Signals::listen()?;
    // Everything that can be wrong with the config is found before anything is written.
    let mut trainer = Trainer::new(config, &selected.device)?;
    let sources = trainer.config.dataset.as_dyn().sources()?;
    create(&dir, &trainer.config)?;
    tracing::info!(run = %dir.display(), device = %selected.name, parameters = trainer.model.param_count(), "training");
    let mut run = Run {
        metrics: MetricsWriter::create(&dir)?,
        dir,
        device_label: selected.label,
        device_name: selected.name,
        time_before: 0.0,
        sources,
    };
    run.train(&mut trainer, &signals)?;
    super::summary::print(&run.dir, trainer)
}

/// The run folder with its config appears whole or not at all.
fn create(dir: &Path, config: &Config) -> Result<(), Error> {
    let unwritable = |source| Error::unwritable(dir, source);
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(unwritable)?;
    let staging = tempfile::Builder::new().prefix(".ember-run-").tempdir_in(parent).map_err(unwritable)?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(staging.path(), readable).map_err(unwritable)?;
    std::fs::write(staging.path().join("config.toml"), config.to_toml()).map_err(unwritable)?;
    std::fs::rename(staging.path(), dir).map_err(unwritable)?;
    // Renamed away: there is nothing left to remove.
    let _: PathBuf = staging.keep();
    Ok(())
}
