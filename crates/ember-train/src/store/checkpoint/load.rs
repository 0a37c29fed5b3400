//! Reading checkpoints, and finding the newest one that is intact.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::hashing::{Fingerprint, Hashing};
use super::layout;
use super::state::State;
use super::{AUDIT, CHECKPOINTS, Checkpoint, MODEL, OPTIMIZER, STATE, WALKERS, dir_name, steps};
use crate::error::Error;
use crate::shell;
use crate::store::tensor_file::{TensorFile, open};

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
/// As [`newest_intact`], but for damaged checkpoints.
pub fn newest_scheduled(run: &Path, every: u64) -> Result<Option<(PathBuf, Checkpoint)>, Error> {
    let mut dirs = candidates(run)?;
    dirs.retain(|&(step, _)| step.is_multiple_of(every));
    Ok(first_intact(&dirs)?.map_err(|_| ()).ok())
}

/// The newest checkpoint of a run that is intact. Damaged ones are skipped with a warning.
///
/// # Errors
/// None is intact: the message says what is wrong with each. One newer than the newest intact one cannot be read, or is of another
/// format: that is no damage, and going back would give up what is in it.
pub fn newest_intact(run: &Path) -> Result<(PathBuf, Checkpoint), Error> {
    let dirs = at_least_one(run)?;
    first_intact(&dirs)?.map_err(|wrong| {
        let wrong: String = wrong.iter().map(|error| format!("\n  {error}")).collect();
        Error::checkpoint(run.join(CHECKPOINTS), format!("no checkpoint is intact:{wrong}"))
    })
}

/// The first that is intact, else what is wrong with each.
fn first_intact(dirs: &[(u64, PathBuf)]) -> Result<Result<(PathBuf, Checkpoint), Vec<Error>>, Error> {
    let mut wrong = Vec::new();
    for (_, dir) in dirs {
        match load(dir) {
            Ok(checkpoint) => return Ok(Ok((dir.clone(), checkpoint))),
            Err(error @ Error::Damaged { .. }) => {
                tracing::warn!("skipping a damaged checkpoint: {error}");
                wrong.push(error);
            }
            Err(error) => {
                let quoted = shell::quoted(dir);
                let message = format!(
                    "the newest checkpoint is not damaged, but it cannot be used: {error}. Nothing was changed. To go back to an \
                     earlier one, move it away first: mv {quoted} {quoted}.aside"
                );
                return Err(Error::checkpoint(dir, message));
            }
        }
    }
    Ok(Err(wrong))
}

/// The checkpoint [`newest_intact`] tries first, without reading it.
///
/// # Errors
/// The run has no checkpoint at all, or its folder cannot be read.
pub fn newest_dir(run: &Path) -> Result<PathBuf, Error> {
    let dirs = at_least_one(run)?;
    let complete = dirs.iter().find(|(_, dir)| dir.join(STATE).is_file());
    Ok(complete.unwrap_or(&dirs[0]).1.clone())
}

/// Steps and folders of the checkpoints that a run keeps, oldest first; nothing is read.
///
/// # Errors
/// The folder cannot be read.
pub fn kept(run: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut kept = candidates(run)?;
    kept.reverse();
    Ok(kept)
}

/// Whether there is a checkpoint, intact or not.
///
/// # Errors
/// The folder cannot be read.
pub fn has_any(run: &Path) -> Result<bool, Error> {
    Ok(!candidates(run)?.is_empty())
}

fn at_least_one(run: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let dirs = candidates(run)?;
    if !dirs.is_empty() {
        return Ok(dirs);
    }
    let checkpoints = run.join(CHECKPOINTS);
    Err(match checkpoints.is_dir() {
        false => Error::checkpoint(run, "no run folder: there is no folder `checkpoints` in it"),
        true => Error::checkpoint(
            checkpoints,
            "the run has no checkpoint yet: a folder such as step_00001000 was expected",
        ),
    })
}

/// Steps and folders of a run's checkpoints, newest first. `latest` is for people and scripts: a crash may have left it behind the
/// newest one, which is as complete, for it got its name last.
fn candidates(run: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let checkpoints = run.join(CHECKPOINTS);
    let mut steps = steps(&checkpoints)?;
    steps.reverse();
    Ok(steps.into_iter().map(|step| (step, checkpoints.join(dir_name(step)))).collect())
}

/// Whether a folder is a checkpoint of this format and has all its files at their lengths; no tensor is read.
pub(super) fn is_complete(dir: &Path) -> Result<(), Error> {
    let state = read_state(dir)?;
    state.files.iter().try_for_each(|(name, expected)| {
        let path = dir.join(name);
        let (_, len) = open_part(&path)?;
        same_length(path, len, expected)
    })
}

fn same_length(path: PathBuf, found: u64, expected: &Fingerprint) -> Result<(), Error> {
    match found == expected.bytes {
        true => Ok(()),
        false => Err(Error::damaged(
            path,
            format!("damaged: {found} bytes found; {} were expected", expected.bytes),
        )),
    }
}

fn read_state(dir: &Path) -> Result<State, Error> {
    let path = dir.join(STATE);
    let (file, len) = open_part(&path)?;
    if len > MAX_STATE {
        return Err(Error::damaged(path, format!("{len} bytes found; a state has at most {MAX_STATE}")));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(MAX_STATE).read_to_end(&mut bytes).map_err(|source| Error::read(&path, source))?;
    State::from_text(bytes, &path)
}

/// Reads the text of a `state.json` as [`load`] does; `path` is for messages. For tests: no file is opened.
///
/// # Errors
/// Text that is damaged, no state, or of another format.
#[doc(hidden)]
pub fn check_state(text: Vec<u8>, path: &Path) -> Result<(), Error> {
    State::from_text(text, path).map(drop)
}

/// Reads one tensor file and compares it with what `state.json` says. Damage is reported as such before any other complaint.
fn read_checked(dir: &Path, name: &str, state: &State) -> Result<TensorFile, Error> {
    let path = dir.join(name);
    let Some(expected) = state.files.get(name) else {
        return Err(Error::checkpoint(dir.join(STATE), format!("`files` has no entry for {name}")));
    };
    let (file, len) = open_part(&path)?;
    same_length(path.clone(), len, expected)?;
    let mut input = Hashing::new(BufReader::with_capacity(1 << 20, file));
    let content = TensorFile::read_from(&mut input, len, &path);
    // What a failed read left over still counts for the checksum.
    io::copy(&mut input, &mut io::sink()).map_err(|source| Error::read(&path, source))?;
    let (_, found) = input.finish();
    if found != *expected {
        return Err(Error::damaged(
            path,
            format!("damaged: its SHA-256 is {}; {} was expected", found.sha256, expected.sha256),
        ));
    }
    content
}

/// Opens a file of a checkpoint. One that is not there is damage; one that cannot be opened now is not.
fn open_part(path: &Path) -> Result<(File, u64), Error> {
    open(path).map_err(|error| match error {
        Error::Read { path, source } if source.kind() == io::ErrorKind::NotFound => {
            Error::damaged(path, format!("damaged: {source}"))
        }
        other => other,
    })
}
