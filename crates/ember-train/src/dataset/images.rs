//! What the image sets share: labelled bytes, the choice of classes, the checks of common keys.

use std::path::{Path, PathBuf};

use ember_model::{MOST_NUMBERS, SampleShape};

use super::{Data, Rows};
use crate::error::Error;

/// Samples of a batch unless the config says otherwise.
pub(super) fn default_batch_size() -> usize {
    128
}

/// Labelled images, in file order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Split {
    /// `[n, C·H·W]`, channel first.
    pub(super) bytes: Vec<u8>,
    /// The class of each image.
    pub(super) labels: Vec<u32>,
    /// The file or folder the labels come from.
    pub(super) origin: PathBuf,
}

impl Split {
    /// Appends another part of the same set.
    pub(super) fn extend(&mut self, other: Self) {
        self.bytes.extend(other.bytes);
        self.labels.extend(other.labels);
        if self.origin.as_os_str().is_empty() {
            self.origin = other.origin;
        }
    }

    /// The images of some classes, relabelled to their place in `classes`; at most `counts` of each, the first in file order.
    ///
    /// # Errors
    /// A class with fewer images than its count, or with none.
    pub(super) fn select(self, classes: &[u32], counts: Option<&[usize]>) -> Result<Self, Error> {
        if self.labels.is_empty() {
            return Ok(self);
        }
        let dim = self.bytes.len() / self.labels.len();
        let mut taken = vec![0; classes.len()];
        let mut chosen = Self { origin: self.origin, ..Self::default() };
        for (image, label) in self.bytes.chunks_exact(dim).zip(&self.labels) {
            let Some(place) = classes.iter().position(|class| class == label) else { continue };
            if counts.is_some_and(|counts| taken[place] == counts[place]) {
                continue;
            }
            taken[place] += 1;
            chosen.bytes.extend_from_slice(image);
            chosen.labels.push(place as u32);
        }
        for (place, (&class, &found)) in classes.iter().zip(&taken).enumerate() {
            let expected = counts.map_or(1, |counts| counts[place]);
            if found < expected {
                let (n, key) = (self.labels.len(), if counts.is_some() { "counts" } else { "classes" });
                return Err(Error::data(
                    &chosen.origin,
                    format!(
                        "dataset.{key}: class {class} is the label of {found} of its {n} images, expected at least {expected}"
                    ),
                ));
            }
        }
        Ok(chosen)
    }
}

/// A set as its files hold it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Images {
    pub(super) shape: [usize; 3],
    pub(super) train: Split,
    pub(super) test: Split,
    pub(super) class_names: Vec<String>,
}

impl Images {
    /// The images of `classes`, all unless given, relabelled and named by their place there; of the training images at most
    /// `counts` of each.
    ///
    /// # Errors
    /// As [`Split::select`].
    pub(super) fn keep(self, classes: Option<&[u32]>, counts: Option<&[usize]>) -> Result<Self, Error> {
        if classes.is_none() && counts.is_none() {
            return Ok(self);
        }
        let every: Vec<u32> = (0..self.class_names.len() as u32).collect();
        let classes = classes.unwrap_or(&every);
        let (train, test) = (self.train.select(classes, counts)?, self.test.select(classes, None)?);
        let class_names = classes.iter().map(|&class| self.class_names[class as usize].clone()).collect();
        Ok(Self { train, test, class_names, ..self })
    }

    /// The set as training sees it.
    pub(super) fn into_data(self) -> Data {
        Data {
            shape: SampleShape::Image(self.shape),
            train: Rows::U8(self.train.bytes),
            train_labels: self.train.labels,
            test: Rows::U8(self.test.bytes),
            test_labels: self.test.labels,
            class_names: self.class_names,
        }
    }
}

/// `[dataset]` has a bad value.
pub(super) fn bad_key(key: &str, message: impl Into<String>) -> Error {
    Error::config("config", "dataset", key, message)
}

/// Checks the keys that every image set has.
pub(super) fn check_batches(batch_size: usize, noise: f64, dim: usize) -> Result<(), Error> {
    if batch_size == 0 {
        return Err(bad_key("batch_size", "found 0, expected at least 1"));
    }
    check_elements("batch_size", batch_size, dim)?;
    if !noise.is_finite() || noise < 0.0 {
        return Err(bad_key("noise", format!("found {noise}, expected a finite number ≥ 0")));
    }
    Ok(())
}

/// Checks that `count` images fit a tensor.
pub(super) fn check_elements(key: &str, count: usize, dim: usize) -> Result<(), Error> {
    if count.checked_mul(dim).is_some_and(|n| n <= MOST_NUMBERS) {
        return Ok(());
    }
    Err(bad_key(
        key,
        format!("{count} images × {dim} numbers is more than {MOST_NUMBERS}, the most a tensor can hold"),
    ))
}

/// Checks `classes` and `counts` of a set with `known` classes.
pub(super) fn check_classes(
    classes: Option<&[u32]>,
    counts: Option<&[usize]>,
    known: u32,
) -> Result<(), Error> {
    let every: Vec<u32> = (0..known).collect();
    let classes = classes.unwrap_or(&every);
    if classes.is_empty() {
        return Err(bad_key("classes", "found none, expected at least one class, such as [2, 3, 6]"));
    }
    for (place, class) in classes.iter().enumerate() {
        if *class >= known {
            return Err(bad_key("classes", format!("found {class}, expected 0 to {}", known - 1)));
        }
        if classes[..place].contains(class) {
            return Err(bad_key("classes", format!("class {class} stands there twice, expected each once")));
        }
    }
    let Some(counts) = counts else { return Ok(()) };
    if counts.len() != classes.len() {
        return Err(bad_key(
            "counts",
            format!("found {} counts for {} classes, expected one each", counts.len(), classes.len()),
        ));
    }
    if counts.contains(&0) {
        return Err(bad_key(
            "counts",
            "found 0, expected at least 1; leave a class out of `classes` instead",
        ));
    }
    Ok(())
}

/// Checks what only the files can tell: both splits are there, and a batch is not larger than the training set.
pub(super) fn check_sizes(data: &Data, batch_size: usize, dir: &Path) -> Result<(), Error> {
    let (train, test) = (data.train_labels.len(), data.test_labels.len());
    check_splits([train, test], dir)?;
    check_elements("dir", train.max(test), data.shape.dim())?;
    if batch_size > train {
        return Err(bad_key(
            "batch_size",
            format!("found {batch_size}, expected at most {train}, the training images in {}", dir.display()),
        ));
    }
    Ok(())
}

/// Checks that there are images to train on and images to judge by.
pub(super) fn check_splits(counts: [usize; 2], dir: &Path) -> Result<(), Error> {
    match counts {
        [0, _] => Err(Error::data(dir, "no training images, expected at least one")),
        [_, 0] => Err(Error::data(
            dir,
            "no held-out images, expected at least one. A folder of images has them in test/ or val/, or, without train/, in every \
             tenth file of a class: a class of fewer than 10 files has none",
        )),
        _ => Ok(()),
    }
}

/// Checks that the folder is there, before its files are looked for.
pub(super) fn check_dir(dir: &Path, expected: &str) -> Result<(), Error> {
    if dir.exists() {
        return Ok(());
    }
    Err(Error::data(
        dir,
        format!(
            "there is no such folder, expected {expected}. It is the config's dataset.dir (for `ember train` also --set dataset.dir=…; a run's is in its config.toml)"
        ),
    ))
}
