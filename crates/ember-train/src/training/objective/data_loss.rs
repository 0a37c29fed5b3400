//! A loss of the data alone: its gradient needs no walkers, no weights and no log Z.

use std::fmt::Debug;
use std::ops::Range;

use burn::tensor::{Device, Tensor};
use ember_model::energy::score::ScoreGrads;
use ember_model::random::Stream;
use ember_model::{EnergyConfig, EnergyModel};
use ember_sampler::kernel::BadValue;

use crate::dataset::{Augmentation, Data};
use crate::error::Error;

/// The most numbers in a layer's output, or in the rows, that are differentiated together: 16 MiB.
pub(super) const TOGETHER: usize = 1 << 22;

/// What an objective of the data alone minimises.
pub trait DataLoss: Debug {
    /// Derivatives of the energy in x that it needs (`Architecture::jet_order`); 0 suits every energy.
    fn derivatives(&self) -> usize {
        0
    }

    /// Passes of an energy with so many noise levels that one row of data takes: of U with a gradient, or along a line.
    fn evaluations(&self, dim: usize, levels: usize) -> u64;

    /// Rows that it holds at one time for each row of a batch: its noise.
    fn copies(&self, _levels: usize) -> usize {
        1
    }

    /// Checks that it is defined for samples of `dim` coordinates.
    ///
    /// # Errors
    /// The key to change.
    fn check_dim(&self, _dim: usize) -> Result<(), BadValue> {
        Ok(())
    }

    /// Checks that batches of so many rows are enough.
    ///
    /// # Errors
    /// The key to change.
    fn check_batch(&self, _rows: usize) -> Result<(), BadValue> {
        Ok(())
    }

    /// The flow that its noise is drawn from, where there is one: the trainer opens or fits it.
    fn noise_flow(&self) -> Option<NoiseFlow<'_>> {
        None
    }

    /// The loss with what it takes from the data set or from a flow, made before the run: then it is that one's gradient that counts.
    ///
    /// # Errors
    /// Data that no law can be fitted to.
    fn fitted(&self, _given: Given<'_>) -> Result<Option<Box<dyn DataLoss>>, Error> {
        Ok(None)
    }

    /// The gradient of the loss in the parameters of the flow of its noise, which *raises* the loss; `None` without such a flow.
    fn flow_gradient(
        &self,
        _model: &EnergyModel,
        _own: Option<&Tensor<1>>,
        _batch: &Tensor<2>,
        _stream: Stream,
    ) -> Option<Vec<Tensor<1>>> {
        None
    }

    /// Checks that it goes together with the noise levels that the energy knows of, ascending; none of most energies.
    ///
    /// # Errors
    /// The key to change.
    fn check_levels(&self, _levels: &[f64]) -> Result<(), BadValue> {
        Ok(())
    }

    /// Whether it trains an energy at all of its noise levels; else at the smallest alone.
    fn trains_levels(&self) -> bool {
        false
    }

    /// Numbers of its own that are trained beside θ, such as an estimate of log Z, beside an energy with so many noise levels. The trainer
    /// keeps, steps, saves and restores them.
    fn own_numbers(&self, _levels: usize) -> usize {
        0
    }

    /// Where they start, one value each. `stream` is that of the first update: take a lane that the gradient does not use.
    fn own_start(&self, model: &EnergyModel, _stream: Stream) -> Vec<f32> {
        vec![0.0; self.own_numbers(model.level_count())]
    }

    /// Their learning rate is that of `[optimizer]` times this.
    fn own_learning_rate_scale(&self) -> f64 {
        1.0
    }

    /// Which of them is log Z of the model, where one is.
    fn learned_log_z(&self) -> Option<usize> {
        None
    }

    /// The loss and its gradient at the model's θ and at `own: [own_numbers]`, which is there where it has numbers of its own.
    /// `batch: [n, dim]`; all random numbers come from the lanes of `stream`.
    ///
    /// # Errors
    /// An energy without the derivatives that it needs.
    fn gradient(
        &self,
        model: &EnergyModel,
        own: Option<&Tensor<1>>,
        batch: &Tensor<2>,
        stream: Stream,
    ) -> Result<LossGradient, Error>;
}

/// What a loss may take before the run.
#[derive(Clone, Copy)]
pub struct Given<'a> {
    /// The data set.
    pub data: &'a Data,
    /// What is done to every batch of it.
    pub augmentation: Augmentation,
    /// The flow of [`DataLoss::noise_flow`].
    pub flow: Option<&'a EnergyModel>,
    /// Where the tensors are.
    pub device: &'a Device,
}

/// A flow that noise is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct NoiseFlow<'a> {
    /// Its table.
    pub table: &'a EnergyConfig,
    /// The run or weight file that it came from; it is fitted to the data before the run where there is none.
    pub from: Option<&'a str>,
    /// Adam's learning rate for it; it is fixed where there is none.
    pub learning_rate: Option<f64>,
}

/// A loss and its gradient.
#[derive(Clone, Debug)]
pub struct LossGradient {
    /// `∂_θ` of the loss, one flat gradient a parameter.
    pub grads: Vec<Tensor<1>>,
    /// The derivative in its own numbers, `[own_numbers]`; absent where there are none.
    pub own: Option<Tensor<1>>,
    /// The loss, `[1]`.
    pub loss: Tensor<1>,
}

impl LossGradient {
    /// The sum. Own numbers that only one has a part in keep that part.
    pub(super) fn plus(self, other: Self) -> Self {
        let grads = self.grads.into_iter().zip(other.grads).map(|(a, b)| a + b).collect();
        let own = match (self.own, other.own) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        Self { grads, own, loss: self.loss + other.loss }
    }
}

impl From<ScoreGrads> for LossGradient {
    fn from(ScoreGrads { grads, loss }: ScoreGrads) -> Self {
        Self { grads, own: None, loss }
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
    Ok(LossGradient { grads, own: None, loss })
}
