//! What happens when a run diverges: back to the last good checkpoint, with a smaller learning rate.
//!
//! A rollback restores θ, the optimiser's moments, walkers, log-weights, log Z and the audit, multiplies the learning rate by
//! `watchdog.learning_rate_factor`, and appends a line to `events.jsonl`. It is a pure function of the checkpoint and of the
//! rollbacks so far, which the next checkpoint records: a run killed in between diverges and rolls back again the same way.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::checkpoint;
use crate::store::folder::{EVENTS, give_up_after};
use crate::store::metrics::{MetricsWriter, append_line};
use crate::training::trainer::Trainer;

/// One line of [`EVENTS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The update that diverged.
    pub step: u64,
    /// What happened: `rollback`.
    pub event: String,
    /// The update of the checkpoint gone back to; 0 is the start.
    pub to_step: u64,
    /// Rollbacks so far, this one included.
    pub rollbacks: u32,
    /// What is left of the learning rate.
    pub learning_rate_scale: f64,
    /// Why.
    pub reason: String,
}

/// Puts `trainer` back to the newest scheduled checkpoint of the run, or to its start.
///
/// # Errors
/// `error` itself, with what was tried, once the rollbacks are used up; files that cannot be read or written.
pub(crate) fn roll_back(
    run: &Path,
    metrics: &mut MetricsWriter,
    trainer: &mut Trainer,
    error: Error,
) -> Result<(), Error> {
    let rollbacks = trainer.rollbacks + 1;
    let most = trainer.config.watchdog.max_rollbacks;
    if rollbacks > most {
        return Err(Error::failed(format!(
            "{error}; watchdog.max_rollbacks = {most} are used up. The last good checkpoint is kept"
        )));
    }
    let (config, data, device) = (trainer.config.clone(), trainer.data.clone(), trainer.device().clone());
    let step = trainer.step;
    let found = checkpoint::newest_scheduled(run, config.output.checkpoint_every)
        .map_err(|cause| Error::failed(format!("{error}, and the run cannot be rolled back: {cause}")))?;
    *trainer = match found {
        None => trainer.restart()?,
        Some((origin, found)) => Trainer::from_state_on(config, data, &found, &origin, &device)?,
    };
    trainer.roll_back_to(rollbacks);
    give_up_after(run, trainer.step)?;
    *metrics = MetricsWriter::resume(run, trainer.step)?;
    let event = Event {
        step,
        event: "rollback".to_owned(),
        to_step: trainer.step,
        rollbacks,
        learning_rate_scale: trainer.optimizer.learning_rate_scale,
        reason: error.to_string(),
    };
    tracing::warn!(
        step,
        to_step = event.to_step,
        learning_rate_scale = event.learning_rate_scale,
        "rolled back ({rollbacks} of {most}): {error}"
    );
    append_line(&run.join(EVENTS), &event)
}

/// Cuts events that a checkpoint with this many rollbacks does not know of: they happen again.
///
/// # Errors
/// Any I/O error.
pub fn resume(run: &Path, rollbacks: u32) -> Result<(), Error> {
    let path = run.join(EVENTS);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|source| Error::read(&path, source))?,
    };
    let kept: String = text.split_inclusive('\n').take(rollbacks as usize).collect();
    checkpoint::atomic::write_file(&path, |out| std::io::Write::write_all(out, kept.as_bytes()))
}
