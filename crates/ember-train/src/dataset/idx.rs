//! The idx files of MNIST and of the sets in its form (Fashion-MNIST, KMNIST).
//!
//! # Format
//! Big-endian words. Images: `0x00000803`, n, rows, columns, then n·rows·columns bytes. Labels: `0x00000801`, n, then n bytes.
//! A file may be gzipped. Source: Y. LeCun, C. Cortes, C. Burges, *The MNIST database of handwritten digits*.

use std::path::{Path, PathBuf};

use super::blob::Blob;
use super::images::{Images, Split};
use crate::error::Error;

/// Classes of these sets.
pub(super) const CLASSES: u32 = 10;
/// What a folder must hold, for error messages.
pub(super) const EXPECTED: &str = "a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, \
                                   t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, plain or .gz";

/// The file of images and the file of labels of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) images: PathBuf,
    pub(super) labels: PathBuf,
}

/// Which labels may stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    /// 0 to 9.
    Digits,
    /// Any: nobody looks at them.
    Any,
}

/// The splits a folder holds: under their official names, plain or gzipped, in the folder or in its `raw/`.
pub(super) fn find(dir: &Path) -> Result<[Option<Pair>; 2], Error> {
    Ok([find_split(dir, "train")?, find_split(dir, "t10k")?])
}

fn find_split(dir: &Path, split: &str) -> Result<Option<Pair>, Error> {
    let file = |kind: &str| {
        let names =
            [format!("{split}-{kind}-ubyte"), format!("{split}-{kind}-ubyte").replacen("-idx", ".idx", 1)];
        let paths = [dir.to_owned(), dir.join("raw")].into_iter().flat_map(|folder| {
            names
                .clone()
                .into_iter()
                .flat_map(move |name| [folder.join(&name), folder.join(format!("{name}.gz"))])
        });
        paths.into_iter().find(|path| path.is_file())
    };
    match (file("images-idx3"), file("labels-idx1")) {
        (Some(images), Some(labels)) => Ok(Some(Pair { images, labels })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(missing(dir, split, "labels-idx1")),
        (None, Some(_)) => Err(missing(dir, split, "images-idx3")),
    }
}

/// A file that must be there is not.
pub(super) fn missing(dir: &Path, split: &str, kind: &str) -> Error {
    Error::data(
        dir.join(format!("{split}-{kind}-ubyte")),
        format!("neither this file nor its .gz is there, expected {EXPECTED}"),
    )
}

/// Reads the splits that are there.
pub(super) fn read(pairs: &[Option<Pair>; 2], labels: Labels) -> Result<Images, Error> {
    let mut shape = None;
    let mut splits = [Split::default(), Split::default()];
    for (pair, split) in pairs.iter().zip(&mut splits) {
        let Some(pair) = pair else { continue };
        let (side, images) = read_split(pair, labels)?;
        let [rows, columns] = *shape.get_or_insert(side);
        if side != [rows, columns] {
            return Err(Error::data(
                &pair.images,
                format!(
                    "at byte 8: images of {} × {}, expected {rows} × {columns} as in the other split",
                    side[0], side[1]
                ),
            ));
        }
        *split = images;
    }
    let [rows, columns] = shape.unwrap_or_default();
    let [train, test] = splits;
    let largest = train.labels.iter().chain(&test.labels).max();
    let classes = largest.map_or(0, |&label| label + 1).max(CLASSES);
    let class_names = (0..classes).map(|class| class.to_string()).collect();
    Ok(Images { shape: [1, rows, columns], train, test, class_names })
}

/// One split and the size of its images, `[rows, columns]`.
pub(super) fn read_split(pair: &Pair, allowed: Labels) -> Result<([usize; 2], Split), Error> {
    let (images, labels) = (Blob::read(&pair.images)?, Blob::read(&pair.labels)?);
    let [n, rows, columns] =
        header(&images, 0x0803, |[n, rows, columns]| format!("{n} images of {rows} × {columns}"))?;
    let [labelled] = header(&labels, 0x0801, |[n]| format!("{n} labels"))?;
    if labelled != n {
        return Err(labels.fail(
            4,
            format!("{labelled} labels, expected {n}, one for each image of {}", pair.images.display()),
        ));
    }
    let start = 8;
    let labels_read = labels.bytes[start..].iter().map(|&label| u32::from(label)).collect::<Vec<_>>();
    let beyond = |label: &u32| allowed == Labels::Digits && *label >= CLASSES;
    if let Some(record) = labels_read.iter().position(beyond) {
        let label = labels_read[record];
        return Err(labels.fail(start + record, format!("label {label} of image {record}, expected 0 to 9")));
    }
    let mut bytes = images.bytes;
    bytes.drain(..16);
    Ok(([rows, columns], Split { bytes, labels: labels_read, origin: pair.labels.clone() }))
}

/// The sizes in the header, checked against the magic number and the length of the file.
fn header<const D: usize>(
    blob: &Blob,
    magic: u32,
    describe: impl Fn([usize; D]) -> String,
) -> Result<[usize; D], Error> {
    let words = 1 + D;
    let len = blob.bytes.len();
    let word =
        |i: usize| blob.bytes.get(4 * i..4 * i + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    match word(0) {
        Some(found) if found != magic => {
            return Err(blob.fail(
                0,
                format!(
                    "magic number 0x{found:08x}, expected 0x{magic:08x} (idx, unsigned bytes, {D} dimension{})",
                    if D == 1 { "" } else { "s" }
                ),
            ));
        }
        _ => {}
    }
    let mut sizes = [0; D];
    for (i, size) in sizes.iter_mut().enumerate() {
        let Some(found) = word(1 + i) else {
            return Err(blob.fail(len, format!("the file ends, expected a header of {} bytes", 4 * words)));
        };
        if found == 0 {
            return Err(blob.fail(4 + 4 * i, "size 0, expected at least 1"));
        }
        *size = found as usize;
    }
    let body = sizes.iter().try_fold(1u64, |product, &size| product.checked_mul(size as u64));
    let expected = body.and_then(|body| body.checked_add(4 * words as u64));
    if expected != Some(len as u64) {
        let offset = expected.map_or(len, |expected| len.min(usize::try_from(expected).unwrap_or(len)));
        let expected = expected.map_or_else(|| "more than 2^64".to_owned(), |expected| expected.to_string());
        return Err(blob.fail(
            offset,
            format!("the header says {}, so expected {expected} bytes, found {len}", describe(sizes)),
        ));
    }
    Ok(sizes)
}
