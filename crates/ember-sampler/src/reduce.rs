//! Sums, means and maxima of long vectors, in a fixed order: those of [`ember_model::reduce`].

pub use ember_model::reduce::{Reduction, all, max, mean, sum};
