//! Walkers with exact log-weights: batched Markov kernels, Jarzynski weights, resampling and counter-based noise.
//!
//! ```text
//!  Energy (of ember-model, or your own)     Noise (seed, lane, step)
//!                 │                              │
//!                 ▼                              ▼
//!  Walkers ──▶ Kernel::step ──────────────────────────▶ (Walkers, StepInfo)
//!  x, U, ∇U, A, log Z     ▲                                    │
//!                         └──── Walkers::settled ◀─────────────┤   resamples where the ess is low
//!                                                              │
//!            evidence:    log Z, with its standard error  ◀────┤   smc, ais, importance, bridge, ensembles, ladder
//!            diagnostics: R-hat, autocorrelation, k̂       ◀────┘
//! ```
//!
//! A population of [`Walkers`] follows a moving energy `U_{θ_k}`. Every [`Kernel`] declares how it earns its log-weight
//! increment ([`WeightRule`]), so that at any time `E_{θ_k}[φ] = Σ W_i φ(X_i)` with `W = softmax(A)` and
//! `Z_{θ_k}/Z_{θ_0} = E[e^A]` (Carbone, Hua, Coste, Vanden-Eijnden 2023). State in, state out; nothing is global.
//!
//! # Notation
//! | name | is | shape |
//! |---|---|---|
//! | `position` | X, the N walkers | `[walkers, dim]` |
//! | `energy`, `energy_grad` | U(X) and ∇U(X) of the energy last passed in | `[walkers]`, `[walkers, dim]` |
//! | `log_weights` | A, earned since the last resampling | `[walkers]` |
//! | `weights` | W = softmax(A), which sum to 1 | `[walkers]` |
//! | `ess` | `1 / Σ W²`, in `[1, N]` | |
//! | `log_z` | `log ∫ e^{−U}`: what was banked at resamplings; add `log_mean_exp(A)` | |
//! | `step_size` | h in `x − h ∇U + √(2h) ξ` | |
//!
//! # Example
//! A spring becomes four times as stiff in 100 steps, while the walkers follow. Langevin steps of any size earn weights that make up
//! for their error, so log Z is that of the last spring.
//! ```
//! use std::f64::consts::TAU;
//!
//! use burn::tensor::{Device, Tensor, TensorData};
//! use ember_model::Energy;
//! use ember_model::random::{Purpose, Stream};
//! use ember_sampler::kernel::{Kernel, Ula};
//! use ember_sampler::{Noise, Scheme, Walkers};
//!
//! /// `U(x) = ½ c |x|²` in the plane: `Z = 2π/c`.
//! struct Spring(f64);
//!
//! impl Energy for Spring {
//!     fn dim(&self) -> usize {
//!         2
//!     }
//!     fn energy(&self, x: Tensor<2>) -> Tensor<1> {
//!         (x.clone() * x).sum_dim(1).squeeze_dim(1).mul_scalar(0.5 * self.0)
//!     }
//! }
//!
//! // Exact draws of the first spring, whose log Z is known
//! let start = Stream::new(1, Purpose::Start).normals(4_000, 2);
//! let position = Tensor::from_data(TensorData::new(start, [4_000, 2]), &Device::flex());
//! let mut walkers = Walkers::new(&Spring(1.0), position, TAU.ln());
//!
//! let kernel = Ula::new(0.05);
//! for step in 1..=100 {
//!     let noise = Noise::new(1, step);
//!     let spring = Spring(1.0 + 0.03 * f64::from(step));
//!     (walkers, _) = kernel.step(&spring, walkers, &noise);
//!     (walkers, _) = walkers.settled(Scheme::Systematic, 0.5, noise.stream(Purpose::Resampling));
//! }
//! let log_z = walkers.log_z.value() + walkers.summary().log_mean_exp;
//! let standard_error = 0.0065; // of 40 repeats with other seeds
//! assert!((log_z - (TAU / 4.0).ln()).abs() < 4.0 * standard_error);
//! ```
//! `examples/` has three more: an energy of your own sampled by MALA, its log Z with a standard error, and whether chains have mixed.
//!
//! This crate touches no files, clocks or streams.

pub mod banked;
pub mod device;
pub mod diagnostics;
mod draws;
pub mod error;
pub mod evidence;
pub mod kernel;
pub mod noise;
pub mod pages;
pub mod progress;
pub mod proposal;
pub mod reduce;
pub mod resampling;
pub mod settled;
pub mod statistics;
pub mod walkers;
pub mod weights;

pub use banked::{Banked, Counter};
pub use draws::exact_draws;
pub use error::Error;
pub use kernel::{Boundary, Kernel, KernelConfig, StepInfo, WeightRule};
pub use noise::Noise;
pub use pages::Pages;
pub use progress::{Progress, Silent, Warning};
pub use proposal::{FlowProposal, Proposals};
pub use resampling::{Scheme, resample};
pub use settled::Settled;
pub use statistics::Estimate;
pub use walkers::Walkers;
pub use weights::{Summary, WeightStats};
