//! Evaluating a model: log Z, likelihoods, masses of modes, classes and features of samples, data of another kind.
//!
//! May use everything but `bench` and `commands`.

pub mod bits;
pub mod classifier;
pub mod estimator;
pub mod eval;
pub mod eval_images;
pub mod eval_options;
pub mod features;
pub mod grid;
pub mod ladder;
pub mod likelihood;
pub mod log_z;
pub mod masses;
pub mod mixing;
pub mod ood;
