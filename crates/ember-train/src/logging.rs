//! Log lines on stderr, as `RUST_LOG` asks for them. Nobody may be reading, or the disk they go to is full: a write that fails is not an
//! error of the run, and is passed over.

use std::io::{self, IsTerminal, Write};

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
