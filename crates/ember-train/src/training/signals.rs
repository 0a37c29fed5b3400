//! SIGINT, SIGTERM and SIGHUP. While updates are made a signal is noted, and the loop finishes its update and saves first; before and after
//! there is nothing to save, and the program ends at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::error::{Error, signal_name};
use crate::logging;

/// What a signal does now, and which one came.
#[derive(Clone, Debug, Default)]
pub struct Signals(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is to be said of a run that a signal ends at once; `None` while one is only noted.
    last_words: Option<String>,
    seen: Option<i32>,
}

impl Signals {
    /// Listens from now on. A signal ends the program at once, after saying `last_words`, until [`Signals::defer`] is called.
    ///
    /// # Errors
    /// The system refuses a handler.
    pub fn listen(last_words: impl Into<String>) -> Result<Self, Error> {
        let signals = Self::default();
        signals.state().last_words = Some(last_words.into());
        // `nohup` has SIGHUP ignored: it stays so.
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        for signal in [SIGINT, SIGTERM].into_iter().chain(hangup) {
            let own = signals.clone();
            let mut pending = signal_hook::iterator::Signals::new([signal])
                .map_err(|error| Error::failed(format!("cannot listen for signals: {error}")))?;
            std::thread::spawn(move || pending.forever().for_each(|signal| own.came(signal)));
        }
        Ok(signals)
    }

    /// From now on the first signal is noted; a second one, of any kind, ends the program at once.
    pub fn defer(&self) {
        self.state().last_words = None;
    }

    /// From now on a signal ends the program at once, after saying `last_words`.
    ///
    /// # Errors
    /// One was noted that nobody has seen to.
    pub fn end_at_once(&self, last_words: impl Into<String>) -> Result<(), Error> {
        let mut state = self.state();
        state.last_words = Some(last_words.into());
        state.seen.map_or(Ok(()), |signal| Err(Error::Interrupted { signal }))
    }

    /// The signal that came, if any.
    pub fn seen(&self) -> Option<i32> {
        self.state().seen
    }

    fn came(&self, signal: i32) {
        let mut state = self.state();
        if let Some(words) = &state.last_words {
            logging::note(&format!("stopped by {}: {words}", signal_name(signal)));
            signal_hook::low_level::exit(128 + signal);
        }
        if state.seen.replace(signal).is_some() {
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the program was started with this signal ignored. Known on Linux only; elsewhere the signal is left as it is.
fn is_ignored(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return true };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}
