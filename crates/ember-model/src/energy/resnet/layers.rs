//! The layers of a residual network, their sizes, and where their parameters stand in θ.

use faer::Accum;

use super::super::activation::Activation;
use super::super::conv::ConvLayer;
use super::super::conv::layer::Layer;
use super::super::conv::layout::{packed, unpacked};
use super::super::elementwise::{add_bias, add_rows, scale_by};
use super::ResNet;
use super::norm::GroupNorm;
use super::tile::Tile;

/// Images per block: rows enough for the products of the last stage, blocks enough for the threads.
const BLOCK: usize = 8;
/// Fewer where the buffers of one block would be more numbers than this.
const BLOCK_NUMBERS: usize = 16 * 1024 * 1024;

/// A convolution that keeps the sides of the image, and its parameters' indices in θ.
#[derive(Debug)]
pub(super) struct Convolution {
    pub layer: Layer,
    weight: usize,
    bias: Option<usize>,
}

/// `conv(act(norm(x)))`.
#[derive(Debug)]
pub(super) struct Part {
    pub norm: Option<GroupNorm>,
    pub conv: Convolution,
}

/// `x → skip(x) + parts[1](parts[0](x))`.
#[derive(Debug)]
pub(super) struct Block {
    /// `[c, h, w]` before the pool that stands before this block, if one does.
    pub pooled_from: Option<[usize; 3]>,
    pub parts: [Part; 2],
    /// `None` where it is the identity.
    pub skip: Option<Convolution>,
}

/// All layers, and how many images are worked on at a time.
#[derive(Debug)]
pub(super) struct Network {
    pub stem: Convolution,
    pub blocks: Vec<Block>,
    /// `[c, h, w]` before the sum over pixels.
    pub output: [usize; 3],
    pub activation: Activation,
    /// Images of a block.
    pub block: usize,
    /// Index of the last layer's weight in θ; its bias follows.
    pub linear: usize,
}

impl Convolution {
    /// The convolution of side `kernel` whose parameters come at `next`.
    fn new(next: &mut usize, input: [usize; 3], out: usize, kernel: usize, bias: bool) -> Self {
        let layer = ConvLayer { out, kernel, stride: 1, padding: kernel / 2 };
        let weight = *next;
        *next += 1 + usize::from(bias);
        Self { layer: Layer::new(layer, input), weight, bias: bias.then_some(weight + 1) }
    }

    /// The convolution of the padded `input` of some images, written or added to `to: [images, h, w, out]`.
    pub fn forward(
        &self,
        theta: &[Vec<f32>],
        input: &[f32],
        to: &mut [f32],
        accum: Accum,
        images: usize,
        tile: &mut Tile,
    ) {
        let line = self.line();
        for lines in self.layer.tiles(images) {
            let z = &mut to[lines.start * line..lines.end * line];
            self.layer.forward(z, accum, input, &theta[self.weight], &lines, &mut tile.patches);
            if let Some(bias) = self.bias {
                add_bias(z, &theta[bias]);
            }
        }
    }

    /// The gradient of the padded input for `signal: [images, h, w, out]`; what it holds of the padding means nothing.
    pub fn input_grad(
        &self,
        theta: &[Vec<f32>],
        signal: &[f32],
        to: &mut [f32],
        images: usize,
        tile: &mut Tile,
    ) {
        let line = self.line();
        self.layer.clear(&mut to[..images * self.layer.padded_len()]);
        for lines in self.layer.tiles(images) {
            let signal = &signal[lines.start * line..lines.end * line];
            self.layer.add_input_grad(to, signal, &theta[self.weight], &lines, &mut tile.patches);
        }
    }

    /// Adds the gradients of weights and bias for `signal`, each image's times its `factors` where these are given.
    pub fn add_grads(
        &self,
        grads: &mut [Vec<f32>],
        signal: &[f32],
        input: &[f32],
        images: usize,
        factors: Option<&[f32]>,
        tile: &mut Tile,
    ) {
        let line = self.line();
        for lines in self.layer.tiles(images) {
            let mut signal = &signal[lines.start * line..lines.end * line];
            if let Some(factors) = factors {
                let scaled = &mut tile.scaled[..signal.len()];
                let pairs = scaled.chunks_exact_mut(line).zip(signal.chunks_exact(line));
                for (at, (scaled, signal)) in lines.clone().zip(pairs) {
                    scale_by(scaled, signal, factors[at / self.layer.output[1]]);
                }
                signal = scaled;
            }
            self.layer.add_weight_grad(&mut grads[self.weight], signal, input, &lines, &mut tile.patches);
            if let Some(bias) = self.bias {
                add_rows(&mut grads[bias], signal);
            }
        }
    }

    /// Numbers of an output line.
    fn line(&self) -> usize {
        self.layer.output[2] * self.layer.output[0]
    }
}

