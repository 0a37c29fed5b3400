//! A mixture of models: `U = −log Σ_i w_i e^{−U_i − log_z_i}`. A point is likely where it is likely to some part.
//!
//! Energies are known up to a constant, so the masses of the parts are `w_i Z_i e^{−log_z_i}` over their sum, whatever their `Z_i` are:
//! they are `w_i` only where `log_z_i = log Z_i`. That is known in closed form for flows and mixtures of Gaussians (`normalise`), and
//! else measured: an error of `log_z_i` by δ multiplies that part's mass by `e^{−δ}`. Training the parts moves their `Z_i`, and
//! `log_z` stays as it is. Where every part's log Z is known and every part can be drawn, so it is for the mixture.

use serde::{Deserialize, Serialize};

use super::rule::Rule;
use super::{Composition, Tables, check_length, weights};
use crate::energy::{Architecture, EnergyTable};
use crate::error::ModelError;
use crate::shape::SampleShape;

/// `{ kind = "mixture", parts, weights, log_z, normalise }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartsMixture<C> {
    /// The tables of two parts or more.
    pub parts: Vec<C>,
    /// `w_i > 0`, one for each part, divided by their sum; all alike unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<f64>>,
    /// log Z of each part; 0 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_z: Option<Vec<f64>>,
    /// Whether `log_z` is to be filled in from trained parts whose log Z has a closed form: of a config that names them by their paths.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub normalise: bool,
    /// Where the parameters of each part came from; an empty one is the run's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts_from: Vec<String>,
    /// `T_i` of each part, which enters as `U_i/T_i`; 1 unless given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub temperatures: Vec<f64>,
}

impl<C> PartsMixture<C> {
    /// What it says of its parts.
    pub fn composition(&self) -> Composition<'_, C> {
        let given = self.weights.clone().unwrap_or_else(|| vec![1.0; self.parts.len()]);
        let total: f64 = given.iter().sum();
        let coefficients = given.into_iter().map(|w| w / total).collect();
        Composition { tables: &self.parts, from: &self.parts_from, coefficients }
    }
}

impl<C: EnergyTable> EnergyTable for PartsMixture<C> {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// Less than two parts, weights that are not one finite number > 0 for each, a log Z that is not finite, `normalise` that nobody has
    /// followed, or as the parts' own tables.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        let w = weights(self.weights.as_deref(), self.parts.len(), 1.0)?;
        let log_z = self.log_z.clone().unwrap_or_else(|| vec![0.0; self.parts.len()]);
        check_length("log_z", log_z.len(), self.parts.len(), false)?;
        if let Some(bad) = log_z.iter().find(|log_z| !log_z.is_finite()) {
            return Err(ModelError::invalid("log_z", format!("{bad} found, expected finite numbers")));
        }
        if self.normalise {
            let message = "log Z is filled in where the parts are paths of trained models: give paths, or `log_z` in its place";
            return Err(ModelError::invalid("normalise", message));
        }
        let total: f64 = w.iter().sum();
        let l = w.iter().zip(log_z).map(|(w, log_z)| (w / total).ln() - log_z).collect();
        let tables = Tables { parts: &self.parts, from: &self.parts_from, temperatures: &self.temperatures };
        tables.build("mixture", Rule::Mixture(l), shape)
    }

    fn has_precisions(&self) -> bool {
        self.parts.iter().any(EnergyTable::has_precisions)
    }
}
