//! Whether samples can be trusted: how chains mix, and whether the tail of importance weights is too heavy for their mean.

pub mod chains;
pub mod convergence;
pub mod pareto;

pub use chains::{ChainOptions, Mixing, ModeOf, Quantity, Seen, along};
pub use convergence::{AutocorrelationTime, autocorrelation_time, rank_normalised_r_hat, split_r_hat};
