//! The feature network with its numbers: a safetensors file in, `[n, 2048]` features out.
//!
//! # The file
//! The tensors of pytorch-fid's `pt_inception-2015-12-05-6726825d.pth` under their own names (`Conv2d_1a_3x3.conv.weight`, …); `fc.*`,
//! `AuxLogits.*` and `*.num_batches_tracked` are not needed. Conversion:
//! ```python
//! import torch; from safetensors.torch import save_file
//! weights = torch.load("pt_inception-2015-12-05-6726825d.pth", map_location="cpu")
//! save_file({k: v.contiguous() for k, v in weights.items()}, "inception.safetensors")
//! ```
//! # The computation
//! Bytes v become v/255, a single channel three equal ones; bilinear to 299 × 299 ([`Resize`]), then `2x − 1`, the network with its
//! normalisations folded into the convolutions, the mean over the last 8 × 8 pixels. Resizing is pytorch-fid's, which
//! differs from TensorFlow's in the position of pixel centres.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::{download, upload};
use sha2::Sha256;

use super::inception::{FEATURES, SIDE, Step, UnitSpec, inception};
use super::resize::Resize;
use crate::error::Error;
use crate::store::checksum;
use crate::store::tensor_file::{NamedTensor, TensorFile, Values};

/// Images at a time: bounds the memory (about 16 MB an image at the widest layers).
const BATCH: usize = 16;
/// ε of the batch normalisations.
const EPSILON: f64 = 1e-3;

/// Inception-v3 on a device.
#[derive(Debug)]
pub struct FeatureNetwork {
    steps: Vec<Step<Unit>>,
    device: Device,
    /// What it is, where its numbers are from, and their checksum.
    pub description: String,
}

/// A convolution with its normalisation folded in.
#[derive(Debug)]
struct Unit {
    /// `[out, in, kernel height, kernel width]`.
    weight: Tensor<4>,
    /// `[out]`.
    bias: Tensor<1>,
    stride: usize,
    padding: [usize; 2],
}

impl FeatureNetwork {
    /// Reads a file and checks every tensor the network needs.
    ///
    /// # Errors
    /// A file that cannot be read or is no safetensors file; a tensor that is missing, has another shape, or holds a number that
    /// is not finite or a variance that is negative. Exit code 2.
    pub fn read(path: &Path, device: &Device) -> Result<Self, Error> {
        let file = TensorFile::read(path)?;
        let mut tensors = file.tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        let plan = inception();
        let mut load = |spec: UnitSpec| Unit::load(spec, &mut tensors, path, device);
        let steps =
            plan.into_iter().map(|step| step.try_map(&mut load)).collect::<Result<Vec<_>, Error>>()?;
        warn_of_strangers(&tensors, path);
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let sha256 = checksum::of_file::<Sha256>(path)?;
        let description =
            format!("Inception-v3 of the FID reference implementation, pool3; {name}, sha256 {sha256}");
        Ok(Self { steps, device: device.clone(), description })
    }

    /// Features `[n, 2048]` of images of bytes, `[n, c, h, w]` row-major with `shape = [c, h, w]`. `what` names them in progress lines.
    ///
    /// # Errors
    /// Images that have neither 1 nor 3 channels (exit code 2); features that are not finite (exit code 1).
    ///
    /// # Panics
    /// When the bytes are no whole number of images.
    pub fn features(&self, images: &[u8], shape: [usize; 3], what: &str) -> Result<Vec<f32>, Error> {
        let [c, h, w] = shape;
        if !matches!(c, 1 | 3) || h * w == 0 {
            let message = format!("the feature network needs images of 1 or 3 channels; {shape:?} found");
            return Err(Error::usage(message));
        }
        let dim = c * h * w;
        assert_eq!(images.len() % dim, 0, "{} bytes are no images of {dim}", images.len());
        let (total, start) = (images.len() / dim, Instant::now());
        let resize = Resize::new([h, w], [SIDE; 2], &self.device);
        let mut features = Vec::with_capacity(total * FEATURES);
        let mut told = start;
        for batch in images.chunks(BATCH * dim) {
            let n = batch.len() / dim;
            let values: Vec<f32> = batch.iter().map(|&byte| f32::from(byte) / 255.0).collect();
            let x: Tensor<4> = Tensor::from_data(TensorData::new(values, [n, c, h, w]), &self.device);
            let x = resize.forward(x) * 2.0 - 1.0;
            let x = if c == 1 { Tensor::cat(vec![x; 3], 1) } else { x };
            let last = forward(&self.steps, x);
            let [n, channels, height, width] = last.dims();
            let pooled: Tensor<3> = last.reshape([n, channels, height * width]).mean_dim(2);
            features.extend(download(pooled));
            let done = features.len() / FEATURES;
            if told.elapsed() > Duration::from_secs(30) && done < total {
                told = Instant::now();
                let per_s = done as f64 / start.elapsed().as_secs_f64();
                tracing::info!(
                    done,
                    of = total,
                    left_s = format_args!("{:.0}", (total - done) as f64 / per_s),
                    "features of {what}"
                );
            }
        }
        match features.iter().position(|value| !value.is_finite()) {
            None => Ok(features),
            Some(at) => {
                Err(Error::failed(format!("{what}: the features of image {} are not finite", at / FEATURES)))
            }
        }
    }
}

