//! Checkpoints: everything a run needs to continue bit for bit, in a folder that is complete or absent.
//!
//! ```text
//! RUN/checkpoints/step_00001000/model.safetensors      what `export` gives: metadata ember.config, ember.version, ember.step
//!                               optimizer.safetensors  the raw parameters as `param.{name}` beside the optimiser's own tensors; what is
//!                                                      trained beside θ as `own.…`, `noise.…`, `proposal.…`, `ema.…`
//!                               walkers.safetensors    position, energy, energy_grad, log_weights and its compensation, ancestor
//!                               audit.safetensors      the audit's ensembles as `{i}.position`, …, where there are any
//!                               state.json             counters, log Z, and the length and SHA-256 of every file
//! RUN/checkpoints/latest                               the name of the newest complete one
//! ```
//! A save writes into a temporary folder beside, syncs, and renames; killed at any moment it leaves the earlier ones as they were. A load
//! compares every byte with `state.json`, and `state.json` with its own checksum. A checkpoint is removed only once it was found to be one;
//! what is not understood is renamed aside, to `step_00001000.aside`, and left to the user.

use std::collections::BTreeMap;
use std::path::Path;

use ember_model::HostTensor;
use serde::{Deserialize, Serialize};

use crate::error::Error;

pub(crate) mod atomic;
mod hashing;
mod layout;
mod load;
mod save;
mod source;
mod state;

#[doc(hidden)]
pub use load::check_state;
pub use load::{has_any, kept, load, newest_dir, newest_intact, newest_scheduled};
pub use save::{Retention, discard_after, save};
pub use source::Source;

/// The state of a run after `step` updates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Checkpoint {
    /// Parameter updates done.
    pub step: u64,
    /// The run's seed.
    pub seed: u64,
    /// The weights in their exported form.
    pub model: Vec<HostTensor>,
    /// The metadata `ember.config` of the weights.
    pub energy_config: String,
    /// θ itself, in the order of the energy's parameters.
    pub theta: Vec<HostTensor>,
    /// The optimiser's tensors. No name starts with `param.`.
    pub optimizer: Vec<HostTensor>,
    /// The optimiser's counters.
    pub optimizer_counters: BTreeMap<String, u64>,
    /// The walkers, where the objective has any.
    pub walkers: Option<WalkersRecord>,
    /// The ensembles of the audit.
    pub audit: Vec<WalkersRecord>,
    /// What the run ran on: another one may round differently.
    pub environment: Environment,
    /// Whatever else the trainer needs to continue.
    pub extra: serde_json::Value,
}

/// A population of walkers in host memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WalkersRecord {
    /// Number of walkers N.
    pub count: usize,
    /// Coordinates of one walker, d.
    pub dim: usize,
    /// X, `[N, d]` row-major.
    pub position: Vec<f32>,
    /// `U_θ(X)`, `[N]`.
    pub energy: Vec<f32>,
    /// `∇ₓU_θ(X)`, `[N, d]` row-major.
    pub energy_grad: Vec<f32>,
    /// A, `[N]`.
    pub log_weights: Vec<f32>,
    /// What A lost to rounding, `[N]`.
    pub log_weights_compensation: Vec<f32>,
    /// Index of the starting walker each walker descends from, `[N]`.
    pub ancestor: Vec<i64>,
    /// `log Z` gained at resamplings, plus that of the start.
    pub log_z: f64,
    /// Resamplings so far.
    pub resamplings: u64,
}

/// What a run ran on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// The program's version.
    pub ember_version: String,
    /// The device's name.
    pub device: String,
    /// Host threads.
    pub threads: usize,
}

/// The folder of checkpoints in a run folder.
const CHECKPOINTS: &str = "checkpoints";
/// The text file naming the newest complete checkpoint.
const LATEST: &str = "latest";
const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const WALKERS: &str = "walkers.safetensors";
const AUDIT: &str = "audit.safetensors";
const STATE: &str = "state.json";

/// `step_00001000`.
pub fn dir_name(step: u64) -> String {
    format!("step_{step:08}")
}

/// The step in a checkpoint's folder name.
pub(crate) fn step_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("step_")?;
    let step = digits.parse().ok()?;
    (dir_name(step) == name).then_some(step)
}

/// Steps of the checkpoint folders in a folder, oldest first; none where it is not there. Nothing is opened.
fn steps(checkpoints: &Path) -> Result<Vec<u64>, Error> {
    let read = |source| Error::read(checkpoints, source);
    let mut steps = Vec::new();
    let entries = match std::fs::read_dir(checkpoints) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(steps),
        entries => entries.map_err(read)?,
    };
    for entry in entries {
        let entry = entry.map_err(read)?;
        if let Some(step) = step_of(&entry.file_name().to_string_lossy())
            && entry.path().is_dir()
        {
            steps.push(step);
        }
    }
    steps.sort_unstable();
    Ok(steps)
}
