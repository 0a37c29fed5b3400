//! Log lines on stderr, as `RUST_LOG` asks for them. Nobody may be reading, or the disk they go to is full: a write that fails is not an
//! error of the run, and is passed over.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ember_sampler::{Progress, Warning};
use tracing_subscriber::EnvFilter;

/// What is logged where `RUST_LOG` says nothing: ember's own lines, and only warnings of its libraries.
const DEFAULT: &str =
    "warn,ember=info,ember_train=info,ember_sampler=info,ember_model=info,wgpu_hal=error,wgpu_core=error";

/// Starts logging to stderr. A second call does nothing.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let started = tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        // It would be said on stderr, by a macro that panics where that fails.
        .log_internal_errors(false)
        .try_init();
    drop(started);
}

/// A line on stderr whatever `RUST_LOG` says.
pub fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Lines on how far a long computation is: one per tenth of it, and none where all of it takes seconds.
pub struct Milestones {
    what: &'static str,
    start: Instant,
    tenths: u32,
}

impl Milestones {
    /// What is done from now on.
    pub fn new(what: &'static str) -> Self {
        Self { what, start: Instant::now(), tenths: 0 }
    }

    /// A fraction of it is done; `detail` says how far in its own terms.
    pub fn reach(&mut self, fraction: f64, detail: impl FnOnce() -> String) {
        const QUIET: Duration = Duration::from_secs(5);
        let tenths = (10.0 * fraction) as u32;
        let elapsed = self.start.elapsed();
        if tenths > self.tenths && elapsed > QUIET {
            self.tenths = tenths;
            tracing::info!(
                elapsed_s = format_args!("{:.0}", elapsed.as_secs_f64()),
                "{}: {}",
                self.what,
                detail()
            );
        }
    }
}

/// Milestones of whatever an estimator of the sampler says it does, one after the other.
#[derive(Default)]
pub struct Listener(Mutex<Option<Milestones>>);

impl Progress for Listener {
    fn reach(&self, what: &'static str, done: f64, detail: &dyn Fn() -> String) {
        let mut current = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &mut *current {
            Some(milestones) if milestones.what == what => milestones.reach(done, detail),
            other => *other = Some(Milestones::new(what)),
        }
        if done >= 1.0 {
            // The same may be done once more.
            *current = None;
        }
    }

    fn note(&self, message: &str) {
        tracing::info!("{message}");
    }

    fn warn(&self, warning: &Warning) {
        match warning {
            Warning::TooFewTemperatures { .. } => tracing::warn!("{warning}; --temperatures N takes more"),
        }
    }
}
