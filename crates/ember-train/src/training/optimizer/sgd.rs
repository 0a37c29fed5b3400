//! Plain gradient descent.

use burn::optim::{Sgd as BurnSgd, SgdConfig};
use burn::tensor::Tensor;
#[cfg(feature = "wgpu")]
use ember_model::descent;
use serde::{Deserialize, Serialize};

use super::rule::{Common, Moments, OptimizerTable, Rule};
use super::schedule::Schedule;

/// `{ kind = "sgd", learning_rate, clip_norm, schedule, target_ess, max_weight_change, ema }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// The learning rate at the start.
    pub learning_rate: f64,
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

impl OptimizerTable for Sgd {
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

    fn rule(&self, _tensors: usize) -> Box<dyn Rule> {
        Box::new(SgdConfig::new().build())
    }

    #[cfg(feature = "wgpu")]
    fn on_device(&self, _time: u64) -> descent::Rule {
        descent::Rule::Sgd
    }
}

impl Rule for BurnSgd {
    fn step(&mut self, _index: usize, rate: f64, tensor: Tensor<1>, grad: Tensor<1>) -> Tensor<1> {
        burn::optim::Optimizer::step(self, rate, tensor, grad, None).0
    }

    fn moments(&self, _index: usize) -> Option<Moments> {
        None
    }

    fn set_moments(&mut self, _index: usize, _moments: Option<Moments>) {}
}
