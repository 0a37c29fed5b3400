//! Flows of every kind for the tests: at their start, and away from it.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::upload;
use ember_model::random::{Purpose, Stream};
use ember_model::{EnergyModel, EnergySpec};

/// RealNVP by halves, with act-norm.
pub const HALF: &str = "kind = \"real_nvp\"\nlayers = 4\nhidden = [16, 16]\nact_norm = true";
/// RealNVP by even and odd indices.
pub const PARITY: &str =
    "kind = \"real_nvp\"\nlayers = 3\nhidden = [16]\nactivation = \"tanh\"\nmask = \"checkerboard\"";
/// Spline couplings.
pub const SPLINE: &str = "kind = \"spline_flow\"\nlayers = 3\nhidden = [16]\nbins = 5\nbound = 3.0";
/// Multi-scale RealNVP of one level.
pub const SCALES: &str = "kind = \"multiscale_real_nvp\"\nlevels = 1\ncouplings = 2\nchannels = 6";

/// Every kind on few coordinates: Jacobians, differences and extremes are had one by one.
pub fn small() -> Vec<String> {
    let mut tables = Vec::new();
    for dim in [2, 8] {
        tables.push(format!("dim = {dim}\n{HALF}"));
        tables.push(format!("dim = {dim}\n{SPLINE}"));
    }
    tables.push(format!("dim = 3\n{SPLINE}\nmask = \"checkerboard\"\nact_norm = true"));
    tables.push(format!("shape = [1, 2, 4]\n{SCALES}\nact_norm = true"));
    tables.push(format!("shape = [2, 2, 2]\n{SCALES}\nlogit_alpha = 0.05"));
    for dim in [2, 3, 8] {
        tables.push(format!("dim = {dim}\n{PARITY}"));
    }
    tables
}

/// The starting model of a table on a device.
///
/// # Panics
/// If the table is not valid.
pub fn start(table: &str, device: &Device) -> EnergyModel {
    let spec = EnergySpec::from_metadata(table).expect(table);
    EnergyModel::init(spec, 3, device).expect(table)
}

/// Away from the identity: every parameter moved by noise; the networks' outputs are then of size ⅓.
pub fn trained(table: &str, device: &Device) -> EnergyModel {
    let model = start(table, device);
    let theta = model.host_theta();
    let theta = model.params().into_iter().zip(theta).enumerate().map(|(i, (spec, values))| {
        let fan_in = spec.shape[1..].iter().product::<usize>();
        let size = if spec.shape.len() > 1 { 0.4 / (fan_in as f32).sqrt() } else { 0.1 };
        let noise = Stream::new(4, Purpose::Init).lane(i as u32).normals(values.len(), 1);
        upload(values.iter().zip(noise).map(|(v, z)| v + size * z).collect(), device)
    });
    let theta = theta.collect();
    model.with_theta(theta)
}

/// Standard normals `[count, dim]`.
pub fn normals(lane: u32, count: usize, dim: usize, device: &Device) -> Tensor<2> {
    let values = Stream::new(6, Purpose::Data).lane(lane).normals(count, dim);
    Tensor::from_data(TensorData::new(values, [count, dim]), device)
}

/// `(z, log det)` of x.
///
/// # Panics
/// If the model is no flow.
pub fn inverse(model: &EnergyModel, x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
    model.flow().expect("a flow").inverse(model.theta(), x)
}

/// The kinds of [`small`] on 32, 784 and 3,072 coordinates.
pub fn large() -> Vec<String> {
    let scales = |shape: &str, levels: usize| {
        let table = SCALES.replace("levels = 1", &format!("levels = {levels}"));
        format!("shape = {shape}\n{table}\nact_norm = true")
    };
    let mut tables = vec![scales("[2, 4, 4]", 2), scales("[1, 28, 28]", 2), scales("[3, 32, 32]", 3)];
    tables.push(format!("shape = [1, 28, 28]\n{SCALES}\nlogit_alpha = 0.05"));
    for dim in [32, 784, 3_072] {
        tables.push(format!("dim = {dim}\n{HALF}"));
        tables.push(format!("dim = {dim}\n{PARITY}"));
        // A network's sensitivity to 392 rounded inputs is what rounding grows by at each coupling.
        tables.push(format!("dim = {dim}\n{}", SPLINE.replace("layers = 3", "layers = 2")));
    }
    tables
}
