//! Integrals of `ρ_θ` over a grid, in one and two dimensions: the model's own masses, without any walker.

use ember_model::{Energy, EnergyModel};
use rayon::prelude::*;

use crate::dataset::{Modes, Truth};
use ember_model::energy::blockwise::energies;

/// One part in so many of a range, at either end, is its edge.
const EDGE: usize = 50;
/// So much of the mass at the edge says that more lies beyond it: of a Gaussian about twice as much.
const AT_EDGE: f64 = 5e-5;
/// Times that a range is doubled for it.
const DOUBLINGS: usize = 5;
/// Cells of an axis, at most so many times those asked for.
const FINER: usize = 4;

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

    /// As [`EnergyGrid::new`] on `range`, doubled until it holds the model's mass (about a ten-thousandth may lie outside), with up to four
    /// times the cells. A model that spreads on and on is taken on `range` alone, with a warning.
    pub fn covering(model: &EnergyModel, range: Vec<(f64, f64)>, cells: usize) -> Option<Self> {
        let first = Self::new(model, range, cells)?;
        let (mut grid, mut doublings) = (first.clone(), 0);
        loop {
            let doubled = |(&(low, high), at_edge): (&(f64, f64), f64)| {
                let more = if at_edge > AT_EDGE { 0.5 * (high - low) } else { 0.0 };
                model.spec().support.meet((low - more, high + more))
            };
            let wider: Vec<_> = grid.range.iter().zip(grid.at_edges()).map(doubled).collect();
            if wider == grid.range {
                return Some(grid);
            }
            if doublings == DOUBLINGS {
                let sides: Vec<_> =
                    first.range.iter().map(|(low, high)| format!("[{low:.1}, {high:.1}]")).collect();
                tracing::warn!(
                    "the model has mass far beyond the data: KL, masses and log Z by the grid are those of its part within {}",
                    sides.join(" × ")
                );
                return Some(first);
            }
            doublings += 1;
            grid = Self::new(model, wider, cells * (1 << doublings).min(FINER))?;
        }
    }

    /// Of the mass, the part at the edge of each axis.
    fn at_edges(&self) -> Vec<f64> {
        let (min, dim) = (self.min(), self.range.len());
        let edge = self.cells.div_ceil(EDGE);
        let (mut sum, mut edges) = (0.0, vec![0.0; dim]);
        for (i, &u) in self.energy.iter().enumerate() {
            let mass = (min - f64::from(u)).exp();
            sum += mass;
            for (axis, at_edge) in edges.iter_mut().enumerate() {
                let place = if axis + 1 == dim { i % self.cells } else { i / self.cells };
                if place < edge || place + edge >= self.cells {
                    *at_edge += mass;
                }
            }
        }
        edges.into_iter().map(|at_edge| at_edge / sum).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use ember_model::EnergySpec;

    fn model(text: &str) -> EnergyModel {
        EnergyModel::init(EnergySpec::from_metadata(text).expect("right"), 0, &Device::flex())
            .expect("it fits")
    }

    /// A network that is zero is the Gaussian of its confinement; a grid of the data's range holds less than half of a broad one.
    #[test]
    fn a_grid_is_as_wide_as_the_model() {
        for (dim, cells) in [(1, 2_000), (2, 200)] {
            for confinement in [4.0, 0.25, 0.02, 0.005] {
                let model =
                    model(&format!("dim = {dim}\nkind = \"mlp\"\nhidden = [8]\nconfinement = {confinement}"));
                let range = vec![(-5.0, 6.0); dim];
                let exact = 0.5 * dim as f64 * (2.0 * std::f64::consts::PI / confinement).ln();
                let error = |grid: Option<EnergyGrid>| (grid.expect("a grid").log_z() - exact).abs();
                let found = error(EnergyGrid::covering(&model, range.clone(), cells));
                assert!(found < 5e-4, "{dim}, {confinement}: {found}");
                let narrow = error(EnergyGrid::new(&model, range, cells));
                assert!(
                    confinement > 0.1 || narrow > 0.1,
                    "{dim}, {confinement}: the test sees no narrow grid, {narrow}"
                );
            }
        }
    }

    /// Without a confinement there is no end, and a cube's range has one.
    #[test]
    fn a_model_without_end_is_taken_where_the_data_are() {
        let model = model("dim = 2\nkind = \"mlp\"\nhidden = [8]");
        let grid = EnergyGrid::covering(&model, vec![(-1.0, 1.0); 2], 50).expect("a grid");
        assert_eq!((grid.range[0], grid.cells), ((-1.0, 1.0), 50));
        let cube = self::model("dim = 1\nsupport = \"cube\"\nkind = \"mlp\"\nhidden = [8]");
        let grid = EnergyGrid::covering(&cube, vec![(-0.5, 0.5)], 50).expect("a grid");
        assert_eq!(grid.range[0], (-1.0, 1.0));
    }
}
