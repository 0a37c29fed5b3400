//! The convolutions as a stack of layers, for losses of the score. Numbers are `[rows, h, w, c]`; a layer's input is copied between its
//! padding for its products.

use faer::Accum;

use super::super::elementwise::{add_bias, add_rows};
use super::super::score::{BUFFERS, Bends, Stack, activate};
use super::cpu::Convolutions;
use super::layer::{Layer, SLACK};
use super::layout::{load, store};
use super::pass::Weights;

/// Numbers of the buffers of a block, at most, unless one row has more.
const BLOCK_NUMBERS: usize = 4 * 1024 * 1024;

/// The buffers of the products.
#[derive(Debug)]
pub(in crate::energy) struct Scratch {
    /// The padded input of each layer; the padding is zero and stays so.
    inputs: Vec<Vec<f32>>,
    /// The padded gradient of a layer's input.
    grad: Vec<f32>,
    patches: Vec<f32>,
}

impl Convolutions {
    fn layer(&self, i: usize) -> &Layer {
        &self.network.layers[i]
    }
}

/// Numbers of one input line of a layer.
fn line_len(layer: &Layer) -> usize {
    layer.input[2] * layer.input[0]
}

/// `h: [rows, h, w, c]` between its padding.
fn pad(layer: &Layer, h: &[f32], padded: &mut [f32]) {
    for (line, h) in h.chunks_exact(line_len(layer)).enumerate() {
        let at = layer.interior(line / layer.input[1], line % layer.input[1]);
        padded[at].copy_from_slice(h);
    }
}

/// The reverse of [`pad`].
fn unpad(layer: &Layer, padded: &[f32], h: &mut [f32]) {
    for (line, h) in h.chunks_exact_mut(line_len(layer)).enumerate() {
        let at = layer.interior(line / layer.input[1], line % layer.input[1]);
        h.copy_from_slice(&padded[at]);
    }
}

impl Stack for Convolutions {
    type Scratch = Scratch;

    fn score_block(&self) -> usize {
        let numbers: usize = self.network.layers.iter().map(Layer::output_len).sum();
        (BLOCK_NUMBERS / (BUFFERS * numbers)).clamp(1, self.network.block)
    }

    fn scratch(&self) -> Scratch {
        let (layers, block) = (&self.network.layers, self.score_block());
        let inputs: Vec<_> =
            layers.iter().map(|layer| vec![0.0; block * layer.padded_len() + SLACK]).collect();
        Scratch {
            grad: vec![0.0; inputs.iter().map(Vec::len).max().unwrap_or(0)],
            patches: vec![0.0; layers.iter().map(Layer::scratch).max().unwrap_or(0)],
            inputs,
        }
    }

    fn widths(&self) -> Vec<usize> {
        let layers = &self.network.layers;
        layers[..layers.len() - 1].iter().map(Layer::output_len).collect()
    }

    fn load(&self, x: &[f32], to: &mut [f32], _rows: usize) {
        load(&self.layer(0).unpadded(), x, to);
    }

    fn store(&self, from: &[f32], x: &mut [f32], _rows: usize) {
        store(&self.layer(0).unpadded(), from, x);
    }

    fn forward(
        &self,
        layer: usize,
        theta: &Weights,
        h: &[f32],
        z: &mut [f32],
        scratch: &mut Scratch,
        rows: usize,
    ) {
        let (weight, input, layer) = (&theta.weight[layer], &mut scratch.inputs[layer], self.layer(layer));
        pad(layer, h, input);
        for (range, z) in layer.tiles(rows).zip(z.chunks_mut(layer.tile_len())) {
            layer.forward(z, Accum::Replace, input, weight, &range, &mut scratch.patches);
        }
    }

    fn activate(&self, layer: usize, theta: &Weights, bends: &mut Bends<'_>, _rows: usize) {
        add_bias(bends.value, &theta.bias[layer]);
        // The bias is there: none for all numbers as one row.
        let numbers = bends.value.len();
        activate(self.network.activation, bends, &[0.0], numbers);
    }

    fn back(
        &self,
        layer: usize,
        theta: &Weights,
        delta: &[f32],
        to: &mut [f32],
        scratch: &mut Scratch,
        rows: usize,
    ) {
        let (weight, layer) = (&theta.weight[layer], self.layer(layer));
        let Scratch { grad, patches, .. } = scratch;
        layer.clear(&mut grad[..rows * layer.padded_len()]);
        for (range, delta) in layer.tiles(rows).zip(delta.chunks(layer.tile_len())) {
            layer.add_input_grad(grad, delta, weight, &range, patches);
        }
        unpad(layer, grad, to);
    }

    fn add_weight_grad(
        &self,
        layer: usize,
        delta: &[f32],
        h: &[f32],
        grads: &mut Weights,
        scratch: &mut Scratch,
        rows: usize,
    ) {
        let (grad, input, layer) = (&mut grads.weight[layer], &mut scratch.inputs[layer], self.layer(layer));
        pad(layer, h, input);
        for (range, delta) in layer.tiles(rows).zip(delta.chunks(layer.tile_len())) {
            layer.add_weight_grad(grad, delta, input, &range, &mut scratch.patches);
        }
    }

    fn add_bias_grad(&self, layer: usize, dz: &[f32], grads: &mut Weights, _rows: usize) {
        add_rows(&mut grads.bias[layer], dz);
    }
}