impl Network {
    /// The layers of `config` on an `image: [c, h, w]`.
    pub fn new(image: [usize; 3], config: &ResNet) -> Self {
        let mut next = 0;
        let stem = Convolution::new(&mut next, image, config.channels[0], 3, true);
        let (mut sizes, mut blocks) = (stem.layer.output, Vec::new());
        for (i, [before, after]) in config.blocks().enumerate() {
            let pooled_from = config.is_pooled_before(i).then_some(sizes);
            if pooled_from.is_some() {
                sizes = [sizes[0], sizes[1] / 2, sizes[2] / 2];
            }
            let input = sizes;
            let parts = [before, after].map(|channels| {
                sizes[0] = channels;
                let norm = config.is_normed().then(|| GroupNorm::new(&mut next, channels, config.groups));
                Part { norm, conv: Convolution::new(&mut next, sizes, after, 3, true) }
            });
            let skip = (before != after).then(|| Convolution::new(&mut next, input, after, 1, false));
            sizes[0] = after;
            blocks.push(Block { pooled_from, parts, skip });
        }
        let activation = config.activation;
        let mut network = Self { stem, blocks, output: sizes, activation, block: 1, linear: next };
        // Not a matter of the batch or of the threads: sums are the same whoever computes them.
        network.block = (BLOCK_NUMBERS / network.numbers()).clamp(1, BLOCK);
        let block = network.block;
        let parts = network
            .blocks
            .iter_mut()
            .flat_map(|block| block.parts.iter_mut().map(|part| &mut part.conv).chain(&mut block.skip));
        for conv in std::iter::once(&mut network.stem).chain(parts) {
            conv.layer = conv.layer.tiled(block);
        }
        network
    }

    /// Numbers that a workspace keeps for one image, tiles not counted.
    pub fn numbers(&self) -> usize {
        let inputs: usize = self.convs().map(|conv| conv.layer.padded_len()).sum();
        let part = |part: &Part| {
            let (signal, channels) = (len(part.conv.layer.input), part.conv.layer.input[0]);
            signal + if part.norm.is_some() { signal + 3 * channels } else { 0 }
        };
        let parts: usize = self.blocks.iter().flat_map(|block| &block.parts).map(part).sum();
        let unpooled: usize = self.blocks.iter().filter_map(|block| block.pooled_from).map(len).sum();
        let scratch = 2 * largest(self, Layer::output_len) + largest(self, Layer::padded_len);
        inputs + parts + unpooled + len(self.output) + self.output[0] + scratch
    }

    /// Coordinates of one image.
    pub fn dim(&self) -> usize {
        self.stem.layer.input.iter().product()
    }

    /// Every convolution.
    pub fn convs(&self) -> impl Iterator<Item = &Convolution> {
        let parts =
            self.blocks.iter().flat_map(|block| block.parts.iter().map(|part| &part.conv).chain(&block.skip));
        std::iter::once(&self.stem).chain(parts)
    }

    /// θ with the weights of convolutions as their products want them.
    pub fn packed(&self, theta: &[&[f32]]) -> Vec<Vec<f32>> {
        let mut values: Vec<_> = theta.iter().map(|values| values.to_vec()).collect();
        for conv in self.convs() {
            values[conv.weight] = packed(&conv.layer, theta[conv.weight]);
        }
        values
    }

    /// The reverse of [`Self::packed`].
    pub fn unpacked(&self, mut values: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        for conv in self.convs() {
            values[conv.weight] = unpacked(&conv.layer, &values[conv.weight]);
        }
        values
    }

    /// Zeros in the form of [`Self::packed`].
    pub fn zeros(&self) -> Vec<Vec<f32>> {
        let mut zeros = vec![Vec::new(); self.linear + 2];
        for conv in self.convs() {
            zeros[conv.weight] = vec![0.0; conv.layer.output[0] * conv.layer.patch()];
            if let Some(bias) = conv.bias {
                zeros[bias] = vec![0.0; conv.layer.output[0]];
            }
        }
        for norm in self.blocks.iter().flat_map(|block| &block.parts).filter_map(|part| part.norm.as_ref()) {
            zeros[norm.scale] = vec![0.0; norm.channels];
            zeros[norm.scale + 1] = vec![0.0; norm.channels];
        }
        zeros[self.linear] = vec![0.0; self.output[0]];
        zeros[self.linear + 1] = vec![0.0];
        zeros
    }
}

/// Numbers of an image.
pub(super) fn len(sizes: [usize; 3]) -> usize {
    sizes.iter().product()
}

/// The largest of what the convolutions have.
pub(super) fn largest(network: &Network, numbers: impl Fn(&Layer) -> usize) -> usize {
    network.convs().map(|conv| numbers(&conv.layer)).max().unwrap_or(0)
}
