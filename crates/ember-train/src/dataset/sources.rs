//! The files a data set was read from, looked at again while a run goes on.
//!
//! A run has its samples in memory and needs the files no more, but whatever judges or resumes it does: a run that notices at
//! a checkpoint that they are gone stops there. One stat a file, of at most [`MOST`] files.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The most files that are looked at; of more, as many at equal distances.
const MOST: usize = 256;

/// Files and their lengths in bytes. None where the samples are drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Vec<(PathBuf, u64)>);

impl Sources {
    /// These files as they are now.
    ///
    /// # Errors
    /// A file that is not there.
    pub(super) fn of(files: impl IntoIterator<Item = PathBuf>) -> Result<Self, Error> {
        let files: Vec<PathBuf> = files.into_iter().collect();
        let step = files.len().div_ceil(MOST).max(1);
        let looked_at = files.into_iter().step_by(step).map(|path| match length(&path) {
            Ok(length) => Ok((path, length)),
            Err(source) => Err(Error::read(path, source)),
        });
        Ok(Self(looked_at.collect::<Result<_, _>>()?))
    }

    /// How many files are looked at.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none to look at.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first file that is gone or of another length, and what was found instead.
    pub fn missing(&self) -> Option<(&Path, String)> {
        self.0.iter().find_map(|(path, expected)| match length(path) {
            Ok(found) if found == *expected => None,
            Ok(found) => Some((path.as_path(), format!("now of {found} bytes, {expected} when it was read"))),
            Err(error) => Some((path.as_path(), error.to_string())),
        })
    }
}

fn length(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.len())
}
