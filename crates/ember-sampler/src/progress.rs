//! How far a long estimate is. This crate has no clock and prints nothing: who calls it may listen.

use std::fmt;

/// Hears of the progress of a long computation.
pub trait Progress: Sync {
    /// The fraction `done`, in `[0, 1]`, of `what` is done; `detail` says how far in its own terms.
    fn reach(&self, what: &'static str, done: f64, detail: &dyn Fn() -> String);

    /// Something worth knowing was decided.
    fn note(&self, _message: &str) {}

    /// Something is not as it should be, and the computation goes on.
    fn warn(&self, _warning: &Warning) {}
}

/// What is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warning {
    /// An automatic schedule of AIS ends at its limit.
    TooFewTemperatures {
        /// As many would be needed …
        wanted: usize,
        /// … for this width, in nats.
        width: f64,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewTemperatures { wanted, width } => {
                write!(f, "AIS: {wanted} temperatures would be needed for {width:.2} nats")
            }
        }
    }
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn reach(&self, _what: &'static str, _done: f64, _detail: &dyn Fn() -> String) {}
}
