//! How far an update goes, by what it does to the walkers' weights: the learning rate that the ess asks for, and a limit on the step.
//!
//! **`optimizer.target_ess`**, after SOSMC (Cuin, Carbone, Tang and Akyildiz 2026, arXiv 2601.22003): a step from θ to θ′ leaves of equal
//! weights the ess fraction `1/(1 + χ²(ρ_θ′ ‖ ρ_θ))`, which for small steps is `e^{−s²}`, s the spread of what it adds to the log-weights; s
//! is proportional to the learning rate. Each update measures `ℓ = log(1 + χ²)` of the step as the optimiser made it, at the walkers as
//! they are and under their weights, and sets
//!
//! `log f ← log f + κ clamp(½ log(ℓ* (η_k/η_0)² / ℓ), −5, 1)`, `ℓ* = −log target_ess`, κ = .1,
//!
//! f the factor on the schedule's learning rate η_k; it is within 10^±3. The increments of one update are the signal, not the ess of the
//! accumulated weights: that one has a memory of all updates since the last resampling, jumps at it, and says nothing of the last step. A
//! target that stays keeps θ in motion by as much however near it is to the data, and plain SGD, whose steps get shorter there, is driven to
//! the edge of its stability. So take it with a schedule that falls: the schedule takes the target's spread down with it, and so do
//! rollbacks.
//!
//! **`optimizer.max_weight_change`** is the hard bound: a step of a larger s is shortened to it.
//!
//! Both cost one energy evaluation of the walkers together. f is a tensor: no device is read for it, every device does the same, and a
//! checkpoint holds it. Of a mini-batch of walkers both are about those that moved.

use burn::tensor::Tensor;
use ember_model::params::{download, upload};
use ember_model::{Energy, EnergyModel};
use ember_sampler::weights::log_spread;
use ember_sampler::{Walkers, reduce};

use super::Trainer;

/// κ.
const GAIN: f64 = 0.1;
/// What one update may change, in units of κ: a bad step is answered faster than a good one.
const CHANGE: [f64; 2] = [-5.0, 1.0];
/// What f may become.
const RANGE: [f64; 2] = [1e-3, 1e3];

/// An update's end, and what became of its step.
pub(super) struct Paced {
    pub model: EnergyModel,
    /// f of this update, `[1]`, where it follows the ess.
    pub factor: Option<Tensor<1>>,
    /// The fraction of the step that was made, `[1]`, where it is limited.
    pub step_scale: Option<Tensor<1>>,
}

impl Trainer {
    /// The optimiser's step to `end` at this learning rate, made longer or shorter as the walkers' weights `[moved]` ask for. `walkers` are
    /// cached at the θ of before.
    pub(super) fn paced(
        &mut self,
        end: EnergyModel,
        rate: f64,
        walkers: &Walkers,
        weights: &Tensor<1>,
    ) -> Paced {
        let optimizer = &self.config.optimizer;
        let (target, most) = (optimizer.target_ess(), optimizer.max_weight_change());
        let share = rate / optimizer.learning_rate();
        let factor = self.rate_factor.clone();
        if factor.is_none() && most.is_none() {
            return Paced { model: end, factor, step_scale: None };
        }
        let mut model = match &factor {
            Some(factor) => self.model.towards(&end, |step| step * factor.clone()),
            None => end,
        };
        // δ_i = U_{θ'}(X_i) − U_θ(X_i)
        let delta = model.energy(walkers.position.clone()) - walkers.energy.clone();
        if let (Some(target), Some(factor)) = (target, &factor)
            && share > 0.0
        {
            let aim = -target.ln() * share * share;
            let next = followed(factor.clone(), log_spread(delta.clone().neg(), weights), aim);
            self.rate_factor = Some(next);
        }
        let step_scale = most.map(|most| step_scale(delta, weights, most));
        if let Some(scale) = &step_scale {
            model = self.model.towards(&model, |step| step * scale.clone());
        }
        Paced { model, factor, step_scale }
    }

    /// f where the learning rate follows the ess: what a checkpoint holds.
    pub fn rate_factor(&self) -> Option<f64> {
        self.rate_factor.clone().map(|factor| f64::from(download(factor)[0]))
    }

    /// Puts f back; 1 at the start.
    pub fn set_rate_factor(&mut self, factor: f64) {
        let follows = self.config.optimizer.target_ess().is_some();
        self.rate_factor = follows.then(|| upload(vec![factor as f32], &self.device));
    }
}

/// f after a step that spread the weights by `spread` where `aim` was wanted, `[1]`.
fn followed(factor: Tensor<1>, spread: Tensor<1>, aim: f64) -> Tensor<1> {
    // ½ log(aim/ℓ); a spread that is no number is one that is too large.
    let wanted = (spread.recip().mul_scalar(aim)).log().mul_scalar(0.5);
    let lost = wanted.clone().is_nan();
    let wanted = wanted.clamp(CHANGE[0], CHANGE[1]).mask_fill(lost, CHANGE[0]);
    (factor * wanted.mul_scalar(GAIN).exp()).clamp(RANGE[0], RANGE[1])
}

/// The fraction of a step that changes log-weights by −δ `[moved]` which changes them by a standard deviation of at most `most`, `[1]`, to
/// first order in the step.
fn step_scale(delta: Tensor<1>, weights: &Tensor<1>, most: f64) -> Tensor<1> {
    // s² = Σ W_i (δ_i − Σ W δ)²
    let gap = delta.clone() - reduce::sum(delta * weights.clone());
    let spread = reduce::sum(gap.clone() * gap * weights.clone()).sqrt();
    (spread + 1e-12).recip().mul_scalar(most).clamp_max(1.0)
}
