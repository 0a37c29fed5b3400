//! U, ∇U and weighted parameter gradients of every kind of energy.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec};

use super::exact::{self, Exact};
use super::{Check, Expected};
use crate::error::Error;

/// Of the largest value, or of .3: energies may cancel to next to nothing, while what is added stays of order 1.
const LEAST_ENERGY: f64 = 0.3;
/// Against f64: a sum of a few hundred f32 products is off by some 10⁻⁶ of its size, and a product at tf32 by 10⁻³ of it.
const EXACT: f64 = 1e-5;
/// Against `flex`: twice that, for both sides round.
const NETWORK: f64 = 2e-5;
/// Against `flex`: couplings and norms multiply what earlier layers round; 4·10⁻⁶ was the most found on software Vulkan.
const DEEP: f64 = 5e-5;
/// Rows of the small networks: no multiple of any tile.
const ROWS: usize = 37;

/// A small energy of a kind, and what its rows allow; `None` for a kind that has no example here.
fn example(kind: &str) -> Option<(&'static str, f64)> {
    Some(match kind {
        "gaussian_mixture" => {
            ("dim = 5\nmeans = [[-2.0, 1.0], [3.0], [0.5, -1.0]]\nmeans_noise = 0.3", NETWORK)
        }
        "mlp" => ("dim = 3\nhidden = [24, 17]\nconfinement = 0.7", NETWORK),
        "conv" => (
            "shape = [3, 8, 8]\nactivation = \"silu\"\nconfinement = 0.1\nlayers = [{ out = 6, kernel = 3, padding = 1 }, \
             { out = 8, kernel = 4, stride = 2, padding = 1 }, { out = 1, kernel = 4 }]",
            NETWORK,
        ),
        "resnet" => ("shape = [2, 6, 6]\nchannels = [8, 8]\nblocks_per_stage = 1\nconfinement = 0.3", DEEP),
        "real_nvp" => ("dim = 8\nlayers = 4\nhidden = [16, 16]\nact_norm = true", DEEP),
        "spline_flow" => ("dim = 4\nlayers = 2\nhidden = [16]\nbins = 5\nbound = 3.0", DEEP),
        "multiscale_real_nvp" => ("shape = [1, 4, 4]\nlevels = 1\ncouplings = 2\nchannels = 6", DEEP),
        "tilted" => (
            "dim = 2\nbase = { kind = \"real_nvp\", layers = 2, hidden = [8], act_norm = true }\n\
             tilt = { kind = \"mlp\", hidden = [8] }",
            DEEP,
        ),
        "sum" => (
            "dim = 3\nweights = [1.0, 0.5]\nparts = [{ kind = \"mlp\", hidden = [24, 17], confinement = 0.7 }, \
             { kind = \"mlp\", hidden = [8] }]",
            NETWORK,
        ),
        "mixture" => (
            "dim = 3\nweights = [1.0, 3.0]\nlog_z = [0.5, 1.0]\nparts = [{ kind = \"mlp\", hidden = [24, 17], confinement = 0.7 }, \
             { kind = \"mlp\", hidden = [8], confinement = 0.5 }]",
            NETWORK,
        ),
        "negation" => (
            "dim = 3\nweights = [1.3, 0.3]\nparts = [{ kind = \"mlp\", hidden = [24, 17], confinement = 0.7 }, \
             { kind = \"mlp\", hidden = [8], confinement = 0.5 }]",
            NETWORK,
        ),
        "rbm" => ("dim = 9\nhidden = 7\nweights_std = 0.3", NETWORK),
        _ => return None,
    })
}

pub(super) fn rows(check: &mut Check<'_>) {
    for kind in EnergyConfig::KINDS {
        let Some((table, allowed)) = example(kind) else { continue };
        match model(&format!("kind = \"{kind}\"\n{table}")) {
            Ok(model) => against_the_tape(check, kind, &model, allowed),
            Err(error) => check.row(*kind, "flex", allowed, &[], || Err(Error::failed(error.clone()))),
        }
    }
    // The benchmarks' sizes, whose kernels are not those of the small networks.
    let tables = [
        "kind = \"mlp\"\ndim = 2\nhidden = [128, 128, 128]\nconfinement = 1.0",
        "kind = \"gaussian_mixture\"\ndim = 50\nmeans = [[-3.0], [2.0]]\nmeans_noise = 0.1",
    ];
    for table in tables {
        if let Ok(model) = model(table) {
            against_f64(check, &model, 1_000);
        }
    }
}

/// Away from the start, whose last layer is zero: every parameter moved by noise.
pub(super) fn model(table: &str) -> Result<EnergyModel, String> {
    let flex = Device::flex();
    let spec = EnergySpec::from_metadata(table).map_err(|error| error.to_string())?;
    let start = EnergyModel::init(spec, 3, &flex).map_err(|error| error.to_string())?;
    let theta = start.params().into_iter().zip(start.host_theta()).enumerate();
    let theta = theta.map(|(i, (spec, values))| {
        let fan_in: usize = spec.shape[1..].iter().product();
        let size = if spec.shape.len() > 1 { 0.4 / (fan_in as f32).sqrt() } else { 0.1 };
        let noise = Stream::new(4, Purpose::Init).lane(100 + i as u32).normals(1, values.len());
        upload(values.iter().zip(noise).map(|(value, z)| value + size * z).collect(), &flex)
    });
    let theta = theta.collect();
    Ok(start.with_theta(theta))
}

