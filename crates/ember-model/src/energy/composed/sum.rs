//! A product of experts (Hinton 2002): `U = Σ a_i U_i`, that is `ρ ∝ ∏ ρ_i^{a_i}`. A point is likely where it is likely to every part.

use serde::{Deserialize, Serialize};

use super::rule::Rule;
use super::{Composition, Tables, weights};
use crate::energy::{Architecture, EnergyTable};
use crate::error::ModelError;
use crate::shape::SampleShape;

/// `{ kind = "sum", parts, weights }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sum<C> {
    /// The tables of two parts or more.
    pub parts: Vec<C>,
    /// `a_i > 0`, one for each part; 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<f64>>,
    /// Where the parameters of each part came from; an empty one is the run's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts_from: Vec<String>,
    /// `T_i` of each part, which enters as `U_i/T_i`; 1 unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub temperatures: Vec<f64>,
}

impl<C> Sum<C> {
    /// What it says of its parts.
    pub fn composition(&self) -> Composition<'_, C> {
        let coefficients = self.weights.clone().unwrap_or_else(|| vec![1.0; self.parts.len()]);
        Composition { tables: &self.parts, from: &self.parts_from, coefficients }
    }
}

impl<C: EnergyTable> EnergyTable for Sum<C> {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// Less than two parts, weights that are not one finite number > 0 for each, or as the parts' own tables.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        let a = weights(self.weights.as_deref(), self.parts.len(), 1.0)?;
        let tables = Tables { parts: &self.parts, from: &self.parts_from, temperatures: &self.temperatures };
        tables.build("sum", Rule::Linear(a), shape)
    }

    fn has_precisions(&self) -> bool {
        self.parts.iter().any(EnergyTable::has_precisions)
    }
}
