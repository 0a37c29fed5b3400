//! A loss of the data alone: its gradient needs no walkers, no weights and no log Z.

use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::Tensor;
use ember_model::EnergyModel;
use ember_model::random::Stream;
use ember_sampler::kernel::BadValue;

use crate::error::Error;

/// The most numbers in a layer's output, or in the rows, that are differentiated together: 16 MiB.
pub(super) const TOGETHER: usize = 1 << 22;

/// What an objective of the data alone minimises.
pub trait DataLoss: Debug {
    /// Derivatives of the energy in x that it needs (`Architecture::jet_order`); 0 suits every energy.
    fn derivatives(&self) -> usize {
        0
    }

    /// Passes of the energy that one row of data takes: of U with a gradient, or along a line.
    fn evaluations(&self, dim: usize) -> u64;

    /// Rows that it holds at one time for each row of a batch: its noise.
    fn copies(&self) -> usize {
        1
    }

    /// Checks that it is defined for samples of `dim` coordinates.
    ///
    /// # Errors
    /// The key to change.
    fn check_dim(&self, _dim: usize) -> Result<(), BadValue> {
        Ok(())
    }

    /// The loss and its gradient at the model's θ. `batch: [n, dim]`; all random numbers come from the lanes of `stream`.
    ///
    /// # Errors
    /// An energy without the derivatives that it needs.
    fn gradient(&self, model: &EnergyModel, batch: &Tensor<2>, stream: Stream)
    -> Result<LossGradient, Error>;
}

/// A loss and its gradient.
#[derive(Clone, Debug)]
pub struct LossGradient {
    /// `∂_θ` of the loss, one flat gradient a parameter.
    pub grads: Vec<Tensor<1>>,
    /// The loss, `[1]`.
    pub loss: Tensor<1>,
}

impl LossGradient {
    fn plus(self, other: Self) -> Self {
        let grads = self.grads.into_iter().zip(other.grads).map(|(a, b)| a + b).collect();
        Self { grads, loss: self.loss + other.loss }
    }
}

/// The sum of a loss over slices of `rows` rows of data, each of which makes `copies` rows for the energy: slices as long as memory
/// allows, whose length follows from the sizes alone.
///
/// # Errors
/// That of `part`.
pub(super) fn in_slices(
    model: &EnergyModel,
    [rows, dim]: [usize; 2],
    copies: usize,
    part: impl Fn(Range<usize>) -> Result<LossGradient, Error>,
) -> Result<LossGradient, Error> {
    let numbers = model.widest().max(dim).saturating_mul(copies).max(1);
    let slice = (TOGETHER / numbers).max(1);
    let mut total = part(0..slice.min(rows))?;
    for start in (slice..rows).step_by(slice) {
        total = total.plus(part(start..(start + slice).min(rows))?);
    }
    Ok(total)
}

/// Rows of a slice.
pub(super) fn rows_of(tensor: &Tensor<2>, range: &Range<usize>) -> Tensor<2> {
    tensor.clone().narrow(0, range.start, range.len())
}

/// Sums of the rows. `[n, k]` → `[n]`.
pub(super) fn rowwise(x: Tensor<2>) -> Tensor<1> {
    x.sum_dim(1).squeeze_dim::<1>(1)
}

/// `U`, `vᵀ∇U` and `vᵀHv` along lines, `[rows]` each, differentiable in θ.
///
/// # Errors
/// An energy that has none.
pub(super) fn along(model: &EnergyModel, x: Tensor<2>, v: Tensor<2>) -> Result<[Tensor<1>; 3], Error> {
    let kind = model.spec().energy.kind();
    model.jet(x, v).ok_or_else(|| Error::usage(format!("a {kind} has no derivatives along lines")))
}

/// The gradient in θ of a loss that is made of the model on the tape.
///
/// # Errors
/// That of `loss`.
pub(super) fn differentiated(
    model: &EnergyModel,
    loss: impl FnOnce(&EnergyModel) -> Result<Tensor<1>, Error>,
) -> Result<LossGradient, Error> {
    let (grads, loss) = model.differentiated(loss)?;
    Ok(LossGradient { grads, loss })
}
