//! The pictures of a run: walkers and data beside the model's density, in two dimensions beside the true one's.

use std::path::{Path, PathBuf};

use ember_model::energy::Mixture;
use ember_model::energy::blockwise::energies;
use ember_model::params::download;
use ember_model::{EnergyModel, SampleShape};
use ember_sampler::Walkers;

use crate::dataset::{Data, DatasetConfig, Truth};
use crate::error::Error;
use crate::store::folder;
use crate::view::plot::{self, Cloud, Grid2d, Model};

pub mod grid;

/// Points an axis of the two-dimensional density.
const SIDE: usize = 200;

/// A density of the first coordinate, `[n]` of `[n]`.
pub type Density1d<'a> = Box<dyn Fn(&[f64]) -> Vec<f64> + 'a>;

/// A state of a run, to be shown.
pub struct Scene<'a> {
    /// The update.
    pub step: u64,
    /// The run's seed.
    pub seed: u64,
    /// The objective's name.
    pub objective: &'static str,
    /// Whether the walkers' log-weights count.
    pub weighted: bool,
    /// What the data set says of itself.
    pub dataset: &'a DatasetConfig,
    /// The data.
    pub data: &'a Data,
    /// The model.
    pub model: &'a EnergyModel,
    /// The model at the moving average of θ, where there is one.
    pub ema: Option<EnergyModel>,
    /// The walkers at the model's θ.
    pub walkers: Walkers,
    /// The model's normalised density of the first coordinate, where it is known.
    pub density: Option<Density1d<'a>>,
}

/// Writes `samples/step_00001000.png` of the run folder: walkers (weighted) beside the data, images as a grid.
///
/// # Errors
/// Any I/O error.
pub fn samples(scene: &Scene<'_>, run: &Path) -> Result<PathBuf, Error> {
    let path = folder::picture(run, scene.step)?;
    if let SampleShape::Image(shape) = scene.data.shape {
        grid::write(scene, shape, &path)?;
        return Ok(path);
    }
    let position = download(scene.walkers.position.clone());
    let log_weights = download(scene.walkers.log_weights.value());
    let dim = scene.walkers.dim();
    let cloud = Cloud { position: &position, dim, log_weights: scene.weighted.then_some(&log_weights) };
    let train = scene.data.train.values();
    let data = Cloud::unweighted(&train, dim);
    let truth = scene.dataset.as_dyn().truth();
    let title = format!("{} · update {}", scene.objective, scene.step);
    let mixture = truth.as_ref().and_then(Truth::mixture);
    let truth_density = |x: &[f64]| mixture.map_or_else(Vec::new, |(mixture, std)| marginal(mixture, std, x));
    let truth_density: Option<plot::Density<'_>> = mixture.is_some().then_some(&truth_density);
    if dim == 2 {
        let mut grid = Grid2d::around(&[&cloud, &data], SIDE);
        grid.energy = energies(scene.model, &grid.points());
        let truth_grid = truth.as_ref().map(|truth| {
            let log_probs = truth.log_probs(&grid.points());
            Grid2d { energy: log_probs.iter().map(|log_prob| -log_prob as f32).collect(), ..grid.clone() }
        });
        let known = Model { grid: Some(&grid), truth_grid: truth_grid.as_ref(), ..Model::default() };
        plot::population(&path, &title, &cloud, Some(&data), &known)?;
    } else {
        let known = Model { density: scene.density.as_deref(), truth: truth_density, ..Model::default() };
        plot::population(&path, &title, &cloud, Some(&data), &known)?;
    }
    Ok(path)
}

/// `Σ_k w_k N(x; m_k[0], std²)`.
pub fn marginal(mixture: &Mixture, std: f64, x: &[f64]) -> Vec<f64> {
    let normal = |x: f64, mean: f64| {
        let z = (x - mean) / std;
        (-0.5 * z * z).exp() / (std * (2.0 * std::f64::consts::PI).sqrt())
    };
    let modes: Vec<(f64, f64)> =
        mixture.means.iter().zip(&mixture.masses).map(|(mean, &mass)| (mean[0], mass)).collect();
    x.iter().map(|&x| modes.iter().map(|&(mean, mass)| mass * normal(x, mean)).sum()).collect()
}
