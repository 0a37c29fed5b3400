//! Estimators of log Z, and of the masses that come with them.
//!
//! | estimator | from | error |
//! |---|---|---|
//! | [`smc`] | a tractable start, along an annealed path, R repeats | over the repeats |
//! | [`ais`] | both ends of the path, without resampling | a bracket, given exact draws of the model |
//! | [`along_parameters`] | a model that can be drawn, along a path of parameters | over the repeats |
//! | [`importance`](importance()) | draws of a flow | over the repeats; withheld where Pareto k̂ is above .7 |
//! | [`bridge`](bridge()) | draws of a flow and samples of the model | over the repeats |
//! | [`Ensembles`] | walkers that follow θ along a training | over the repeats |
//! | [`ladder`] | parallel tempering over a sequence of models, such as a run's checkpoints | over independent ladders |
//!
//! Each takes an energy, a start or a flow, and options, and gives an [`Estimate`](crate::statistics::Estimate) whose standard error
//! comes from independent repeats. None sees a mode that nothing it draws reaches.

pub mod ais;
mod bridge;
mod by_flow;
mod ensembles;
mod importance;
pub mod ladder;
mod parameters;
pub mod smc;

pub use bridge::{Bridged, bridge, bridged};
pub use by_flow::{FlowEstimate, FlowOptions};
pub use ensembles::{AUDIT_LANE, Ensembles};
pub use importance::importance;
pub use parameters::{ParameterOptions, along_parameters};
