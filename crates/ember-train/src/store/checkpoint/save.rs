//! Writing checkpoints.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::atomic::{
    commit_folder, create_folders, folder_of, free_name, remove_stale, sync_folder, temp_folder, write_file,
};
use super::hashing::{Fingerprint, Hashing};
use super::layout::{self, Content};
use super::load::{is_complete, load};
use super::state::State;
use super::{CHECKPOINTS, Checkpoint, LATEST, STATE, dir_name, steps};
use crate::error::Error;
use crate::store::tensor_file::write_tensors;

/// Which checkpoints stay.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// The newest ones, at least the one just written.
    pub keep: usize,
    /// And the newest whose step is a multiple of this: what a rollback goes back to, whenever the run was interrupted.
    pub scheduled_every: Option<u64>,
}

impl From<usize> for Retention {
    fn from(keep: usize) -> Self {
        Self { keep, scheduled_every: None }
    }
}

/// Writes `RUN/checkpoints/step_…` and names it in `latest`, then removes all that `retention` does not keep.
/// A checkpoint of the same step is replaced in one step; those of later steps belong to a trajectory that was given up, and go. What
/// is no checkpoint of ours is not removed, but renamed aside.
///
/// Returns the checkpoint's folder.
///
/// # Errors
/// Any I/O error, a full disk for example: the earlier checkpoints are as they were and nothing half-written is left.
pub fn save(run: &Path, checkpoint: &Checkpoint, retention: impl Into<Retention>) -> Result<PathBuf, Error> {
    let checkpoints = run.join(CHECKPOINTS);
    create_folders(&checkpoints).map_err(|source| Error::io(&checkpoints, source))?;
    remove_stale(&checkpoints)?;

    let name = dir_name(checkpoint.step);
    let folder = checkpoints.join(&name);
    let temp = temp_folder(&checkpoints, &name)?;
    let mut fingerprints = BTreeMap::new();
    for content in layout::files(checkpoint) {
        let file = content.0;
        let fingerprint = write_content(&temp.path().join(file), content)
            .map_err(|source| Error::io(folder.join(file), source))?;
        fingerprints.insert(file.to_owned(), fingerprint);
    }
    State::new(checkpoint, fingerprints)
        .to_text()
        .map_err(std::io::Error::from)
        .and_then(|text| write_synced(&temp.path().join(STATE), text.as_bytes()))
        .map_err(|source| Error::io(folder.join(STATE), source))?;
    commit_folder(temp, &folder)?;

    write_latest(&checkpoints, &name)?;
    prune(&checkpoints, checkpoint.step, retention.into())?;
    Ok(folder)
}

/// Forgets the checkpoints after `step`, whose trajectory is given up (a rollback), and lets `latest` name that of `step` if there is
/// one. Those that are not intact are renamed aside.
///
/// # Errors
/// Any I/O error.
pub fn discard_after(run: &Path, step: u64) -> Result<(), Error> {
    let checkpoints = run.join(CHECKPOINTS);
    if !checkpoints.is_dir() {
        return Ok(());
    }
    let name = dir_name(step);
    if checkpoints.join(&name).is_dir() {
        write_latest(&checkpoints, &name)?;
    }
    prune(&checkpoints, step, usize::MAX.into())
}

fn write_latest(checkpoints: &Path, name: &str) -> Result<(), Error> {
    write_file(&checkpoints.join(LATEST), |out| writeln!(out, "{name}"))
}

/// Removes the checkpoints after `current`, newest first, and those up to it that `retention` does not keep.
fn prune(checkpoints: &Path, current: u64, retention: Retention) -> Result<(), Error> {
    let steps = steps(checkpoints)?;
    let (past, future) = steps.split_at(steps.partition_point(|&step| step <= current));
    let kept = retention.keep.max(1).min(past.len());
    let is_scheduled = |step: &u64| retention.scheduled_every.is_some_and(|every| step.is_multiple_of(every));
    let scheduled = past.iter().rfind(|step| is_scheduled(step));
    // Of those that lie ahead every byte is looked at. There are some after a rollback or a skipped checkpoint only.
    for &step in future.iter().rev() {
        let folder = checkpoints.join(dir_name(step));
        retire(&folder, load(&folder).map(drop))?;
    }
    for &step in past[..past.len() - kept].iter().filter(|&step| Some(step) != scheduled) {
        let folder = checkpoints.join(dir_name(step));
        retire(&folder, is_complete(&folder))?;
    }
    Ok(())
}

/// Removes a checkpoint that was found to be one, and renames aside what was not.
fn retire(folder: &Path, found: Result<(), Error>) -> Result<(), Error> {
    let io = |source| Error::io(folder, source);
    let parent = folder_of(folder);
    if let Err(error) = found {
        let aside = free_name(&folder.with_extension("aside"));
        tracing::warn!("{error}: renamed to {}, not deleted", aside.display());
        fs::rename(folder, &aside).map_err(io)?;
        return sync_folder(&parent).map_err(io);
    }
    // Killed in between, what is left has the name of something half-written.
    let temp = temp_folder(&parent, "old")?;
    fs::rename(folder, temp.path()).map_err(io)?;
    sync_folder(&parent).map_err(io)?;
    temp.close().map_err(io)
}

fn write_content(path: &Path, (_, tensors, metadata): Content<'_>) -> std::io::Result<Fingerprint> {
    let file = File::create_new(path)?;
    let mut out = Hashing::new(BufWriter::with_capacity(1 << 20, file));
    write_tensors(&mut out, &tensors, &metadata)?;
    out.flush()?;
    let (out, fingerprint) = out.finish();
    out.get_ref().sync_all()?;
    Ok(fingerprint)
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
