//! RealNVP (Dinh, Sohl-Dickstein and Bengio 2017, arXiv 1605.08803): affine couplings that take turns (ALGORITHMS 5).
//!
//! ```text
//! x → [even indices first] → act-norm → coupling 0 → act-norm → coupling 1 → … → z
//! ```
//! Coupling i moves the second part where i is even, the first where it is odd. Cost of `log_prob` and of a draw: one evaluation
//! of each network. The start is `N(0, I)` exactly (with act-norm: until it is fitted to data).

use serde::{Deserialize, Serialize};

use super::act_norm::ActNorm;
use super::affine::AffineCoupling;
use super::chain::Chain;
use super::conditioner::MlpConditioner;
use super::energy::FlowEnergy;
use super::mask::{EvenFirst, Mask, Parts};
use crate::energy::Architecture;
use crate::energy::activation::Activation;
use crate::error::ModelError;
use crate::shape::SampleShape;

const KIND: &str = "real_nvp";

/// `{ kind = "real_nvp", layers, hidden, activation, mask, log_scale_bound, act_norm }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RealNvp {
    /// Couplings; two move every coordinate once.
    pub layers: usize,
    /// Widths of the hidden layers of each coupling's network.
    pub hidden: Vec<usize>,
    /// The non-linearity after each hidden layer.
    #[serde(default)]
    pub activation: Activation,
    /// How the coordinates are divided.
    #[serde(default)]
    pub mask: Mask,
    /// b in `s = b tanh(r/b)`: no coupling scales a coordinate by more than `e^b`. 1 unless given: what rounding loses in single
    /// precision grows by that factor too.
    #[serde(default = "one")]
    pub log_scale_bound: f64,
    /// Whether a trained scale and shift of every coordinate, fitted to data before a run, stands before each coupling.
    #[serde(default)]
    pub act_norm: bool,
}

fn one() -> f64 {
    1.0
}

impl RealNvp {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// No couplings, an empty or zero-width `hidden`, a bound that is not positive, a mask that does not divide the coordinates.
    pub fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        check_couplings("layers", self.layers)?;
        check_hidden(&self.hidden)?;
        check_positive("log_scale_bound", self.log_scale_bound)?;
        let widths = self.mask.parts(KIND, shape)?;
        let mut flow = Chain::new(KIND, shape.dim());
        if self.mask == Mask::Checkerboard {
            flow.push("even_first", EvenFirst);
        }
        for i in 0..self.layers {
            if self.act_norm {
                flow.push(format!("couplings.{i}.act_norm"), ActNorm { groups: shape.dim(), group_len: 1 });
            }
            let parts = Parts { widths, moves_first: i % 2 == 1 };
            let coupling = AffineCoupling {
                parts,
                conditioner: MlpConditioner::new(
                    parts.stays(),
                    &self.hidden,
                    2 * parts.moves(),
                    self.activation,
                ),
                log_scale_bound: self.log_scale_bound,
            };
            flow.push(format!("couplings.{i}"), coupling);
        }
        Ok(Box::new(FlowEnergy { flow }))
    }
}

/// The most couplings there may be: a mistyped number fails at once.
const MOST_COUPLINGS: usize = 1_000;

/// Checks a number of couplings.
pub(super) fn check_couplings(key: &'static str, couplings: usize) -> Result<(), ModelError> {
    if (1..=MOST_COUPLINGS).contains(&couplings) {
        return Ok(());
    }
    Err(ModelError::invalid(key, format!("{couplings} found, expected 1 to {MOST_COUPLINGS} couplings")))
}

/// Checks hidden widths.
pub(super) fn check_hidden(hidden: &[usize]) -> Result<(), ModelError> {
    if !hidden.is_empty() && !hidden.contains(&0) {
        return Ok(());
    }
    Err(ModelError::invalid("hidden", format!("{hidden:?} needs at least one width, each ≥ 1")))
}

/// Checks a number that must be positive.
pub(super) fn check_positive(key: &'static str, value: f64) -> Result<(), ModelError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(ModelError::invalid(key, format!("{value} is not a finite number > 0")))
}
