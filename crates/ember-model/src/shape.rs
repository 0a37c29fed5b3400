//! The shape of one sample.

use std::fmt;

/// The shape of one sample; positions are stored flat, `[walkers, dim]`, in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleShape {
    /// A vector of `dim` coordinates.
    Flat(usize),
    /// An image: channels, height, width (row-major, channel first).
    Image([usize; 3]),
}

impl SampleShape {
    /// Coordinates of one sample.
    pub fn dim(&self) -> usize {
        match *self {
            Self::Flat(dim) => dim,
            Self::Image([c, h, w]) => c * h * w,
        }
    }
}

impl fmt::Display for SampleShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat(dim) => write!(f, "[{dim}]"),
            Self::Image([c, h, w]) => write!(f, "[{c}, {h}, {w}]"),
        }
    }
}
