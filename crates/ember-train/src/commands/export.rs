//! `ember export`: one weight file under PyTorch names, with the config in its metadata.

use std::collections::BTreeMap;
use std::path::Path;

use ember_model::params::download;
use ember_model::{EnergyModel, HostTensor};

use crate::cli::ExportArgs;
use crate::error::Error;
use crate::store::opened;
use crate::store::record::WALKERS_PREFIX;
use crate::store::tensor_file::{NamedTensor, TensorFile};
use crate::training::trainer::walkers_at_theta;
use crate::{device, logging};

pub(super) fn run(args: &ExportArgs) -> Result<(), Error> {
    logging::init();
    let selected = device::select("flex")?;
    let mut subject = opened::open(&args.path, &selected.device)?;
    if args.ema {
        subject = subject.averaged(&args.path)?;
    }
    let mut walkers = Vec::new();
    if args.walkers {
        let found = subject.walkers.clone().ok_or_else(|| {
            Error::checkpoint(&args.path, "it holds no walkers to export; leave --walkers away")
        })?;
        let weighted = subject.is_weighted();
        let found = walkers_at_theta(&subject.model, found, weighted);
        let (n, d) = (found.count(), found.dim());
        let tensor = |name: &str, shape: Vec<usize>, values: Vec<f32>| HostTensor {
            name: format!("{WALKERS_PREFIX}{name}"),
            shape,
            values,
        };
        walkers.push(tensor("position", vec![n, d], download(found.position)));
        walkers.push(tensor("log_weights", vec![n], download(found.log_weights.value())));
        walkers.push(tensor("energy", vec![n], download(found.energy)));
        walkers.push(tensor("energy_grad", vec![n, d], download(found.energy_grad)));
    }
    write(&subject.model, subject.step, walkers, &args.out)?;
    super::print(&format!("{}\n", args.out.display()))
}

/// Writes a weight file: the model's tensors, more beside them, and what reads them back.
pub(super) fn write(model: &EnergyModel, step: u64, more: Vec<HostTensor>, out: &Path) -> Result<(), Error> {
    let metadata = BTreeMap::from([
        ("ember.config".to_owned(), model.spec().to_metadata()),
        ("ember.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("ember.step".to_owned(), step.to_string()),
    ]);
    let tensors = model.export().into_iter().chain(more).map(NamedTensor::from).collect();
    TensorFile { tensors, metadata }.write(out)
}
