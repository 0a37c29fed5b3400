//! Which rows each update sees, and what is done to them: a pure function of (seed, update).
//!
//! Here dequantisation and noise are operations of the device, with numbers that belong to a place in the batch: fresh in every
//! update, whichever row comes there. What is judged gets them on the host, with numbers that belong to the row (`noisy.rs`).

use burn::tensor::{Device, Int, Tensor, TensorData};
use ember_model::SampleShape;
use ember_model::random::{Purpose, Stream};
use ember_sampler::device::{langevin_proposal, uniform};

use crate::dataset::{Augmentation, BIN, Rows};
use crate::error::Error;
use crate::memory::DEVICE_BYTES;
use crate::training::epochs::Epochs;

/// Lanes of [`Purpose::DataNoise`].
const NOISE_LANE: u32 = 0;
const DEQUANTISE_LANE: u32 = 1;
const FLIP_LANE: u32 = 2;

/// The training set, dealt in shuffled epochs (or whole, where the batch is the set), dequantised and augmented.
pub struct Batches {
    store: Store,
    /// Rows of the set.
    rows: usize,
    shape: SampleShape,
    /// Whether rows are bytes, to be dequantised.
    bytes: bool,
    batch_size: usize,
    augmentation: Augmentation,
    seed: u64,
    device: Device,
    /// The epoch whose shuffled order is at hand.
    order: Option<(u64, Order)>,
}

/// A shuffled order of the rows, `[n]`, where the rows are: sent once an epoch.
// One of a run.
#[allow(clippy::large_enum_variant)]
enum Order {
    Device(Tensor<1, Int>),
    Host(Vec<u32>),
}

/// Where the rows are.
enum Store {
    /// `[n, dim]`; bytes as the centres of their bins.
    Device(Box<Tensor<2>>),
    Host(Rows),
}

impl Batches {
    /// Uploads `train`, row-major `[n, dim]`, where it fits.
    ///
    /// # Errors
    /// Fewer rows than a batch has.
    pub fn new(
        train: &Rows,
        shape: SampleShape,
        batch_size: usize,
        augmentation: Augmentation,
        seed: u64,
        device: &Device,
    ) -> Result<Self, Error> {
        let dim = shape.dim();
        let rows = train.len() / dim;
        if batch_size > rows {
            let message = format!("found {batch_size}, but the training set has {rows} samples");
            return Err(Error::config("config", "dataset", "batch_size", message));
        }
        let store = if train.len().saturating_mul(size_of::<f32>()) <= DEVICE_BYTES {
            let data = TensorData::new(train.values().into_owned(), [rows, dim]);
            Store::Device(Box::new(Tensor::from_data(data, device)))
        } else {
            Store::Host(train.clone())
        };
        let bytes = matches!(train, Rows::U8(_));
        let device = device.clone();
        Ok(Self { store, rows, shape, bytes, batch_size, augmentation, seed, device, order: None })
    }

    /// The data of update `step`, `[batch_size, dim]`.
    ///
    /// # Errors
    /// An epoch or update number beyond 32 bits.
    pub fn batch(&mut self, step: u64) -> Result<Tensor<2>, Error> {
        let x = self.rows(step)?;
        self.augmented(x, step)
    }

    fn rows(&mut self, step: u64) -> Result<Tensor<2>, Error> {
        if let (true, Store::Device(data)) = (self.batch_size == self.rows, &self.store) {
            return Ok(*data.clone());
        }
        let epochs = Epochs::new(self.rows, self.batch_size, self.seed, 0);
        let (epoch, dealt) = epochs.at(step);
        let order = match self.order.take() {
            Some((current, order)) if current == epoch => order,
            _ => self.ordered(epochs.order(epoch)?),
        };
        let n = dealt.len();
        let rows = match (&self.store, &order) {
            (Store::Device(data), Order::Device(order)) => {
                (**data).clone().select(0, order.clone().narrow(0, dealt.start, n))
            }
            (Store::Host(data), Order::Host(order)) => {
                let dim = self.shape.dim();
                let values = data.gather(dim, order[dealt].iter().map(|&row| row as usize));
                Tensor::from_data(TensorData::new(values, [n, dim]), &self.device)
            }
            _ => unreachable!("an order is where the rows are"),
        };
        self.order = Some((epoch, order));
        Ok(rows)
    }

    /// An order where the rows are.
    fn ordered(&self, order: Vec<u32>) -> Order {
        match &self.store {
            Store::Device(_) => {
                let n = order.len();
                let order: Vec<i32> = order.into_iter().map(|row| row as i32).collect();
                Order::Device(Tensor::from_data(TensorData::new(order, [n]), &self.device))
            }
            Store::Host(_) => Order::Host(order),
        }
    }

    /// Flips, dequantisation, then noise.
    fn augmented(&self, mut x: Tensor<2>, step: u64) -> Result<Tensor<2>, Error> {
        let Augmentation { flip, noise } = self.augmentation;
        let stream = Stream::new(self.seed, Purpose::DataNoise).at(step)?;
        let [n, dim] = x.dims();
        if flip && let SampleShape::Image([c, h, w]) = self.shape {
            let coins = uniform(n, stream.lane(FLIP_LANE), &self.device);
            let mirrored = x.clone().reshape([n, c, h, w]).flip([3]).reshape([n, dim]);
            let mask = coins.lower_elem(0.5).reshape([n, 1]).expand([n, dim]);
            x = x.mask_where(mask, mirrored);
        }
        if self.bytes {
            // centre + (u − ½)·bin = 2 (v + u)/256 − 1
            let u = uniform(n * dim, stream.lane(DEQUANTISE_LANE), &self.device).reshape([n, dim]);
            x = x + u.sub_scalar(0.5).mul_scalar(BIN);
        }
        if noise > 0.0 {
            let zeros = x.zeros_like();
            x = langevin_proposal(x, zeros, 0.0, noise as f32, stream.lane(NOISE_LANE));
        }
        Ok(x)
    }
}
