//! Integrals of `ρ_θ` over a grid, in one and two dimensions: the model's own masses, without any walker.

use ember_model::{Energy, EnergyModel};
use rayon::prelude::*;

use crate::dataset::{Modes, Truth};
use ember_model::energy::blockwise::energies;

/// Energies on a regular grid of cell centres.
#[derive(Clone, Debug)]
pub struct EnergyGrid {
    /// Lower and upper edge of each axis.
    pub range: Vec<(f64, f64)>,
    /// Cells along each axis.
    pub cells: usize,
    /// `U` at the cell centres, the last axis fastest, `[cells^dim]`.
    pub energy: Vec<f32>,
}

impl EnergyGrid {
    /// The model on `cells` cells an axis over the part of `range` that lies in its support; `None` beyond two dimensions.
    pub fn new(model: &EnergyModel, range: Vec<(f64, f64)>, cells: usize) -> Option<Self> {
        let support = model.spec().support;
        let range: Vec<(f64, f64)> = range.into_iter().map(|range| support.meet(range)).collect();
        let centres: Vec<f32> = match range.len() {
            1 => (0..cells).map(|i| centre(range[0], cells, i) as f32).collect(),
            2 => (0..cells * cells)
                .flat_map(|i| {
                    [centre(range[0], cells, i / cells) as f32, centre(range[1], cells, i % cells) as f32]
                })
                .collect(),
            _ => return None,
        };
        debug_assert_eq!(model.dim(), range.len());
        Some(Self { energy: energies(model, &centres), range, cells })
    }

    /// A range that holds all rows of `points` (row-major `[n, dim]`) with `margin` on every side.
    pub fn range_of(points: &[f32], dim: usize, margin: f64) -> Vec<(f64, f64)> {
        (0..dim)
            .map(|j| {
                let axis = points.iter().skip(j).step_by(dim);
                let (low, high) = axis.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), &x| {
                    (l.min(f64::from(x)), h.max(f64::from(x)))
                });
                (low - margin, high + margin)
            })
            .collect()
    }

    /// The centre of cell `index`, `[dim]`.
    pub fn centre(&self, index: usize) -> Vec<f64> {
        match self.range.len() {
            1 => vec![centre(self.range[0], self.cells, index)],
            _ => vec![
                centre(self.range[0], self.cells, index / self.cells),
                centre(self.range[1], self.cells, index % self.cells),
            ],
        }
    }

    /// Volume of one cell.
    fn volume(&self) -> f64 {
        let sides = self.range.iter().map(|(low, high)| (high - low) / self.cells as f64);
        sides.product()
    }

    /// `log ∫ e^{−U}` over the grid.
    pub fn log_z(&self) -> f64 {
        let min = self.min();
        let sum: f64 = self.energy.iter().map(|&u| (min - f64::from(u)).exp()).sum();
        sum.ln() - min + self.volume().ln()
    }

    /// The mass `ρ_θ` puts on each of `modes`, `[K]`.
    pub fn masses(&self, modes: &Modes) -> Vec<f64> {
        let min = self.min();
        let mut masses = vec![0.0; modes.count()];
        for (i, &u) in self.energy.iter().enumerate() {
            masses[modes.of(&self.centre(i))] += (min - f64::from(u)).exp();
        }
        let sum: f64 = masses.iter().sum();
        masses.iter().map(|mass| mass / sum).collect()
    }

    /// `KL(ρ* ‖ ρ_θ) = Σ p (log p − log q)` over the cells, nats: both densities as masses of cells that sum to 1, so that it is not
    /// negative, whatever the grid leaves out: on a cube, of the law within it. Midpoint rule: too coarse where a density changes within a cell.
    pub fn divergence(&self, truth: &Truth) -> f64 {
        let log_p: Vec<f64> =
            (0..self.energy.len()).into_par_iter().map(|i| truth.log_prob(&self.centre(i))).collect();
        let sum: f64 = log_p.iter().map(|log_p| log_p.exp()).sum();
        let min = self.min();
        let log_sum_q = self.energy.iter().map(|&u| (min - f64::from(u)).exp()).sum::<f64>().ln() - min;
        let terms = log_p.iter().zip(&self.energy).filter(|(log_p, _)| **log_p > f64::NEG_INFINITY);
        let gaps: f64 = terms.map(|(log_p, &u)| log_p.exp() * (log_p + f64::from(u))).sum();
        // Σ (p/S) (log p − log S + U + log Σ e^{−U})
        gaps / sum - sum.ln() + log_sum_q
    }

    fn min(&self) -> f64 {
        self.energy.iter().copied().fold(f32::INFINITY, f32::min).into()
    }
}

fn centre((low, high): (f64, f64), cells: usize, i: usize) -> f64 {
    low + (high - low) * (i as f64 + 0.5) / cells as f64
}
