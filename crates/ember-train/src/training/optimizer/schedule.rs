//! How the learning rate changes.

use serde::{Deserialize, Serialize};

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

    /// The update from which on the learning rate is 0, so that θ no longer changes.
    pub(super) fn rest(&self) -> Option<u64> {
        match *self {
            Self::Linear { end, horizon } | Self::Cosine { end, horizon } if end == 0.0 => Some(horizon),
            _ => None,
        }
    }
}
