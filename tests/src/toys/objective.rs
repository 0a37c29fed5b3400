//! Walkers follow the model without weights.

use burn::tensor::Tensor;
use ember_model::EnergyModel;
use ember_sampler::{Kernel, Noise, StepInfo, Walkers};
use ember_train::training::objective::{Objective, Schedule};

/// The table: no keys.
#[derive(Clone, Copy, Debug)]
pub struct Tethered;

impl Objective for Tethered {
    fn carries_weights(&self) -> bool {
        false
    }

    fn advance(
        &self,
        kernel: &dyn Kernel,
        model: &EnergyModel,
        walkers: Walkers,
        _batch: &Tensor<2>,
        schedule: Schedule,
        noise: &dyn Fn(u64) -> Noise,
    ) -> (Walkers, Option<StepInfo>) {
        let (walkers, info) = kernel.steps(model, model, walkers.refresh(model), schedule.steps, noise);
        (walkers.unweighted(), Some(info))
    }
}
