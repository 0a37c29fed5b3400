//! A program of a comparison, which a signal to the comparison reaches once.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use crate::training::run::Signals;

/// How often a program that runs is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Runs a program to its end. The first signal that comes is passed on: a run then saves and ends.
///
/// # Errors
/// A program that cannot be started.
pub fn run_to_end(command: &mut Command, signals: &Signals) -> io::Result<ExitStatus> {
    // A terminal's Ctrl-C would reach a program of the same group twice, from it and from here, and twice means: end at once.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    let mut child = command.spawn()?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if let (false, Some(signal)) = (told, signals.seen()) {
            pass_on(&child, signal);
            told = true;
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(unix)]
fn pass_on(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let signal = match signal {
        signal_hook::consts::SIGHUP => rustix::process::Signal::HUP,
        signal_hook::consts::SIGTERM => rustix::process::Signal::TERM,
        _ => rustix::process::Signal::INT,
    };
    if let Some(pid) = pid {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

#[cfg(not(unix))]
fn pass_on(_child: &Child, _signal: i32) {}
