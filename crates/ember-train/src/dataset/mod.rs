//! Data sets. A new one is one file here and one line in the registry below.

mod blob;
mod checksums;
pub mod cifar10;
pub mod detect;
mod drawn;
pub mod fingerprint;
pub mod gaussian_fit;
pub mod gaussian_mixture;
mod idx;
pub mod image_folder;
mod images;
pub mod inventory;
pub mod mnist;
mod picture_file;
mod rows;
pub mod shapes32;
mod sources;
pub mod toy2d;
pub mod truth;

use std::fmt::Debug;

use ember_model::{Custom, SampleShape};
use serde::{Deserialize, Serialize};

use crate::error::Error;
pub use cifar10::Cifar10;
pub use detect::load_any;
pub use fingerprint::fingerprint;
pub use gaussian_mixture::GaussianMixtureData;
pub use image_folder::ImageFolder;
pub use mnist::Mnist;
pub use rows::{BIN, Rows, byte, pixel};
pub use shapes32::Shapes32;
pub use sources::Sources;
pub use toy2d::Toy2d;
pub use truth::{Modes, Truth};

/// A data set as a config describes it.
pub trait Dataset: Debug + Send + Sync {
    /// The shape of one sample.
    fn shape(&self) -> SampleShape;

    /// Draws or reads the samples; a synthetic set is a pure function of the run's seed.
    ///
    /// # Errors
    /// Files that are missing or wrong.
    fn generate(&self, seed: u64) -> Result<Data, Error>;

    /// The files [`Dataset::generate`] reads; none where the samples are drawn.
    ///
    /// # Errors
    /// Files that are not there.
    fn sources(&self) -> Result<Sources, Error> {
        Ok(Sources::default())
    }

    /// Samples of one batch; the whole training set means full batches without shuffling. More than the training set holds
    /// is an error of `validate`, or of `generate` where only the files can tell.
    fn batch_size(&self) -> usize;

    /// Rows of the training and of the held-out set, where they are drawn: files alone tell how many they hold.
    fn drawn_rows(&self) -> Option<[usize; 2]> {
        None
    }

    /// Checks the table's values. No files are touched.
    ///
    /// # Errors
    /// A value out of its range, as [`Error::Config`] in section `dataset`.
    fn validate(&self) -> Result<(), Error>;

    /// What is done to every batch; nothing unless the data set says so.
    fn augmentation(&self) -> Augmentation {
        Augmentation::default()
    }

    /// The law the samples come from, where it is known.
    fn truth(&self) -> Option<Truth> {
        None
    }
}

/// What is done to the rows of every batch, fresh each time: the model then learns the law of the result.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augmentation {
    /// Images are mirrored left to right with probability ½.
    pub flip: bool,
    /// Standard deviation of the Gaussian noise added to every coordinate; 0 adds none.
    pub noise: f64,
}

/// The samples, in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Data {
    /// The shape of one sample.
    pub shape: SampleShape,
    /// Training samples, row-major `[train_size, dim]`.
    pub train: Rows,
    /// The class or mode of each training sample.
    pub train_labels: Vec<u32>,
    /// Held-out samples, row-major `[test_size, dim]`.
    pub test: Rows,
    /// The class or mode of each held-out sample.
    pub test_labels: Vec<u32>,
    /// The name of each class, where the set names them.
    pub class_names: Vec<String>,
}

impl Data {
    /// The fraction of each label in the training set, `[labels]`.
    pub fn train_fractions(&self) -> Vec<f64> {
        let labels = self.train_labels.iter().chain(&self.test_labels).max();
        let mut counts = vec![0usize; labels.map_or(0, |&last| last as usize + 1)];
        for &label in &self.train_labels {
            counts[label as usize] += 1;
        }
        let n = self.train_labels.len() as f64;
        counts.into_iter().map(|count| count as f64 / n).collect()
    }
}

macro_rules! datasets {
    ($($(#[$doc:meta])* $Variant:ident($Type:ty) = $kind:literal),* $(,)?) => {
        /// The `[dataset]` table, tagged by `kind`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum DatasetConfig {
            $($(#[$doc])* #[serde(rename = $kind)] $Variant($Type),)*
            /// A data set that a program brings itself.
            #[serde(skip)]
            Custom(Custom<dyn Dataset>),
        }

        impl DatasetConfig {
            /// Every `kind` there is.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The `kind` of this data set.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$Variant(_) => $kind,)* Self::Custom(_) => "custom" }
            }

            /// The data set itself.
            pub fn as_dyn(&self) -> &dyn Dataset {
                match self { $(Self::$Variant(dataset) => dataset,)* Self::Custom(dataset) => &**dataset }
            }
        }
    };
}

datasets! {
    /// Draws of a mixture of Gaussians with one common standard deviation.
    GaussianMixture(GaussianMixtureData) = "gaussian_mixture",
    /// The toy sets of the plane, by name.
    Toy2d(Toy2d) = "toy2d",
    /// MNIST and the sets in its form, from idx files.
    Mnist(Mnist) = "mnist",
    /// The binary version of CIFAR-10.
    Cifar10(Cifar10) = "cifar10",
    /// PNG and JPEG files, one folder for each class.
    ImageFolder(ImageFolder) = "image_folder",
    /// Coloured shapes with known class masses, drawn from the seed.
    Shapes32(Shapes32) = "shapes32",
}
