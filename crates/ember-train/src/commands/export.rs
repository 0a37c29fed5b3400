//! `ember export`: one weight file under PyTorch names, with the config in its metadata.

use std::collections::BTreeMap;

use ember_model::HostTensor;
use ember_model::params::download;

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
    let mut tensors = subject.model.export();
    if args.walkers {
        let walkers = subject.walkers.clone().ok_or_else(|| {
            Error::checkpoint(&args.path, "it holds no walkers to export; leave --walkers away")
        })?;
        let weighted = subject.is_weighted();
        let walkers = walkers_at_theta(&subject.model, walkers, weighted);
        let (n, d) = (walkers.count(), walkers.dim());
        let tensor = |name: &str, shape: Vec<usize>, values: Vec<f32>| HostTensor {
            name: format!("{WALKERS_PREFIX}{name}"),
            shape,
            values,
        };
        tensors.push(tensor("position", vec![n, d], download(walkers.position)));
        tensors.push(tensor("log_weights", vec![n], download(walkers.log_weights.value())));
        tensors.push(tensor("energy", vec![n], download(walkers.energy)));
        tensors.push(tensor("energy_grad", vec![n, d], download(walkers.energy_grad)));
    }
    let metadata = BTreeMap::from([
        ("ember.config".to_owned(), subject.model.spec().to_metadata()),
        ("ember.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("ember.step".to_owned(), subject.step.to_string()),
    ]);
    let tensors: Vec<NamedTensor> = tensors.into_iter().map(NamedTensor::from).collect();
    TensorFile { tensors, metadata }.write(&args.out)?;
    super::print(&format!("{}\n", args.out.display()))
}
