//! RealNVP (Dinh, Sohl-Dickstein and Bengio 2017, arXiv 1605.08803): affine couplings that take turns (ALGORITHMS 5).
//!
//! Chained as `couplings.rs` says. Cost of `log_prob` and of a draw: one evaluation
//! of each network. The start is `N(0, I)` exactly (with act-norm: until it is fitted to data).

use serde::{Deserialize, Serialize};

use super::affine::AffineCoupling;
use super::conditioner::MlpConditioner;
use super::couplings::{Couplings, check_positive};
use super::mask::Mask;
use crate::energy::activation::Activation;
use crate::energy::network::check_hidden;
use crate::energy::{Architecture, EnergyTable};
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

impl EnergyTable for RealNvp {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// No couplings, an empty or zero-width `hidden`, a bound that is not positive, a mask that does not divide the coordinates.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        check_hidden(&self.hidden)?;
        check_positive("log_scale_bound", self.log_scale_bound)?;
        let couplings =
            Couplings { kind: KIND, layers: self.layers, mask: self.mask, act_norm: self.act_norm };
        couplings.build(shape, |parts| {
            let (stays, output) = (parts.stays(), 2 * parts.moves());
            let conditioner = MlpConditioner::new(stays, &self.hidden, output, self.activation);
            AffineCoupling { parts, conditioner, log_scale_bound: self.log_scale_bound }
        })
    }
}
