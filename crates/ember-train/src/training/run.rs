//! Driving a run: updates, metric lines, checkpoints, pictures, signals.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::dataset::Sources;
use crate::device::panics;
use crate::error::Error;
use crate::shell;
use crate::store::checkpoint::{self, Retention};
use crate::store::metrics::{MetricsLine, MetricsWriter};
use crate::training::faults;
use crate::training::progress::Progress;
pub use crate::training::signals::Signals;
use crate::training::trainer::{Logged, Trainer, UpdateInfo};
use crate::training::watchdog;

/// How fast a run goes.
struct Pace {
    time_before: f64,
    start: Instant,
    last: (u64, Instant),
}

impl Pace {
    fn new(time_before: f64, step: u64) -> Self {
        let now = Instant::now();
        Self { time_before, start: now, last: (step, now) }
    }

    /// Seconds of training, over all resumes.
    fn time_s(&self) -> f64 {
        self.time_before + self.start.elapsed().as_secs_f64()
    }

    /// Updates per second since the last lap.
    fn lap(&mut self, step: u64) -> f64 {
        let (before, since) = std::mem::replace(&mut self.last, (step, Instant::now()));
        (step - before) as f64 / since.elapsed().as_secs_f64()
    }

    /// Begins a lap at an earlier update.
    fn restart(&mut self, step: u64) {
        self.last = (step, Instant::now());
    }
}

/// Draws the picture of a training state into a run folder.
pub type Draw = fn(&Trainer, &Path) -> Result<PathBuf, Error>;

/// A run folder being written.
pub struct Run {
    /// The folder.
    pub dir: PathBuf,
    /// The device, as a checkpoint records it.
    pub device_label: String,
    /// The device for people, as [`crate::device::Selected::name`].
    pub device_name: String,
    /// The metric lines.
    pub metrics: MetricsWriter,
    /// Seconds of training before this process.
    pub time_before: f64,
    /// The files of the data set.
    pub sources: Sources,
    /// Draws a state into the run folder: training itself shows nothing.
    pub draw: Draw,
}

impl Run {
    /// Trains to `config.steps`, leaving metric lines, checkpoints and pictures.
    ///
    /// # Errors
    /// A non-finite state, walkers that are far from the model at the end, an I/O error or a device that is lost (the last good
    /// checkpoint is kept); a signal, or a data set that is gone: a checkpoint is written first.
    pub fn train(&mut self, trainer: &mut Trainer, signals: &Signals) -> Result<(), Error> {
        let steps = trainer.config.steps;
        if let Some(message) = trainer.config.optimizer.idle(steps).filter(|_| trainer.step < steps) {
            tracing::warn!("{message}");
        }
        let progress = Progress::new(trainer.step, steps);
        let mut pace = Pace::new(self.time_before, trainer.step);
        let mut result = Ok(());
        signals.defer();
        while result.is_ok() && trainer.step < steps {
            // burn reports a device that failed by a panic, where the host next reads from it.
            result = panics::caught(|| self.guarded_update(trainer, signals, &progress, &mut pace))
                .unwrap_or_else(|panic| {
                    Err(faults::of_update(&self.dir, &self.device_name, trainer, &panic))
                });
        }
        progress.finish();
        result?;
        for doubt in &trainer.doubts {
            tracing::warn!("{doubt}");
        }
        let run = shell::quoted(&self.dir);
        signals.end_at_once(format!("the run is complete and saved; evaluate it with: ember eval {run}"))
    }

    /// One update, and what follows where it diverges or a signal came.
    fn guarded_update(
        &mut self,
        trainer: &mut Trainer,
        signals: &Signals,
        progress: &Progress,
        pace: &mut Pace,
    ) -> Result<(), Error> {
        match self.update(trainer, progress, pace) {
            Err(error @ (Error::NonFinite { .. } | Error::Diverged { .. }))
                if trainer.config.watchdog.max_rollbacks > 0 =>
            {
                watchdog::roll_back(&self.dir, &mut self.metrics, trainer, error)?;
                pace.restart(trainer.step);
                progress.set(trainer.step);
            }
            other => other?,
        }
        match signals.seen() {
            Some(signal) => self.interrupted(trainer, signal, progress),
            None => Ok(()),
        }
    }

