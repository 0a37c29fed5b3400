//! A density on a grid: shading, and the contours that enclose given shares of its mass.

use super::Grid2d;

/// `exp(min U − U)` on the grid, in [0, 1]; 0 where `U` is not finite.
pub(in crate::view) struct Density<'a> {
    grid: &'a Grid2d,
    values: Vec<f64>,
    integral: f64,
}

impl<'a> Density<'a> {
    pub(in crate::view) fn new(grid: &'a Grid2d) -> Self {
        assert_eq!(grid.energy.len(), grid.nx * grid.ny, "energy: [ny, nx]");
        assert!(grid.nx >= 2 && grid.ny >= 2, "a grid has at least 2 × 2 points");
        let least = grid.energy.iter().copied().filter(|u| u.is_finite()).fold(f32::INFINITY, f32::min);
        let values = grid
            .energy
            .iter()
            .map(|&u| if u.is_finite() { f64::from(least - u).exp() } else { 0.0 })
            .collect::<Vec<f64>>();
        let side = |(from, to): (f64, f64), n: usize| (to - from) / (n - 1) as f64;
        let cell = side(grid.x_range, grid.nx) * side(grid.y_range, grid.ny);
        let integral = values.iter().sum::<f64>() * cell;
        Self { grid, values, integral }
    }

    fn value(&self, i: usize, j: usize) -> f64 {
        self.values[j * self.grid.nx + i]
    }

    /// Bilinear interpolation; 0 outside the grid.
    pub(super) fn at(&self, x: f64, y: f64) -> f64 {
        let place = |value: f64, (from, to): (f64, f64), n: usize| {
            let place = (value - from) / (to - from) * (n - 1) as f64;
            (place >= 0.0 && place <= (n - 1) as f64).then(|| {
                let cell = (place as usize).min(n - 2);
                (cell, place - cell as f64)
            })
        };
        let (Some((i, u)), Some((j, v))) =
            (place(x, self.grid.x_range, self.grid.nx), place(y, self.grid.y_range, self.grid.ny))
        else {
            return 0.0;
        };
        let low = self.value(i, j) * (1.0 - u) + self.value(i + 1, j) * u;
        let high = self.value(i, j + 1) * (1.0 - u) + self.value(i + 1, j + 1) * u;
        low * (1.0 - v) + high * v
    }

    /// `∫ exp(min U − U)` over the grid, each point standing for a cell.
    pub(super) fn integral(&self) -> f64 {
        self.integral
    }

    /// The level above which `share` of the grid's mass lies.
    pub(super) fn level(&self, share: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let total: f64 = sorted.iter().sum();
        let mut mass = 0.0;
        for value in sorted {
            mass += value;
            if mass >= share * total {
                return value;
            }
        }
        0.0
    }

    /// Line segments where the density passes `level` (marching squares).
    pub(super) fn contour(&self, level: f64) -> Vec<[(f64, f64); 2]> {
        let grid = self.grid;
        let x = |i: f64| grid.x_range.0 + (grid.x_range.1 - grid.x_range.0) * i / (grid.nx - 1) as f64;
        let y = |j: f64| grid.y_range.0 + (grid.y_range.1 - grid.y_range.0) * j / (grid.ny - 1) as f64;
        let mut segments = Vec::new();
        for j in 0..grid.ny - 1 {
            for i in 0..grid.nx - 1 {
                // Corners in turn around the cell; an edge is crossed between corners on different sides.
                let corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)];
                let mut crossings = Vec::with_capacity(4);
                for side in 0..4 {
                    let ((i0, j0), (i1, j1)) = (corners[side], corners[(side + 1) % 4]);
                    let (a, b) = (self.value(i0, j0), self.value(i1, j1));
                    if (a >= level) != (b >= level) {
                        let t = (level - a) / (b - a);
                        crossings.push((
                            x(i0 as f64 + t * (i1 as f64 - i0 as f64)),
                            y(j0 as f64 + t * (j1 as f64 - j0 as f64)),
                        ));
                    }
                }
                segments.extend(crossings.chunks_exact(2).map(|pair| [pair[0], pair[1]]));
            }
        }
        segments
    }
}
