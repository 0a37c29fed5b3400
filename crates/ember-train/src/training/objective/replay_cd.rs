//! Persistent contrastive divergence with a replay buffer (Du and Mordatch 2019): the walkers are the buffer, and each update some of them
//! begin anew at noise.
//!
//! A walker restarts with probability `restart_probability`, independently of the others, at noise: uniform in the cube for an energy on
//! a cube, else `N(0, I/c)`, the law that the model starts from, or `N(0, I)` without a confinement c; the others go on. Every walker counts 1/N. Restarts bring walkers to modes that the old ones have lost, as far as the kernel's steps carry them in the
//! `1/restart_probability` updates or so that a walker lives.
//!
//! Biased as `persistent_cd` is, and by the young walkers, which are on their way. Cost: one gradient of all walkers more than `persistent_cd`
//! with ULA. The paper's images are made at another temperature: its noise σ beside steps `h_p ∇U` is T = σ²/(2 h_p) = 1.25·10⁻⁶ (σ = .005,
//! h_p = 10), which is `kernel.temperature` here; `kernel.paper = { step = 10.0, noise = 0.005 }` says the same.

use burn::tensor::Tensor;
use ember_model::random::Purpose;
use ember_model::{EnergyModel, Support};
use ember_sampler::device::{standard_normal, uniform};
use ember_sampler::kernel::BadValue;
use ember_sampler::{Kernel, Noise, StepInfo, Walkers};
use serde::{Deserialize, Serialize};

use super::{Objective, Schedule, walk};

/// Lane of the coins; that of the positions is 0.
const COIN_LANE: u32 = 1;

/// `{ kind = "replay_cd", restart_probability, energy_l2 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayCd {
    /// The probability that a walker begins anew in an update, .05 unless given.
    #[serde(default = "twentieth")]
    pub restart_probability: f64,
    /// λ of the added `λ (E_data[e²] + Σ W_i e(X_i)²)`, `e` the energy less its confinement; 0 adds none.
    #[serde(default)]
    pub energy_l2: f64,
}

fn twentieth() -> f64 {
    0.05
}

impl Objective for ReplayCd {
    fn energy_l2(&self) -> f64 {
        self.energy_l2
    }

    fn carries_weights(&self) -> bool {
        false
    }

    fn check(&self) -> Result<(), BadValue> {
        check_probability(self.restart_probability)
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
        let walkers = restarted(walkers, self.restart_probability, model, noise(0)).refresh(model);
        let (walkers, info) = walk(kernel, model, walkers, schedule, noise);
        (walkers.unweighted(), info)
    }
}

/// Each walker with this probability at noise; their energies are then to be refreshed.
pub(super) fn restarted(walkers: Walkers, probability: f64, model: &EnergyModel, noise: Noise) -> Walkers {
    let (n, d, device) = (walkers.count(), walkers.dim(), walkers.position.device());
    let stream = noise.stream(Purpose::Restart);
    let restarts = uniform(n, stream.lane(COIN_LANE), &device).lower_elem(probability);
    let fresh = match model.spec().support {
        Support::Cube => uniform(n * d, stream, &device).mul_scalar(2.0).sub_scalar(1.0).reshape([n, d]),
        Support::Unbounded => {
            let precision = model.confinement().unwrap_or(1.0);
            standard_normal([n, d], stream, &device).div_scalar(precision.sqrt())
        }
    };
    let restarts = restarts.reshape([n, 1]).expand([n, d]);
    Walkers { position: walkers.position.clone().mask_where(restarts, fresh), ..walkers }
}

/// Checks a `restart_probability`.
///
/// # Errors
/// What is no probability.
pub(super) fn check_probability(p: f64) -> Result<(), BadValue> {
    if (0.0..=1.0).contains(&p) {
        return Ok(());
    }
    Err(BadValue::new("restart_probability", format!("found {p}, expected a probability between 0 and 1")))
}
