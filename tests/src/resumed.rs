//! Runs that are made to an update, and runs that go on from a checkpoint.

use ember_train::config::Config;
use ember_train::store::checkpoint::Checkpoint;
use ember_train::training::trainer::Trainer;

use crate::cpu;

/// The trainer after update `to`.
///
/// # Panics
/// A number that is not finite.
#[track_caller]
pub fn trained(mut trainer: Trainer, to: u64) -> Trainer {
    while trainer.step < to {
        trainer.update(false).expect("finite");
    }
    trainer
}

/// A checkpoint of update 7, and the run at update 20: without a stop, and gone on with from that checkpoint.
///
/// # Panics
/// A config that does not start, or a state that it does not take back.
#[track_caller]
pub fn resumed(config: &Config) -> (Checkpoint, [Trainer; 2]) {
    let start = trained(Trainer::new(config.clone(), &cpu()).expect("starts"), 7);
    let state = start.to_state("cpu");
    let whole = trained(start, 20);
    let again = Trainer::from_state(config.clone(), &state, "here".as_ref(), &cpu()).expect("it fits");
    (state, [whole, trained(again, 20)])
}
