//! Where the operands of a layer's products come from: squares of 4 × 4 numbers, read in vectors where channels allow it.
//!
//! A square is four vectors, one an inner index, of four rows (or columns) each: the form that products read from shared memory.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use cubecl::prelude::*;

use super::lanes::get;
use super::plan::{Geometry, LANES, Plan, Product};
use crate::energy::fused::math::Lanes;

/// A line or column that no image has.
const NOWHERE: usize = 1 << 30;

/// What a cube makes.
#[derive(CubeType)]
pub(super) struct Part {
    /// Its first row and column of the product.
    pub(super) row: usize,
    pub(super) column: usize,
    /// Rows of the whole product.
    pub(super) rows: usize,
    /// The inner indices it adds up.
    pub(super) begin: usize,
    pub(super) end: usize,
    /// The class of pixels.
    pub(super) class_y: usize,
    pub(super) class_x: usize,
    /// Where the right operand begins, in numbers.
    pub(super) offset: usize,
}

/// A pixel.
#[derive(CubeType)]
pub(super) struct Pixel {
    pub(super) image: usize,
    pub(super) y: usize,
    pub(super) x: usize,
}

/// Pixel `index` of images with sides `[h, w]`.
#[cube]
pub(super) fn pixel(index: usize, #[comptime] sides: [usize; 2]) -> Pixel {
    let pixels = comptime!(sides[0] * sides[1]);
    let width = comptime!(sides[1]);
    let image = index / pixels;
    let rest = index - image * pixels;
    let y = rest / width;
    Pixel { image, y, x: rest - y * width }
}

/// Pixel `index` of a class: `y` and `x` are the patch lines and columns `⌊(y + p)/s⌋`, `⌊(x + p)/s⌋` of the input's.
#[cube]
pub(super) fn class_pixel(index: usize, part: &Part, #[comptime] geometry: Geometry) -> Pixel {
    let stride = comptime!(geometry.stride);
    // The first y with y + p ≡ class: ⌈(p − class)/s⌉.
    let reach = comptime!(geometry.padding + geometry.stride - 1);
    let place = pixel(index, comptime!(geometry.class_sides()));
    Pixel {
        image: place.image,
        y: place.y + (reach - part.class_y) / stride,
        x: place.x + (reach - part.class_x) / stride,
    }
}

/// Where the row (or the rows' tap) of a square is, three numbers each: kept over all inner steps. Lines and columns of an input count
/// from those of its padding: a constant below zero has no literal in a shader.
#[cube]
pub(super) fn places(
    places: &mut Array<usize>,
    #[comptime] first: usize,
    row: usize,
    part: &Part,
    #[comptime] plan: Plan,
) {
    let geometry = comptime!(plan.geometry);
    let stride = comptime!(geometry.stride);
    match comptime!(plan.product) {
        Product::Forward => {
            let pixels = comptime!(geometry.input_pixels());
            #[unroll]
            for r in 0..LANES {
                let at = comptime!(first + 3 * r);
                let place = pixel(row + r, comptime!([geometry.output[1], geometry.output[2]]));
                places[at] = place.image * pixels;
                places[comptime!(at + 1)] = select(row + r < part.rows, place.y * stride, NOWHERE);
                places[comptime!(at + 2)] = place.x * stride;
            }
        }
        Product::Input => {
            let pixels = comptime!(geometry.output_pixels());
            #[unroll]
            for r in 0..LANES {
                let at = comptime!(first + 3 * r);
                let place = class_pixel(row + r, part, geometry);
                places[at] = place.image * pixels;
                places[comptime!(at + 1)] = select(row + r < part.rows, place.y, NOWHERE);
                places[comptime!(at + 2)] = place.x;
            }
        }
        Product::Weights => {
            let channels = comptime!(geometry.input[0]);
            let kernel = comptime!(geometry.kernel);
            let tap = row / channels;
            places[first] = row - tap * channels;
            places[comptime!(first + 1)] = select(row < part.rows, tap / kernel, NOWHERE);
            places[comptime!(first + 2)] = tap % kernel;
        }
    }
}

