//! The buffers of one block of images.

use super::super::conv::layer::{Layer, SLACK};
use super::layers::{Convolution, Network, Part, largest, len};
use super::tile::Tile;

/// The buffers of one block.
#[derive(Debug)]
pub(super) struct Workspace {
    /// Padded images, `[block, h, w, c]`; the padding is zero and stays so.
    pub stem_input: Vec<f32>,
    pub blocks: Vec<BlockWork>,
    /// `a′` before the sum over pixels, `[block, h, w, c]`; on the way back, δ of the last block's output.
    pub last: Vec<f32>,
    /// Sums over pixels, `[block, c]`.
    pub pooled: Vec<f32>,
    pub scratch: Scratch,
}

/// What one residual block keeps.
#[derive(Debug)]
pub(super) struct BlockWork {
    pub parts: [PartWork; 2],
    /// Input of the 1×1 convolution, `[block, h, w, c]`; empty where the skip is the identity.
    pub skip_input: Vec<f32>,
    /// δ of what the pool before this block gets, `[block, h, w, c]`; empty where there is none.
    pub unpooled: Vec<f32>,
}

impl BlockWork {
    /// On the way back, δ of the output of what is before this block.
    pub fn signal_before(&self) -> &[f32] {
        if self.unpooled.is_empty() { &self.parts[0].signal } else { &self.unpooled }
    }
}

/// What `conv(act(norm(x)))` keeps.
#[derive(Debug)]
pub(super) struct PartWork {
    /// Padded input of the convolution, `[block, h, w, c]`; the padding is zero and stays so.
    pub input: Vec<f32>,
    /// `a′`, `[block, h, w, c]`; on the way back, δ of x.
    pub signal: Vec<f32>,
    /// `x̂`, `[block, h, w, c]`; this and what follows is empty without norm.
    pub normalised: Vec<f32>,
    /// `1/√(var + ε)`, `[block, c]`.
    pub inverse: Vec<f32>,
    /// Each image's gradients of shifts and scales, `[block, 2, c]`.
    pub sums: Vec<f32>,
}

/// What is done with before the next layer.
#[derive(Debug)]
pub(super) struct Scratch {
    /// The residual path and the input of a second part, `[block, h, w, c]`.
    pub residual: Vec<f32>,
    pub hidden: Vec<f32>,
    /// Padded gradient of a convolution's input.
    pub grad: Vec<f32>,
    pub tile: Tile,
}

impl Workspace {
    pub fn new(network: &Network) -> Self {
        let images = network.block;
        let buffer = |numbers: usize| vec![0.0; images * numbers];
        let padded = |conv: &Convolution| vec![0.0; images * conv.layer.padded_len() + SLACK];
        let part = |part: &Part| {
            let (sizes, normed) = (part.conv.layer.input, usize::from(part.norm.is_some()));
            PartWork {
                input: padded(&part.conv),
                signal: buffer(len(sizes)),
                normalised: buffer(normed * len(sizes)),
                inverse: buffer(normed * sizes[0]),
                sums: buffer(normed * 2 * sizes[0]),
            }
        };
        let blocks = network.blocks.iter().map(|block| BlockWork {
            parts: block.parts.each_ref().map(part),
            skip_input: block.skip.as_ref().map(padded).unwrap_or_default(),
            unpooled: buffer(block.pooled_from.map_or(0, len)),
        });
        let widest = largest(network, Layer::output_len);
        Self {
            stem_input: padded(&network.stem),
            blocks: blocks.collect(),
            last: buffer(len(network.output)),
            pooled: buffer(network.output[0]),
            scratch: Scratch {
                residual: buffer(widest),
                hidden: buffer(widest),
                grad: vec![0.0; images * largest(network, Layer::padded_len) + SLACK],
                tile: Tile {
                    patches: vec![0.0; largest(network, Layer::scratch)],
                    scaled: vec![0.0; largest(network, |l| l.tile * l.output[2] * l.output[0])],
                },
            },
        }
    }
}
