//! Maximum likelihood where log Z does not move with θ: `G = (1/n) Σ_j ∂_θU(x_j)`, the gradient of a flow's mean `−log ρ_θ`.
//!
//! Unbiased, and no walkers are needed: with `U = −log ρ_θ` the model's phase `E_ρ[∂_θU] = −∂_θ log Z` is 0 at every θ. The run's
//! walkers are exact draws, made afresh wherever somebody looks at them (a metric line, a checkpoint), and never drive θ. As a pure
//! function of (θ, seed, update) they need no state of their own: files, pictures, `eval` and `sample` find a population as in any
//! other run, and a resumed run makes the same ones.

use burn::tensor::Tensor;
use ember_model::EnergyModel;
use ember_sampler::{Kernel, Noise, StepInfo, Walkers};
use serde::{Deserialize, Serialize};

use super::{Objective, Schedule};

/// `{ kind = "maximum_likelihood" }`: `[walkers]` and `[kernel]` may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaximumLikelihood {}

impl Objective for MaximumLikelihood {
    fn carries_weights(&self) -> bool {
        false
    }

    fn has_negative_phase(&self) -> bool {
        false
    }

    /// The walkers as they are: nothing follows θ.
    fn advance(
        &self,
        _kernel: &dyn Kernel,
        _model: &EnergyModel,
        walkers: Walkers,
        _batch: &Tensor<2>,
        _schedule: Schedule,
        _noise: &dyn Fn(u64) -> Noise,
    ) -> (Walkers, Option<StepInfo>) {
        (walkers, None)
    }
}
