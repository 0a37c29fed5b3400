//! Persistent contrastive divergence (Tieleman 2008): walkers persist, every walker counts 1/N.
//!
//! Biased: the walkers follow θ only as fast as they mix. Started at the data they keep the data's masses whatever the
//! model's are; started at the model they stay where the model was. Here as the baseline to compare with.

use burn::tensor::Tensor;
use ember_model::EnergyModel;
use ember_sampler::{Kernel, Noise, StepInfo, Walkers, WeightRule};
use serde::{Deserialize, Serialize};

use super::{Objective, Schedule, walk};

/// `{ kind = "persistent_cd" }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistentCd {}

impl Objective for PersistentCd {
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
        let walkers = match kernel.weight_rule() {
            WeightRule::TransitionDensity => walkers,
            WeightRule::Invariant => walkers.refresh(model),
        };
        let (walkers, info) = walk(kernel, model, walkers, schedule, noise);
        (walkers.unweighted(), info)
    }
}
