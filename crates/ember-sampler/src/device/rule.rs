//! How a population is settled on a GPU.

use ember_model::random::Stream;

use crate::resampling::Scheme;

/// How a population is settled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) scheme: Scheme,
    /// A group whose ess is below this is due.
    pub(crate) limit: f32,
    /// Random words of the first group; the others have the lanes that follow.
    pub(crate) stream: Stream,
    /// Equal consecutive groups, each a population of its own.
    pub(crate) groups: usize,
    /// Whether resampled walkers keep their mean weight, so that nothing is banked.
    pub(crate) within: bool,
    /// Whether energies and gradients are looked at, for the mean energy and the health.
    pub(crate) with_energy: bool,
}
