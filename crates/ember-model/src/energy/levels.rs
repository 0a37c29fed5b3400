//! Noise levels `σ_1 < … < σ_L` that an energy knows of: `U(x, σ)`.
//!
//! The network has one more input, the last one: `τ(σ) = (2 ln σ − ln σ_1 − ln σ_L)/(ln σ_L − ln σ_1)`, from −1 at the smallest level to 1
//! at the largest. Only differences of `ln σ` enter, so that τ does not depend on the data's unit.

use serde::{Deserialize, Serialize};

use crate::error::ModelError;

const KEY: &str = "levels";
/// Levels, at most.
const MOST: usize = 1_000;

/// `levels = [σ_1, …, σ_L]`, or a geometric ladder `levels = { from, to, count }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a list of numbers > 0, smallest first, or { from, to, count }")]
pub enum LevelsTable {
    /// Each σ, smallest first.
    List(Vec<f64>),
    /// A constant ratio from one to the next.
    Geometric(Geometric),
}

/// `σ_k = from · (to/from)^{(k − 1)/(count − 1)}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geometric {
    /// σ_1.
    pub from: f64,
    /// σ_L.
    pub to: f64,
    /// L.
    pub count: usize,
}

/// Noise levels, ascending, at least two.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels(Vec<f64>);

impl LevelsTable {
    /// The levels themselves.
    ///
    /// # Errors
    /// Fewer than two or very many of them, one that is no finite number > 0, or a wrong order.
    pub(super) fn resolve(&self) -> Result<Levels, ModelError> {
        let invalid = |message: String| Err(ModelError::invalid(KEY, message));
        let count = match self {
            Self::List(sigmas) => sigmas.len(),
            Self::Geometric(ladder) => ladder.count,
        };
        if !(2..=MOST).contains(&count) {
            return invalid(format!(
                "found {count} of them, expected 2 to {MOST}: one level needs no `{KEY}`"
            ));
        }
        let sigmas = match self {
            Self::List(sigmas) => sigmas.clone(),
            Self::Geometric(ladder) => ladder.sigmas(),
        };
        if let Some(bad) = sigmas.iter().find(|sigma| !(sigma.is_finite() && **sigma > 0.0)) {
            return invalid(format!("found {bad}, expected finite numbers > 0"));
        }
        if let Some(pair) = sigmas.windows(2).find(|pair| pair[0] >= pair[1]) {
            return invalid(format!("found {} before {}, expected the smallest first", pair[0], pair[1]));
        }
        Ok(Levels(sigmas))
    }
}

impl Geometric {
    fn sigmas(&self) -> Vec<f64> {
        let Self { from, to, count } = *self;
        let inner = (1..count - 1).map(|k| from * (to / from).powf(k as f64 / (count - 1) as f64));
        // The ends are those given, to the last bit.
        std::iter::once(from).chain(inner).chain([to]).collect()
    }
}

impl Levels {
    /// `σ_1 … σ_L`.
    pub fn sigmas(&self) -> &[f64] {
        &self.0
    }

    /// L.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// `[σ_1, σ_L]`.
    pub fn ends(&self) -> [f64; 2] {
        [self.0[0], self.0[self.0.len() - 1]]
    }

    /// The network's input at each level: `τ(σ_1) = −1 … τ(σ_L) = 1`.
    pub fn inputs(&self) -> Vec<f32> {
        let [low, high] = self.ends().map(f64::ln);
        self.0.iter().map(|sigma| ((2.0 * sigma.ln() - low - high) / (high - low)) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ladder_is_geometric_and_its_inputs_are_even() {
        let levels =
            LevelsTable::Geometric(Geometric { from: 0.1, to: 8.1, count: 5 }).resolve().expect("right");
        for (found, expected) in levels.sigmas().iter().zip([0.1, 0.3, 0.9, 2.7, 8.1]) {
            assert!((found - expected).abs() < 1e-12, "{found} vs {expected}");
        }
        for (found, expected) in levels.inputs().iter().zip([-1.0f32, -0.5, 0.0, 0.5, 1.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} vs {expected}");
        }
        let list = LevelsTable::List(levels.sigmas().to_vec()).resolve().expect("right");
        assert_eq!(list, levels);
    }
}
