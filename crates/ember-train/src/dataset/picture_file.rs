//! One PNG or JPEG file as channel-first bytes; a corrupt one names the byte where it goes wrong, where its structure tells.
//!
//! # Check
//! Before decoding, the container is walked: a PNG's chunks with their CRC-32 (PNG specification, section 5), a JPEG's segments up
//! to the end-of-image marker (ITU-T T.81, annex B). Decoders read on over much of what is broken there. The size in the header is looked at
//! next: memory for pixels is taken only where they will be used. A picture is turned as its EXIF orientation says.

use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, imageops::FilterType};

use crate::error::Error;

const PNG: [u8; 8] = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];
const JPEG: [u8; 2] = [0xff, 0xd8];
/// The most pixels that are decoded to be resized: 8 bytes each at most, in every thread.
const MAX_PIXELS: u64 = 1 << 25;
/// The longest file: beyond what so many pixels take.
const MAX_BYTES: u64 = 8 * MAX_PIXELS;

/// What the header of a picture says.
pub(super) struct Header {
    grey: bool,
    /// Rows and columns, turned.
    size: [usize; 2],
}

impl Header {
    /// Channels, rows, columns.
    pub(super) fn shape(&self) -> [usize; 3] {
        [if self.grey { 1 } else { 3 }, self.size[0], self.size[1]]
    }
}

/// The header of a file; no pixel is decoded.
pub(super) fn header(path: &Path) -> Result<Header, Error> {
    let mut header = None;
    decode_if(path, |found| {
        header = Some(found);
        Ok(false)
    })?;
    header.ok_or_else(|| Error::data(path, "no header"))
}

/// Whether every pixel of a file can be decoded, whatever its size.
pub(super) fn check_pixels(path: &Path) -> Result<(), Error> {
    decode_if(path, |_| Ok(true)).map(drop)
}

/// A file as `[channels, rows, columns]` bytes.
///
/// # Errors
/// Another size, unless it may be resized (stretched, by linear interpolation over the source pixels).
pub(super) fn read(
    path: &Path,
    [channels, height, width]: [usize; 3],
    resize: bool,
) -> Result<Vec<u8>, Error> {
    let image = decode_if(path, |Header { size: [rows, columns], .. }| {
        match resize || [rows, columns] == [height, width] {
            true => Ok(true),
            false => Err(format!(
                "an image of {rows} × {columns} (rows × columns), expected {height} × {width}; resize = true in [dataset] resizes"
            )),
        }
    })?;
    let mut image = image.ok_or_else(|| Error::data(path, "no pixels"))?;
    if [image.height() as usize, image.width() as usize] != [height, width] {
        image = image.resize_exact(width as u32, height as u32, FilterType::Triangle);
    }
    if channels == 1 {
        return Ok(image.to_luma8().into_raw());
    }
    let pixels = image.to_rgb8().into_raw();
    Ok((0..3).flat_map(|c| pixels.iter().skip(c).step_by(3).copied()).collect())
}

/// The picture, if `wanted` says so of its header, or what `wanted` finds wrong with it.
fn decode_if(
    path: &Path,
    wanted: impl FnOnce(Header) -> Result<bool, String>,
) -> Result<Option<DynamicImage>, Error> {
    let unreadable = |source| Error::read(path, source);
    let len = std::fs::metadata(path).map_err(unreadable)?.len();
    if len > MAX_BYTES {
        return Err(Error::data(
            path,
            format!("a file of {len} bytes, expected at most {MAX_BYTES} for a picture"),
        ));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let format = check(&bytes)
        .map_err(|(offset, message)| Error::data(path, format!("at byte {offset}: {message}")))?;
    let corrupt = |error: image::ImageError| {
        let name = if format == ImageFormat::Png { "PNG" } else { "JPEG" };
        Error::data(path, format!("corrupt {name}: {error}"))
    };
    let mut decoder =
        ImageReader::with_format(Cursor::new(&bytes), format).into_decoder().map_err(corrupt)?;
    let (columns, rows) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut size = [rows as usize, columns as usize];
    if matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    ) {
        size.reverse();
    }
    let grey =
        matches!(decoder.color_type(), ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16);
    if !wanted(Header { grey, size }).map_err(|message| Error::data(path, message))? {
        return Ok(None);
    }
    if u64::from(rows) * u64::from(columns) > MAX_PIXELS {
        let message = format!(
            "an image of {rows} × {columns} (rows × columns), expected at most {MAX_PIXELS} pixels: scale it down first"
        );
        return Err(Error::data(path, message));
    }
    let mut image = DynamicImage::from_decoder(decoder).map_err(corrupt)?;
    image.apply_orientation(orientation);
    Ok(Some(image))
}

