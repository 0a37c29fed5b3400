//! Walkers that are exact draws of a flow.

use burn::tensor::{Int, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};

use crate::error::Error;
use crate::weights::LogWeights;
use crate::{Banked, Counter, Walkers};

/// Lane of [`Purpose::Sample`] for these draws: `ember sample` has lane 0.
const LANE: u32 = 1;
/// Rows pushed through the flow at a time.
const BLOCK: usize = 256;

/// `count` exact draws of a flow, on its device, as walkers: a pure function of θ, the seed and the update.
///
/// # Errors
/// An energy that is no flow, an update number beyond 32 bits.
pub fn exact_draws(model: &EnergyModel, count: usize, seed: u64, update: u64) -> Result<Walkers, Error> {
    let flow = model.flow().ok_or_else(|| Error::options("exact draws at every θ need a flow"))?;
    let (dim, device) = (model.dim(), model.device());
    let latents = Stream::new(seed, Purpose::Sample).lane(LANE).at(update)?.normals(count, dim);
    let (mut position, mut energy, mut energy_grad) = (Vec::new(), Vec::new(), Vec::new());
    for block in latents.chunks(BLOCK * dim) {
        let z = TensorData::new(block.to_vec(), [block.len() / dim, dim]);
        let x = flow.forward(model.theta(), Tensor::from_data(z, device)).0;
        let (u, grad) = model.energy_and_grad(x.clone());
        position.push(x);
        energy.push(u);
        energy_grad.push(grad);
    }
    let energy = Tensor::cat(energy, 0);
    Ok(Walkers {
        position: Tensor::cat(position, 0),
        log_weights: LogWeights::zeros(&energy),
        energy,
        energy_grad: Tensor::cat(energy_grad, 0),
        ancestor: Tensor::<1, Int>::arange(0..count as i64, device),
        log_z: Banked::new(vec![0.0], device),
        resamplings: Counter::new(0, device),
    })
}
