//! Data on the device, and which rows each update sees: a pure function of (seed, update).

use burn::tensor::{Device, Int, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};

use crate::dataset::Rows;
use crate::error::Error;

/// The training set on the device, dealt in shuffled epochs (or whole, where the batch is the set).
pub struct Batches {
    data: Tensor<2>,
    batch_size: usize,
    seed: u64,
    /// The epoch whose shuffled order is on the device, and that order `[n]`.
    order: Option<(u64, Tensor<1, Int>)>,
}

impl Batches {
    /// Uploads `train`, row-major `[n, dim]`.
    pub fn new(train: &Rows, dim: usize, batch_size: usize, seed: u64, device: &Device) -> Self {
        let n = train.len() / dim;
        let data = Tensor::from_data(TensorData::new(train.values().into_owned(), [n, dim]), device);
        Self { data, batch_size, seed, order: None }
    }

    /// The data of update `step`, `[batch_size, dim]`. An epoch holds ⌊n / batch_size⌋ batches; the order of each epoch comes
    /// from the counter-based generator, so nothing is remembered between updates.
    ///
    /// # Errors
    /// An epoch number beyond 32 bits.
    pub fn batch(&mut self, step: u64) -> Result<Tensor<2>, Error> {
        let [n, _] = self.data.dims();
        if self.batch_size == n {
            return Ok(self.data.clone());
        }
        let per_epoch = (n / self.batch_size) as u64;
        let (epoch, slot) = (step / per_epoch, (step % per_epoch) as usize);
        let order = match &self.order {
            Some((current, order)) if *current == epoch => order.clone(),
            _ => {
                let stream = Stream::new(self.seed, Purpose::Batch)
                    .at(epoch)
                    .map_err(|error| Error::usage(error.to_string()))?;
                let order: Vec<i32> = stream.permutation(n).into_iter().map(|i| i as i32).collect();
                let order = Tensor::from_data(TensorData::new(order, [n]), &self.data.device());
                self.order = Some((epoch, order.clone()));
                order
            }
        };
        let rows = order.narrow(0, slot * self.batch_size, self.batch_size);
        Ok(self.data.clone().select(0, rows))
    }
}
