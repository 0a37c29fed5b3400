//! Values of the types a weight file may have, as the types this program has.

use std::io::Read;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};

use super::{CHUNK, Values};
use crate::error::Error;

/// Reads one tensor's data, which starts at byte `offset` of the file. Its length was checked against the file's.
pub(super) fn read_values(
    input: &mut impl Read,
    name: &str,
    info: &TensorInfo,
    offset: u64,
    path: &Path,
) -> Result<Values, Error> {
    let count = info.shape.iter().product();
    let mut source = Source { input, count, offset, name, path };
    let values = match info.dtype {
        Dtype::I64 => return source.read(i64::from_le_bytes).map(Values::I64),
        Dtype::F32 => source.read(f32::from_le_bytes)?,
        Dtype::F16 => source.read(|bytes| f16_to_f32(u16::from_le_bytes(bytes)))?,
        // A bfloat16 is the upper half of a float.
        Dtype::BF16 => source.read(|bytes| f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16))?,
        Dtype::F64 => {
            let mut too_large = None;
            let values = source.read(|bytes| {
                let value = f64::from_le_bytes(bytes);
                let rounded = value as f32;
                if value.is_finite() && !rounded.is_finite() {
                    too_large = Some(value);
                }
                rounded
            })?;
            if let Some(value) = too_large {
                return Err(Error::checkpoint_at(
                    path,
                    offset,
                    format!("tensor `{name}`: the F64 value {value:e} is too large for a 32-bit float"),
                ));
            }
            values
        }
        other => {
            return Err(Error::checkpoint_at(
                path,
                offset,
                format!("tensor `{name}`: dtype {other:?} found; F32 was expected"),
            ));
        }
    };
    Ok(Values::F32(values))
}

struct Source<'a, R> {
    input: &'a mut R,
    count: usize,
    offset: u64,
    name: &'a str,
    path: &'a Path,
}

impl<R: Read> Source<'_, R> {
    fn read<T, const N: usize>(&mut self, mut from_bytes: impl FnMut([u8; N]) -> T) -> Result<Vec<T>, Error> {
        let bad = |at: usize, message: String| {
            Error::checkpoint_at(
                self.path,
                self.offset + at as u64,
                format!("tensor `{}`: {message}", self.name),
            )
        };
        let mut values = Vec::new();
        values
            .try_reserve_exact(self.count)
            .map_err(|_| bad(0, format!("{} bytes are more than this machine's memory", self.count * N)))?;
        let mut buffer = [0; CHUNK];
        let mut done = 0;
        while done < self.count {
            let take = (self.count - done).min(CHUNK / N);
            let buffer = &mut buffer[..take * N];
            self.input
                .read_exact(buffer)
                .map_err(|error| bad(done * N, format!("its data cannot be read: {error}")))?;
            let (chunks, _) = buffer.as_chunks::<N>();
            values.extend(chunks.iter().map(|&bytes| from_bytes(bytes)));
            done += take;
        }
        Ok(values)
    }
}

/// IEEE binary16 → binary32, exact.
fn f16_to_f32(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(half >> 10 & 0x1f);
    let fraction = f32::from(half & 0x3ff);
    match exponent {
        0 => sign * fraction * 2.0_f32.powi(-24),
        0x1f if fraction == 0.0 => sign * f32::INFINITY,
        0x1f => f32::NAN,
        _ => sign * (1.0 + fraction / 1024.0) * 2.0_f32.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::f16_to_f32;

    #[test]
    fn halves_are_exact() {
        let cases = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ];
        for (half, expected) in cases {
            assert_eq!(f16_to_f32(half), expected, "{half:#06x}");
        }
        assert!(f16_to_f32(0x7e00).is_nan());
    }
}
