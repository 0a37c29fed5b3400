//! Folders of PNG and JPEG files, one folder for each class.
//!
//! # Layout
//! `DIR/train/<class>/*` and `DIR/test/<class>/*` (or `val`, `valid`, `validation`, where there is no `test`); or `DIR/<class>/*`, where
//! every tenth file of a class is held out. Classes and files are taken in the order of their names (by bytes), so labels do not depend on the
//! file system. Hidden files are passed over, and files without the ending png, jpg or jpeg, which are counted; the format is known by the
//! first bytes.
//!
//! # Conversion
//! Every image must be `size` × `size`; with `resize = true` others are stretched to it. Grey becomes three equal channels, or
//! colour its luma, as `channels` says; an alpha channel is dropped, 16 bits become 8. EXIF orientations are applied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ember_model::SampleShape;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::images::{Images, Split, bad_key, check_batches, check_dir, check_sizes, default_batch_size};
use super::picture_file;
use super::{Augmentation, Data, Dataset, Sources};
use crate::error::Error;

/// In a folder without `train/` and `test/`, every so-manieth file of a class is held out.
const HELD_OUT_EVERY: usize = 10;
/// The largest side: 3 · 1024² numbers are far beyond what the energies here are for.
const MAX_SIZE: usize = 1024;
const EXPECTED: &str =
    "PNG or JPEG files as train/<class>/* and test/<class>/* (or val/<class>/*), or as <class>/*";
/// Names of the folder of held-out images; the first that is there.
const HELD_OUT: [&str; 4] = ["test", "val", "valid", "validation"];

/// `{ kind = "image_folder", dir, size, channels, resize, batch_size, flip, noise }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFolder {
    /// The folder; relative to the current directory.
    pub dir: PathBuf,
    /// Rows and columns of an image.
    #[serde(default = "default_size")]
    pub size: usize,
    /// 3 for colour, 1 for grey.
    #[serde(default = "default_channels")]
    pub channels: usize,
    /// Whether images of another size are stretched to `size`; an error otherwise.
    #[serde(default)]
    pub resize: bool,
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

fn default_size() -> usize {
    32
}

fn default_channels() -> usize {
    3
}

/// The files of a set, each with its class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) classes: Vec<String>,
    /// Training files and held-out files.
    pub(super) splits: [Vec<(PathBuf, u32)>; 2],
    /// Files of the class folders that are no images by their ending: how many of each ending.
    pub(super) passed_over: BTreeMap<String, usize>,
}

impl Layout {
    /// What the folder holds; `None` where there are no class folders with images.
    ///
    /// # Errors
    /// A class without images, held-out classes that are not trained on, a folder that cannot be read.
    pub(super) fn find(dir: &Path) -> Result<Option<Self>, Error> {
        let split = |name: &str| {
            let dir = dir.join(name);
            if dir.is_dir() { classes(&dir) } else { Ok(Vec::new()) }
        };
        let held_out = HELD_OUT.into_iter().find(|name| dir.join(name).is_dir()).unwrap_or(HELD_OUT[0]);
        let (train, test) = (split("train")?, split(held_out)?);
        if !train.is_empty() || !test.is_empty() {
            return Self::of_splits(&train, &test).map(Some);
        }
        let flat = classes(dir)?;
        let mut layout = Self { classes: names(&flat), passed_over: passed_over(&flat), ..Self::default() };
        for (label, class) in flat.iter().enumerate() {
            for (i, path) in class.files()?.into_iter().enumerate() {
                let held_out = i % HELD_OUT_EVERY == HELD_OUT_EVERY - 1;
                layout.splits[usize::from(held_out)].push((path, label as u32));
            }
        }
        Ok((!layout.classes.is_empty()).then_some(layout))
    }

    fn of_splits(train: &[Class], test: &[Class]) -> Result<Self, Error> {
        let classes = names(if train.is_empty() { test } else { train });
        let mut splits = [Vec::new(), Vec::new()];
        for (split, folders) in splits.iter_mut().zip([train, test]) {
            for class in folders {
                let label = classes.iter().position(|name| *name == class.name).ok_or_else(|| {
                    let known = classes.join(", ");
                    Error::data(
                        &class.path,
                        format!("a class that is not in train/, expected one of {known}"),
                    )
                })?;
                split.extend(class.files()?.into_iter().map(|path| (path, label as u32)));
            }
        }
        let passed_over = passed_over(train.iter().chain(test));
        Ok(Self { classes, splits, passed_over })
    }

