//! What an optimiser says of itself, and how it moves one tensor.

use std::fmt::Debug;

use burn::tensor::Tensor;
#[cfg(feature = "wgpu")]
use ember_model::descent;
use ember_sampler::kernel::BadValue;

use super::schedule::Schedule;

/// The keys that every optimiser has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Common {
    /// The learning rate at the start.
    pub learning_rate: f64,
    /// The norm the gradient is clipped to.
    pub clip_norm: Option<f64>,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// The ess fraction that one update is to leave.
    pub target_ess: Option<f64>,
    /// The largest spread that one update may give the log-weights.
    pub max_weight_change: Option<f64>,
    /// Decay of the moving average of θ, where one is kept.
    pub ema: Option<f64>,
}

/// A description of an optimiser: the keys of its table are its fields.
pub trait OptimizerTable: Debug + Send + Sync {
    /// What every optimiser has.
    fn common(&self) -> Common;

    /// Tensors of θ's size that it keeps from step to step.
    fn moments(&self) -> usize {
        0
    }

    /// The step of each tensor by itself, of so many tensors.
    fn rule(&self, tensors: usize) -> Box<dyn Rule>;

    /// The step of all of θ in one launch, the `time`-th one.
    #[cfg(feature = "wgpu")]
    fn on_device(&self, time: u64) -> descent::Rule;

    /// Checks what its own numbers may be, but for the common ones.
    ///
    /// # Errors
    /// The first bad value.
    fn check(&self) -> Result<(), BadValue> {
        Ok(())
    }
}

/// What a rule keeps of one tensor.
#[derive(Clone, Debug)]
pub struct Moments {
    /// Steps made.
    pub time: u64,
    /// First and second moment, `[len]` each.
    pub values: [Tensor<1>; 2],
}

/// An optimiser that moves tensors one by one.
pub trait Rule: Send {
    /// Tensor `index`, moved against its gradient.
    fn step(&mut self, index: usize, rate: f64, tensor: Tensor<1>, grad: Tensor<1>) -> Tensor<1>;

    /// What it keeps of tensor `index`; `None` before its first step, and of a rule that keeps nothing.
    fn moments(&self, index: usize) -> Option<Moments>;

    /// Puts that back.
    fn set_moments(&mut self, index: usize, moments: Option<Moments>);
}
