//! The layers of a convolutional network, and how many images are worked on at a time.

use super::super::activation::Activation;
use super::layer::Layer;

/// Images per block: rows enough for the products of the last layers, activations few enough for the cache.
const BLOCK: usize = 16;
/// Fewer where the activations of one block would be more numbers than this.
const BLOCK_NUMBERS: usize = 16 * 1024 * 1024;

/// The layers, their non-linearity and how many images are worked on at a time.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub layers: Vec<Layer>,
    pub activation: Activation,
    pub block: usize,
}

impl Network {
    pub fn new(layers: Vec<Layer>, activation: Activation) -> Self {
        let per_image: usize = layers.iter().map(|layer| layer.padded_len() + layer.output_len()).sum();
        // Not a matter of the batch or of the threads: sums are the same whoever computes them.
        let block = (BLOCK_NUMBERS / per_image.max(1)).clamp(1, BLOCK);
        let layers = layers.into_iter().map(|layer| layer.tiled(block)).collect();
        Self { layers, activation, block }
    }

    /// Coordinates of one image.
    pub fn dim(&self) -> usize {
        self.layers[0].input.iter().product()
    }
}
