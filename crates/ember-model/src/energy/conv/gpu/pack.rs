//! The weights of all layers in the two orders that products read them in, by one launch.
//!
//! θ has `[out, in, kh, kw]`. Going forward a product reads `[kh, kw, in][out]`, going back `[kh, kw, out][in]`; the last axis is padded
//! with zeros to whole vectors.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::{CubeDim, calculate_cube_count_elemwise};

use super::plan::{Geometry, LANES};

/// Where one layer's weights lie in the packed buffer, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Packed {
    out: usize,
    channels: usize,
    taps: usize,
    /// The order for going forward.
    pub(super) forward: usize,
    /// The order for going back.
    pub(super) back: usize,
    /// Where the next layer's begin.
    end: usize,
}

impl Packed {
    fn new(geometry: &Geometry, begin: usize) -> Self {
        let (out, channels, taps) = (geometry.output[0], geometry.input[0], geometry.taps());
        let back = begin + taps * channels * out.next_multiple_of(LANES);
        let end = back + taps * out * channels.next_multiple_of(LANES);
        Self { out, channels, taps, forward: begin, back, end }
    }

    /// One after the other.
    pub(super) fn all(layers: &[Geometry]) -> Vec<Self> {
        let mut begin = 0;
        let packed = |geometry| {
            let packed = Self::new(geometry, begin);
            begin = packed.end;
            packed
        };
        layers.iter().map(packed).collect()
    }
}

/// Numbers of the packed buffer.
pub(super) fn packed_len(layers: &[Packed]) -> usize {
    layers.last().map_or(0, |layer| layer.end)
}

/// A thread takes all taps of one pair of channels: what it reads lies side by side.
#[cube(launch)]
fn pack_kernel(weights: Sequence<Box<[f32]>>, packed: &mut [f32], #[comptime] layers: Vec<Packed>) {
    #[unroll]
    for l in 0..comptime!(layers.len()) {
        let out = comptime!(layers[l].out);
        let channels = comptime!(layers[l].channels);
        let taps = comptime!(layers[l].taps);
        let outs = comptime!(layers[l].out.next_multiple_of(LANES));
        let ins = comptime!(layers[l].channels.next_multiple_of(LANES));
        let first = comptime!(pairs(&layers[..l]));
        let w = &weights[l];
        if ABSOLUTE_POS >= first && ABSOLUTE_POS < comptime!(pairs(&layers[..l + 1])) {
            let (o, channel) = ((ABSOLUTE_POS - first) / ins, (ABSOLUTE_POS - first) % ins);
            for tap in 0..taps {
                let mut value = 0.0f32;
                if o < out && channel < channels {
                    value = w[(o * channels + channel) * taps + tap];
                }
                if channel < channels {
                    packed[comptime!(layers[l].forward) + (tap * channels + channel) * outs + o] = value;
                }
                if o < out {
                    packed[comptime!(layers[l].back) + (tap * out + o) * ins + channel] = value;
                }
            }
        }
    }
}

/// Pairs of channels, with those that pad.
fn pairs(layers: &[Packed]) -> usize {
    let pairs = |layer: &Packed| layer.out.next_multiple_of(LANES) * layer.channels.next_multiple_of(LANES);
    layers.iter().map(pairs).sum()
}

/// See `ConvOps::conv_pack`.
pub(super) fn pack(weights: impl Iterator<Item = CubeTensor>, layers: Vec<Packed>) -> CubeTensor {
    let weights: Vec<CubeTensor> = weights.map(into_contiguous).collect();
    let (client, device) = (weights[0].client.clone(), weights[0].device.clone());
    let len = packed_len(&layers);
    let packed = empty_device_contiguous_dtype(client.clone(), device, Shape::from([len]), DType::F32);
    let working = pairs(&layers);
    let threads = CubeDim::new(&client, working);
    pack_kernel::launch(
        &client,
        calculate_cube_count_elemwise(&client, working, threads),
        threads,
        weights.into_iter().map(CubeTensor::into_buffer_arg).collect(),
        packed.clone().into_buffer_arg(),
        layers,
    );
    packed
}