    /// Decodes every file. In order, whatever the threads do: the error is that of the first bad file.
    pub(super) fn read(&self, shape: [usize; 3], resize: bool) -> Result<Images, Error> {
        let read = |files: &[(PathBuf, u32)]| -> Result<Split, Error> {
            let decoded: Vec<Result<Vec<u8>, Error>> =
                files.par_iter().map(|(path, _)| picture_file::read(path, shape, resize)).collect();
            let bytes = decoded.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
            Ok(Split { bytes, labels: files.iter().map(|(_, label)| *label).collect(), ..Split::default() })
        };
        let [train, test] = &self.splits;
        Ok(Images { shape, train: read(train)?, test: read(test)?, class_names: self.classes.clone() })
    }

    /// `18 files are passed over, which are not png, jpg or jpeg by their ending: 12 webp, 6 tif`; `None` where there are none.
    pub(super) fn note(&self) -> Option<String> {
        let total: usize = self.passed_over.values().sum();
        let each: Vec<String> =
            self.passed_over.iter().map(|(ending, count)| format!("{count} {ending}")).collect();
        let are =
            if total == 1 { "file is passed over, which is" } else { "files are passed over, which are" };
        (total > 0).then(|| format!("{total} {are} not png, jpg or jpeg by the ending: {}", each.join(", ")))
    }

    /// Every file, training files first.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.splits.iter().flatten().map(|(path, _)| path)
    }
}

/// A class folder.
struct Class {
    name: String,
    path: PathBuf,
    files: Vec<PathBuf>,
    /// The endings of the files that are no images by them.
    others: Vec<String>,
}

impl Class {
    /// Its images; a class that is there has some.
    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        if self.files.is_empty() {
            return Err(Error::data(&self.path, "a class without images, expected PNG or JPEG files"));
        }
        Ok(self.files.clone())
    }
}

/// The class folders of a folder, by name; none where no folder in it holds an image.
fn classes(dir: &Path) -> Result<Vec<Class>, Error> {
    let mut classes = Vec::new();
    for path in entries(dir)?.into_iter().filter(|path| path.is_dir()) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let all = entries(&path)?.into_iter().filter(|file| file.is_file());
        let (files, others): (Vec<_>, Vec<_>) = all.partition(|file| is_image(file));
        let others = others.iter().map(|file| ending(file)).collect();
        classes.push(Class { name, path, files, others });
    }
    let any = classes.iter().any(|class| !class.files.is_empty());
    Ok(if any { classes } else { Vec::new() })
}

fn passed_over<'a>(classes: impl IntoIterator<Item = &'a Class>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for ending in classes.into_iter().flat_map(|class| &class.others) {
        *counts.entry(ending.clone()).or_default() += 1;
    }
    counts
}

fn names(classes: &[Class]) -> Vec<String> {
    classes.iter().map(|class| class.name.clone()).collect()
}

/// What is in a folder, by name, hidden entries aside.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = |source| Error::read(dir, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        let entry = entry.map_err(read)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_image(path: &Path) -> bool {
    matches!(ending(path).as_str(), "png" | "jpg" | "jpeg")
}

/// The ending of a file's name in small letters.
fn ending(path: &Path) -> String {
    path.extension()
        .map_or_else(|| "without an ending".to_owned(), |ending| ending.to_string_lossy().to_lowercase())
}

impl Dataset for ImageFolder {
    fn shape(&self) -> SampleShape {
        SampleShape::Image([self.channels, self.size, self.size])
    }

    fn generate(&self, _seed: u64) -> Result<Data, Error> {
        check_dir(&self.dir, EXPECTED)?;
        let layout = Layout::find(&self.dir)?
            .ok_or_else(|| Error::data(&self.dir, format!("no images here, expected {EXPECTED}")))?;
        if let Some(note) = layout.note() {
            tracing::warn!("{}: {note}", self.dir.display());
        }
        let data = layout.read([self.channels, self.size, self.size], self.resize)?.into_data();
        check_sizes(&data, self.batch_size, &self.dir)?;
        Ok(data)
    }

    fn sources(&self) -> Result<Sources, Error> {
        Sources::of(Layout::find(&self.dir)?.iter().flat_map(Layout::files).cloned())
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn validate(&self) -> Result<(), Error> {
        if !(1..=MAX_SIZE).contains(&self.size) {
            return Err(bad_key("size", format!("found {}, expected 1 to {MAX_SIZE}", self.size)));
        }
        if self.channels != 1 && self.channels != 3 {
            return Err(bad_key(
                "channels",
                format!("found {}, expected 3 (colour) or 1 (grey)", self.channels),
            ));
        }
        check_batches(self.batch_size, self.noise, self.shape().dim())
    }

    fn augmentation(&self) -> Augmentation {
        Augmentation { flip: self.flip, noise: self.noise }
    }
}
