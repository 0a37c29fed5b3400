//! Persistent contrastive divergence (Tieleman 2008): walkers persist, every walker counts 1/N.
//!
//! Biased: the walkers follow θ only as fast as they mix. Started at the data they keep the data's masses whatever the
//! model's are; started at the model they stay where the model was. Here as the baseline to compare with.

use serde::{Deserialize, Serialize};

use super::Objective;

/// `{ kind = "persistent_cd", energy_l2 }`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersistentCd {
    /// λ of the added `λ (E_data[e²] + Σ W_i e(X_i)²)`, `e` the energy less its confinement (Du and Mordatch 2019); 0 adds
    /// none.
    #[serde(default)]
    pub energy_l2: f64,
}

impl Objective for PersistentCd {
    fn energy_l2(&self) -> f64 {
        self.energy_l2
    }

    fn carries_weights(&self) -> bool {
        false
    }
}
