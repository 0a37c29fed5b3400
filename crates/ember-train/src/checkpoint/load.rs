//! Reading checkpoints, and finding the newest one that is intact.

use std::fs;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::hashing::Hashing;
use super::layout;
use super::state::State;
use super::{
    AUDIT, CHECKPOINTS, Checkpoint, LATEST, MODEL, OPTIMIZER, STATE, WALKERS, dir_name, step_of, steps,
};
use crate::error::Error;
use crate::tensor_file::{TensorFile, open};

/// A longer `state.json` is not one of ours.
const MAX_STATE: u64 = 64 << 20;

/// Reads a checkpoint folder, comparing length and checksum of every file.
///
/// # Errors
/// A file that is missing, damaged, half-written or of a newer format.
pub fn load(dir: &Path) -> Result<Checkpoint, Error> {
    let state = read_state(dir)?;
    let model_path = dir.join(MODEL);
    let mut model = read_checked(dir, MODEL, &state)?;
    let energy_config = model
        .metadata
        .remove("ember.config")
        .ok_or_else(|| Error::checkpoint(&model_path, "the metadata has no `ember.config`"))?;
    let (theta, optimizer) =
        layout::split_optimizer(read_checked(dir, OPTIMIZER, &state)?, &dir.join(OPTIMIZER))?;
    let walkers = match state.walkers {
        Some(scalars) => {
            let mut file = read_checked(dir, WALKERS, &state)?;
            let path = dir.join(WALKERS);
            Some(layout::take_population(&mut file, "", scalars, &path)?)
        }
        None => None,
    };
    let mut audit = Vec::with_capacity(state.audit.len().min(1024));
    if !state.audit.is_empty() {
        let mut file = read_checked(dir, AUDIT, &state)?;
        let path = dir.join(AUDIT);
        for (i, &scalars) in state.audit.iter().enumerate() {
            let prefix = format!("{i}.");
            audit.push(layout::take_population(&mut file, &prefix, scalars, &path)?);
        }
    }
    Ok(Checkpoint {
        step: state.step,
        seed: state.seed,
        model: model.into_host_tensors(&model_path)?,
        energy_config,
        theta,
        optimizer,
        optimizer_counters: state.optimizer_counters,
        walkers,
        audit,
        environment: state.environment,
        extra: state.extra,
    })
}

/// The newest intact checkpoint whose step is a multiple of `every`; `None` where there is none. What a signal or `--steps` left at
/// other steps is passed over, so that a run finds the same one however often it was interrupted.
///
/// # Errors
/// A folder that cannot be read.
pub fn newest_scheduled(run: &Path, every: u64) -> Result<Option<(PathBuf, Checkpoint)>, Error> {
    let checkpoints = run.join(CHECKPOINTS);
    if !checkpoints.is_dir() {
        return Ok(None);
    }
    let scheduled = steps(&checkpoints)?.into_iter().rev().filter(|step| step.is_multiple_of(every));
    let dirs = scheduled.map(|step| checkpoints.join(dir_name(step)));
    Ok(dirs.into_iter().find_map(|dir| load(&dir).ok().map(|checkpoint| (dir, checkpoint))))
}

/// The newest checkpoint of a run that is intact: the one `latest` names, else the others from newest to oldest. Damaged ones are
/// skipped with a warning.
///
/// # Errors
/// None is intact: the message says what is wrong with each.
pub fn newest_intact(run: &Path) -> Result<(PathBuf, Checkpoint), Error> {
    let mut wrong = Vec::new();
    for dir in candidates(run)? {
        match load(&dir) {
            Ok(checkpoint) => return Ok((dir, checkpoint)),
            Err(error) => {
                tracing::warn!("skipping a damaged checkpoint: {error}");
                wrong.push(format!("\n  {error}"));
            }
        }
    }
    Err(Error::checkpoint(run.join(CHECKPOINTS), format!("no checkpoint is intact:{}", wrong.concat())))
}

/// The checkpoint [`newest_intact`] tries first, without reading it.
///
/// # Errors
/// The run has no checkpoint at all.
pub fn newest_dir(run: &Path) -> Result<PathBuf, Error> {
    let dirs = candidates(run)?;
    let complete = dirs.iter().find(|dir| dir.join(STATE).is_file());
    // `candidates` never returns an empty list.
    Ok(complete.unwrap_or(&dirs[0]).clone())
}

/// Checkpoint folders in the order to try them; at least one.
fn candidates(run: &Path) -> Result<Vec<PathBuf>, Error> {
    let checkpoints = run.join(CHECKPOINTS);
    if !checkpoints.is_dir() {
        return Err(Error::checkpoint(run, "no run folder: there is no folder `checkpoints` in it"));
    }
    let mut steps = steps(&checkpoints)?;
    steps.reverse();
    let latest = fs::read_to_string(checkpoints.join(LATEST)).unwrap_or_default();
    if let Some(latest) = step_of(latest.trim())
        && let Some(found) = steps.iter().position(|&step| step == latest)
    {
        steps[..=found].rotate_right(1);
    }
    if steps.is_empty() {
        return Err(Error::checkpoint(
            checkpoints,
            "the run has no checkpoint yet: a folder such as step_00001000 was expected",
        ));
    }
    Ok(steps.into_iter().map(|step| checkpoints.join(dir_name(step))).collect())
}

fn read_state(dir: &Path) -> Result<State, Error> {
    let path = dir.join(STATE);
    let (file, len) = open(&path)?;
    if len > MAX_STATE {
        return Err(Error::checkpoint(path, format!("{len} bytes found; a state has at most {MAX_STATE}")));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(MAX_STATE).read_to_end(&mut bytes).map_err(|source| Error::read(&path, source))?;
    State::from_text(bytes, &path)
}

/// Reads one tensor file and compares it with what `state.json` says. Damage is reported as such before any other complaint.
fn read_checked(dir: &Path, name: &str, state: &State) -> Result<TensorFile, Error> {
    let path = dir.join(name);
    let Some(expected) = state.files.get(name) else {
        return Err(Error::checkpoint(dir.join(STATE), format!("`files` has no entry for {name}")));
    };
    let (file, len) = open(&path)?;
    if len != expected.bytes {
        return Err(Error::checkpoint(
            path,
            format!("damaged: {len} bytes found; {} were expected", expected.bytes),
        ));
    }
    let mut input = Hashing::new(BufReader::with_capacity(1 << 20, file));
    let content = TensorFile::read_from(&mut input, len, &path);
    // What a failed read left over still counts for the checksum.
    io::copy(&mut input, &mut io::sink()).map_err(|source| Error::read(&path, source))?;
    let (_, found) = input.finish();
    if found != *expected {
        return Err(Error::checkpoint(
            path,
            format!("damaged: its SHA-256 is {}; {} was expected", found.sha256, expected.sha256),
        ));
    }
    content
}
