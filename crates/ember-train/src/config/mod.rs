//! The config: what a run is, read from TOML with every mistake named, and written back with the defaults filled in.
//!
//! `load` = read the file, apply the overrides, deserialise table by table (`document.rs`), then check every value and
//! how the tables go together (`validate.rs`). Unknown keys are errors at every level.

mod discrete;
mod document;
mod explain;
mod flows;
mod losses;
mod overrides;
mod parts;
mod tables;
mod validate;

use std::io::Write;
use std::path::Path;

use ember_model::{EnergyConfig, EnergySpec, Precision};
use serde::{Deserialize, Serialize};

use crate::dataset::DatasetConfig;
use crate::error::Error;
use crate::store::checkpoint::atomic;
use crate::training::objective::ObjectiveConfig;
pub use crate::training::optimizer::{Adam, OptimizerConfig, Schedule, Sgd};
use document::Document;
pub use overrides::Overrides;
pub use parts::composed;
pub(crate) use tables::short;
pub use tables::{
    AuditConfig, KernelTable, OutputConfig, PretrainConfig, ResamplingConfig, WalkerInit, WalkersConfig,
    WatchdogConfig,
};

/// A run, with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The seed of every random number of the run.
    #[serde(default)]
    pub seed: u64,
    /// Parameter updates.
    pub steps: u64,
    /// Of the matrix products of a network's hidden layers.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// What is learned.
    pub dataset: DatasetConfig,
    /// The model.
    pub energy: EnergyConfig,
    /// How the flows are fitted that the run needs and no checkpoint gives; only where there are such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<PretrainConfig>,
    /// The population that follows the model; may be left out where the objective has no negative phase.
    pub walkers: WalkersConfig,
    /// How the walkers move; may be left out where the objective has no negative phase.
    pub kernel: KernelTable,
    /// When and how the walkers are resampled.
    #[serde(default)]
    pub resampling: ResamplingConfig,
    /// What is minimised.
    pub objective: ObjectiveConfig,
    /// How θ moves.
    pub optimizer: OptimizerConfig,
    /// An independent ensemble beside the training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditConfig>,
    /// What to do when the run diverges.
    #[serde(default)]
    pub watchdog: WatchdogConfig,
    /// What the run folder gets, and how often.
    #[serde(default)]
    pub output: OutputConfig,
}

/// A config with the name of the file it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The resolved config.
    pub config: Config,
    /// The file's stem, which names the run.
    pub name: String,
}

impl Config {
    /// Reads a config file, applies the overrides and checks everything.
    ///
    /// # Errors
    /// Whatever is wrong with it; every error exits with code 2.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, Error> {
        let config = Self::resolve(&read_text(path)?, &path.display().to_string(), overrides)?;
        let name =
            path.file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned());
        Ok(Loaded { config, name })
    }

    /// Reads a config from text; `origin` names it in errors.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, Error> {
        Self::resolve(text, origin, &Overrides::default())
    }

    fn resolve(text: &str, origin: &str, overrides: &Overrides) -> Result<Self, Error> {
        let mut document = Document::parse(text, origin)?;
        overrides.apply(&mut document)?;
        let seed = document.value("seed")?.unwrap_or_default();
        let steps = document.value("steps")?.ok_or_else(|| {
            document.error("", "steps", "missing: the number of parameter updates, such as `steps = 8000`")
        })?;
        let precision = Self::precision_of(&mut document)?;
        let dataset: DatasetConfig = document.section("dataset")?;
        document.resolve_flows(dataset.as_dyn().shape())?;
        let common = document.resolve_parts(Some(dataset.as_dyn().shape()))?;
        let objective: ObjectiveConfig = document.section("objective")?;
        // Without a negative phase these tables say how the model is looked at, not how it is trained: they have defaults, which
        // the resolved config writes out, so that nothing else asks whether they are there.
        let (walkers, kernel, resampling) = if objective.as_dyn().has_negative_phase() {
            (document.section("walkers")?, document.section("kernel")?, None)
        } else {
            let dim = dataset.as_dyn().shape().dim();
            (
                document.optional_section("walkers")?.unwrap_or_else(WalkersConfig::of_draws),
                document.optional_section("kernel")?.unwrap_or_else(|| KernelTable::of_draws(dim)),
                Some(ResamplingConfig { scheme: None, ..ResamplingConfig::default() }),
            )
        };
        let mut config = Self {
            seed,
            steps,
            precision,
            dataset,
            energy: document.section("energy")?,
            pretrain: document.optional_section("pretrain")?,
            walkers,
            kernel,
            resampling: document.optional_section("resampling")?.or(resampling).unwrap_or_default(),
            objective,
            optimizer: document.section("optimizer")?,
            audit: document.optional_section("audit")?,
            watchdog: document.optional_section("watchdog")?.unwrap_or_default(),
            output: document.optional_section("output")?.unwrap_or_default(),
        };
        document.finish()?;
        config.resolve_pretrain();
        let checked = config.validate().and_then(|()| config.check_parts(common.as_ref()));
        checked.map_err(|error| document.locate(error))?;
        Ok(config)
    }

    fn precision_of(document: &mut Document) -> Result<Precision, Error> {
        let Some(found) = document.value::<String>("precision")? else { return Ok(Precision::default()) };
        let names = Precision::ALL.map(|precision| precision.to_string());
        let known = names.iter().position(|name| *name == found).map(|at| Precision::ALL[at]);
        known.ok_or_else(|| {
            let names = names.each_ref().map(String::as_str);
            document.error("", "precision", explain::unknown_name("", "precision", &found, &names))
        })
    }

    /// The resolved config as TOML, which loads back equal.
    pub fn to_toml(&self) -> String {
        // A table prints its plain keys before its sub-tables; every value here has a TOML form, for
        // `validate` has seen that the integers fit 63 bits.
        toml::Table::try_from(self).map(|table| table.to_string()).unwrap_or_default()
    }

    /// Writes [`Config::to_toml`] to `path`: afterwards the file is complete and on disk, or as it was before.
    ///
    /// # Errors
    /// Any I/O error.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        atomic::write_file(path, |out| out.write_all(self.to_toml().as_bytes()))
    }

    /// The energy with the shape of the data set's samples, at the kernel's temperature and on the kernel's support,
    /// computed at the run's precision.
    pub fn energy_spec(&self) -> EnergySpec {
        EnergySpec {
            temperature: self.kernel.temperature,
            support: self.kernel.kernel.as_dyn().boundary().support(),
            precision: self.precision,
            ..EnergySpec::new(self.dataset.as_dyn().shape(), self.energy.clone())
        }
    }
}

/// The text of a file.
fn read_text(path: &Path) -> Result<String, Error> {
    let bytes = std::fs::read(path).map_err(|source| Error::read(path, source))?;
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = 1 + bytes[..offset].iter().filter(|&&byte| byte == b'\n').count();
        Error::NotUtf8 { path: path.to_owned(), offset, line, byte: bytes[offset] }
    })
}