/// Whether line `y` and column `x`, counted from those of the padding, are of the image.
#[cube]
fn is_inside(
    y: usize,
    x: usize,
    #[comptime] height: usize,
    #[comptime] width: usize,
    #[comptime] padding: usize,
) -> bool {
    y >= padding && y < comptime!(height + padding) && x >= padding && x < comptime!(width + padding)
}

/// Four rows of patches (or, going back, of the signals that a pixel's patches have) at the inner indices `k .. k + 4`. `source` is
/// `[n, h, w, c]` or `[n, c, h, w]`.
#[cube]
fn patches<N: Size>(
    source: &[Vector<f32, N>],
    places: &Array<usize>,
    #[comptime] first: usize,
    k: usize,
    square: &mut Array<Lanes>,
    #[comptime] to: usize,
    #[comptime] plan: Plan,
) {
    let vector = N::value();
    let geometry = comptime!(plan.geometry);
    let back = comptime!(plan.product == Product::Input);
    let planes = comptime!(geometry.planes && !back);
    let source_shape = comptime!(if back { geometry.output } else { geometry.input });
    let channels = comptime!(source_shape[0]);
    let height = comptime!(source_shape[1]);
    let width = comptime!(source_shape[2]);
    let side = comptime!(if back { geometry.class_taps() } else { geometry.kernel });
    let inner = comptime!(side * side * channels);
    let padding = comptime!(if back { 0 } else { geometry.padding });
    let corner = comptime!(padding * width + padding);
    if comptime!(vector == LANES) {
        // Four channels of one tap.
        let tap = k / channels;
        let channel = k - tap * channels;
        let (dy, dx) = (tap / side, tap % side);
        let mut rows = Array::<Lanes>::new(LANES);
        #[unroll]
        for r in 0..LANES {
            let at = comptime!(first + 3 * r);
            let (y0, x0) = (places[comptime!(at + 1)], places[comptime!(at + 2)]);
            // Beyond the first line is a number larger than any line.
            let y = if back { y0 - dy } else { y0 + dy };
            let x = if back { x0 - dx } else { x0 + dx };
            let mut row = Lanes::new(0.0f32);
            if k < inner && is_inside(y, x, height, width, padding) {
                row = get(source, (places[at] + y * width + x - corner) * channels + channel, LANES);
            }
            rows[r] = row;
        }
        #[unroll]
        for i in 0..LANES {
            let mut lanes = Lanes::empty();
            #[unroll]
            for r in 0..LANES {
                lanes.insert(r, rows[r].extract(i));
            }
            square[comptime!(to + i)] = lanes;
        }
    } else {
        #[unroll]
        for i in 0..LANES {
            let tap = (k + i) / channels;
            let channel = k + i - tap * channels;
            let (dy, dx) = (tap / side, tap % side);
            let mut lanes = Lanes::new(0.0f32);
            #[unroll]
            for r in 0..LANES {
                let at = comptime!(first + 3 * r);
                let (y0, x0) = (places[comptime!(at + 1)], places[comptime!(at + 2)]);
                let y = if back { y0 - dy } else { y0 + dy };
                let x = if back { x0 - dx } else { x0 + dx };
                if k + i < inner && is_inside(y, x, height, width, padding) {
                    let at = if planes {
                        (places[at] * channels + channel * comptime!(height * width) + y * width + x) - corner
                    } else {
                        (places[at] + y * width + x - corner) * channels + channel
                    };
                    lanes.insert(r, source[at].extract(0usize));
                }
            }
            square[comptime!(to + i)] = lanes;
        }
    }
}

