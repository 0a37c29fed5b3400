//! An exponential moving average of θ, kept beside it: what a run is judged by where single updates are noisy.

use ember_model::EnergyModel;

/// The model at θ̄.
#[derive(Clone, Debug)]
pub struct Ema {
    /// m in `θ̄ ← m θ̄ + (1 − m) θ`.
    pub decay: f64,
    /// `U` at θ̄.
    pub average: EnergyModel,
}

impl Ema {
    /// Starts at a model's θ.
    pub fn new(decay: f64, model: &EnergyModel) -> Self {
        Self { decay, average: model.clone() }
    }

    /// One update's share: over one buffer where the model's θ is one.
    pub fn update(&mut self, model: &EnergyModel) {
        // θ̄ ← θ̄ + (1 − m) (θ − θ̄)
        self.average = self.average.towards(model, |step| step.mul_scalar(1.0 - self.decay));
    }
}
