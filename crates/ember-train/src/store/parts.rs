//! Composed energies whose parts were trained elsewhere: each part with the parameters of its own run or weight file.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use ember_model::{EnergyConfig, EnergyModel, SampleShape};

use crate::error::Error;
use crate::store::opened;

/// The model with the parameters of those parts that came from elsewhere; itself where there are none.
///
/// # Errors
/// A path that cannot be opened, or that no longer holds the energy it did.
pub fn trained(model: EnergyModel, device: &Device) -> Result<EnergyModel, Error> {
    if !model.spec().energy.has_trained_parts() {
        return Ok(model);
    }
    let mut theta = model.theta().to_vec();
    fill(&model.spec().energy, model.spec().shape, &mut theta, device)?;
    Ok(model.with_theta(theta))
}

/// Puts the parts' parameters into θ of the whole.
fn fill(
    energy: &EnergyConfig,
    shape: SampleShape,
    theta: &mut [Tensor<1>],
    device: &Device,
) -> Result<(), Error> {
    let Some(parts) = energy.composition() else { return Ok(()) };
    let mut rest = theta;
    for (i, table) in parts.tables.iter().enumerate() {
        let (own, after) = rest.split_at_mut(table.build(shape)?.params().len());
        rest = after;
        let Some(path) = parts.from(i) else {
            fill(table, shape, own, device)?;
            continue;
        };
        let found = opened::open(Path::new(path), device)?.model;
        if found.spec().energy != *table || found.spec().shape != shape {
            let message = format!("it is not the energy that part {i} of energy.parts was");
            return Err(Error::checkpoint(Path::new(path), message));
        }
        own.clone_from_slice(found.theta());
    }
    Ok(())
}
