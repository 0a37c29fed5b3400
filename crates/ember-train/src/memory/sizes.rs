//! What a run holds, from the sizes in its config.

use ember_model::SampleShape;
use ember_model::energy::levels::Levels;

use super::{DEVICE_BYTES, Room};
use crate::config::Config;

/// Bytes of a number on a device.
const NUMBER: u64 = 4;

/// Bytes that are needed at one time, at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// In host memory, whatever the device.
    pub host: u64,
    /// Where the tensors are: host memory too, on the CPU.
    pub device: u64,
    /// Of the largest tensor.
    pub largest: u64,
}

/// The sizes that the memory of a run depends on. 0 is none, or one that is not known yet: files tell how many rows they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Coordinates of a sample, d.
    pub dim: usize,
    /// Walkers, N.
    pub walkers: usize,
    /// Walkers that an update moves.
    pub moved: usize,
    /// Rows that one of them has in a step's largest batch.
    pub proposals: usize,
    /// Walkers of one repeat of the audit.
    pub audit: usize,
    /// Repeats of the audit.
    pub repeats: usize,
    /// Rows of the training set.
    pub train: usize,
    /// Rows of the held-out set.
    pub test: usize,
    /// Bytes of a coordinate of a row in host memory.
    pub row_bytes: usize,
    /// Rows of a batch.
    pub batch: usize,
    /// Rows that a loss of the data alone holds for each of them.
    pub copies_of_data: usize,
    /// Numbers of the largest layer's output for one sample.
    pub widest: usize,
    /// Parameters.
    pub parameters: usize,
    /// Tensors of θ's size that an optimiser step holds, θ included.
    pub copies: usize,
}

impl Sizes {
    /// Those of a config that has been validated.
    pub fn of(config: &Config) -> Self {
        let dataset = config.dataset.as_dyn();
        let objective = config.objective.as_dyn();
        let shape = dataset.shape();
        let [train, test] = dataset.drawn_rows().unwrap_or_default();
        let walkers = config.walkers.count;
        let moved = match objective.has_negative_phase() {
            true => config.walkers.moved_per_update.unwrap_or(walkers),
            false => 0,
        };
        let architecture = config.energy_spec().build();
        let levels =
            architecture.iter().find_map(|architecture| architecture.levels()).map_or(0, Levels::count);
        let params = architecture.iter().flat_map(|architecture| architecture.params());
        let moments = config.optimizer.as_dyn().moments();
        Self {
            dim: shape.dim(),
            walkers,
            moved,
            proposals: config.kernel.kernel.as_dyn().rows_per_walker(),
            audit: config.audit.as_ref().map_or(0, |audit| audit.walkers),
            repeats: config.audit.as_ref().map_or(0, |audit| audit.repeats),
            train,
            test,
            row_bytes: if matches!(shape, SampleShape::Image(_)) { 1 } else { NUMBER as usize },
            batch: dataset.batch_size(),
            copies_of_data: objective.data_loss().map_or(0, |loss| loss.copies(levels)),
            widest: architecture.as_ref().map_or(0, |architecture| architecture.widest()),
            parameters: params.map(|param| param.len()).sum(),
            // θ, its gradient and the stepped θ
            copies: 3 + moments + usize::from(config.optimizer.ema().is_some()),
        }
    }

    /// What they need at one time, at least, on a device with this room.
    pub fn need(&self, room: &Room) -> Need {
        let product = |sizes: &[usize]| sizes.iter().fold(NUMBER, |n, &size| n.saturating_mul(size as u64));
        // A population has positions and gradients, U, A with its compensation, and 64-bit ancestors.
        let population = |n: usize| product(&[n, 2 * self.dim + 5]);
        // Those it has before and after a move; where a slice moves at a time, before and after the slices are dealt.
        let moving = |n: usize| product(&[n, 2 * self.dim]);
        let moved = self.moved.min(self.walkers);
        let audit = self.audit.saturating_mul(self.repeats);
        let train = Some(product(&[self.train, self.dim])).filter(|&bytes| bytes <= DEVICE_BYTES as u64);
        let batch = if self.batch == self.train { 0 } else { product(&[self.batch, self.dim]) };
        // The processor goes through a network in blocks.
        let widest = if room.is_cpu() { 0 } else { self.widest };
        let layers = product(&[moved.max(self.batch), widest]);
        let proposals = product(&[moved, self.proposals, self.dim]);
        let perturbed = product(&[self.batch, self.copies_of_data, self.dim]);
        let tensors =
            [product(&[self.walkers, self.dim]), proposals, layers, train.unwrap_or(0), batch, perturbed];
        let device = [
            population(self.walkers),
            moving(if moved > 0 { self.walkers } else { 0 }),
            population(audit),
            moving(audit),
            if self.proposals > 1 { proposals } else { 0 },
            // What comes out of the largest layer, and its gradient.
            layers.saturating_mul(2),
            train.unwrap_or(0),
            batch,
            perturbed,
            product(&[self.parameters, self.copies]),
        ];
        let rows = [self.train, self.test].map(|n| product(&[n, self.dim]) / NUMBER * self.row_bytes as u64);
        // Positions are drawn in host memory; on the CPU they stay where they are.
        let drawn = if room.on_device.is_some() { tensors[0] } else { 0 };
        let sum = |bytes: &[u64]| bytes.iter().fold(0, |sum: u64, &bytes| sum.saturating_add(bytes));
        Need {
            host: sum(&[rows[0], rows[1], drawn]),
            device: sum(&device),
            largest: tensors.into_iter().max().unwrap_or_default(),
        }
    }
}
