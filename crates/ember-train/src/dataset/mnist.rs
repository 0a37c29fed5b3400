//! MNIST and the sets in its form, from their idx files: 28 × 28 grey images of ten classes.
//!
//! Source: Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, *Gradient-based learning applied to document recognition*, 1998.
//! Fashion-MNIST (Xiao et al. 2017) and KMNIST (Clanuwat et al. 2018) come in the same files.
//!
//! # Labels
//! A label is the place of the image's class in `classes`: with `classes = [2, 3, 6]`, the images of the digit 6 have the label 2
//! and `class_names` is `["2", "3", "6"]`. `counts` cuts the training images to the first so many of each class in file order;
//! the held-out images are all those of the same classes. The order of the files is kept.

use std::path::PathBuf;

use ember_model::SampleShape;
use serde::{Deserialize, Serialize};

use super::images::{check_batches, check_classes, check_dir, check_sizes, default_batch_size};
use super::{Augmentation, Data, Dataset, Sources, idx};
use crate::error::Error;

/// Channels, rows, columns.
const SHAPE: [usize; 3] = [1, 28, 28];

/// `{ kind = "mnist", dir, classes, counts, batch_size, flip, noise, binarise }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mnist {
    /// The folder of the idx files; relative to the current directory.
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
    /// Pixels become 1 above this fraction of white and 0 elsewhere, for energies of bits; they stay bytes unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binarise: Option<f64>,
}

impl Dataset for Mnist {
    fn shape(&self) -> SampleShape {
        SampleShape::Image(SHAPE)
    }

    fn generate(&self, _seed: u64) -> Result<Data, Error> {
        check_dir(&self.dir, idx::EXPECTED)?;
        let pairs = idx::find(&self.dir)?;
        for (pair, split) in pairs.iter().zip(["train", "t10k"]) {
            if pair.is_none() {
                return Err(idx::missing(&self.dir, split, "images-idx3"));
            }
        }
        let images = idx::read(&pairs, idx::Labels::Digits)?;
        if let (true, Some(pair)) = (images.shape != SHAPE, &pairs[0]) {
            let [_, rows, columns] = images.shape;
            let message = format!("at byte 8: images of {rows} × {columns}, expected 28 × 28");
            return Err(Error::data(&pair.images, message));
        }
        let data = images.keep(self.classes.as_deref(), self.counts.as_deref())?.into_data();
        check_sizes(&data, self.batch_size, &self.dir)?;
        Ok(match self.binarise {
            Some(threshold) => {
                Data { train: data.train.binarised(threshold), test: data.test.binarised(threshold), ..data }
            }
            None => data,
        })
    }

    fn sources(&self) -> Result<Sources, Error> {
        let pairs = idx::find(&self.dir)?;
        Sources::of(pairs.into_iter().flatten().flat_map(|pair| [pair.images, pair.labels]))
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn validate(&self) -> Result<(), Error> {
        check_batches(self.batch_size, self.noise, self.shape().dim())?;
        if let Some(threshold) = self.binarise.filter(|threshold| !(*threshold > 0.0 && *threshold < 1.0)) {
            let message =
                format!("found {threshold}, expected a fraction of white between 0 and 1, such as 0.5");
            return Err(Error::config("config", "dataset", "binarise", message));
        }
        if self.binarise.is_some() && self.noise > 0.0 {
            let message = "pixels with noise are no zeros and ones, which dataset.binarise asks for: leave one of them out";
            return Err(Error::config("config", "dataset", "noise", message));
        }
        check_classes(self.classes.as_deref(), self.counts.as_deref(), idx::CLASSES)
    }

    fn augmentation(&self) -> Augmentation {
        Augmentation { flip: self.flip, noise: self.noise }
    }
}