    /// One update with its metric line, checkpoint and picture, where they are due.
    fn update(&mut self, trainer: &mut Trainer, progress: &Progress, pace: &mut Pace) -> Result<(), Error> {
        let output = &trainer.config.output;
        let next = trainer.step + 1;
        let log = next.is_multiple_of(output.log_every);
        let last = next == trainer.config.steps;
        let save = next.is_multiple_of(output.checkpoint_every) || last;
        trainer.doubts.clear();
        let mut info = trainer.update(log)?;
        progress.tick();
        if let Some(logged) = info.logged.take() {
            let updates_per_s = pace.lap(next);
            let line = metrics_line(trainer, &info, logged, pace.time_s(), updates_per_s);
            if !(line.energy_data.is_finite() && line.grad_norm.is_finite()) {
                return Err(trainer.data_not_finite(line.energy_data, Some(line.grad_norm)));
            }
            self.metrics.append(&line)?;
            progress.log(&line, updates_per_s);
        }
        if last {
            trainer.judge_end()?;
        }
        if save {
            self.save(trainer)?;
            if last || picture_is_due(next, trainer.config.output.checkpoint_every, trainer.config.steps) {
                (self.draw)(trainer, &self.dir)?;
            }
            self.check_sources()?;
        }
        Ok(())
    }

    /// The samples are in memory, but nobody could resume or judge a run whose data are gone: better said now than at its end.
    fn check_sources(&self) -> Result<(), Error> {
        let Some((path, found)) = self.sources.missing() else { return Ok(()) };
        Err(Error::failed(format!(
            "{}: the data set is not as it was when the run read it: {found}. A checkpoint is written; once the file is back, go on \
             with: {}",
            path.display(),
            shell::resume(&self.dir)
        )))
    }

    /// A checkpoint and the command that goes on from it. A signal wants an end now: no picture.
    fn interrupted(&self, trainer: &mut Trainer, signal: i32, progress: &Progress) -> Result<(), Error> {
        self.save(trainer)?;
        let (step, command) = (trainer.step, shell::resume(&self.dir));
        progress.note(&format!("checkpoint of step {step} written; go on with: {command}"));
        Err(Error::Interrupted { signal })
    }

    /// Writes a checkpoint, unless the state has gone bad.
    ///
    /// # Errors
    /// A non-finite state, or an I/O error.
    pub fn save(&self, trainer: &mut Trainer) -> Result<PathBuf, Error> {
        trainer.redraw()?;
        trainer.check()?;
        self.metrics.sync()?;
        let state = trainer.to_state(&self.device_label);
        let output = &trainer.config.output;
        let retention =
            Retention { keep: output.keep_checkpoints, scheduled_every: Some(output.checkpoint_every) };
        checkpoint::save(&self.dir, &state, retention)
    }
}

/// Whether a checkpoint is the first in its hundredth of the run: a long run leaves a hundred pictures, not one a checkpoint.
fn picture_is_due(step: u64, checkpoint_every: u64, steps: u64) -> bool {
    let hundredth = |step: u64| u128::from(step) * 100 / u128::from(steps);
    step <= checkpoint_every || hundredth(step) > hundredth(step - checkpoint_every)
}

fn metrics_line(
    trainer: &Trainer,
    info: &UpdateInfo,
    logged: Logged,
    time_s: f64,
    updates_per_s: f64,
) -> MetricsLine {
    let moved = trainer.moved_per_update();
    let weighted = trainer.config.objective.as_dyn().carries_weights();
    let modes = trainer.config.dataset.as_dyn().truth().and_then(|truth| truth.modes);
    let mode_weights = trainer.model.mixture().zip(modes).map(|(model, modes)| modes.masses_of(&model));
    let learned = trainer.config.objective.as_dyn().data_loss().and_then(|loss| loss.learned_log_z());
    let log_z_learned = learned.and_then(|place| logged.own_numbers.get(place).copied());
    MetricsLine {
        step: trainer.step,
        time_s,
        energy_data: logged.energy_data,
        energy_walkers: logged.energy_walkers,
        loss: logged.loss,
        log_z_learned: log_z_learned.filter(|value| value.is_finite()),
        own_numbers: Some(logged.own_numbers).filter(|numbers| !numbers.is_empty()),
        ess_fraction: match info.reading {
            Some(reading) if weighted => reading.summary.ess / reading.count as f64,
            _ => 1.0,
        },
        resamplings: logged.resamplings,
        log_z_online: info.reading.map_or(f64::NAN, |reading| reading.log_z_online),
        distinct_ancestors: logged.distinct_ancestors,
        accept_rate: logged.accept_rate,
        global_accept_rate: logged.global_accept_rate,
        jump_rate: logged.jump_rate,
        step_size: trainer.step_size,
        global_moves: trainer.assist.as_ref().map(|assist| !assist.collapsed),
        step_scale: logged.step_scale,
        grad_norm: logged.grad_norm,
        learning_rate: info.learning_rate,
        walker_steps_per_s: updates_per_s * trainer.config.kernel.steps_per_update as f64 * moved as f64,
        log_z_audit: info.log_z_audit,
        flushes: Some(trainer.flushes).filter(|&flushes| flushes > 0),
        mode_weights,
    }
}
