//! Models the micro-benchmarks share.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::{EnergyModel, EnergySpec};

/// The 50-dimensional mixture of two modes.
pub const MIXTURE: &str = "kind = \"gaussian_mixture\"\ndim = 50\nmeans = [[-10.0], [6.0]]\n";
/// The MLP of the peers' benchmark: 2 → 3 × 128 → 1.
pub const MLP: &str = "kind = \"mlp\"\ndim = 2\nhidden = [128, 128, 128]\nconfinement = 1.0\n";

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
