//! A small image classifier, trained once on a data set and kept: it names the classes of walkers, so that the masses a model
//! puts on them can be told (Carbone et al. 2023, section 4.2; ALGORITHMS 1.8, 8).
//!
//! It sees what the energy sees, noise included, so walkers are judged as they are. It runs on the CPU whatever the model's
//! device, from a fixed seed: the same data give the same classifier, bit for bit.
//!
//! Every image gets *some* class, an unreadable one too; where in doubt, the one the training set has more of. So frequencies come
//! with the mean confidence (the largest class probability) beside that of held-out data: much lower means unreadable
//! samples, and then the frequencies say little. Nothing is corrected for the classifier's errors: they can move a mass by up to
//! 1 − accuracy.

pub mod cache;
pub mod frequencies;
pub mod network;
mod train;

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::download;
use serde::{Deserialize, Serialize};

use crate::dataset::Data;
use ember_sampler::statistics::Estimate;
pub use frequencies::{ClassFrequencies, Groups, class_frequencies};
use network::LeNet;
pub use train::train;

/// Images judged at a time.
const BLOCK: usize = 256;

/// A trained classifier.
#[derive(Clone, Debug)]
pub struct Classifier {
    network: LeNet,
    theta: Vec<Tensor<1>>,
    held_out: Held,
    device: Device,
}

/// What is known of a classifier beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The name of each class.
    pub classes: Vec<String>,
    /// Fraction of held-out images it names right; NaN without any.
    pub accuracy: Estimate,
    /// Mean of the largest class probability on held-out images; NaN without any.
    pub confidence: Estimate,
    /// Held-out images.
    pub count: usize,
}

impl Default for Held {
    fn default() -> Self {
        let unknown = Estimate { value: f64::NAN, standard_error: f64::NAN };
        Self { classes: Vec::new(), accuracy: unknown, confidence: unknown, count: 0 }
    }
}

/// What a classifier makes of some images.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdicts {
    /// The most probable class of each, `[n]`; the first of equals.
    pub class: Vec<u32>,
    /// Its probability, `[n]`.
    pub confidence: Vec<f64>,
}

impl Classifier {
    /// Whether the samples are images with classes that a classifier can be trained for.
    pub fn fits(data: &Data) -> bool {
        !data.train_labels.is_empty() && LeNet::new(data.shape, class_names(data).len()).is_some()
    }

    /// Class names, accuracy and confidence on held-out data.
    pub fn held_out(&self) -> &Held {
        &self.held_out
    }

    /// The parameters in host memory, one flat vector each.
    pub fn host_theta(&self) -> Vec<Vec<f32>> {
        self.theta.iter().cloned().map(download).collect()
    }

    /// The classes of images in host memory, row-major `[n, dim]`.
    pub fn judge(&self, images: &[f32]) -> Verdicts {
        let dim = self.network.dim();
        self.judge_blocks(images.len() / dim, |rows| images[rows.start * dim..rows.end * dim].to_vec())
    }

    /// The classes of `n` images that `rows` makes block by block, `[rows, dim]` each.
    fn judge_blocks(&self, n: usize, rows: impl Fn(Range<usize>) -> Vec<f32>) -> Verdicts {
        let classes = self.network.classes();
        let mut verdicts = Verdicts::default();
        for start in (0..n).step_by(BLOCK) {
            let block = start..n.min(start + BLOCK);
            let x = TensorData::new(rows(block.clone()), [block.len(), self.network.dim()]);
            let x = Tensor::from_data(x, &self.device);
            let p = download(softmax(self.network.logits(&self.theta, x), 1));
            for p in p.chunks_exact(classes) {
                let (mut class, mut largest) = (0, p[0]);
                for (k, &p) in p.iter().enumerate().skip(1) {
                    if p > largest {
                        (class, largest) = (k as u32, p);
                    }
                }
                verdicts.class.push(class);
                verdicts.confidence.push(f64::from(largest));
            }
        }
        verdicts
    }
}

/// The name of each class: the data set's, else its number.
fn class_names(data: &Data) -> Vec<String> {
    let count = data.train_fractions().len().max(data.class_names.len());
    (0..count).map(|k| data.class_names.get(k).cloned().unwrap_or_else(|| k.to_string())).collect()
}
