//! CIFAR-10, the binary version: 3 × 32 × 32 colour images of ten classes.
//!
//! Source: A. Krizhevsky, *Learning multiple layers of features from tiny images*, 2009.
//!
//! # Format
//! Records of 3,073 bytes: the label, then the red, green and blue plane. A file is any whole number of records, and some of the
//! five training files may be missing, so that a part of the set can be used. The official archive `cifar-10-binary.tar.gz` is
//! read as it is; nothing is unpacked to disk.
//!
//! # Labels
//! `classes` and `counts` mean what they mean for [`Mnist`](super::Mnist).

use std::path::{Path, PathBuf};

use ember_model::SampleShape;
use serde::{Deserialize, Serialize};

use super::blob::Blob;
use super::images::{
    Images, Split, check_batches, check_classes, check_dir, check_sizes, default_batch_size,
};
use super::{Augmentation, Data, Dataset, Sources};
use crate::error::Error;

/// Channels, rows, columns.
const SHAPE: [usize; 3] = [3, 32, 32];
/// Bytes of a record.
const RECORD: usize = 1 + 3 * 32 * 32;
const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
const TEST_FILE: &str = "test_batch.bin";
const FOLDER: &str = "cifar-10-batches-bin";
const ARCHIVE: &str = "cifar-10-binary.tar.gz";
const EXPECTED: &str = "a folder with data_batch_1.bin to data_batch_5.bin and test_batch.bin, \
                        or with cifar-10-batches-bin/ or cifar-10-binary.tar.gz";
const NAMES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// `{ kind = "cifar10", dir, classes, counts, batch_size, flip, noise }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cifar10 {
    /// The folder of the files, or the archive itself; relative to the current directory.
    pub dir: PathBuf,
    /// The classes to keep, 0 to 9; all ten unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<u32>>,
    /// Training images of each class, the first in file order; all unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Vec<usize>>,
    /// Samples of one batch.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Whether images are mirrored left to right with probability ½.
    #[serde(default)]
    pub flip: bool,
    /// Standard deviation of the Gaussian noise added to every batch, where pixels span [−1, 1].
    #[serde(default)]
    pub noise: f64,
}

/// Where the records are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Files of their own: training files in order, the test file.
    Files(Vec<PathBuf>),
    /// The official archive.
    Archive(PathBuf),
}

impl Source {
    /// What `dir` holds.
    pub(super) fn find(dir: &Path) -> Option<Self> {
        if dir.is_file() && dir.to_string_lossy().ends_with(".tar.gz") {
            return Some(Self::Archive(dir.to_owned()));
        }
        for folder in [dir.to_owned(), dir.join(FOLDER)] {
            let files = TRAIN_FILES.iter().chain([&TEST_FILE]).map(|name| folder.join(name));
            let files: Vec<PathBuf> = files.filter(|path| path.is_file()).collect();
            if !files.is_empty() {
                return Some(Self::Files(files));
            }
        }
        Some(dir.join(ARCHIVE)).filter(|path| path.is_file()).map(Self::Archive)
    }

    /// The files it comes in.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Files(files) => files.clone(),
            Self::Archive(path) => vec![path.clone()],
        }
    }

    /// Each file of records: whether it is held out, and what it holds or what is wrong with it.
    pub(super) fn parts(&self) -> Vec<(bool, Result<Split, Error>)> {
        match self {
            Self::Files(files) => {
                let read = |path: &PathBuf| (path.ends_with(TEST_FILE), Blob::read(path).and_then(records));
                files.iter().map(read).collect()
            }
            Self::Archive(path) => match members(path) {
                Ok(members) => members.into_iter().map(|(test, blob)| (test, records(blob))).collect(),
                Err(error) => vec![(false, Err(error))],
            },
        }
    }

    /// The whole set.
    pub(super) fn read(&self) -> Result<Images, Error> {
        let (train, test) = (Split::default(), Split::default());
        let mut images = Images { shape: SHAPE, train, test, class_names: class_names() };
        for (test, part) in self.parts() {
            if test { images.test.extend(part?) } else { images.train.extend(part?) }
        }
        Ok(images)
    }
}

