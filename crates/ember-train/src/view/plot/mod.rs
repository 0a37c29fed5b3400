//! Figures of a population: a histogram with densities (one coordinate), walkers and data side by side over the model (two), below
//! heat maps of the true and the model's density where the truth is known, or panels of images.
//!
//! Points that are not finite are left out and counted under the title; so are those outside the axes.

use std::path::Path;

use crate::error::Error;

mod canvas;
mod cloud;
mod contour;
mod heat;
mod histogram;
mod images;
mod scatter;

pub use cloud::Cloud;
pub(crate) use cloud::grouped;
pub(in crate::view) use contour::Density as Density2d;
pub(in crate::view) use heat::{SPAN, Scale};
pub use images::ImagePanel;

/// A density as a function of one coordinate: values at the points given.
pub type Density<'a> = &'a dyn Fn(&[f64]) -> Vec<f64>;

/// What is known about the model and the truth beside the walkers.
#[derive(Clone, Copy, Default)]
pub struct Model<'a> {
    /// The model's normalised density of the first coordinate. Histograms only.
    pub density: Option<Density<'a>>,
    /// The data's true density of the first coordinate. Histograms only.
    pub truth: Option<Density<'a>>,
    /// The model's energy on a grid. Two dimensions only.
    pub grid: Option<&'a Grid2d>,
    /// −log of the true density on the same points: draws both as heat maps. Two dimensions only, beside a `grid`.
    pub truth_grid: Option<&'a Grid2d>,
    /// A logarithmic density axis. Histograms only.
    pub log_scale: bool,
}

/// An energy on a regular grid of points.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid2d {
    /// First and last x.
    pub x_range: (f64, f64),
    /// First and last y.
    pub y_range: (f64, f64),
    /// Points along x, at least 2.
    pub nx: usize,
    /// Points along y, at least 2.
    pub ny: usize,
    /// `U` (not `exp(−U)`, which may overflow), `[ny, nx]` row-major, the lowest y first.
    pub energy: Vec<f32>,
}

impl Grid2d {
    /// A grid of `side × side` points over the figure of these clouds, its `energy` still to be filled in.
    pub fn around(clouds: &[&Cloud<'_>], side: usize) -> Self {
        let (x_range, y_range) = cloud::square_ranges(clouds);
        Self { x_range, y_range, nx: side.max(2), ny: side.max(2), energy: Vec::new() }
    }

    /// Its points, `[ny · nx, 2]` in the order of `energy`.
    pub fn points(&self) -> Vec<f32> {
        let at = |(from, to): (f64, f64), i: usize, n: usize| {
            (from + (to - from) * i as f64 / (n - 1) as f64) as f32
        };
        let mut points = Vec::with_capacity(2 * self.nx * self.ny);
        for j in 0..self.ny {
            for i in 0..self.nx {
                points.push(at(self.x_range, i, self.nx));
                points.push(at(self.y_range, j, self.ny));
            }
        }
        points
    }
}

/// The figure that fits the number of coordinates: [`scatter`] for two, else [`histogram`].
///
/// # Errors
/// As [`histogram`].
pub fn population(
    path: &Path,
    title: &str,
    walkers: &Cloud<'_>,
    data: Option<&Cloud<'_>>,
    model: &Model<'_>,
) -> Result<(), Error> {
    if walkers.dim == 2 {
        scatter(path, title, walkers, data, model)
    } else {
        histogram(path, title, walkers, data, model)
    }
}

/// The weighted histogram of the walkers' first coordinate, with the data's and the densities known.
///
/// # Errors
/// A folder that is not there, or any I/O error.
pub fn histogram(
    path: &Path,
    title: &str,
    walkers: &Cloud<'_>,
    data: Option<&Cloud<'_>>,
    model: &Model<'_>,
) -> Result<(), Error> {
    canvas::png(path, (1200, 800), |area| histogram::draw(area, title, walkers, data, model))
}

/// Walkers and data of two coordinates side by side over the model's density, with heat maps where the truth is known.
///
/// # Errors
/// As [`histogram`].
///
/// # Panics
/// When a cloud has not two coordinates, or the grid's energies do not fill it.
pub fn scatter(
    path: &Path,
    title: &str,
    walkers: &Cloud<'_>,
    data: Option<&Cloud<'_>>,
    model: &Model<'_>,
) -> Result<(), Error> {
    let size = scatter::size(data.is_some(), model.truth_grid.is_some());
    canvas::png(path, size, |area| scatter::draw(area, title, walkers, data, model))
}

/// Images of `shape` = `[c, h, w]` that a panel has room for: large ones would make a file of thousands of pixels a side.
pub fn most_images([_, h, w]: [usize; 3]) -> usize {
    (images::MOST_PIXELS / h.max(w).max(1)).max(1).pow(2)
}

/// Images of `shape` = `[c, h, w]` (1 or 3 channels) in panels side by side, all of them; `notes` stand under the title.
///
/// # Errors
/// As [`histogram`].
///
/// # Panics
/// When an image has neither 1 nor 3 channels.
pub fn images(
    path: &Path,
    title: &str,
    notes: &str,
    shape: [usize; 3],
    panels: &[ImagePanel],
) -> Result<(), Error> {
    let layout = images::Layout::new(shape, panels);
    canvas::png(path, layout.size(), |area| images::draw(area, title, notes, layout, panels))
}
