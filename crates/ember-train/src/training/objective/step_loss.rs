//! A loss of the walkers' last step, beside the two phases of the gradient: what the step makes of θ.

use std::fmt::Debug;

use burn::tensor::Tensor;
use ember_model::EnergyModel;
use ember_model::random::Stream;
use ember_sampler::Walkers;
use ember_sampler::kernel::BadValue;

use super::data_loss::LossGradient;
use crate::error::Error;

/// The last Langevin step of an update, `x_K = x′ − h ∇U_θ(x′) + √(2h) ξ`: not clipped, not reflected.
pub struct LastStep<'a> {
    /// x′, `[moved, dim]`.
    pub before: &'a Tensor<2>,
    /// The walkers at x_K, cached at θ.
    pub after: &'a Walkers,
    /// h.
    pub step_size: f64,
    /// The positions of all walkers, `[walkers, dim]`, those that moved among them.
    pub population: &'a Tensor<2>,
    /// Where in it those that moved begin.
    pub first: usize,
}

/// What an objective adds to the gradient of its two phases.
pub trait StepLoss: Debug {
    /// Derivatives of the energy in x that it needs (`Architecture::jet_order`).
    fn derivatives(&self) -> usize;

    /// Checks that it is defined for so many walkers.
    ///
    /// # Errors
    /// The key to change.
    fn check_walkers(&self, count: usize) -> Result<(), BadValue>;

    /// The loss and its gradient in the θ of the step alone: everything else in it is a constant. All random numbers come from the lanes of
    /// `stream`.
    ///
    /// # Errors
    /// An energy without the derivatives that it needs.
    fn gradient(
        &self,
        model: &EnergyModel,
        step: &LastStep<'_>,
        stream: Stream,
    ) -> Result<LossGradient, Error>;
}
