//! Training the classifier: cross-entropy on noisy images, Adam with a cosine decay, a fixed seed.
//!
//! The images are what the energy learns from: dequantised, mirrored where the data set mirrors, with its data noise. About
//! 120,000 images are shown, at least 2 and at most 20 times each.

use burn::optim::{AdamConfig, AdamState, Optimizer as _};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};

use super::network::{LeNet, MIN_SIDE};
use super::{Classifier, Held, class_names};
use crate::config::Schedule;
use crate::dataset::{Augmentation, Data};
use crate::error::Error;
use crate::training::noisy::Noisy;
use ember_sampler::statistics::Estimate;

/// Seed of the starting weights, the order and the noise: the classifier does not depend on the run.
const SEED: u64 = 1998;
/// Images of one update.
const BATCH: usize = 64;
/// Images to show in all.
const IMAGES: usize = 120_000;
const LEARNING_RATE: f64 = 2e-3;

/// Trains a classifier on the training set of `data` and tests it on the held-out set. A pure function of both.
///
/// # Errors
/// Samples that are no images of at least 12 × 12 pixels, or of fewer than two classes, or none to train on.
pub fn train(data: &Data, augmentation: Augmentation) -> Result<Classifier, Error> {
    let classes = class_names(data);
    let n = data.train_labels.len();
    let network = LeNet::new(data.shape, classes.len()).filter(|_| n > 0).ok_or_else(|| {
        Error::usage(format!(
            "a classifier needs training images of at least {MIN_SIDE} × {MIN_SIDE} pixels in two or more classes, \
             found {n} samples of shape {} in {}",
            data.shape,
            classes.len()
        ))
    })?;
    let device = Device::flex();
    let batch = BATCH.min(n);
    let epochs = IMAGES.div_ceil(n).clamp(2, 20);
    let rate = Schedule::Cosine { end: 0.0, horizon: (epochs * (n / batch)) as u64 };

    let mut theta = network.init(SEED, &device);
    let adam = AdamConfig::new().build();
    let mut states: Vec<Option<AdamState<1>>> = vec![None; theta.len()];
    let mut step = 0;
    for epoch in 0..epochs as u64 {
        let order = Stream::new(SEED, Purpose::Batch).at(epoch)?.permutation(n);
        for rows in order.chunks_exact(batch) {
            let (x, targets) = shown(data, augmentation, classes.len(), rows, epoch)?;
            let x = Tensor::from_data(TensorData::new(x, [batch, network.dim()]), &device);
            let targets = Tensor::from_data(TensorData::new(targets, [batch, classes.len()]), &device);
            let grads = gradient(&network, &theta, x, targets);
            let rate = rate.learning_rate(LEARNING_RATE, step);
            for ((tensor, grad), state) in theta.iter_mut().zip(grads).zip(&mut states) {
                (*tensor, *state) = adam.step(rate, tensor.clone(), grad, state.take());
            }
            step += 1;
        }
    }
    let mut classifier = Classifier { network, theta, held_out: Held { classes, ..Held::default() }, device };
    classifier.test(data, augmentation);
    Ok(classifier)
}

/// The images of some rows, `[rows, dim]`, and their classes as one-hot rows, `[rows, classes]`.
fn shown(
    data: &Data,
    augmentation: Augmentation,
    classes: usize,
    rows: &[u32],
    epoch: u64,
) -> Result<(Vec<f32>, Vec<f32>), Error> {
    let noisy = Noisy::new(augmentation.noise, SEED, 0).at(epoch)?;
    let coins = Stream::new(SEED, Purpose::Batch).lane(1).at(epoch)?;
    let mut x = Vec::with_capacity(rows.len() * data.shape.dim());
    let mut targets = vec![0.0; rows.len() * classes];
    for (target, &row) in targets.chunks_exact_mut(classes).zip(rows) {
        let mut image = noisy.row(&data.train, data.shape.dim(), row as usize);
        if augmentation.flip && coins.uniform_f64(row) < 0.5 {
            mirror(&mut image, data);
        }
        x.append(&mut image);
        target[data.train_labels[row as usize] as usize] = 1.0;
    }
    Ok((x, targets))
}

/// Left becomes right.
fn mirror(image: &mut [f32], data: &Data) {
    if let ember_model::SampleShape::Image([_, _, width]) = data.shape {
        image.chunks_exact_mut(width).for_each(<[f32]>::reverse);
    }
}

/// `∂_θ` of the mean cross-entropy `−(1/n) Σ_i Σ_k t_ik log p_k(x_i)`.
fn gradient(network: &LeNet, theta: &[Tensor<1>], x: Tensor<2>, targets: Tensor<2>) -> Vec<Tensor<1>> {
    let [n, _] = x.dims();
    let theta: Vec<Tensor<1>> = theta.iter().map(|tensor| tensor.clone().autodiff().require_grad()).collect();
    let log_p = log_softmax(network.logits(&theta, x), 1);
    let loss = (log_p * targets).sum().div_scalar(-(n as f64));
    let mut tape = loss.backward();
    let grad = |tensor: &Tensor<1>| {
        tensor.grad_remove(&mut tape).unwrap_or_else(|| tensor.clone().without_autodiff().zeros_like())
    };
    theta.iter().map(grad).collect()
}

impl Classifier {
    /// Accuracy and mean confidence on the held-out set, with fixed noise.
    fn test(&mut self, data: &Data, augmentation: Augmentation) {
        let noisy = Noisy::held_out(augmentation.noise);
        let n = data.test_labels.len();
        let verdicts = self.judge_blocks(n, |rows| noisy.rows(&data.test, data.shape.dim(), rows));
        let right = verdicts.class.iter().zip(&data.test_labels).map(|(a, b)| f64::from(u8::from(a == b)));
        self.held_out.accuracy = Estimate::mean(&right.collect::<Vec<_>>());
        self.held_out.confidence = Estimate::mean(&verdicts.confidence);
        self.held_out.count = n;
    }
}
