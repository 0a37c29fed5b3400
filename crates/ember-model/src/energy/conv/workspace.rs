//! The buffers of one block of images.

use super::layer::{Layer, SLACK};
use super::network::Network;

/// The buffers of one block.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Padded input of each layer, `[block, h, w, c]`; the padding is zero and stays so.
    pub inputs: Vec<Vec<f32>>,
    /// `a′(z)` of each layer but the last, `[block, h, w, c]` unpadded.
    pub slopes: Vec<Vec<f32>>,
    /// Padded gradients of the input of a layer and of the next.
    pub grads: [Vec<f32>; 2],
    /// Patches of a tile, or their gradients.
    pub patches: Vec<f32>,
    /// A tile of a layer's output, or of its gradient.
    pub signal: Vec<f32>,
}

impl Workspace {
    /// Bytes of the buffers.
    pub fn bytes(network: &Network) -> usize {
        let layers = network.layers.iter();
        let numbers = layers.map(|layer| layer.padded_len() + layer.output_len()).sum::<usize>();
        let widest = network.layers.iter().map(Layer::padded_len).max().unwrap_or(0);
        (numbers + 2 * widest) * network.block * size_of::<f32>()
    }

    pub fn new(network: &Network) -> Self {
        let layers = &network.layers;
        let inputs: Vec<_> =
            layers.iter().map(|layer| vec![0.0; network.block * layer.padded_len() + SLACK]).collect();
        let widest = inputs.iter().map(Vec::len).max().unwrap_or(0);
        let hidden = layers[..layers.len() - 1].iter();
        Self {
            slopes: hidden.map(|layer| vec![0.0; network.block * layer.output_len()]).collect(),
            grads: [(); 2].map(|()| vec![0.0; widest]),
            patches: vec![0.0; layers.iter().map(Layer::scratch).max().unwrap_or(0)],
            signal: vec![0.0; layers.iter().map(Layer::tile_len).max().unwrap_or(0)],
            inputs,
        }
    }
}
