//! Driving a run: updates, metric lines, checkpoints, pictures, signals.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use burn::tensor::Tensor;
use ember_model::params::download;

use crate::checkpoint;
use crate::error::Error;
use crate::eval::mixture_masses;
use crate::metrics::{MetricsLine, MetricsWriter};
use crate::picture;
use crate::progress::Progress;
use crate::record;
use crate::trainer::{Trainer, UpdateInfo};

/// SIGINT and SIGTERM, noted: the loop finishes its update first.
#[derive(Clone, Debug, Default)]
pub struct Signals(Arc<AtomicI32>);

impl Signals {
    /// Listens from now on. A second signal of the same kind ends the program at once.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn listen() -> Result<Self, Error> {
        let signals = Self::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let seen = signals.0.clone();
            let mut pending = signal_hook::iterator::Signals::new([signal])
                .map_err(|error| Error::failed(format!("cannot listen for signals: {error}")))?;
            std::thread::spawn(move || {
                for signal in pending.forever() {
                    if seen.swap(signal, Ordering::SeqCst) != 0 {
                        let _ = signal_hook::low_level::emulate_default_handler(signal);
                    }
                }
            });
        }
        Ok(signals)
    }

    /// The signal that came, if any.
    pub fn seen(&self) -> Option<i32> {
        Some(self.0.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
    }
}

/// A run folder being written.
pub struct Run {
    /// The folder.
    pub dir: PathBuf,
    /// The device, as a checkpoint records it.
    pub device_label: String,
    /// The metric lines.
    pub metrics: MetricsWriter,
    /// Seconds of training before this process.
    pub time_before: f64,
}

impl Run {
    /// Trains to `config.steps`, leaving metric lines, checkpoints and pictures.
    ///
    /// # Errors
    /// A non-finite state or an I/O error (the last good checkpoint is kept), or a signal: a checkpoint is written first.
    pub fn train(&mut self, trainer: &mut Trainer, signals: &Signals) -> Result<(), Error> {
        let progress = Progress::new(trainer.step, trainer.config.steps);
        let result = self.updates(trainer, signals, &progress);
        progress.finish();
        result
    }

    fn updates(
        &mut self,
        trainer: &mut Trainer,
        signals: &Signals,
        progress: &Progress,
    ) -> Result<(), Error> {
        let output = trainer.config.output.clone();
        let start = Instant::now();
        let mut last_log = (trainer.step, Instant::now());
        let mut saved = trainer.step;
        while trainer.step < trainer.config.steps {
            let next = trainer.step + 1;
            let log = next.is_multiple_of(output.log_every);
            let info = trainer.update(log)?;
            progress.tick();
            if log {
                let updates_per_s = (next - last_log.0) as f64 / last_log.1.elapsed().as_secs_f64();
                last_log = (next, Instant::now());
                let time_s = self.time_before + start.elapsed().as_secs_f64();
                let line = metrics_line(trainer, info, time_s, updates_per_s);
                self.metrics.append(&line)?;
                progress.log(&line, updates_per_s);
            }
            let signal = signals.seen();
            let last = next == trainer.config.steps;
            if next.is_multiple_of(output.checkpoint_every) || last || signal.is_some() {
                self.save(trainer)?;
                saved = next;
                // A signal wants an end now; the picture can be had from the checkpoint.
                if signal.is_none() {
                    picture::samples(trainer, &self.dir)?;
                }
            }
            if let Some(signal) = signal {
                progress.note(&format!(
                    "checkpoint of step {saved} written; go on with: {}",
                    resume_command(&self.dir)
                ));
                return Err(Error::Interrupted { signal });
            }
        }
        Ok(())
    }

    /// Writes a checkpoint, unless the state has gone bad.
    ///
    /// # Errors
    /// A non-finite state, or an I/O error.
    pub fn save(&self, trainer: &Trainer) -> Result<PathBuf, Error> {
        trainer.check()?;
        self.metrics.sync()?;
        let state = record::checkpoint(trainer, &self.device_label);
        checkpoint::save(&self.dir, &state, trainer.config.output.keep_checkpoints)
    }
}

fn metrics_line(trainer: &Trainer, info: UpdateInfo, time_s: f64, updates_per_s: f64) -> MetricsLine {
    let mut scalars = vec![info.energy_data, info.energy_walkers, info.grad_norm];
    scalars.extend(info.accept_rate);
    let scalars: Vec<f64> = download(Tensor::cat(scalars, 0)).into_iter().map(f64::from).collect();
    let walkers = &trainer.walkers;
    let count = walkers.count();
    let weighted = trainer.config.objective.as_dyn().carries_weights();
    let truth = trainer.config.dataset.as_dyn().truth();
    let mode_weights =
        trainer.model.mixture().zip(truth).map(|(model, truth)| mixture_masses(&model, &truth.mixture));
    MetricsLine {
        step: trainer.step,
        time_s,
        energy_data: scalars[0],
        energy_walkers: scalars[1],
        ess_fraction: match info.summary {
            Some(summary) if weighted => summary.ess / count as f64,
            _ => 1.0,
        },
        resamplings: walkers.resamplings,
        log_z_online: info.log_z_online.unwrap_or(f64::NAN),
        distinct_ancestors: walkers.distinct_ancestors() as u64,
        accept_rate: scalars.get(3).copied(),
        grad_norm: scalars[2],
        learning_rate: info.learning_rate,
        walker_steps_per_s: updates_per_s * trainer.config.kernel.steps_per_update as f64 * count as f64,
        log_z_audit: info.log_z_audit,
        mode_weights,
    }
}

/// The command that goes on with a run.
pub fn resume_command(run: &Path) -> String {
    format!("ember resume {}", run.display())
}
