//! What the `[energy]` table of one kind says.

use std::fmt::Debug;

use super::Architecture;
use crate::error::ModelError;
use crate::shape::SampleShape;

/// A description of an energy: the keys of its table are its fields.
pub trait EnergyTable: Debug + Send + Sync {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// A value out of range, or an architecture that does not fit the shape.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError>;

    /// Whether it has products that can be made at another precision than f32.
    fn has_precisions(&self) -> bool {
        false
    }
}