/// The same model on another device.
pub(super) fn on(model: &EnergyModel, device: &Device) -> Result<EnergyModel, Error> {
    let start = EnergyModel::init(model.spec().clone(), 3, device)?;
    Ok(start.with_theta(model.host_theta().into_iter().map(|values| upload(values, device)).collect()))
}

/// `[n, dim]` on a device.
pub(super) fn matrix(values: &[f32], dim: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / dim, dim]), device)
}

/// Positions `[n, dim]`, and weights `[n]` of both signs.
fn inputs(model: &EnergyModel, n: usize) -> (Vec<f32>, Vec<f32>) {
    (Stream::new(7, Purpose::Start).normals(n, model.dim()), Stream::new(8, Purpose::Start).normals(1, n))
}

fn against_the_tape(check: &mut Check<'_>, kind: &str, model: &EnergyModel, allowed: f64) {
    let (flex, dim) = (Device::flex(), model.dim());
    let (x, weights) = inputs(model, ROWS);
    let Ok(architecture) = model.spec().build() else { return };
    let (architecture, theta) = (architecture.as_ref(), model.theta());
    let at = matrix(&x, dim, &flex);
    let (energy, grad) = energy_and_grad_by_autodiff(architecture, theta, at.clone());
    let weighted = |weights: Vec<f32>| -> Vec<Vec<f32>> {
        let terms = [(at.clone(), upload(weights, &flex))];
        weighted_param_grads_by_autodiff(architecture, theta, &terms)
            .grads
            .into_iter()
            .map(download)
            .collect()
    };
    let sizes = weighted(weights.iter().map(|w| w.abs()).collect());
    let mut grads = weighted(weights.clone());
    // Frozen parameters have no gradient in the explicit forms: nobody looks at it.
    let mut trained = Vec::new();
    for (i, spec) in model.params().iter().enumerate() {
        if spec.name == "log_masses" {
            grads[i][0] = 0.0;
        }
        if spec.learning_rate_scale != 0.0 {
            trained.push(i);
        }
    }
    let expected = |i: usize| {
        Expected::of_size(grads[i].iter().copied(), size(&grads[i]).max(size(&sizes[i])).max(1e-30))
    };
    let grads: Vec<Expected> = trained.iter().map(|&i| expected(i)).collect();
    let energies =
        [Expected::relative(download(energy), LEAST_ENERGY), Expected::relative(download(grad), 0.0)];
    of_a_model(check, kind, "flex", allowed, model, (&x, &weights), &energies, &grads, &trained);
}

fn against_f64(check: &mut Check<'_>, model: &EnergyModel, n: usize) {
    let (x, weights) = inputs(model, n);
    let (theta, dim) = (model.host_theta(), model.dim());
    let kind = model.spec().energy.kind();
    let Exact { energy, grad, param_grads, sizes } = match kind {
        "mlp" => exact::mlp(&theta, dim, model.confinement().unwrap_or(0.0), &x, &weights),
        _ => exact::mixture(&theta, dim, &x, &weights),
    };
    let energies = [Expected::relative(energy, LEAST_ENERGY), Expected::relative(grad, 0.0)];
    let grads: Vec<Expected> = param_grads
        .into_iter()
        .zip(&sizes)
        .map(|(grad, size)| Expected::of_size(grad, super::largest(size).max(1e-30)))
        .collect();
    let all: Vec<usize> = (0..grads.len()).collect();
    let name = format!("{kind}, {n} rows");
    of_a_model(check, &name, "f64", EXACT, model, (&x, &weights), &energies, &grads, &all);
}

fn size(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |largest: f64, &value| largest.max(f64::from(value).abs()))
}

/// Three rows: U alone, U with ∇U, and the gradients of the parameters `trained`.
#[allow(clippy::too_many_arguments)] // What is compared, and with what.
fn of_a_model(
    check: &mut Check<'_>,
    name: &str,
    against: &'static str,
    allowed: f64,
    model: &EnergyModel,
    (x, weights): (&[f32], &[f32]),
    energies: &[Expected; 2],
    grads: &[Expected],
    trained: &[usize],
) {
    let (device, dim) = (check.device(), model.dim());
    check.row(format!("{name}: U"), against, allowed, &energies[..1], || {
        Ok(vec![download(on(model, &device)?.energy(matrix(x, dim, &device)))])
    });
    check.row(format!("{name}: U, ∇U"), against, allowed, energies, || {
        let (energy, grad) = on(model, &device)?.energy_and_grad(matrix(x, dim, &device));
        Ok(vec![download(energy), download(grad)])
    });
    check.row(format!("{name}: ∂θ"), against, allowed, grads, || {
        // Two terms, as an update has.
        let (half, n) = (weights.len() / 2, weights.len());
        let terms = [0..half, half..n].map(|rows| {
            let part = matrix(&x[rows.start * dim..rows.end * dim], dim, &device);
            (part, upload(weights[rows].to_vec(), &device))
        });
        let found = on(model, &device)?.weighted_param_grads(&terms).grads;
        Ok(trained.iter().map(|&i| download(found[i].clone())).collect())
    });
}
