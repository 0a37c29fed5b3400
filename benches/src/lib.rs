//! Models the micro-benchmarks share, the figures of `src/bin/scaling.rs`, and whether those of `RESULTS.md` still hold.

pub mod log_log;
pub mod verify;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::{EnergyModel, EnergySpec};

/// The 50-dimensional mixture of two modes.
pub const MIXTURE: &str = "kind = \"gaussian_mixture\"\ndim = 50\nmeans = [[-10.0], [6.0]]\n";
/// The MLP of the peers' benchmark: 2 → 3 × 128 → 1.
pub const MLP: &str = "kind = \"mlp\"\ndim = 2\nhidden = [128, 128, 128]\nconfinement = 1.0\n";

/// The RealNVP of the peers' benchmark: 182,528 parameters.
pub const REAL_NVP: &str =
    "dim = 32\nkind = \"real_nvp\"\nlayers = 8\nhidden = [128, 128]\nactivation = \"relu\"\n";

/// The image network of Carbone et al. for MNIST: 76,993 parameters, 1.71 MFLOP forward an image.
pub const MNIST: &str =
    "kind = \"conv\"\nshape = [1, 28, 28]\nactivation = \"silu\"\nconfinement = 0.01\nlayers = [
    { out = 16, kernel = 5, stride = 2, padding = 4 }, { out = 32, kernel = 3, stride = 2, padding = 1 },
    { out = 64, kernel = 3, stride = 2, padding = 1 }, { out = 64, kernel = 3, stride = 2, padding = 1 },
    { out = 64, kernel = 2 }, { out = 1, kernel = 1 }]\n";
/// That for CIFAR-10: 2,763,393 parameters, 205 MFLOP forward an image.
pub const CIFAR: &str =
    "kind = \"conv\"\nshape = [3, 32, 32]\nactivation = \"leaky_relu\"\nconfinement = 0.01\nlayers = [
    { out = 64, kernel = 3, padding = 1 }, { out = 128, kernel = 4, stride = 2, padding = 1 },
    { out = 256, kernel = 4, stride = 2, padding = 1 }, { out = 512, kernel = 4, stride = 2, padding = 1 },
    { out = 1, kernel = 4 }]\n";

/// A residual network for 32 × 32 colours: three stages of two blocks, group norm.
pub const RESNET: &str = "kind = \"resnet\"\nshape = [3, 32, 32]\nchannels = [32, 64, 128]\nnorm = \"group\"\nconfinement = 0.01\n";

/// Floating-point operations of the forward pass of [`MNIST`], [`CIFAR`] and [`RESNET`] for one image: two per multiply-add of a
/// convolution. The gradient in x takes as many again, the gradient in θ as many again.
pub const FORWARD_FLOP: [f64; 3] = [1_712_256.0, 204_881_920.0, 211_484_672.0];

/// A model on the CPU, from its metadata text.
///
/// # Panics
/// If the text describes no energy.
pub fn model(metadata: &str) -> EnergyModel {
    let spec = EnergySpec::from_metadata(metadata).expect("a valid energy");
    EnergyModel::init(spec, 0, &Device::flex()).expect("it fits")
}

/// Standard normal positions, `[walkers, dim]`.
pub fn positions(model: &EnergyModel, walkers: usize) -> Tensor<2> {
    let dim = ember_model::Energy::dim(model);
    let values = Stream::new(1, Purpose::Start).normals(walkers, dim);
    Tensor::from_data(TensorData::new(values, [walkers, dim]), model.device())
}
