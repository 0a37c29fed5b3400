//! What the first term of a loss of the score gives back to `∇U`, row by row.

use super::Pull;

/// What every block needs to know of the loss.
pub(super) struct Terms<'a> {
    pub pull: Pull<'a>,
    /// Directions of a row.
    pub slices: usize,
    /// Whether they are the axes, which stand nowhere.
    pub axes: bool,
    /// w.
    pub weight: f64,
    /// 1/n.
    pub share: f64,
}

/// One block's share of the rows.
pub(super) struct Part<'a> {
    pub x: &'a [f32],
    /// ε, or u itself.
    pub noise: &'a [f32],
    pub sigma: &'a [f32],
    pub directions: &'a [f32],
    pub loss: f64,
}

/// `∇U` of the network becomes u, `[rows, dim]`; the rows' share of the loss's first term, and the sum of `uᵀ∇U` without the
/// confinement's part.
pub(super) fn pull(
    grad: &mut [f32],
    confinement: f32,
    dim: usize,
    terms: &Terms<'_>,
    part: &Part<'_>,
) -> (f64, f64) {
    let share = terms.share as f32;
    let (mut loss, mut pulled) = (0.0f64, 0.0f64);
    let mut u = vec![0.0f32; dim];
    for (row, grad) in grad.chunks_exact_mut(dim).enumerate() {
        let at = row * dim..(row + 1) * dim;
        let x = &part.x[at.clone()];
        let force = |j: usize| grad[j] + confinement * x[j];
        match terms.pull {
            Pull::Score => {
                for (j, u) in u.iter_mut().enumerate() {
                    loss += 0.5 * f64::from(force(j)) * f64::from(force(j));
                    *u = force(j) * share;
                }
            }
            Pull::Residual { .. } => {
                let noise = part.noise[at.clone()].iter().zip(&part.sigma[at]);
                for ((j, u), (noise, sigma)) in u.iter_mut().enumerate().zip(noise) {
                    let residual = noise - sigma * force(j);
                    loss += 0.5 * f64::from(residual) * f64::from(residual);
                    *u = -sigma * residual * share;
                }
            }
            Pull::Along(_) => {
                for ((j, u), along) in u.iter_mut().enumerate().zip(&part.noise[at]) {
                    loss += f64::from(*along) * f64::from(force(j));
                    *u = along * share;
                }
            }
            // Along the axes: w ½ |∇U|².
            Pull::Slices if terms.axes => {
                let weight = terms.weight as f32;
                for (j, u) in u.iter_mut().enumerate() {
                    loss += 0.5 * terms.weight * f64::from(force(j)) * f64::from(force(j));
                    *u = weight * share * force(j);
                }
            }
            Pull::Slices => {
                u.fill(0.0);
                let weight = terms.weight as f32;
                let first = row * terms.slices * dim;
                for v in part.directions[first..first + terms.slices * dim].chunks_exact(dim) {
                    let along: f32 = v.iter().enumerate().map(|(j, v)| v * force(j)).sum();
                    loss += 0.5 * terms.weight * f64::from(along) * f64::from(along);
                    for (u, v) in u.iter_mut().zip(v) {
                        *u += weight * share * along * v;
                    }
                }
            }
        }
        for (grad, u) in grad.iter_mut().zip(&u) {
            pulled += f64::from(*grad) * f64::from(*u);
            *grad = *u;
        }
    }
    (loss * terms.share, pulled)
}
