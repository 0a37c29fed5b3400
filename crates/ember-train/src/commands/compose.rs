//! `ember compose`: trained models made into one, as a weight file.

use std::path::Path;

use ember_model::{Energy, EnergyConfig, EnergyModel};

use crate::cli::ComposeArgs;
use crate::config;
use crate::error::Error;
use crate::store::parts;
use crate::{device, logging};

pub(super) fn run(args: &ComposeArgs) -> Result<(), Error> {
    logging::init();
    let flex = device::select("flex")?.device;
    let spec = config::composed(&args.file)?;
    let model = parts::trained(EnergyModel::init(spec, 0, &flex)?, &flex)?;
    if let EnergyConfig::Mixture(mixture) = &model.spec().energy
        && mixture.log_z.is_none()
        && model.log_z().is_none()
    {
        tracing::warn!(
            "energies are known up to a constant, so the mass of part i is w_i Z_i over the sum of them all, and not w_i: for masses w_i \
             measure each part's log Z (`ember eval`) and give log_z = [...], or normalise = true where it is known in closed form"
        );
    }
    super::export::write(&model, 0, Vec::new(), &args.out)?;
    super::print(&format!("{}\n{}", args.out.display(), composition(&model)))
}

/// A line for each part of a composed energy; nothing of any other.
pub(super) fn composition(model: &EnergyModel) -> String {
    let spec = model.spec();
    let Some(parts) = spec.energy.composition() else { return String::new() };
    let line = |(i, table): (usize, &EnergyConfig)| {
        let from =
            parts.from(i).map(|path| format!(", from {}", Path::new(path).display())).unwrap_or_default();
        format!("part {i}      {} × {}{from}\n", parts.coefficients[i], table.kind())
    };
    parts.tables.iter().enumerate().map(line).collect()
}
