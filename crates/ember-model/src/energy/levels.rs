//! Noise levels `σ_1 < … < σ_L` that an energy knows of: `U(x, σ)`.
//!
//! The network has one more input, the last one: `τ(σ) = (2 ln σ − ln σ_1 − ln σ_L)/(ln σ_L − ln σ_1)`, from −1 at the smallest level to 1
//! at the largest. Only differences of `ln σ` enter, so that τ does not depend on the data's unit.

use std::fmt;

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

/// Noise levels, ascending, at least two; and the one that an energy is at.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    sigmas: Vec<f64>,
    /// From 1.
    at: usize,
}

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
            let hint = if count < 2 { format!(": one level needs no `{KEY}`") } else { String::new() };
            return invalid(format!("found {count} of them, expected 2 to {MOST}{hint}"));
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
        Ok(Levels { sigmas, at: 1 })
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
        &self.sigmas
    }

    /// L.
    pub fn count(&self) -> usize {
        self.sigmas.len()
    }

    /// k of the level that the energy is at: 1, the smallest, unless [`Levels::moved`].
    pub fn at(&self) -> usize {
        self.at
    }

    /// σ_k of that level.
    pub fn sigma(&self) -> f64 {
        self.sigmas[self.at - 1]
    }

    /// The network's input at that level.
    pub fn input(&self) -> f32 {
        self.inputs()[self.at - 1]
    }

    /// The same levels, for an energy at `level`; `None` unless that is 1 to L.
    pub fn moved(&self, level: usize) -> Option<Self> {
        (1..=self.count()).contains(&level).then(|| Self { at: level, ..self.clone() })
    }

    /// `[σ_1, σ_L]`.
    pub fn ends(&self) -> [f64; 2] {
        [self.sigmas[0], self.sigmas[self.count() - 1]]
    }

    /// The network's input at each level: `τ(σ_1) = −1 … τ(σ_L) = 1`.
    pub fn inputs(&self) -> Vec<f32> {
        let [low, high] = self.ends().map(f64::ln);
        self.sigmas.iter().map(|sigma| ((2.0 * sigma.ln() - low - high) / (high - low)) as f32).collect()
    }
}

/// `8 noise levels, σ = 0.1, 0.1694, …, 4`: all of up to twelve.
impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST_SHOWN: usize = 12;
        let digits = |sigma: &f64| {
            let rounded = format!("{sigma:.3e}").parse().unwrap_or(*sigma);
            format!("{rounded}")
        };
        let mut shown: Vec<String> = self.sigmas.iter().map(digits).collect();
        if shown.len() > MOST_SHOWN {
            shown.splice(2..shown.len() - 1, ["…".to_owned()]);
        }
        write!(f, "{} noise levels, σ = {}", self.count(), shown.join(", "))
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
        assert_eq!((levels.at(), levels.sigma(), levels.input()), (1, 0.1, -1.0));
        let moved = levels.moved(4).expect("there is one");
        assert_eq!((moved.at(), moved.sigma(), moved.input()), (4, moved.sigmas()[3], moved.inputs()[3]));
        assert!(levels.moved(0).is_none() && levels.moved(6).is_none());
        assert_eq!(levels.to_string(), "5 noise levels, σ = 0.1, 0.3, 0.9, 2.7, 8.1");
        let many = LevelsTable::Geometric(Geometric { from: 1e-5, to: 1.0, count: 51 });
        assert_eq!(
            many.resolve().expect("right").to_string(),
            "51 noise levels, σ = 0.00001, 0.00001259, …, 1"
        );
    }
}
