//! What the flows share: couplings that take turns, and checks of their keys.

use super::act_norm::ActNorm;
use super::chain::{Chain, Layer};
use super::energy::FlowEnergy;
use super::mask::{EvenFirst, Mask};
use super::parts::Parts;
use crate::energy::Architecture;
use crate::error::ModelError;
use crate::shape::SampleShape;

/// The most couplings there may be: a mistyped number fails at once.
const MOST: usize = 1_000;

/// ```text
/// x → [even indices first] → act-norm → coupling 0 → act-norm → coupling 1 → … → z
/// ```
/// Coupling i moves the second part where i is even, the first where it is odd.
#[derive(Clone, Copy, Debug)]
pub(super) struct Couplings {
    pub kind: &'static str,
    pub layers: usize,
    pub mask: Mask,
    pub act_norm: bool,
}

impl Couplings {
    /// The flow on samples of `shape` whose couplings are `coupling` of their parts.
    ///
    /// # Errors
    /// No couplings, a mask that does not divide the coordinates.
    pub fn build<L: Layer + 'static>(
        self,
        shape: SampleShape,
        coupling: impl Fn(Parts) -> L,
    ) -> Result<Box<dyn Architecture>, ModelError> {
        check_count("layers", self.layers)?;
        let widths = self.mask.parts(self.kind, shape)?;
        let mut flow = Chain::new(self.kind, shape.dim());
        if self.mask == Mask::Checkerboard {
            flow.push("even_first", EvenFirst);
        }
        for i in 0..self.layers {
            if self.act_norm {
                flow.push(format!("couplings.{i}.act_norm"), ActNorm { groups: shape.dim(), group_len: 1 });
            }
            flow.push(format!("couplings.{i}"), coupling(Parts { widths, moves_first: i % 2 == 1 }));
        }
        Ok(Box::new(FlowEnergy { flow }))
    }
}

/// Checks a number of couplings.
pub(super) fn check_count(key: &'static str, couplings: usize) -> Result<(), ModelError> {
    if (1..=MOST).contains(&couplings) {
        return Ok(());
    }
    Err(ModelError::invalid(key, format!("{couplings} found, expected 1 to {MOST} couplings")))
}

/// Checks a number that must be positive.
pub(super) fn check_positive(key: &'static str, value: f64) -> Result<(), ModelError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(ModelError::invalid(key, format!("{value} is not a finite number > 0")))
}