/// The names of the classes, by label.
pub(super) fn class_names() -> Vec<String> {
    NAMES.map(str::to_owned).to_vec()
}

/// The members of the archive that hold records, in the set's order.
fn members(path: &Path) -> Result<Vec<(bool, Blob)>, Error> {
    let blob = Blob::read(path)?;
    let mut archive = tar::Archive::new(blob.bytes.as_slice());
    let mut found: Vec<(usize, Blob)> = Vec::new();
    let mut offset = 0;
    let broken = |offset: usize, error: std::io::Error| blob.fail(offset, format!("corrupt tar ({error})"));
    for entry in archive.entries().map_err(|error| broken(0, error))? {
        let entry = entry.map_err(|error| broken(offset, error))?;
        let start = usize::try_from(entry.raw_file_position()).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::try_from(entry.size()).unwrap_or(usize::MAX));
        let name = entry.path().map_err(|error| broken(offset, error))?.into_owned();
        offset = end;
        let place = TRAIN_FILES.iter().chain([&TEST_FILE]).position(|file| name.ends_with(file));
        let Some(place) = place else { continue };
        let len = blob.bytes.len();
        let bytes = blob.bytes.get(start..end).ok_or_else(|| {
            blob.fail(len, format!("the archive ends within {}, expected {end} bytes", name.display()))
        })?;
        found.push((place, blob.part(&name.display().to_string(), bytes.to_vec())));
    }
    if found.is_empty() {
        return Err(blob.fail(0, "no data_batch_1.bin to data_batch_5.bin or test_batch.bin in this archive"));
    }
    found.sort_by_key(|(place, _)| *place);
    Ok(found.into_iter().map(|(place, blob)| (place == TRAIN_FILES.len(), blob)).collect())
}

/// The images of a file of records.
fn records(blob: Blob) -> Result<Split, Error> {
    let len = blob.bytes.len();
    let (count, rest) = (len / RECORD, len % RECORD);
    if rest != 0 {
        return Err(blob.fail(
            count * RECORD,
            format!(
                "record {count} has {rest} of its 3073 bytes, expected a whole number of records, found {len} bytes"
            ),
        ));
    }
    if count == 0 {
        return Err(blob.fail(0, "the file is empty, expected records of 3073 bytes"));
    }
    let mut split = Split { origin: blob.path().to_owned(), ..Split::default() };
    split.bytes.reserve_exact(count * (RECORD - 1));
    for (i, record) in blob.bytes.chunks_exact(RECORD).enumerate() {
        let label = record[0];
        if usize::from(label) >= NAMES.len() {
            return Err(blob.fail(i * RECORD, format!("label {label} of record {i}, expected 0 to 9")));
        }
        split.labels.push(u32::from(label));
        split.bytes.extend_from_slice(&record[1..]);
    }
    Ok(split)
}

impl Dataset for Cifar10 {
    fn shape(&self) -> SampleShape {
        SampleShape::Image(SHAPE)
    }

    fn generate(&self, _seed: u64) -> Result<Data, Error> {
        check_dir(&self.dir, EXPECTED)?;
        let source = Source::find(&self.dir)
            .ok_or_else(|| Error::data(&self.dir, format!("no such files here, expected {EXPECTED}")))?;
        let images = source.read()?;
        let splits = [(&images.train, "data_batch_1.bin"), (&images.test, TEST_FILE)];
        if let Some((_, name)) = splits.iter().find(|(split, _)| split.labels.is_empty()) {
            return Err(Error::data(self.dir.join(name), format!("not there, expected {EXPECTED}")));
        }
        let data = images.keep(self.classes.as_deref(), self.counts.as_deref())?.into_data();
        check_sizes(&data, self.batch_size, &self.dir)?;
        Ok(data)
    }

    fn sources(&self) -> Result<Sources, Error> {
        Sources::of(Source::find(&self.dir).iter().flat_map(Source::files))
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn validate(&self) -> Result<(), Error> {
        check_batches(self.batch_size, self.noise, self.shape().dim())?;
        check_classes(self.classes.as_deref(), self.counts.as_deref(), NAMES.len() as u32)
    }

    fn augmentation(&self) -> Augmentation {
        Augmentation { flip: self.flip, noise: self.noise }
    }
}
