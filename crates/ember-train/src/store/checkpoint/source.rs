//! The PATH argument: a run folder, a checkpoint folder or a weight file.

use std::path::{Path, PathBuf};

use super::{CHECKPOINTS, Checkpoint, LATEST, MODEL, STATE, load, newest_dir, newest_intact, steps};
use crate::error::Error;

/// What a PATH argument names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A run folder.
    Run {
        /// The run folder.
        dir: PathBuf,
        /// Its newest complete checkpoint, not yet read.
        checkpoint: PathBuf,
    },
    /// A checkpoint folder.
    Checkpoint {
        /// The checkpoint folder.
        dir: PathBuf,
    },
    /// A weight file.
    WeightFile {
        /// The file, not yet read.
        path: PathBuf,
    },
}

impl Source {
    /// Tells what `path` is, without reading any tensor.
    ///
    /// # Errors
    /// Nothing is there, or something else: the message says what was found.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bad = |message: &str| Err(Error::checkpoint(path, message));
        let about = std::fs::metadata(path).map_err(|source| Error::read(path, source))?;
        if about.is_file() {
            return match path.file_name().and_then(|name| name.to_str()) {
                Some(STATE | LATEST | "config.toml" | "metrics.jsonl" | "eval.jsonl") => {
                    bad("a file of a run; the run folder itself was expected")
                }
                _ => Ok(Self::WeightFile { path: path.to_owned() }),
            };
        }
        if !about.is_dir() {
            return bad("neither a file nor a folder");
        }
        if path.join(STATE).is_file() {
            return Ok(Self::Checkpoint { dir: path.to_owned() });
        }
        if path.join(MODEL).is_file() {
            return bad("a half-written or damaged checkpoint: there is no state.json in it");
        }
        if path.join(CHECKPOINTS).is_dir() {
            let checkpoint = newest_dir(path)?;
            return Ok(Self::Run { dir: path.to_owned(), checkpoint });
        }
        if path.join("config.toml").is_file() {
            return bad("the run has no checkpoint yet: there is no folder `checkpoints` in it");
        }
        if path.join(LATEST).is_file() || steps(path).is_ok_and(|steps| !steps.is_empty()) {
            return bad(
                "a folder of checkpoints; the run folder above it, or one checkpoint in it, was expected",
            );
        }
        bad(
            "a folder that is neither a run (no `checkpoints` in it) nor a checkpoint (no `state.json` in it); \
             a run folder, a checkpoint folder or a .safetensors file was expected",
        )
    }

    /// Reads the checkpoint, of a run its newest intact one. `None` for a weight file.
    ///
    /// # Errors
    /// As [`load`] and [`newest_intact`].
    pub fn checkpoint(&self) -> Result<Option<(PathBuf, Checkpoint)>, Error> {
        match self {
            Self::Run { dir, .. } => newest_intact(dir).map(Some),
            Self::Checkpoint { dir } => Ok(Some((dir.clone(), load(dir)?))),
            Self::WeightFile { .. } => Ok(None),
        }
    }
}