/// The format, or the first bad byte and what is wrong there.
fn check(bytes: &[u8]) -> Result<ImageFormat, (usize, String)> {
    if bytes.starts_with(&PNG) {
        return check_png(bytes).map(|()| ImageFormat::Png);
    }
    if bytes.starts_with(&JPEG) {
        return check_jpeg(bytes).map(|()| ImageFormat::Jpeg);
    }
    let start = &bytes[..bytes.len().min(8)];
    Err((0, format!("found {start:02x?}, expected the start of a PNG or JPEG file")))
}

fn check_png(bytes: &[u8]) -> Result<(), (usize, String)> {
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let mut at = PNG.len();
    loop {
        let ends = || (bytes.len(), "corrupt PNG: the file ends before its IEND chunk".to_owned());
        let len = word(at).ok_or_else(ends)? as usize;
        let body = bytes.get(at + 4..at + 8 + len).ok_or_else(ends)?;
        let stored = word(at + 8 + len).ok_or_else(ends)?;
        let mut crc = flate2::Crc::new();
        crc.update(body);
        if crc.sum() != stored {
            let name = body[..4].escape_ascii();
            let found = crc.sum();
            return Err((
                at,
                format!("corrupt PNG: chunk {name} has the CRC {found:08x}, expected {stored:08x}"),
            ));
        }
        if body.starts_with(b"IEND") {
            return Ok(());
        }
        at += 12 + len;
    }
}

fn check_jpeg(bytes: &[u8]) -> Result<(), (usize, String)> {
    let ends = || (bytes.len(), "corrupt JPEG: the file ends before its end-of-image marker".to_owned());
    let mut at = JPEG.len();
    loop {
        let byte = *bytes.get(at).ok_or_else(ends)?;
        if byte != 0xff {
            return Err((at, format!("corrupt JPEG: found 0x{byte:02x}, expected a marker (0xff)")));
        }
        let marker = *bytes.get(at + 1).ok_or_else(ends)?;
        match marker {
            // A fill byte.
            0xff => at += 1,
            0xd9 => return Ok(()),
            // Markers without a segment.
            0x01 | 0xd0..=0xd8 => at += 2,
            0x00 => return Err((at, "corrupt JPEG: found a stuffed 0x00, expected a marker".to_owned())),
            _ => {
                let [high, low] = *bytes.get(at + 2..at + 4).ok_or_else(ends)? else { return Err(ends()) };
                let len = usize::from(high) << 8 | usize::from(low);
                if len < 2 {
                    return Err((
                        at + 2,
                        format!("corrupt JPEG: a segment of {len} bytes, expected at least 2"),
                    ));
                }
                at += 2 + len;
                if marker == 0xda {
                    at = scan_end(bytes, at).ok_or_else(ends)?;
                }
            }
        }
    }
}

/// Where the entropy-coded data from `at` on ends: the next marker that is neither a stuffed byte nor a restart.
fn scan_end(bytes: &[u8], at: usize) -> Option<usize> {
    let pairs = bytes.get(at..)?.windows(2);
    let end = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7 | 0xff);
    pairs.into_iter().position(end).map(|offset| at + offset)
}
