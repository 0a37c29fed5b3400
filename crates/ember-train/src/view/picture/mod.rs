//! The pictures of a run: walkers and data beside the model's density, in two dimensions beside the true one's.

use std::path::{Path, PathBuf};

use ember_model::energy::Mixture;
use ember_model::params::download;
use ember_model::{Energy, EnergyModel, SampleShape};

use crate::dataset::Truth;
use crate::error::Error;
use crate::judging::grid::EnergyGrid;
use crate::store::checkpoint::{dir_name, step_of};
use crate::training::trainer::{Trainer, energies};
use crate::view::plot::{self, Cloud, Grid2d, Model};

pub mod grid;

/// Points an axis of the two-dimensional density.
const SIDE: usize = 200;
/// Cells of the one-dimensional normalisation.
const CELLS: usize = 4_000;

/// Writes `samples/step_00001000.png` of the run folder: walkers (weighted) beside the data, images as a grid.
///
/// # Errors
/// Any I/O error.
pub fn samples(trainer: &Trainer, run: &Path) -> Result<PathBuf, Error> {
    let folder = run.join("samples");
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
    let path = folder.join(format!("{}.png", dir_name(trainer.step)));
    if let SampleShape::Image(shape) = trainer.data.shape {
        grid::write(trainer, trainer.ema_model().as_ref(), shape, &path)?;
        return Ok(path);
    }
    let walkers = trainer.walkers_at_theta();
    let position = download(walkers.position.clone());
    let log_weights = download(walkers.log_weights.value());
    let weighted = trainer.config.objective.as_dyn().carries_weights();
    let dim = walkers.dim();
    let cloud = Cloud { position: &position, dim, log_weights: weighted.then_some(&log_weights) };
    let train = trainer.data.train.values();
    let data = Cloud::unweighted(&train, dim);
    let truth = trainer.config.dataset.as_dyn().truth();
    let title = format!("{} · update {}", trainer.config.objective.kind(), trainer.step);
    let model = &trainer.model;
    let mixture = truth.as_ref().and_then(Truth::mixture);
    let truth_density = |x: &[f64]| mixture.map_or_else(Vec::new, |(mixture, std)| marginal(mixture, std, x));
    let truth_density: Option<plot::Density<'_>> = mixture.is_some().then_some(&truth_density);
    if dim == 2 {
        let mut grid = Grid2d::around(&[&cloud, &data], SIDE);
        grid.energy = energies(model, &grid.points());
        let truth_grid = truth.as_ref().map(|truth| {
            let log_probs = truth.log_probs(&grid.points());
            Grid2d { energy: log_probs.iter().map(|log_prob| -log_prob as f32).collect(), ..grid.clone() }
        });
        let known = Model { grid: Some(&grid), truth_grid: truth_grid.as_ref(), ..Model::default() };
        plot::population(&path, &title, &cloud, Some(&data), &known)?;
    } else {
        let density = first_coordinate(model, &train);
        let known = Model { density: density.as_deref(), truth: truth_density, ..Model::default() };
        plot::population(&path, &title, &cloud, Some(&data), &known)?;
    }
    Ok(path)
}

/// Removes the pictures of updates beyond `step`, whose trajectory is given up. Files of other names are not the run's.
///
/// # Errors
/// Any I/O error.
pub(crate) fn discard_after(run: &Path, step: u64) -> Result<(), Error> {
    let folder = run.join("samples");
    let io = |source| Error::io(&folder, source);
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(io)?,
    };
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        let found = name.to_str().and_then(|name| step_of(name.strip_suffix(".png")?));
        if found.is_some_and(|found| found > step) {
            std::fs::remove_file(folder.join(name)).map_err(io)?;
        }
    }
    Ok(())
}

type BoxedDensity<'a> = Box<dyn Fn(&[f64]) -> Vec<f64> + 'a>;

/// The model's normalised density of the first coordinate, where it can be had.
fn first_coordinate<'a>(model: &'a EnergyModel, data: &[f32]) -> Option<BoxedDensity<'a>> {
    if let Some(mixture) = model.mixture() {
        return Some(Box::new(move |x| marginal(&mixture, 1.0, x)));
    }
    if model.dim() != 1 {
        return None;
    }
    // One dimension: e^{−U} / Z with Z from a grid.
    let grid = EnergyGrid::new(model, EnergyGrid::range_of(data, 1, 4.0), CELLS)?;
    let log_z = grid.log_z();
    Some(Box::new(move |x| {
        let points: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        energies(model, &points).iter().map(|&u| (-f64::from(u) - log_z).exp()).collect()
    }))
}

/// `Σ_k w_k N(x; m_k[0], std²)`.
fn marginal(mixture: &Mixture, std: f64, x: &[f64]) -> Vec<f64> {
    let normal = |x: f64, mean: f64| {
        let z = (x - mean) / std;
        (-0.5 * z * z).exp() / (std * (2.0 * std::f64::consts::PI).sqrt())
    };
    let modes: Vec<(f64, f64)> =
        mixture.means.iter().zip(&mixture.masses).map(|(mean, &mass)| (mean[0], mass)).collect();
    x.iter().map(|&x| modes.iter().map(|&(mean, mass)| mass * normal(x, mean)).sum()).collect()
}