fn forward(steps: &[Step<Unit>], x: Tensor<4>) -> Tensor<4> {
    steps.iter().fold(x, |x, step| match step {
        Step::Unit(unit) => unit.forward(x),
        Step::Average => {
            let options = AvgPoolOptions::new([3, 3]).with_stride([1, 1]).with_padding([1, 1]);
            avg_pool2d(x, options.with_count_include_pad(false))
        }
        Step::Max { stride, padding } => {
            max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([*stride; 2]).with_padding([*padding; 2]))
        }
        Step::Fork(branches) => {
            Tensor::cat(branches.iter().map(|branch| forward(branch, x.clone())).collect(), 1)
        }
    })
}

impl Unit {
    fn load(
        spec: UnitSpec,
        tensors: &mut HashMap<String, NamedTensor>,
        path: &Path,
        device: &Device,
    ) -> Result<Self, Error> {
        let [conv, scale, shift, mean, variance] =
            spec.tensors().map(|(name, shape)| take(tensors, &name, &shape, path));
        let (mut weight, scale, shift, mean, variance) = (conv?, scale?, shift?, mean?, variance?);
        let fan_in = weight.len() / spec.shape[0];
        let mut bias = Vec::with_capacity(spec.shape[0]);
        for (channel, kernel) in weight.chunks_exact_mut(fan_in).enumerate() {
            if variance[channel] < 0.0 {
                let message = format!(
                    "tensor `{}.bn.running_var`: the variance {} of channel {channel} is negative",
                    spec.name, variance[channel]
                );
                return Err(Error::checkpoint(path, message));
            }
            // γ (w∗x − μ)/√(σ² + ε) + β = (γ/√(σ² + ε) w)∗x + β − γ μ/√(σ² + ε)
            let factor = f64::from(scale[channel]) / (f64::from(variance[channel]) + EPSILON).sqrt();
            kernel.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
            bias.push((f64::from(shift[channel]) - factor * f64::from(mean[channel])) as f32);
        }
        let weight = Tensor::from_data(TensorData::new(weight, spec.shape), device);
        let bias = upload(bias, device);
        Ok(Self { weight, bias, stride: spec.stride, padding: spec.padding })
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([self.stride; 2], self.padding, [1, 1], 1);
        relu(conv2d(x, self.weight.clone(), Some(self.bias.clone()), options))
    }
}

/// The values of one tensor, taken out of the file's contents.
fn take(
    tensors: &mut HashMap<String, NamedTensor>,
    name: &str,
    shape: &[usize],
    path: &Path,
) -> Result<Vec<f32>, Error> {
    let wrong = |message: String| Error::checkpoint(path, message);
    let tensor = tensors.remove(name).ok_or_else(|| {
        wrong(format!(
            "tensor `{name}` is missing; shape {shape:?} was expected. The file must hold the FID Inception-v3 under the \
             names of pytorch-fid's pt_inception-2015-12-05-6726825d.pth"
        ))
    })?;
    if tensor.shape != shape {
        return Err(wrong(format!(
            "tensor `{name}`: shape {:?} found, {shape:?} was expected",
            tensor.shape
        )));
    }
    let Values::F32(values) = tensor.values else {
        return Err(wrong(format!("tensor `{name}` has dtype I64; F32 was expected")));
    };
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(at) => Err(wrong(format!(
            "tensor `{name}`: element {at} is {}; a finite number was expected",
            values[at]
        ))),
    }
}

/// Tensors that neither the network nor its classifier has: perhaps another network's.
fn warn_of_strangers(left: &HashMap<String, NamedTensor>, path: &Path) {
    let known = |name: &str| {
        name.starts_with("fc.") || name.starts_with("AuxLogits.") || name.ends_with(".num_batches_tracked")
    };
    let mut strangers: Vec<&str> = left.keys().map(String::as_str).filter(|name| !known(name)).collect();
    strangers.sort_unstable();
    if let Some(first) = strangers.first() {
        let count = strangers.len();
        tracing::warn!("{}: {count} tensors are not used, `{first}` first", path.display());
    }
}
