//! What can be wrong with an energy's description or its weights.

use crate::shape::SampleShape;

/// An energy that cannot be built or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A value of the energy's table is out of its range.
    #[error("energy.{key}: {message}")]
    Invalid {
        /// The key, as in the config.
        key: &'static str,
        /// What was found and what was expected.
        message: String,
    },
    /// The energy does not fit samples of this shape.
    #[error("energy kind `{kind}` does not fit samples of shape {shape}: {message}")]
    Shape {
        /// The energy's `kind`.
        kind: &'static str,
        /// The shape of one sample.
        shape: SampleShape,
        /// What does not fit.
        message: String,
    },
    /// A weight file holds a tensor of another shape than the architecture has.
    #[error("tensor `{name}` has shape {found:?}, the energy's config needs {expected:?}")]
    TensorShape {
        /// The tensor's PyTorch name.
        name: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape the architecture has.
        expected: Vec<usize>,
    },
    /// A weight file lacks a tensor.
    #[error("tensor `{name}` of shape {expected:?} is missing; the file holds {present}")]
    TensorMissing {
        /// The tensor's PyTorch name.
        name: String,
        /// The shape the architecture has.
        expected: Vec<usize>,
        /// The names that are there.
        present: String,
    },
    /// A weight file holds tensors the architecture does not know.
    #[error("unknown tensors {names}: the energy's config has no such parameter")]
    TensorUnknown {
        /// The unknown names.
        names: String,
    },
    /// The `ember.config` metadata cannot be read.
    #[error("metadata `ember.config`: {0}")]
    Metadata(String),
}

impl ModelError {
    /// An out-of-range value under `energy.{key}`.
    pub fn invalid(key: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { key, message: message.into() }
    }
}
