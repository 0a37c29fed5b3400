//! The network: LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998) with rectifiers and maxima in place of tanh and averages.
//!
//! `[c, h, w]` → conv 8 × 5×5 (pad 2) → max 2×2 → conv 16 × 5×5 → max 2×2 → 64 → classes. On 1×28×28 with three classes:
//! 29,267 parameters, .48 M multiply-adds an image. The smallest side is 12 pixels: one position is left then.

use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};
use ember_model::ParamSpec;
use ember_model::SampleShape;
use ember_model::params::upload;
use ember_model::random::{Purpose, Stream};

/// Smallest height and width.
pub const MIN_SIDE: usize = 12;
/// Channels of the two convolutions.
const CHANNELS: [usize; 2] = [8, 16];
const KERNEL: usize = 5;
/// Units of the hidden linear layer.
const HIDDEN: usize = 64;

/// The network's shape; its parameters are a list of flat tensors, as an energy's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeNet {
    image: [usize; 3],
    classes: usize,
}

impl LeNet {
    /// A network for `classes` kinds of images; `None` for what is no image, or too small a one, or fewer than two classes.
    pub fn new(shape: SampleShape, classes: usize) -> Option<Self> {
        match shape {
            SampleShape::Image(image @ [_, h, w]) if h.min(w) >= MIN_SIDE && classes >= 2 => {
                Some(Self { image, classes })
            }
            _ => None,
        }
    }

    /// Pixels of one image, all channels.
    pub fn dim(&self) -> usize {
        self.image.iter().product()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Names and shapes of the parameters, in PyTorch's layout.
    pub fn params(&self) -> Vec<ParamSpec> {
        let [c, h, w] = self.image;
        // A 5×5 convolution that keeps the size, one that takes 4 pixels, and a halving after each.
        let side = |side: usize| (side / 2 - (KERNEL - 1)) / 2;
        let features = CHANNELS[1] * side(h) * side(w);
        let weights = [
            vec![CHANNELS[0], c, KERNEL, KERNEL],
            vec![CHANNELS[1], CHANNELS[0], KERNEL, KERNEL],
            vec![HIDDEN, features],
            vec![self.classes, HIDDEN],
        ];
        let layer = |(i, shape): (usize, &Vec<usize>)| {
            [
                ParamSpec::new(format!("layers.{i}.weight"), shape.clone()),
                ParamSpec::new(format!("layers.{i}.bias"), vec![shape[0]]),
            ]
        };
        weights.iter().enumerate().flat_map(layer).collect()
    }

    /// Kaiming-normal weights (He et al. 2015: variance `2 / fan_in`) and zero biases.
    pub fn init(&self, seed: u64, device: &Device) -> Vec<Tensor<1>> {
        let draw = |(i, spec): (usize, ParamSpec)| {
            if spec.shape.len() == 1 {
                return Tensor::zeros([spec.len()], device);
            }
            let fan_in: usize = spec.shape[1..].iter().product();
            let std = (2.0 / fan_in as f32).sqrt();
            let stream = Stream::new(seed, Purpose::Init).lane(i as u32);
            upload(stream.normals(spec.shape[0], fan_in).into_iter().map(|z| std * z).collect(), device)
        };
        self.params().into_iter().enumerate().map(draw).collect()
    }

    /// Unnormalised log-probabilities: `x: [n, dim]` → `[n, classes]`.
    pub fn logits(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<2> {
        let [n, _] = x.dims();
        let [c, h, w] = self.image;
        let params = self.params();
        let weight = |layer: usize| {
            let shape = &params[2 * layer].shape;
            (theta[2 * layer].clone(), shape, theta[2 * layer + 1].clone())
        };
        let mut hidden = x.reshape([n, c, h, w]);
        for (layer, padding) in [(0, KERNEL / 2), (1, 0)] {
            let (kernel, shape, bias) = weight(layer);
            let kernel = kernel.reshape([shape[0], shape[1], shape[2], shape[3]]);
            let options = ConvOptions::new([1, 1], [padding; 2], [1, 1], 1);
            hidden = conv2d(hidden, kernel, Some(bias), options);
            hidden = relu(max_pool2d(hidden, MaxPoolOptions::new([2, 2])));
        }
        let linear = |x: Tensor<2>, layer: usize| {
            let (matrix, shape, bias) = weight(layer);
            x.matmul(matrix.reshape([shape[0], shape[1]]).transpose()) + bias.reshape([1, shape[0]])
        };
        let features = params[4].shape[1];
        let hidden = relu(linear(hidden.reshape([n, features]), 2));
        linear(hidden, 3)
    }
}
