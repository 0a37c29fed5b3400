//! Persistent contrastive divergence (Tieleman 2008): walkers persist, every walker counts 1/N.
//!
//! Biased: the walkers follow θ only as fast as they mix. Started at the data they keep the data's masses whatever the
//! model's are; started at the model they stay where the model was. Here as the baseline to compare with.

use burn::tensor::Tensor;
use ember_model::EnergyModel;
use ember_sampler::{Kernel, Noise, StepInfo, Walkers, WeightRule};
use serde::{Deserialize, Serialize};

use super::{Objective, Schedule, walk};

/// `{ kind = "persistent_cd", energy_l2 }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistentCd {
    /// λ of the added `λ (E_data[e²] + Σ W_i e(X_i)²)`, `e` the energy less its confinement (Du and Mordatch 2019); 0 adds
    /// none.
    #[serde(default)]
    pub energy_l2: f64,
}

impl Objective for PersistentCd {
    fn energy_l2(&self) -> f64 {
        self.energy_l2
    }

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
            WeightRule::TransitionDensity if !schedule.partial => walkers,
            _ => walkers.refresh(model),
        };
        let (walkers, info) = walk(kernel, model, walkers, schedule, noise);
        (walkers.unweighted(), info)
    }
}
