//! Trains energy-based models by maximum likelihood with weighted walkers: configs, data sets, objectives, the training
//! loop, checkpoints, evaluation and the `ember` program.
//!
//! ```text
//!  main ─▶ cli ─▶ commands/     one file per command; the only room that knows all others
//!                    │
//!                    ├─▶ judging/     log Z, likelihoods, masses, features of samples
//!                    ├─▶ bench/       speed, and the device check
//!                    ├─▶ training/    the update, objectives, the loop     never judging or view
//!                    ├─▶ view/        plots, pictures, the report          never training or judging
//!                    └─▶ store/       checkpoints, weight files, samples   never training or judging
//!                          │
//!                          ▼
//!            config/  dataset/  device/  memory/  ─▶  ember-sampler  ─▶  ember-model
//! ```
//!
//! # Notation
//! Data have the law `ρ_*`, the model is `ρ_θ = e^{−U_θ}/Z_θ`, and an update follows the gradient of the log-likelihood,
//!
//! ```text
//! ∂_θ E_*[log ρ_θ] = E_θ[∂_θ U_θ] − E_*[∂_θ U_θ] ≈ Σ_i W_i ∂_θ U_θ(X_i) − (1/n) Σ_j ∂_θ U_θ(x_j)
//! ```
//!
//! with walkers `X_i` of weights `W_i` in the place of the first expectation and a batch `x_j` of data in that of the second. `step`
//! counts updates of θ; a Langevin step is `update · K + sub-step`, with `K = steps_per_update`.
//!
//! # Example
//! ```no_run
//! use std::path::Path;
//!
//! use burn::tensor::Device;
//! use ember_train::config::{Config, Overrides};
//! use ember_train::training::trainer::Trainer;
//!
//! let path = Path::new("configs/two_modes_jarzynski.toml");
//! let config = Config::load(path, &Overrides::default())?.config;
//! let steps = config.steps;
//! let mut trainer = Trainer::new(config, &Device::flex())?;
//! for update in 1..=steps {
//!     let info = trainer.update(update % 100 == 0)?;
//!     if let Some(logged) = info.logged {
//!         println!("{update}: mean energy of the data {:.3}", logged.energy_data);
//!     }
//! }
//! # Ok::<(), ember_train::error::Error>(())
//! ```
//! A run with its checkpoints, metric lines and watchdog is [`training::run`].

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
