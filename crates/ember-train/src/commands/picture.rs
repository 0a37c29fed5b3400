//! The picture of a training state, from what training, judging and view each know.

use std::path::{Path, PathBuf};

use ember_model::energy::blockwise::energies;
use ember_model::{Energy, EnergyModel};

use crate::dataset::Data;
use crate::error::Error;
use crate::judging::grid::EnergyGrid;
use crate::training::trainer::Trainer;
use crate::view::picture::{self, Density1d, Scene, marginal};

/// Cells of the one-dimensional normalisation.
const CELLS: usize = 4_000;

/// Draws the state of a run into its folder.
///
/// # Errors
/// Any I/O error.
pub fn samples(trainer: &Trainer, run: &Path) -> Result<PathBuf, Error> {
    picture::samples(&scene(trainer), run)
}

/// What there is to see of a training state.
pub fn scene(trainer: &Trainer) -> Scene<'_> {
    let objective = &trainer.config.objective;
    Scene {
        step: trainer.step,
        seed: trainer.config.seed,
        objective: objective.kind(),
        weighted: objective.as_dyn().carries_weights(),
        dataset: &trainer.config.dataset,
        data: &trainer.data,
        model: &trainer.model,
        ema: trainer.ema_model(),
        walkers: trainer.walkers_at_theta(),
        density: first_coordinate(&trainer.model, &trainer.data),
    }
}

/// The model's normalised density of the first coordinate, where it is known.
pub(super) fn first_coordinate<'a>(model: &'a EnergyModel, data: &Data) -> Option<Density1d<'a>> {
    if let Some(mixture) = model.mixture() {
        return Some(Box::new(move |x| marginal(&mixture, 1.0, x)));
    }
    if model.dim() != 1 {
        return None;
    }
    // One dimension: e^{−U} / Z with Z from a grid.
    let range = EnergyGrid::range_of(&data.train.values(), 1, 4.0);
    let log_z = EnergyGrid::covering(model, range, CELLS)?.log_z();
    Some(Box::new(move |x| {
        let points: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        energies(model, &points).iter().map(|&u| (-f64::from(u) - log_z).exp()).collect()
    }))
}
