//! The log-weight increment of an unadjusted Langevin step, in one pass.

use multiversion::multiversion;
use rayon::prelude::*;

const LANES: usize = 16;
/// Below this many coordinates, threads cost more than they bring.
const PARALLEL_FROM: usize = 1 << 17;

/// The step's ends, row-major `[walkers, dim]`, and their energies `[walkers]`.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    /// Positions, energies and gradients before the step.
    pub(super) from: (&'a [f32], &'a [f32], &'a [f32]),
    /// Positions, energies and gradients after it.
    pub(super) to: (&'a [f32], &'a [f32], &'a [f32]),
    /// Coordinates of a walker.
    pub(super) dim: usize,
    /// `h`.
    pub(super) step_size: f32,
}

impl Step<'_> {
    /// Increments of the log-weights, `[walkers]`. Walkers are independent: threads do not change the sums.
    pub(super) fn increments(&self) -> Vec<f32> {
        let walkers = self.from.1.len();
        if walkers * self.dim >= PARALLEL_FROM && rayon::current_num_threads() > 1 {
            (0..walkers).into_par_iter().with_min_len(64).map(|walker| self.increment(walker)).collect()
        } else {
            (0..walkers).map(|walker| self.increment(walker)).collect()
        }
    }

    fn increment(&self, walker: usize) -> f32 {
        let row = walker * self.dim..(walker + 1) * self.dim;
        let (x, ux, gx) = self.from;
        let (y, uy, gy) = self.to;
        let work =
            row_sum(&x[row.clone()], &gx[row.clone()], &y[row.clone()], &gy[row], 0.5 * self.step_size);
        // Δ = U(x) − U(y) + ½ Σ (∇U(x) + ∇U(y))·(y − x + (h/2)(∇U(x) − ∇U(y)))
        (f64::from(ux[walker]) - f64::from(uy[walker]) + 0.5 * work) as f32
    }
}

/// `Σ (gx + gy)·(y − x + half·(gx − gy))`: sixteen partial sums, added in double precision.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn row_sum(x: &[f32], gx: &[f32], y: &[f32], gy: &[f32], half: f32) -> f64 {
    let term = |x: f32, gx: f32, y: f32, gy: f32| (gx + gy) * (y - x + half * (gx - gy));
    let mut sums = [0.0f32; LANES];
    let whole = x.len() / LANES * LANES;
    let chunks = x
        .chunks_exact(LANES)
        .zip(gx.chunks_exact(LANES))
        .zip(y.chunks_exact(LANES))
        .zip(gy.chunks_exact(LANES));
    for (((x, gx), y), gy) in chunks {
        for lane in 0..LANES {
            sums[lane] += term(x[lane], gx[lane], y[lane], gy[lane]);
        }
    }
    let mut total: f64 = sums.iter().map(|sum| f64::from(*sum)).sum();
    for i in whole..x.len() {
        total += f64::from(term(x[i], gx[i], y[i], gy[i]));
    }
    total
}
