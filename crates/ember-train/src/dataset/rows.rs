//! Samples in host memory: coordinates as they are, or the bytes of images.

use std::borrow::Cow;
use std::ops::Range;

use ember_model::random::Stream;

/// Width of a pixel's bin: `x = 2 (v + u)/256 − 1`.
pub const BIN: f64 = 2.0 / 256.0;

/// Samples of a set, row-major `[n, dim]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// Coordinates as they are.
    F32(Vec<f32>),
    /// Bytes of images, channel first. The byte v stands for the bin `2 (v + u)/256 − 1`, `u` in `[0, 1)`.
    U8(Vec<u8>),
}

impl Rows {
    /// How many numbers there are: `n · dim`.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U8(bytes) => bytes.len(),
        }
    }

    /// The largest coordinate in size; 0 of none. A byte is inside `[−1, 1]`.
    pub fn largest(&self) -> f32 {
        match self {
            Self::F32(values) => values.iter().fold(0.0, |most, x| x.abs().max(most)),
            Self::U8(bytes) => {
                if bytes.is_empty() {
                    0.0
                } else {
                    1.0
                }
            }
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes as 1 above `threshold` of 255 and 0 elsewhere; coordinates above it likewise.
    pub fn binarised(&self, threshold: f64) -> Self {
        let bit = |white: f64| f32::from(u8::from(white > threshold));
        Self::F32(match self {
            Self::F32(values) => values.iter().map(|&x| bit(f64::from(x))).collect(),
            Self::U8(bytes) => bytes.iter().map(|&byte| bit(f64::from(byte) / 255.0)).collect(),
        })
    }

    /// Every coordinate, `[n, dim]`; a byte as the centre of its bin. Copies images: four bytes a pixel.
    pub fn values(&self) -> Cow<'_, [f32]> {
        match self {
            Self::F32(values) => Cow::Borrowed(values),
            Self::U8(bytes) => Cow::Owned(bytes.iter().map(|&byte| pixel(byte, 0.5)).collect()),
        }
    }

    /// The coordinates of some rows, `[rows, dim]`; a byte as the centre of its bin.
    pub fn gather(&self, dim: usize, rows: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let mut out = Vec::new();
        for row in rows {
            let range = row * dim..(row + 1) * dim;
            match self {
                Self::F32(values) => out.extend_from_slice(&values[range]),
                Self::U8(bytes) => out.extend(bytes[range].iter().map(|&byte| pixel(byte, 0.5))),
            }
        }
        out
    }

    /// The coordinates of `rows`, `[rows, dim]`; a byte uniformly dequantised by the numbers of `stream` that belong to its
    /// row and column, so that a row's noise does not depend on which others are asked for.
    pub fn dequantised(&self, dim: usize, rows: Range<usize>, stream: Stream) -> Vec<f32> {
        let range = rows.start * dim..rows.end * dim;
        match self {
            Self::F32(values) => values[range].to_vec(),
            Self::U8(bytes) => {
                let mut out = Vec::with_capacity(range.len());
                for (row, bytes) in rows.zip(bytes[range].chunks_exact(dim)) {
                    for (block, bytes) in bytes.chunks(4).enumerate() {
                        let words = stream.bits(block as u32, row as u32);
                        let uniforms = words.map(|word| (word >> 8) as f32 * (-24f32).exp2());
                        out.extend(bytes.iter().zip(uniforms).map(|(&byte, u)| pixel(byte, u)));
                    }
                }
                out
            }
        }
    }
}

/// `2 (v + u)/256 − 1`, in `[−1, 1)` but for rounding, which may reach 1.
pub fn pixel(byte: u8, u: f32) -> f32 {
    (f32::from(byte) + u) * BIN as f32 - 1.0
}

/// The byte whose bin holds `x`; clamped to `[−1, 1)`.
pub fn byte(x: f32) -> u8 {
    // A cast saturates, and takes NaN to 0.
    ((x + 1.0) / BIN as f32).floor() as u8
}
