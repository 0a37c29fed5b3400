//! Trains energy-based models by maximum likelihood with weighted walkers: configs, data sets, objectives, the training
//! loop, checkpoints, evaluation and the `ember` program.

pub mod ais;
pub mod batches;
pub mod bench;
pub mod checkpoint;
pub mod classifier;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dataset;
pub mod denoise;
pub mod device;
pub mod ema;
pub mod ensembles;
pub mod error;
pub mod eval;
pub mod eval_images;
pub mod grid;
pub mod logging;
pub mod metrics;
pub mod noisy;
pub mod objective;
pub mod optimizer;
pub mod picture;
pub mod plot;
pub mod progress;
pub mod record;
pub mod run;
pub mod samples;
pub mod smc;
pub mod start;
pub mod statistics;
pub mod tensor_file;
pub mod trainer;
pub mod watchdog;
