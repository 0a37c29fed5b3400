//! The parts of a training state as a checkpoint has them, and back: walkers, θ, averages, proposal flows.
//!
//! `training/state.rs` puts a trainer together from them, [`super::opened`] a model to sample or judge.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::{EnergyModel, EnergySpec, HostTensor};
use ember_sampler::weights::LogWeights;
use ember_sampler::{Banked, Counter, Walkers};
use serde_json::Value;

use crate::error::Error;
use crate::store::checkpoint::{Checkpoint, Environment, WalkersRecord};

pub(crate) mod contents;
pub use contents::{check_config, first_difference};

/// Names in an exported weight file that hold walkers, not parameters, begin with this.
pub const WALKERS_PREFIX: &str = "walkers.";

/// Names in the optimiser's file that hold the moving average of θ begin with this.
pub(crate) const EMA_PREFIX: &str = "ema.";

/// Names in the optimiser's file that hold a proposal flow and what moves it begin with this and the flow's number.
pub(crate) const PROPOSAL_PREFIX: &str = "proposal.";

/// Names in the optimiser's file that hold the objective's own numbers and what moves them begin with this.
pub(crate) const OWN_PREFIX: &str = "own.";

/// The objective's own numbers in a checkpoint; none where it has none.
pub(crate) fn own_numbers(checkpoint: &Checkpoint) -> Vec<f32> {
    let name = format!("{OWN_PREFIX}values");
    let found = checkpoint.optimizer.iter().find(|tensor| tensor.name == name);
    found.map(|tensor| tensor.values.clone()).unwrap_or_default()
}

/// What this process runs on.
pub fn environment(device_label: &str) -> Environment {
    Environment {
        ember_version: env!("CARGO_PKG_VERSION").to_owned(),
        device: device_label.to_owned(),
        threads: rayon::current_num_threads(),
    }
}

/// Why the run's end is doubtful, as its last checkpoint has it.
pub(crate) fn doubts(extra: &Value) -> Vec<String> {
    serde_json::from_value(extra["doubts"].clone()).unwrap_or_default()
}

/// θ as it is trained (a weight file may hold a normalised form).
pub(crate) fn named_theta(model: &EnergyModel, prefix: &str) -> Vec<HostTensor> {
    let tensor = |(spec, values): (ember_model::ParamSpec, Vec<f32>)| HostTensor {
        name: format!("{prefix}{}", spec.name),
        shape: spec.shape,
        values,
    };
    model.params().into_iter().zip(model.host_theta()).map(tensor).collect()
}

/// The tensors whose names begin with `prefix`, without it.
pub(crate) fn without_prefix(tensors: &[HostTensor], prefix: &str) -> Vec<HostTensor> {
    let own = |tensor: &HostTensor| {
        let name = tensor.name.strip_prefix(prefix)?.to_owned();
        Some(HostTensor { name, ..tensor.clone() })
    };
    tensors.iter().filter_map(own).collect()
}

/// The proposal flows of a checkpoint; none where its run has none.
pub(crate) fn proposal_flows(
    checkpoint: &Checkpoint,
    origin: &Path,
    device: &Device,
) -> Result<Vec<EnergyModel>, Error> {
    let extra = &checkpoint.extra["proposal"];
    let (Some(table), Some(count)) = (extra["flow"].as_str(), extra["count"].as_u64()) else {
        return Ok(Vec::new());
    };
    let spec = EnergySpec::from_metadata(table)?;
    let wrong = |message: String| Error::checkpoint(origin, format!("state.json: proposal: {message}"));
    if !(1..=2).contains(&count) {
        return Err(wrong(format!("count = {count} found, expected 1 or 2 flows")));
    }
    let dim = EnergySpec::from_metadata(&checkpoint.energy_config)?.shape.dim();
    if spec.shape.dim() != dim {
        let found = spec.shape.dim();
        return Err(wrong(format!("a flow on {found} coordinates found, expected the {dim} of the energy")));
    }
    let flow = |k| {
        let tensors = without_prefix(&checkpoint.optimizer, &format!("{PROPOSAL_PREFIX}{k}.flow."));
        let flow = EnergyModel::from_tensors(spec.clone(), tensors, device)?;
        match flow.flow() {
            Some(_) => Ok(flow),
            None => Err(wrong(format!("a {} found, expected a flow", spec.energy.kind()))),
        }
    };
    (0..count).map(flow).collect()
}

/// The model at the moving average of θ that lies among the optimiser's tensors; `None` where there is none.
pub(crate) fn ema_model(model: &EnergyModel, optimizer: &[HostTensor]) -> Result<Option<EnergyModel>, Error> {
    let tensors = without_prefix(optimizer, EMA_PREFIX);
    if tensors.is_empty() {
        return Ok(None);
    }
    Ok(Some(EnergyModel::from_tensors(model.spec().clone(), tensors, model.device())?))
}

/// Walkers in host memory.
pub fn walkers_record(walkers: &Walkers) -> WalkersRecord {
    WalkersRecord {
        position: download(walkers.position.clone()),
        energy: download(walkers.energy.clone()),
        energy_grad: download(walkers.energy_grad.clone()),
        log_weights: download(walkers.log_weights.value()),
        log_weights_compensation: download(walkers.log_weights.compensation()),
        ancestor: walkers.ancestor.clone().into_data().iter::<i64>().collect(),
        count: walkers.count(),
        dim: walkers.dim(),
        log_z: walkers.log_z.value(),
        resamplings: walkers.resamplings.read(),
    }
}

/// Walkers on the device.
pub fn walkers(record: &WalkersRecord, device: &Device) -> Walkers {
    let (n, d) = (record.count, record.dim);
    let rows = |values: &Vec<f32>| Tensor::from_data(TensorData::new(values.clone(), [n, d]), device);
    let ancestor: Vec<i32> = record.ancestor.iter().map(|&i| i as i32).collect();
    Walkers {
        position: rows(&record.position),
        energy: upload(record.energy.clone(), device),
        energy_grad: rows(&record.energy_grad),
        log_weights: LogWeights::from_parts(
            upload(record.log_weights.clone(), device),
            upload(record.log_weights_compensation.clone(), device),
        ),
        ancestor: Tensor::from_data(TensorData::new(ancestor, [n]), device),
        log_z: Banked::new(vec![record.log_z], device),
        resamplings: Counter::new(record.resamplings, device),
    }
}
