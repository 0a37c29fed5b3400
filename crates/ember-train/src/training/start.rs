//! Where walkers start, and what `log Z` of that law is.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::shape::Support;
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_sampler::Walkers;
use ember_sampler::evidence::{AUDIT_LANE, Ensembles};

use crate::config::{AuditConfig, Config, WalkerInit};
use crate::dataset::{Data, Rows};
use crate::error::Error;
use crate::store::opened;
use crate::training::batches::Batches;
use crate::training::objective::NoiseFlow;
use crate::training::pretrain;

/// The base of a tilted energy: the parameters of a checkpoint, or those that `[pretrain]` fits to the data.
///
/// # Errors
/// A checkpoint that cannot be opened or is no longer the flow it was, or as [`pretrain::fit`].
pub fn base(
    config: &Config,
    model: &EnergyModel,
    data: &Data,
    device: &Device,
) -> Result<EnergyModel, Error> {
    let flow =
        model.flow_part().ok_or_else(|| Error::usage("a tilted energy at temperature 1 was expected"))?;
    let from = config.energy.tilted().and_then(|tilted| tilted.base_from.as_deref());
    opened_or_fitted(
        flow,
        from,
        ["energy.base", "base", "fitting the base to the data"],
        config,
        data,
        device,
    )
}

/// The flow of an objective's noise: of a checkpoint, or fitted to the data.
///
/// # Errors
/// As [`base`].
pub fn noise_flow(
    noise: NoiseFlow<'_>,
    config: &Config,
    data: &Data,
    device: &Device,
) -> Result<EnergyModel, Error> {
    let flow = EnergyModel::init(EnergySpec::new(data.shape, noise.table.clone()), config.seed, device)?;
    opened_or_fitted(
        flow,
        noise.from,
        ["objective.flow", "flow", "fitting the flow of the noise to the data"],
        config,
        data,
        device,
    )
}

fn opened_or_fitted(
    flow: EnergyModel,
    from: Option<&str>,
    [key, what, fitting]: [&'static str; 3],
    config: &Config,
    data: &Data,
    device: &Device,
) -> Result<EnergyModel, Error> {
    match from {
        Some(path) => {
            let found = opened::open(Path::new(path), device)?.model;
            if found.spec() != flow.spec() {
                let message =
                    format!("it is not the flow that {key} describes: the run's {what} was another");
                return Err(Error::checkpoint(Path::new(path), message));
            }
            Ok(found)
        }
        None => {
            let pretrain = config.pretraining();
            let mut batches = pretrain_batches(config, data, device)?;
            pretrain::fit(flow, &pretrain, fitting, |update| batches.batch(update))
        }
    }
}

/// Checks that all data lie in the support: a density that is 0 at one of them has an infinite cross-entropy, and a walker that starts there
/// has no transition density. Bytes of images always do.
///
/// # Errors
/// The first row outside, with its coordinate.
pub fn check_support(support: Support, data: &Data) -> Result<(), Error> {
    let dim = data.shape.dim();
    for (set, rows) in [("training", &data.train), ("held-out", &data.test)] {
        let Rows::F32(values) = rows else { continue };
        let outside = |row: &&[f32]| !support.contains(row);
        let Some(row) = values.chunks_exact(dim).position(|row| outside(&row)) else { continue };
        let (all, lost) = (values.len() / dim, values.chunks_exact(dim).filter(outside).count());
        let at = values[row * dim..][..dim].iter().position(|x| !support.contains(&[*x])).unwrap_or(0);
        return Err(Error::usage(format!(
            "dataset: coordinate {at} of row {row} of the {set} set is {}, outside the cube [−1, 1]^{dim} that kernel.boundary = \
             \"reflect\" keeps walkers in ({lost} of {all} rows are outside): scale the data into it, or leave kernel.boundary out",
            values[row * dim + at]
        )));
    }
    Ok(())
}

/// Checks that all data are zeros and ones, where the model is a law of those.
///
/// # Errors
/// The first that is neither, with its row and coordinate.
pub fn check_bits(model: &EnergyModel, data: &Data) -> Result<(), Error> {
    if !model.is_discrete() {
        return Ok(());
    }
    let dim = data.shape.dim();
    for (set, rows) in [("training", &data.train), ("held-out", &data.test)] {
        let values = rows.values();
        if let Some(at) = values.iter().position(|&x| x != 0.0 && x != 1.0) {
            return Err(Error::usage(format!(
                "dataset: coordinate {} of row {} of the {set} set is {}, and an energy of kind \"rbm\" is a law of zeros and ones: of \
                 images set dataset.binarise = 0.5",
                at % dim,
                at / dim,
                values[at]
            )));
        }
    }
    Ok(())
}

/// Batches of `[pretrain]`.
///
/// # Errors
/// As [`Batches::new`].
pub fn pretrain_batches(config: &Config, data: &Data, device: &Device) -> Result<Batches, Error> {
    let rows = data.train.len() / data.shape.dim();
    let size = config.pretraining().batch_size.min(rows);
    let augmentation = config.dataset.as_dyn().augmentation();
    Batches::new(&data.train, data.shape, size, augmentation, config.seed, device)
}

/// `count` walkers at the start `init` asks for. `data` is the training set, row-major `[n, dim]`; `lane` separates
/// independent ensembles.
///
/// # Errors
/// `init = "model"` with a model that cannot be drawn exactly.
pub fn walkers(
    model: &EnergyModel,
    init: WalkerInit,
    count: usize,
    data: &Rows,
    seed: u64,
    lane: u32,
    device: &Device,
) -> Result<Walkers, Error> {
    let dim = model.dim();
    let stream = Stream::new(seed, Purpose::Start).lane(lane);
    // Of a law of bits: cached at the law they are drawn from, the walkers are weighted for the way to the model at their first move.
    let law = match init {
        WalkerInit::Model => model.start(),
        _ => model.clone(),
    };
    let values = match init {
        WalkerInit::Model => law.draw(count, stream).ok_or_else(|| {
            Error::usage(
                "walkers.init = \"model\": this energy cannot be drawn exactly at its start; a network needs \
                 energy.confinement > 0",
            )
        })?,
        WalkerInit::Data => {
            let n = data.len() / dim;
            // A fixed shuffle, repeated where there are more walkers than data.
            let order = stream.permutation(n);
            data.gather(dim, order.iter().cycle().take(count).map(|&row| row as usize))
        }
        WalkerInit::Normal => stream.normals(count, dim),
        WalkerInit::Uniform => stream.uniforms(count, dim).into_iter().map(|u| 2.0 * u - 1.0).collect(),
    };
    let position = Tensor::from_data(TensorData::new(values, [count, dim]), device);
    let log_z = match init {
        WalkerInit::Model => law.log_z().unwrap_or(f64::NAN),
        _ => f64::NAN,
    };
    Ok(Walkers::new(&law, position, log_z))
}

/// The `[audit]` ensemble at its start: exact draws of the starting model.
///
/// # Errors
/// A starting model that cannot be drawn.
pub fn audit(
    config: &AuditConfig,
    model: &EnergyModel,
    seed: u64,
    device: &Device,
) -> Result<Ensembles, Error> {
    let count = config.repeats * config.walkers;
    let walkers = walkers(model, WalkerInit::Model, count, &Rows::F32(Vec::new()), seed, AUDIT_LANE, device)?;
    Ok(Ensembles::new(walkers, config.repeats, AUDIT_LANE))
}
