//! Which half of the coordinates a coupling moves.
//!
//! Couplings only ever cut `[first | second]`, two contiguous parts: no zeros are multiplied, and a conditioner sees the part that
//! stays and no more. For the checkerboard the coordinates are put in that order once, at the data's end.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::chain::Layer;
use super::steps::Step;
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
