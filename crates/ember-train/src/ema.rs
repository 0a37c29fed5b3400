//! An exponential moving average of θ, kept beside it: what a run is judged by where single updates are noisy.

use burn::tensor::Tensor;

/// `θ̄`, one flat tensor per parameter.
#[derive(Clone, Debug)]
pub struct Ema {
    /// m in `θ̄ ← m θ̄ + (1 − m) θ`.
    pub decay: f64,
    /// `θ̄`.
    pub theta: Vec<Tensor<1>>,
}

impl Ema {
    /// Starts at `theta`.
    pub fn new(decay: f64, theta: &[Tensor<1>]) -> Self {
        Self { decay, theta: theta.to_vec() }
    }

    /// One update's share.
    pub fn update(&mut self, theta: &[Tensor<1>]) {
        for (average, theta) in self.theta.iter_mut().zip(theta) {
            // θ̄ ← θ̄ + (1 − m) (θ − θ̄)
            let step = (theta.clone() - average.clone()).mul_scalar(1.0 - self.decay);
            *average = average.clone() + step;
        }
    }
}
