//! Which tensor of a checkpoint is in which file, under which name.

use std::collections::BTreeMap;
use std::path::Path;

use ember_model::HostTensor;

use super::state::Population;
use super::{AUDIT, Checkpoint, MODEL, OPTIMIZER, WALKERS, WalkersRecord};
use crate::error::Error;
use crate::store::tensor_file::{TensorFile, TensorRef, Values, ValuesRef};

/// θ is told from the optimiser's tensors by this.
const PARAM: &str = "param.";

/// A file to be written: name, tensors, metadata.
pub(super) type Content<'a> = (&'static str, Vec<TensorRef<'a>>, BTreeMap<String, String>);

/// The tensor files of a checkpoint, borrowing its values.
pub(super) fn files(checkpoint: &Checkpoint) -> Vec<Content<'_>> {
    let metadata = BTreeMap::from([
        ("ember.config".to_owned(), checkpoint.energy_config.clone()),
        ("ember.version".to_owned(), checkpoint.environment.ember_version.clone()),
        ("ember.step".to_owned(), checkpoint.step.to_string()),
    ]);
    let model = checkpoint.model.iter().map(TensorRef::from).collect();

    let theta = checkpoint.theta.iter().map(|tensor| TensorRef {
        name: format!("{PARAM}{}", tensor.name).into(),
        ..TensorRef::from(tensor)
    });
    let optimizer = checkpoint.optimizer.iter().map(|tensor| {
        assert!(
            !tensor.name.starts_with(PARAM),
            "optimiser tensor `{}`: the prefix `{PARAM}` is θ's",
            tensor.name
        );
        TensorRef::from(tensor)
    });
    let mut files =
        vec![(MODEL, model, metadata), (OPTIMIZER, theta.chain(optimizer).collect(), BTreeMap::new())];
    if let Some(walkers) = &checkpoint.walkers {
        files.push((WALKERS, population(walkers, ""), BTreeMap::new()));
    }
    if !checkpoint.audit.is_empty() {
        let ensembles = checkpoint.audit.iter().enumerate();
        let tensors = ensembles.flat_map(|(i, record)| population(record, &format!("{i}.")));
        files.push((AUDIT, tensors.collect(), BTreeMap::new()));
    }
    files
}

fn population<'a>(record: &'a WalkersRecord, prefix: &str) -> Vec<TensorRef<'a>> {
    let (n, d) = (record.count, record.dim);
    let f32s = |name: &str, shape: &[usize], values: &'a [f32]| {
        TensorRef::new(format!("{prefix}{name}"), shape, ValuesRef::F32(values))
    };
    vec![
        f32s("position", &[n, d], &record.position),
        f32s("energy", &[n], &record.energy),
        f32s("energy_grad", &[n, d], &record.energy_grad),
        f32s("log_weights", &[n], &record.log_weights),
        f32s("log_weights_compensation", &[n], &record.log_weights_compensation),
        TensorRef::new(format!("{prefix}ancestor"), &[n], ValuesRef::I64(&record.ancestor)),
    ]
}

/// Parts a file of [`OPTIMIZER`] into θ and the optimiser's tensors.
pub(super) fn split_optimizer(
    file: TensorFile,
    path: &Path,
) -> Result<(Vec<HostTensor>, Vec<HostTensor>), Error> {
    let (mut theta, mut optimizer) = (Vec::new(), Vec::new());
    for mut tensor in file.into_host_tensors(path)? {
        match tensor.name.strip_prefix(PARAM) {
            Some(name) => {
                tensor.name = name.to_owned();
                theta.push(tensor);
            }
            None => optimizer.push(tensor),
        }
    }
    Ok((theta, optimizer))
}

/// Takes one population out of a file.
pub(super) fn take_population(
    file: &mut TensorFile,
    prefix: &str,
    scalars: Population,
    path: &Path,
) -> Result<WalkersRecord, Error> {
    let (n, d) = (scalars.count, scalars.dim);
    let mut take = |name: &str, shape: &[usize]| {
        let name = format!("{prefix}{name}");
        let bad = |message: String| Error::checkpoint(path, message);
        let tensor =
            file.take(&name).ok_or_else(|| bad(format!("tensor `{name}` of shape {shape:?} is missing")))?;
        if tensor.shape != shape {
            return Err(bad(format!("tensor `{name}` has shape {:?}; {shape:?} was expected", tensor.shape)));
        }
        Ok((name, tensor.values))
    };
    let mut floats = |name: &str, shape: &[usize]| match take(name, shape)? {
        (_, Values::F32(values)) => Ok(values),
        (name, Values::I64(_)) => Err(wrong_type(path, &name, "I64", "F32")),
    };
    let position = floats("position", &[n, d])?;
    let energy = floats("energy", &[n])?;
    let energy_grad = floats("energy_grad", &[n, d])?;
    let log_weights = floats("log_weights", &[n])?;
    let log_weights_compensation = floats("log_weights_compensation", &[n])?;
    let ancestor = match take("ancestor", &[n])? {
        (_, Values::I64(values)) => values,
        (name, Values::F32(_)) => return Err(wrong_type(path, &name, "F32", "I64")),
    };
    Ok(WalkersRecord {
        count: n,
        dim: d,
        position,
        energy,
        energy_grad,
        log_weights,
        log_weights_compensation,
        ancestor,
        log_z: scalars.log_z,
        resamplings: scalars.resamplings,
    })
}

fn wrong_type(path: &Path, name: &str, found: &str, expected: &str) -> Error {
    Error::checkpoint(path, format!("tensor `{name}` has dtype {found}; {expected} was expected"))
}
