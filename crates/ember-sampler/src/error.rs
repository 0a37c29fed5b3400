//! Why an estimate or a diagnostic is not available.

use ember_model::random::StreamOverflow;

/// A failure of an estimator, a diagnostic or a kernel's preparation.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Sizes or parts that make no sense together.
    #[error("{0}")]
    Options(String),
    /// Tempered methods begin at a law that can be drawn and whose log Z is known, and this energy comes with none.
    #[error("log Z of this energy needs a tractable start")]
    NoStart,
    /// The path from the start to the energy needs too many temperatures.
    #[error(
        "the annealed path reached only β = {beta:.4} in {temperatures} temperatures: the energy is too far from its tractable start"
    )]
    TooFar {
        /// How far it came.
        beta: f64,
        /// In how many temperatures.
        temperatures: usize,
    },
    /// The reverse side of AIS begins at samples of the model, and there are none.
    #[error("the reverse side of AIS needs exact draws of the model or independent walkers")]
    NoSamples,
    /// A kernel that proposes from flows was given none.
    #[error("this kernel proposes from a flow, and there is none")]
    NoProposals,
    /// Energies, weights or log-ratios that are not finite.
    #[error("{0}")]
    NotFinite(String),
    /// A step number beyond 32 bits.
    #[error(transparent)]
    Overflow(#[from] StreamOverflow),
}

impl Error {
    pub(crate) fn options(message: impl Into<String>) -> Self {
        Self::Options(message.into())
    }

    pub(crate) fn not_finite(message: impl Into<String>) -> Self {
        Self::NotFinite(message.into())
    }
}
