//! Which half of the coordinates a coupling moves.
//!
//! Couplings only ever cut `[first | second]`, two contiguous parts: no zeros are multiplied, and a conditioner sees the part that
//! stays and no more. For the checkerboard the coordinates are put in that order once, at the data's end.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::chain::Layer;
use super::cpu::Step;
use crate::error::ModelError;
use crate::shape::SampleShape;

/// How the coordinates are divided; couplings take turns in which part they move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mask {
    /// The first half and the second half; `dim` must be even.
    #[default]
    Half,
    /// Even and odd indices.
    Checkerboard,
}

impl Mask {
    /// Coordinates of the two parts.
    ///
    /// # Errors
    /// A part without coordinates; an odd `dim` with halves.
    pub(super) fn parts(self, kind: &'static str, shape: SampleShape) -> Result<[usize; 2], ModelError> {
        let dim = shape.dim();
        let misfit = |message: String| ModelError::Shape { kind, shape, message };
        if dim < 2 {
            return Err(misfit(format!(
                "energy.mask divides the coordinates in two parts, which takes at least 2; found {dim}"
            )));
        }
        match self {
            Self::Half if !dim.is_multiple_of(2) => Err(misfit(format!(
                "energy.mask = \"half\" needs an even number of coordinates, found {dim}; take mask = \"checkerboard\""
            ))),
            _ => Ok([dim.div_ceil(2), dim / 2]),
        }
    }
}

/// Two contiguous parts, and which of them a coupling moves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// Coordinates of the first and of the second part.
    pub widths: [usize; 2],
    /// Whether the first part moves, given the second; else the second moves, given the first.
    pub moves_first: bool,
}

impl Parts {
    /// Coordinates of the part that stays.
    pub fn stays(&self) -> usize {
        self.widths[usize::from(self.moves_first)]
    }

    /// Coordinates of the part that moves.
    pub fn moves(&self) -> usize {
        self.widths[usize::from(!self.moves_first)]
    }

    /// The part that stays and the part that moves.
    pub fn split(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let [first, second] = self.widths;
        let (a, b) = (x.clone().narrow(1, 0, first), x.narrow(1, first, second));
        if self.moves_first { (b, a) } else { (a, b) }
    }

    /// Undoes [`Parts::split`].
    pub fn join(&self, stays: Tensor<2>, moved: Tensor<2>) -> Tensor<2> {
        Tensor::cat(if self.moves_first { vec![moved, stays] } else { vec![stays, moved] }, 1)
    }
}

/// Even indices first, then odd ones, on the way to z.
#[derive(Clone, Debug)]
pub(super) struct EvenFirst;

impl Layer for EvenFirst {
    fn forward(&self, _theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [n, dim] = z.dims();
        let (pairs, evens) = (dim / 2, dim.div_ceil(2));
        let log_det = Tensor::zeros([n], &z.device());
        let even = z.clone().narrow(1, 0, pairs).reshape([n, pairs, 1]);
        let odd = z.clone().narrow(1, evens, pairs).reshape([n, pairs, 1]);
        let paired = Tensor::cat(vec![even, odd], 2).reshape([n, 2 * pairs]);
        if evens == pairs {
            return (paired, log_det);
        }
        (Tensor::cat(vec![paired, z.narrow(1, pairs, 1)], 1), log_det)
    }

    fn inverse(&self, _theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [n, dim] = x.dims();
        let pairs = dim / 2;
        let log_det = Tensor::zeros([n], &x.device());
        let paired = x.clone().narrow(1, 0, 2 * pairs).reshape([n, pairs, 2]);
        let [even, odd] = [0, 1].map(|which| paired.clone().narrow(2, which, 1).reshape([n, pairs]));
        let parts = match dim % 2 {
            0 => vec![even, odd],
            _ => vec![even, x.narrow(1, dim - 1, 1), odd],
        };
        (Tensor::cat(parts, 1), log_det)
    }

    fn cpu_step(&self) -> Option<Step> {
        Some(Step::EvenFirst)
    }
}
