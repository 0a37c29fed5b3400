//! What lies in a run folder beside checkpoints, metric lines and evaluations: pictures and events.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::store::checkpoint::{self, dir_name, step_of};
use crate::store::metrics;

/// The file of events in a run folder, one JSON object a line.
pub const EVENTS: &str = "events.jsonl";

/// Where the picture of update `step` lies; its folder is there.
///
/// # Errors
/// A folder that cannot be made.
pub fn picture(run: &Path, step: u64) -> Result<PathBuf, Error> {
    let folder = run.join("samples");
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    Ok(folder.join(format!("{}.png", dir_name(step))))
}

/// Takes away what belongs to a trajectory that is given up: checkpoints, evaluations and pictures of updates beyond `step`. Killed in
/// between, the next resume takes away the rest.
///
/// # Errors
/// Any I/O error.
pub fn give_up_after(run: &Path, step: u64) -> Result<(), Error> {
    checkpoint::discard_after(run, step)?;
    metrics::cut_evaluations(run, step)?;
    discard_pictures_after(run, step)
}

/// Files of other names than a picture's are not the run's.
fn discard_pictures_after(run: &Path, step: u64) -> Result<(), Error> {
    let folder = run.join("samples");
    let io = |source| Error::io(&folder, source);
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io)?,
    };
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        let found = name.to_str().and_then(|name| step_of(name.strip_suffix(".png")?));
        if found.is_some_and(|found| found > step) {
            std::fs::remove_file(folder.join(name)).map_err(io)?;
        }
    }
    Ok(())
}
