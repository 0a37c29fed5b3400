//! A network of random weights with start points, so that a speed can be measured where no files are.
//!
//! The same law as the files of the peers' programs: weights `N(0, 1/fan_in)`, biases `N(0, 0.01)`, positions `N(0, I)`. Every tensor of
//! a network is drawn; what other energies hold keeps its starting value unless that is zero.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::upload;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec, ModelError, ParamSpec};

use crate::error::Error;

const EXAMPLE: &str = "{ kind = \"mlp\", dim = 2, hidden = [128, 128, 128] }";

/// The model of `energy`, the `[energy]` table of a config with `dim` or `shape` as an inline table, and `walkers` positions
/// `[walkers, dim]`.
///
/// # Errors
/// A text that describes no energy, or more walkers than one array has room for.
pub fn random_model(
    energy: &str,
    walkers: usize,
    device: &Device,
) -> Result<(EnergyModel, Tensor<2>), Error> {
    let spec = spec(energy)
        .map_err(|found| Error::usage(format!("--energy: {found}; expected, for example, {EXAMPLE}")))?;
    let model = EnergyModel::init(spec, 0, device)?;
    let starts = model.host_theta();
    let drawn = |(i, param): (usize, ParamSpec)| upload(drawn(i, &param, &starts[i]), device);
    let model = model.with_theta(model.params().into_iter().enumerate().map(drawn).collect());
    let dim = model.dim();
    if walkers.checked_mul(dim).is_none_or(|values| values > i32::MAX as usize) {
        return Err(Error::usage(format!(
            "--walkers {walkers}: {walkers} × {dim} coordinates are more than 2³¹ − 1; at most {} walkers here",
            i32::MAX as usize / dim
        )));
    }
    let values = Stream::new(1, Purpose::Start).normals(walkers, dim);
    Ok((model, Tensor::from_data(TensorData::new(values, [walkers, dim]), device)))
}

/// The energy's table from its text.
fn spec(energy: &str) -> Result<EnergySpec, String> {
    let mut document: toml::Table =
        format!("energy = {energy}").parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    match document.remove("energy") {
        Some(toml::Value::Table(table)) if document.is_empty() => {
            EnergySpec::from_metadata(&table.to_string()).map_err(|error| match error {
                ModelError::Metadata(message) => message,
                other => other.to_string(),
            })
        }
        _ => Err(format!("`{energy}` is no inline table")),
    }
}

/// Values of the `i`-th parameter.
fn drawn(i: usize, param: &ParamSpec, start: &[f32]) -> Vec<f32> {
    let network = param.name.contains("layers.");
    if !network && start.iter().any(|&value| value != 0.0) {
        return start.to_vec();
    }
    let fan_in: usize = param.shape[1..].iter().product();
    let std = if param.shape.len() == 1 { 0.1 } else { (1.0 / fan_in as f32).sqrt() };
    let stream = Stream::new(0, Purpose::Init).lane(i as u32);
    stream.normals(param.shape[0], fan_in).into_iter().map(|z| std * z).collect()
}
