//! `[optimizer]`: how θ moves.

use serde::{Deserialize, Serialize};

/// The `[optimizer]` table, tagged by `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum OptimizerConfig {
    /// Plain gradient descent.
    #[serde(rename = "sgd")]
    Sgd(Sgd),
    /// Adam (Kingma and Ba 2015).
    #[serde(rename = "adam")]
    Adam(Adam),
}

/// `{ kind = "sgd", learning_rate, clip_norm, schedule, max_weight_change, ema }`.
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
    /// The largest standard deviation, over the walkers, of what one update adds to their log-weights: a longer step is
    /// shortened, so that the weights stay alive. One more energy evaluation of the walkers; no limit unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_weight_change: Option<f64>,
    /// Decay m of an exponential moving average of θ, kept beside it: `θ̄ ← m θ̄ + (1 − m) θ`; none unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
}

/// `{ kind = "adam", learning_rate, beta1, beta2, epsilon, clip_norm, schedule, max_weight_change, ema }`.
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

/// How the learning rate changes. The horizon is a key of its own: `--steps` never changes the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Schedule {
    /// Not at all.
    Constant {},
    /// Straight from `learning_rate` to `end`.
    Linear {
        /// The learning rate from the horizon on.
        #[serde(default)]
        end: f64,
        /// The update at which `end` is reached.
        horizon: u64,
    },
    /// Along half a cosine from `learning_rate` to `end`.
    Cosine {
        /// The learning rate from the horizon on.
        #[serde(default)]
        end: f64,
        /// The update at which `end` is reached.
        horizon: u64,
    },
}

impl Schedule {
    /// The learning rate of update `step`, counted from 0.
    pub fn learning_rate(&self, start: f64, step: u64) -> f64 {
        let progress = |horizon: u64| (step as f64 / horizon as f64).min(1.0);
        match *self {
            Self::Constant {} => start,
            // lr = start + (end − start) t
            Self::Linear { end, horizon } => start + (end - start) * progress(horizon),
            // lr = end + (start − end) ½ (1 + cos πt)
            Self::Cosine { end, horizon } => {
                let phase = std::f64::consts::PI * progress(horizon);
                end + (start - end) * 0.5 * (1.0 + phase.cos())
            }
        }
    }
}

impl Schedule {
    /// The update from which on the learning rate is 0, so that θ no longer changes.
    fn rest(&self) -> Option<u64> {
        match *self {
            Self::Linear { end, horizon } | Self::Cosine { end, horizon } if end == 0.0 => Some(horizon),
            _ => None,
        }
    }
}

impl OptimizerConfig {
    /// What to say of a run of `steps` updates, of which the last ones change nothing; `None` where all do.
    pub fn idle(&self, steps: u64) -> Option<String> {
        let horizon = self.schedule().rest().filter(|&horizon| horizon < steps)?;
        Some(format!(
            "optimizer.schedule.horizon = {horizon} comes before steps = {steps}: from update {horizon} on the learning rate is 0 and θ \
             stays as it is. A longer horizon or optimizer.schedule.end > 0 trains on"
        ))
    }

    /// The `kind` of this optimiser.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sgd(_) => "sgd",
            Self::Adam(_) => "adam",
        }
    }

    /// The learning rate at the start.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Sgd(sgd) => sgd.learning_rate,
            Self::Adam(adam) => adam.learning_rate,
        }
    }

    /// The norm the gradient is clipped to.
    pub fn clip_norm(&self) -> Option<f64> {
        match self {
            Self::Sgd(sgd) => sgd.clip_norm,
            Self::Adam(adam) => adam.clip_norm,
        }
    }

    /// The largest spread that one update may give the log-weights.
    pub fn max_weight_change(&self) -> Option<f64> {
        match self {
            Self::Sgd(sgd) => sgd.max_weight_change,
            Self::Adam(adam) => adam.max_weight_change,
        }
    }

    /// Decay of the moving average of θ, where one is kept.
    pub fn ema(&self) -> Option<f64> {
        match self {
            Self::Sgd(sgd) => sgd.ema,
            Self::Adam(adam) => adam.ema,
        }
    }

    /// How the learning rate changes.
    pub fn schedule(&self) -> Schedule {
        match self {
            Self::Sgd(sgd) => sgd.schedule,
            Self::Adam(adam) => adam.schedule,
        }
        .unwrap_or(Schedule::Constant {})
    }

    /// The learning rate of update `step`, counted from 0.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        self.schedule().learning_rate(self.learning_rate(), step)
    }
}
