//! Block Gibbs sampling of laws of zeros and ones with hidden units (Geman and Geman 1984; Hinton 2002): all hidden units given the visible
//! ones, then all visible ones given the hidden.
//!
//! Leaves the law exactly invariant. A step costs two products of the coupling matrix, and one energy with its gradient, which kernels
//! cache. Nothing is rejected and nothing is tuned. It mixes slowly between modes that no hidden unit turns into one another:
//! `ember eval --ladder` shows whether it does.

use burn::tensor::Tensor;
use ember_model::Energy;
use ember_model::random::Purpose;
use serde::{Deserialize, Serialize};

use super::{Boundary, Kernel, StepInfo, WeightRule};
use crate::device::uniform;
use crate::noise::Noise;
use crate::walkers::Walkers;

/// `{ kind = "gibbs" }`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gibbs {}

impl Kernel for Gibbs {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::Invariant
    }

    /// # Panics
    /// Of an energy without hidden units.
    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        let hidden = energy.hidden_units().expect("block Gibbs needs an energy with hidden units");
        let ([n, dim], device) = (walkers.position.dims(), walkers.position.device());
        // A number for each place: its counter word is that of a walker of one coordinate.
        let numbers = |purpose: Purpose, width: usize| -> Tensor<2> {
            uniform(n * width, noise.stream(purpose), &device).reshape([n, width])
        };
        let coins = [numbers(Purpose::Noise, hidden), numbers(Purpose::Accept, dim)];
        let position = energy.block_gibbs(walkers.position, coins);
        let (u, energy_grad) = energy.energy_and_grad(position.clone());
        (Walkers { position, energy: u, energy_grad, ..walkers }, StepInfo::default())
    }

    fn moves_bits(&self) -> bool {
        true
    }

    fn with_step_size(&self, _step_size: f64) -> Box<dyn Kernel> {
        Box::new(self.clone())
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
