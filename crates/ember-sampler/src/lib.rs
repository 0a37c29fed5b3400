//! Walkers with exact log-weights: batched Markov kernels, Jarzynski weights, resampling and counter-based noise.
//!
//! A population of [`Walkers`] follows a moving energy `U_{θ_k}`. Every [`Kernel`] declares how it earns its log-weight
//! increment ([`WeightRule`]), so that at any time `E_{θ_k}[φ] = Σ W_i φ(X_i)` with `W = softmax(A)` and
//! `Z_{θ_k}/Z_{θ_0} = E[e^A]` (Carbone, Hua, Coste, Vanden-Eijnden 2023). State in, state out; nothing is global.
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
