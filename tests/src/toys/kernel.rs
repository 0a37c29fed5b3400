//! `x′ = m + ½ (x − m) + √¾ ξ`: leaves `U = ½ |x − m|²` invariant, whose gradient is `x − m`.

use ember_model::Energy;
use ember_model::random::Purpose;
use ember_sampler::device::standard_normal;
use ember_sampler::{Boundary, Kernel, Noise, StepInfo, Walkers, WeightRule};

/// The table: no keys.
#[derive(Clone, Copy, Debug)]
pub struct HalfGibbs;

impl Kernel for HalfGibbs {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::Invariant
    }

    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        let (n, dim, device) = (walkers.count(), walkers.dim(), walkers.position.device());
        let xi = standard_normal([n, dim], noise.stream(Purpose::Noise), &device);
        let position = walkers.position.clone() - walkers.energy_grad.clone().mul_scalar(0.5)
            + xi.mul_scalar(0.75_f64.sqrt());
        (Walkers { position, ..walkers }.refresh(energy), StepInfo::default())
    }

    fn with_step_size(&self, _step_size: f64) -> Box<dyn Kernel> {
        Box::new(*self)
    }

    fn step_size(&self) -> Option<f64> {
        None
    }

    fn drift_clip(&self) -> Option<f64> {
        None
    }

    fn boundary(&self) -> Boundary {
        Boundary::None
    }
}
