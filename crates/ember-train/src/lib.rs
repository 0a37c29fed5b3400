//! Trains energy-based models by maximum likelihood with weighted walkers: configs, data sets, objectives, the training
//! loop, checkpoints, evaluation and the `ember` program.

pub mod bench;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dataset;
pub mod device;
pub mod error;
pub mod judging;
pub mod logging;
pub mod memory;
pub mod shell;
pub mod store;
pub mod training;
pub mod view;
