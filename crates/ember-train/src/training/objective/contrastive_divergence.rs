//! Contrastive divergence (Hinton 2002): walkers restart at the data every `restart_every` updates.
//!
//! Biased: after a few steps from the data the walkers still hold the data's masses, so the two phases of the gradient
//! cancel in every direction that only moves mass between separated modes. Here as the baseline to compare with.

use burn::tensor::Tensor;
use ember_model::EnergyModel;
use ember_sampler::kernel::BadValue;
use ember_sampler::{Kernel, Noise, StepInfo, Walkers};
use serde::{Deserialize, Serialize};

use super::{Objective, Schedule, walk};

/// `{ kind = "contrastive_divergence", restart_every, energy_l2 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastiveDivergence {
    /// Updates between restarts at the data, 1 unless given.
    #[serde(default = "one")]
    pub restart_every: u64,
    /// λ of the added `λ (E_data[e²] + Σ W_i e(X_i)²)`, `e` the energy less its confinement; 0 adds none.
    #[serde(default)]
    pub energy_l2: f64,
}

fn one() -> u64 {
    1
}

impl Objective for ContrastiveDivergence {
    fn energy_l2(&self) -> f64 {
        self.energy_l2
    }

    fn carries_weights(&self) -> bool {
        false
    }

    fn restarts_at_data(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), BadValue> {
        BadValue::unless_at_least("restart_every", self.restart_every, 1)
    }

    fn advance(
        &self,
        kernel: &dyn Kernel,
        model: &EnergyModel,
        walkers: Walkers,
        batch: &Tensor<2>,
        schedule: Schedule,
        noise: &dyn Fn(u64) -> Noise,
    ) -> (Walkers, Option<StepInfo>) {
        let walkers = if schedule.update.is_multiple_of(self.restart_every) {
            Walkers { position: restart_positions(batch, walkers.count()), ..walkers }
        } else {
            walkers
        };
        let (walkers, info) = walk(kernel, model, walkers.refresh(model), schedule, noise);
        (walkers.unweighted(), info)
    }
}

/// `count` rows of the batch, repeated in order where the batch is smaller. → `[count, dim]`.
fn restart_positions(batch: &Tensor<2>, count: usize) -> Tensor<2> {
    let [n, _] = batch.dims();
    let copies = count.div_ceil(n);
    let rows = if copies == 1 { batch.clone() } else { Tensor::cat(vec![batch.clone(); copies], 0) };
    rows.narrow(0, 0, count)
}
