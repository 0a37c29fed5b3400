//! One model without another: `U = a U_1 − b U_2`, that is `ρ ∝ ρ_1^a / ρ_2^b`. A point is likely where it is likely to the first part and
//! not to the second. Du et al. 2023 take `a = 1.3`, `b = .3`.
//!
//! Unlike a sum it may have an infinite Z: dividing by a density that falls off fast. So far out the energy must still grow. Networks
//! grow at most linearly beside their confinement `½ c |x|²`, and mixtures of unit-covariance Gaussians as `½ |x|²`: on all of `ℝ^d`
//! `a c_1 − b c_2 > 0` is asked for. On a cube nothing is. Flows and Gaussian bases, whose growth depends on θ, are refused there.

use serde::{Deserialize, Serialize};

use super::rule::Rule;
use super::{Composition, PARTS, Tables, weights};
use crate::energy::{Architecture, EnergyTable};
use crate::error::ModelError;
use crate::shape::SampleShape;

/// `{ kind = "negation", parts, weights }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Negation<C> {
    /// The tables of two parts: what is wanted, and what is not.
    pub parts: Vec<C>,
    /// `[a, b]`, both > 0: how much of the first, and how much is taken away of the second.
    pub weights: Vec<f64>,
    /// Where the parameters of each part came from; an empty one is the run's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts_from: Vec<String>,
    /// `T_i` of each part, which enters as `U_i/T_i`; 1 unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub temperatures: Vec<f64>,
}

impl<C> Negation<C> {
    /// What it says of its parts.
    pub fn composition(&self) -> Composition<'_, C> {
        let signed = |(i, weight): (usize, &f64)| if i == 1 { -weight } else { *weight };
        let coefficients = self.weights.iter().enumerate().map(signed).collect();
        Composition { tables: &self.parts, from: &self.parts_from, coefficients }
    }
}

impl<C: EnergyTable> EnergyTable for Negation<C> {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// Another number of parts than two, weights that are not two finite numbers > 0, or as the parts' own tables.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        if self.parts.len() > 2 {
            let message = format!(
                "{} found, expected two: what is wanted, and what is not; a \"sum\" or a \"mixture\" makes one of several",
                self.parts.len()
            );
            return Err(ModelError::invalid(PARTS, message));
        }
        let mut a = weights(Some(&self.weights), self.parts.len(), 1.0)?;
        a.iter_mut().skip(1).for_each(|b| *b = -*b);
        let tables = Tables { parts: &self.parts, from: &self.parts_from, temperatures: &self.temperatures };
        tables.build("negation", Rule::Linear(a), shape)
    }

    fn has_precisions(&self) -> bool {
        self.parts.iter().any(EnergyTable::has_precisions)
    }
}

/// Checks that the energy grows in all directions of `ℝ^d`, from κ of each part.
///
/// # Errors
/// A part whose κ is not known, or `a κ_1 − b κ_2 ≤ 0`.
pub(super) fn check(rule: &Rule, growths: &[Option<f64>], kinds: &[&str]) -> Result<(), ModelError> {
    if let Some(i) = growths.iter().position(Option::is_none) {
        let message = format!(
            "how fast the energy of part {i}, a {}, grows far out depends on its parameters, so Z of the negation may be infinite: take \
             networks with energy.confinement, or mixtures of Gaussians",
            kinds[i]
        );
        return Err(ModelError::invalid(PARTS, message));
    }
    let known: Vec<f64> = growths.iter().map(|growth| growth.unwrap_or_default()).collect();
    let left = rule.growth(&known);
    if left > 0.0 {
        return Ok(());
    }
    let message = format!(
        "the confinements are {} and {}, and a c_1 − b c_2 = {left} is not above 0: nothing would hold the model together, and its Z may be \
         infinite. Take a smaller second weight, or a part with a smaller confinement away",
        known[0], known[1]
    );
    Err(ModelError::invalid("weights", message))
}
