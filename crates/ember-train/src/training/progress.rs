//! What a user watches: a progress bar on a terminal, tracing lines off it.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::logging;
use crate::store::metrics::MetricsLine;

/// Shows how a run goes.
pub struct Progress {
    bar: Option<ProgressBar>,
    steps: u64,
}

impl Progress {
    /// From update `step` of `steps`.
    pub fn new(step: u64, steps: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(steps).with_position(step);
            let template = "{bar:28.cyan/blue} {pos}/{len} [{per_sec} · {eta} left] {msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━━╌").with_key(
                    "per_sec",
                    |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
                        let _ = write!(out, "{:.1} updates/s", state.per_sec());
                    },
                ));
            }
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self { bar, steps }
    }

    /// One update is done.
    pub fn tick(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// The run goes on from another update.
    pub fn set(&self, step: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(step);
            bar.reset_eta();
        }
    }

    /// A log step: the bar's message, or a tracing line.
    pub fn log(&self, line: &MetricsLine, updates_per_s: f64) {
        let gap = line.energy_data - line.energy_walkers;
        match &self.bar {
            Some(bar) => bar.set_message(format!(
                "gap {gap:+.3} · ess {:.2} · lr {:.1e}",
                line.ess_fraction, line.learning_rate
            )),
            None => {
                let left = (self.steps - line.step) as f64 / updates_per_s;
                tracing::info!(
                    step = line.step,
                    of = self.steps,
                    updates_per_s = format_args!("{updates_per_s:.1}"),
                    left_s = format_args!("{left:.0}"),
                    energy_gap = format_args!("{gap:+.4}"),
                    ess = format_args!("{:.3}", line.ess_fraction),
                    learning_rate = format_args!("{:.2e}", line.learning_rate),
                    "training"
                );
            }
        }
    }

    /// A line for the user: above the bar, or on stderr.
    pub fn note(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.println(message),
            None => logging::note(message),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
