//! Energies of energy-based models: what `U_θ` is and how it is differentiated.
//!
//! ```text
//!  EnergySpec ── build ──▶ Architecture                Flow
//!  (registry)              U(θ, x), ∇ₓU, ∂_θU          x ⇄ z, log|det ∂x/∂z|
//!                                │                       │ its −log_prob is an Architecture
//!                                │◀──────────────────────┘
//!                                ▼
//!                          EnergyModel ──┐             Stream (seed, purpose, lane, step)
//!                          with θ on     ├──▶ Energy      │
//!                          a device      │    U(x), ∇ₓU   ├──▶ normals, uniforms, permutations
//!  a struct of your own ─────────────────┘                └──▶ rng(), for `rand` and `rand_distr`
//! ```
//!
//! # Notation
//! The model is `ρ_θ(x) = exp(−U_θ(x)) / Z_θ`: a low energy means likely.
//!
//! | name | is | shape |
//! |---|---|---|
//! | `x`, `position` | samples, flat even where they are images | `[walkers, dim]` |
//! | `energy` | `U_θ(x)` | `[walkers]` |
//! | `energy_grad` | `∇ₓU_θ(x)` | `[walkers, dim]` |
//! | `theta` | θ, one flat tensor per parameter | `[len]` each |
//! | `log_prob` | `−U_θ(x) − log_z` | `[walkers]` |
//! | `log_z` | `log ∫ e^{−U_θ}` | |
//!
//! # Example
//! A perceptron on `½ |x|²`. Its last layer starts at zero, so it begins as a standard normal.
//! ```
//! use burn::tensor::{Device, Tensor};
//! use ember_model::params::download;
//! use ember_model::{Energy, EnergyModel, EnergySpec};
//!
//! let table = "dim = 2
//!     kind = 'mlp'
//!     hidden = [16, 16]
//!     confinement = 1.0";
//! let device = Device::flex();
//! let model = EnergyModel::init(EnergySpec::from_metadata(table)?, 0, &device)?;
//!
//! let x = Tensor::from_data([[1.0, 0.0], [0.0, 2.0]], &device);
//! let (energy, energy_grad) = model.energy_and_grad(x);
//! assert_eq!(download(energy), [0.5, 2.0]); // ½ |x|²
//! assert_eq!(download(energy_grad), [1.0, 0.0, 0.0, 2.0]); // x
//! assert_eq!(model.log_z(), Some(std::f64::consts::TAU.ln())); // log 2π
//! # Ok::<(), ember_model::ModelError>(())
//! ```
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
