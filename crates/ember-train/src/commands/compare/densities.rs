//! The densities that a page of a comparison shows: those of the first seed, on the truth's range.

use ember_model::EnergyModel;
use ember_model::energy::blockwise::energies;

use super::super::picture::first_coordinate;
use crate::dataset::{Data, Truth};
use crate::view::comparison::Shown;
use crate::view::picture::marginal;
use crate::view::plot::{Cloud, Grid2d};

/// Points of a curve, and points an axis of a map.
const POINTS: usize = 400;
const SIDE: usize = 160;

/// Where densities are shown: around the data.
pub enum Place {
    /// One coordinate, or the first of many.
    Line(Vec<f64>),
    /// A plane.
    Plane(Grid2d),
}

impl Place {
    /// Around a training set.
    pub fn around(data: &Data) -> Self {
        let (rows, dim) = (data.train.values(), data.shape.dim());
        if dim == 2 {
            return Self::Plane(Grid2d::around(&[&Cloud::unweighted(&rows, dim)], SIDE));
        }
        let first = rows.iter().step_by(dim).map(|&x| f64::from(x));
        let (low, high) = first.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), x| (l.min(x), h.max(x)));
        let margin = 0.1 * (high - low);
        let at = |i: usize| low - margin + (high - low + 2.0 * margin) * i as f64 / (POINTS - 1) as f64;
        Self::Line((0..POINTS).map(at).collect())
    }

    /// The law of the data.
    pub fn truth(&self, truth: &Truth) -> Option<Shown> {
        match self {
            Self::Plane(grid) => {
                let log_probs = truth.log_probs(&grid.points());
                Some(map(grid, log_probs.into_iter().map(|log_prob| -log_prob as f32).collect()))
            }
            Self::Line(x) if truth.dim() == 1 => {
                let points: Vec<f32> = x.iter().map(|&x| x as f32).collect();
                let y = truth.log_probs(&points).into_iter().map(f64::exp).collect();
                Some(Shown::Curve { x: x.clone(), y })
            }
            Self::Line(x) => {
                let (mixture, std) = truth.mixture()?;
                Some(Shown::Curve { x: x.clone(), y: marginal(mixture, std, x) })
            }
        }
    }

    /// A model.
    pub fn model(&self, model: &EnergyModel, data: &Data) -> Option<Shown> {
        match self {
            Self::Plane(grid) => Some(map(grid, energies(model, &grid.points()))),
            Self::Line(x) => {
                let density = first_coordinate(model, data)?;
                Some(Shown::Curve { x: x.clone(), y: density(x) })
            }
        }
    }
}

fn map(grid: &Grid2d, energy: Vec<f32>) -> Shown {
    Shown::Map(Grid2d { energy, ..grid.clone() })
}
