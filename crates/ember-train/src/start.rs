//! Where walkers start, and what `log Z` of that law is.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::Walkers;

use crate::config::WalkerInit;
use crate::dataset::Rows;
use crate::error::Error;

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
    let values = match init {
        WalkerInit::Model => model.draw(count, stream).ok_or_else(|| {
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
        WalkerInit::Model => model.log_z().unwrap_or(f64::NAN),
        _ => f64::NAN,
    };
    Ok(Walkers::new(model, position, log_z))
}
