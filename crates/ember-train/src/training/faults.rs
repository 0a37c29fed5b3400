//! Panics in the middle of a run: a device that was lost, or a fault of the program.
//!
//! A GPU that is reset, unplugged or out of memory is reported by burn as a panic at the next read, for reads return numbers
//! and no `Result`. The training loop catches it, so that the run ends as every failed run does: exit code 1, the checkpoints as
//! they are, and the command that goes on from the last intact one. The panic's own text goes to stderr by the panic hook, and its
//! first line into the error. The state of the trainer is not used again.

use std::path::Path;

use burn::tensor::Device;

use crate::device::panics::{caught, summary};
use crate::error::Error;
use crate::shell;
use crate::store::checkpoint;
use crate::training::trainer::Trainer;

/// The error of a run whose update panicked.
pub(crate) fn of_update(run: &Path, device: &str, trainer: &Trainer, panic: &str) -> Error {
    let what = match failure(trainer.device()) {
        _ if is_out_of_memory(panic) => out_of_memory(device, panic),
        Some(failure) => format!("the device {device} was lost: {failure}"),
        None => {
            format!("{}, on {device}. It answers, so that this is a fault of the program", summary(panic))
        }
    };
    Error::failed(format!("step {}: {what}. {}", trainer.step, way_on(run)))
}

/// The error of a command that panicked outside of a training loop.
pub fn of_command(panic: &str) -> Error {
    if is_out_of_memory(panic) {
        return Error::failed(out_of_memory("the device", panic));
    }
    Error::failed(format!("the device failed, or it is a fault of the program: {}", summary(panic)))
}

/// Whether a panic says that an allocation failed: CubeCL's and the drivers' words for it.
fn is_out_of_memory(panic: &str) -> bool {
    let panic = panic.to_lowercase();
    ["out of device memory", "out of memory", "can't allocate"].iter().any(|words| panic.contains(words))
}

/// What a run needs is checked against the card before it begins, but not what other programs hold of it.
fn out_of_memory(device: &str, panic: &str) -> String {
    format!(
        "{device} has no memory left: {}. A run is checked against the whole card before it begins: another program may hold part of \
         it (`nvidia-smi` lists them), end that first",
        summary(panic)
    )
}

/// What the device says is wrong with it; `None` where it still answers.
fn failure(device: &Device) -> Option<String> {
    match caught(|| device.sync()) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(summary(&error.to_string())),
        Err(panic) => Some(summary(&panic)),
    }
}

/// Where the run can go on from, and how.
fn way_on(run: &Path) -> String {
    let found = match checkpoint::newest_intact(run) {
        Ok((dir, _)) => format!("The last intact checkpoint is {}", dir.display()),
        Err(_) if checkpoint::has_any(run).is_ok_and(|any| !any) => {
            "There is no checkpoint yet, so that it begins again".to_owned()
        }
        Err(error) => error.to_string(),
    };
    format!("{found}; go on with: {}", shell::resume(run))
}
