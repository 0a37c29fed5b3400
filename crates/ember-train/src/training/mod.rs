//! Training: the state of a run, one update of it, and the loop around it.
//!
//! May use `config`, `dataset`, `device`, `memory` and `store`; never `judging` or `view`: what a run shows, its caller draws.

pub mod batches;
pub mod ema;
mod epochs;
pub mod faults;
pub mod noisy;
pub mod objective;
pub mod optimizer;
pub mod pretrain;
pub mod progress;
pub mod run;
pub mod signals;
pub mod start;
mod state;
pub mod trainer;
pub mod watchdog;