/// Four rows of patches' numbers (a tap's channels) at the output pixels `k .. k + 4`: the transpose of the forward pass's [`patches`].
#[cube]
fn patch_columns<N: Size>(
    source: &[Vector<f32, N>],
    places: &Array<usize>,
    #[comptime] first: usize,
    row: usize,
    k: usize,
    part: &Part,
    square: &mut Array<Lanes>,
    #[comptime] to: usize,
    #[comptime] geometry: Geometry,
) {
    let vector = N::value();
    let planes = comptime!(geometry.planes);
    let channels = comptime!(geometry.input[0]);
    let height = comptime!(geometry.input[1]);
    let width = comptime!(geometry.input[2]);
    let pixels = comptime!(height * width);
    let stride = comptime!(geometry.stride);
    let padding = comptime!(geometry.padding);
    let corner = comptime!(padding * width + padding);
    let kernel = comptime!(geometry.kernel);
    #[unroll]
    for i in 0..LANES {
        let place = pixel(k + i, comptime!([geometry.output[1], geometry.output[2]]));
        let (y0, x0) = (place.y * stride, place.x * stride);
        let mut lanes = Lanes::new(0.0f32);
        if comptime!(vector == LANES) {
            let y = y0 + places[comptime!(first + 1)];
            let x = x0 + places[comptime!(first + 2)];
            if k + i < part.end && is_inside(y, x, height, width, padding) {
                let at = (place.image * pixels + y * width + x - corner) * channels + places[first];
                lanes = get(source, at, LANES);
            }
        } else {
            #[unroll]
            for r in 0..LANES {
                let tap = (row + r) / channels;
                let channel = row + r - tap * channels;
                let (y, x) = (y0 + tap / kernel, x0 + tap % kernel);
                if k + i < part.end && row + r < part.rows && is_inside(y, x, height, width, padding) {
                    let at = if planes {
                        (place.image * channels + channel) * pixels + y * width + x - corner
                    } else {
                        (place.image * pixels + y * width + x - corner) * channels + channel
                    };
                    lanes.insert(r, source[at].extract(0usize));
                }
            }
        }
        square[comptime!(to + i)] = lanes;
    }
}

/// A square of the left operand: rows from `row`, inner indices from `k` on.
#[cube]
pub(super) fn left<N: Size>(
    source: &[Vector<f32, N>],
    places: &Array<usize>,
    #[comptime] first: usize,
    row: usize,
    k: usize,
    part: &Part,
    square: &mut Array<Lanes>,
    #[comptime] to: usize,
    #[comptime] plan: Plan,
) {
    match comptime!(plan.product) {
        Product::Forward => patches(source, places, first, k, square, to, plan),
        Product::Input => patches(source, places, first, k, square, to, plan),
        Product::Weights => {
            patch_columns(source, places, first, row, k, part, square, to, comptime!(plan.geometry))
        }
    }
}

/// A square of the right operand: columns from `column`, inner indices from `k` on. Packed weights (`pack.rs`), or the signal times
/// its image's factor.
#[cube]
pub(super) fn right<N: Size>(
    source: &[Vector<f32, N>],
    factors: &[f32],
    column: usize,
    k: usize,
    part: &Part,
    square: &mut Array<Lanes>,
    #[comptime] to: usize,
    #[comptime] plan: Plan,
) {
    let geometry = comptime!(plan.geometry);
    let columns = comptime!(plan.columns());
    let padded = comptime!(columns.next_multiple_of(LANES));
    #[unroll]
    for i in 0..LANES {
        let mut lanes = Lanes::new(0.0f32);
        match comptime!(plan.product) {
            Product::Forward => {
                if k + i < part.end && column < columns {
                    lanes = get(source, part.offset + (k + i) * padded + column, LANES);
                }
            }
            Product::Input => {
                let channels = comptime!(geometry.output[0]);
                let side = comptime!(geometry.class_taps());
                let kernel = comptime!(geometry.kernel);
                let stride = comptime!(geometry.stride);
                let tap = (k + i) / channels;
                let channel = k + i - tap * channels;
                let y = part.class_y + (tap / side) * stride;
                let x = part.class_x + (tap % side) * stride;
                if k + i < part.end && column < columns && y < kernel && x < kernel {
                    let row = (y * kernel + x) * channels + channel;
                    lanes = get(source, part.offset + row * padded + column, LANES);
                }
            }
            Product::Weights => {
                if k + i < part.end && column < columns {
                    let factor = factors[(k + i) / comptime!(geometry.output_pixels())];
                    if comptime!(plan.ones) {
                        lanes.insert(0usize, factor);
                    } else {
                        let signal = get(source, (k + i) * columns + column, columns - column);
                        lanes = signal * Lanes::new(factor);
                    }
                }
            }
        }
        square[comptime!(to + i)] = lanes;
    }
}
