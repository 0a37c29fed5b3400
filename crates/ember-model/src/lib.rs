//! Energies of energy-based models: what `U_θ` is and how it is differentiated.
//!
//! # Notation
//! The model is `ρ_θ(x) = exp(−U_θ(x)) / Z_θ`: a low energy means likely. `energy` is always `U`,
//! `energy_grad` is `∇ₓU`, `log_z` is `log ∫ e^{−U}`. Positions are `[walkers, dim]`, energies `[walkers]`.
//!
//! # Layout
//! * [`random`]: every random number of the program, as a pure function of a counter.
//! * [`Energy`]: what samplers see. [`Architecture`]: an energy as a pure function of `(θ, x)`.
//! * [`flow`]: bijections of a normal, whose density is exact; as energies their log Z is 0.
//! * [`EnergyModel`]: an architecture with its parameters on a device.
//! * [`flat`]: θ as one buffer, and tensors that are views of it.
//! * [`registry`]: the energies a config can name; a new one is a file in [`energy`] or [`flow`] and a line there.
//!
//! This crate touches no files, clocks or streams.

pub mod cholesky;
mod cpu;
pub mod custom;
#[cfg(feature = "wgpu")]
pub mod descent;
pub mod energy;
pub mod error;
pub mod flat;
pub mod flow;
pub mod model;
pub mod params;
pub mod precision;
pub mod product;
pub mod random;
pub mod reduce;
pub mod registry;
pub mod shape;
mod sizes;

pub use custom::Custom;
pub use energy::{Architecture, Energy, Pass, WeightedGrads};
pub use error::ModelError;
pub use flow::Flow;
pub use model::EnergyModel;
pub use params::{HostTensor, ParamSpec};
pub use precision::Precision;
pub use registry::{EnergyConfig, EnergySpec};
pub use shape::{SampleShape, Support};
pub use sizes::MOST_NUMBERS;
