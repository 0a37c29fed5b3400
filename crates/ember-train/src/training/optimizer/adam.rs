//! Adam (Kingma and Ba 2015), by burn.

use burn::optim::{Adam as BurnAdam, AdamConfig, AdamState, AdaptiveMomentumState};
use burn::tensor::Tensor;
#[cfg(feature = "wgpu")]
use ember_model::descent;
use ember_sampler::kernel::BadValue;
use serde::{Deserialize, Serialize};

use super::rule::{Common, Moments, OptimizerTable, Rule};
use super::schedule::Schedule;

/// `{ kind = "adam", learning_rate, beta1, beta2, epsilon, clip_norm, schedule, target_ess, max_weight_change, ema }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    /// The learning rate at the start.
    pub learning_rate: f64,
    /// Decay of the first moment.
    #[serde(default = "beta1")]
    pub beta1: f64,
    /// Decay of the second moment.
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// Added to the root of the second moment.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Scales the gradient of all parameters down to this norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// How the learning rate changes; constant unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The ess fraction that one update is to leave of the walkers' weights: the learning rate grows while updates leave more, and falls
    /// where they leave less (`trainer/pace.rs`). One more energy evaluation of the walkers; unless given it is the schedule's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ess: Option<f64>,
    /// The largest standard deviation, over the walkers, of what one update adds to their log-weights: a longer step is
    /// shortened, so that the weights stay alive. One more energy evaluation of the walkers; no limit unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_weight_change: Option<f64>,
    /// Decay m of an exponential moving average of θ, kept beside it: `θ̄ ← m θ̄ + (1 − m) θ`; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
}

impl Adam {
    /// The usual decays, at a constant rate.
    pub fn new(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            beta1: beta1(),
            beta2: beta2(),
            epsilon: epsilon(),
            clip_norm: None,
            schedule: None,
            target_ess: None,
            max_weight_change: None,
            ema: None,
        }
    }
}

fn beta1() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn epsilon() -> f64 {
    1e-8
}

impl OptimizerTable for Adam {
    fn common(&self) -> Common {
        Common {
            learning_rate: self.learning_rate,
            clip_norm: self.clip_norm,
            schedule: self.schedule.unwrap_or(Schedule::Constant {}),
            target_ess: self.target_ess,
            max_weight_change: self.max_weight_change,
            ema: self.ema,
        }
    }

    fn moments(&self) -> usize {
        2
    }

    fn rule(&self, tensors: usize) -> Box<dyn Rule> {
        let adam = AdamConfig::new()
            .with_beta_1(self.beta1 as f32)
            .with_beta_2(self.beta2 as f32)
            .with_epsilon(self.epsilon as f32)
            .build();
        Box::new(PerTensor { adam, states: vec![None; tensors] })
    }

    #[cfg(feature = "wgpu")]
    fn on_device(&self, time: u64) -> descent::Rule {
        descent::Rule::Adam {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            epsilon: self.epsilon as f32,
            time: time as u32,
        }
    }

    fn check(&self) -> Result<(), BadValue> {
        let epsilon = self.epsilon;
        if !(epsilon.is_finite() && epsilon > 0.0) {
            return Err(BadValue::new("epsilon", format!("found {epsilon}, expected a finite number > 0")));
        }
        for (key, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(BadValue::new(key, format!("found {beta}, expected a number in [0, 1)")));
            }
        }
        Ok(())
    }
}

/// burn's Adam, with the moments of each tensor.
struct PerTensor {
    adam: BurnAdam,
    states: Vec<Option<AdamState<1>>>,
}

impl Rule for PerTensor {
    fn step(&mut self, index: usize, rate: f64, tensor: Tensor<1>, grad: Tensor<1>) -> Tensor<1> {
        let state = self.states[index].take();
        let (tensor, state) = burn::optim::Optimizer::step(&self.adam, rate, tensor, grad, state);
        self.states[index] = state;
        tensor
    }

    fn moments(&self, index: usize) -> Option<Moments> {
        let momentum = &self.states[index].as_ref()?.momentum;
        let values = [momentum.moment_1.clone(), momentum.moment_2.clone()];
        Some(Moments { time: momentum.time as u64, values })
    }

    fn set_moments(&mut self, index: usize, moments: Option<Moments>) {
        self.states[index] = moments.map(|Moments { time, values: [first, second] }| {
            AdamState::new(AdaptiveMomentumState::new(time as usize, first, second))
        });
    }
}
