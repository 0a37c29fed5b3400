//! Both directions and the way back for one block of rows: activations and slopes are kept, nothing is on a tape.
//!
//! Numbers are `[coordinates, rows]`: the parts that couplings cut are contiguous, and with `W: [out, in]` as θ has it a layer
//! is `z = W x`, its gradients `∂x = Wᵀ δ` and `∂W = δ xᵀ`.

use faer::Accum;

use super::super::steps::{Coupling, Network, Step};
use super::elementwise::{dot, pull_back, to_data, to_latent};
use super::workspace::{Kept, Workspace};
use crate::cpu::{add_product, by_rows, product};
use crate::energy::elementwise::{
    activate_biased, activate_biased_with_slope, add_row_sums, multiply, multiply_by,
};

/// Which way a pass goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Direction {
    ToLatent,
    ToData,
}

impl Network {
    /// Maps `work.state` and sets `work.log_det`, for as many rows as the latter has. With `keep`, to latent, [`Self::pull_back`] may
    /// follow.
    pub fn pass(&self, theta: &[&[f32]], direction: Direction, work: &mut Workspace, keep: bool) {
        work.make_room(self, keep);
        let Workspace { state, log_det, kept, .. } = work;
        let rows = log_det.len();
        let state = &mut state[..self.dim * rows];
        log_det.fill(0.0);
        for i in 0..self.steps.len() {
            let i = if direction == Direction::ToLatent { i } else { self.steps.len() - 1 - i };
            let (params, step) = &self.steps[i];
            let theta = &theta[params.clone()];
            let kept = &mut kept[if keep { i } else { 0 }];
            match step {
                Step::EvenFirst => {}
                Step::ActNorm => normalise(theta, direction, state, log_det),
                Step::Coupling(coupling) => coupling.pass(theta, direction, state, log_det, kept, keep),
            }
            if keep {
                kept.state[..state.len()].copy_from_slice(state);
            }
        }
    }

    /// Goes back from `∂/∂U = weight: [rows]`, `U = ½ |z|² − log_det`, after a [`Self::pass`] to latent that kept what is needed:
    /// the gradient of x is left in `work.grad`, and θ's is added to `params` where that is given.
    pub fn pull_back(
        &self,
        theta: &[&[f32]],
        weight: &[f32],
        work: &mut Workspace,
        mut params: Option<&mut [Vec<f32>]>,
    ) {
        let rows = weight.len();
        let Workspace { state, grad, kept, signal, .. } = work;
        let grad = &mut grad[..self.dim * rows];
        for (grad, z) in grad.chunks_exact_mut(rows).zip(state.chunks_exact(rows)) {
            multiply(grad, z, weight);
        }
        for ((range, step), kept) in self.steps.iter().zip(kept).rev() {
            let theta = &theta[range.clone()];
            let params = params.as_deref_mut().map(|params| &mut params[range.clone()]);
            match step {
                Step::EvenFirst => {}
                Step::ActNorm => normalise_back(theta, weight, grad, &kept.state, params),
                Step::Coupling(coupling) => coupling.backward(theta, weight, grad, kept, signal, params),
            }
        }
    }
}

/// `x = e^a z + b`, or back.
fn normalise(theta: &[&[f32]], direction: Direction, state: &mut [f32], log_det: &mut [f64]) {
    let mut total = 0.0;
    for ((x, &b), &a) in state.chunks_exact_mut(log_det.len()).zip(theta[0]).zip(theta[1]) {
        total += f64::from(a);
        match direction {
            Direction::ToLatent => {
                let scale = (-a).exp();
                x.iter_mut().for_each(|x| *x = (*x - b) * scale);
            }
            Direction::ToData => {
                let scale = a.exp();
                x.iter_mut().for_each(|x| *x = *x * scale + b);
            }
        }
    }
    let total = if direction == Direction::ToLatent { -total } else { total };
    log_det.iter_mut().for_each(|log_det| *log_det += total);
}

/// `∂b = −Σ_r ∂z e^{−a}`, `∂a = Σ_r (w − ∂z z)`, `∂x = ∂z e^{−a}`.
fn normalise_back(
    theta: &[&[f32]],
    weight: &[f32],
    grad: &mut [f32],
    state: &[f32],
    mut params: Option<&mut [Vec<f32>]>,
) {
    let rows = weight.len();
    let total: f32 = weight.iter().sum();
    for (j, (grad, z)) in grad.chunks_exact_mut(rows).zip(state.chunks_exact(rows)).enumerate() {
        let scale = (-theta[1][j]).exp();
        if let Some([shift, log_scale]) = params.as_deref_mut() {
            shift[j] -= scale * grad.iter().sum::<f32>();
            log_scale[j] += total - dot(grad, z);
        }
        grad.iter_mut().for_each(|grad| *grad *= scale);
    }
}

impl Coupling {
    /// The part that stays and the part that moves.
    fn split<'a>(&self, state: &'a mut [f32], rows: usize) -> (&'a mut [f32], &'a mut [f32]) {
        let (first, second) = state.split_at_mut(self.parts.widths[0] * rows);
        if self.parts.moves_first { (second, first) } else { (first, second) }
    }

    fn pass(
        &self,
        theta: &[&[f32]],
        direction: Direction,
        state: &mut [f32],
        log_det: &mut [f64],
        kept: &mut Kept,
        keep: bool,
    ) {
        let rows = log_det.len();
        let (stays, moves) = self.split(state, rows);
        let last = self.shapes.len() - 1;
        for (i, (shape, theta)) in self.shapes.iter().zip(theta.chunks_exact(2)).enumerate() {
            let (before, after) = kept.outputs.split_at_mut(i);
            let input = if i == 0 { &*stays } else { &before[i - 1][..shape[1] * rows] };
            let z = &mut after[0][..shape[0] * rows];
            let (weight, input) = (by_rows(theta[0], shape), by_rows(input, &[shape[1], rows]));
            if i == last {
                for (z, &bias) in z.chunks_exact_mut(rows).zip(theta[1]) {
                    z.fill(bias);
                }
                add_product(z, weight, input);
                break;
            }
            product(z, Accum::Replace, weight, input);
            if keep {
                let slope = &mut kept.slopes[i][..z.len()];
                activate_biased_with_slope(self.activation, z, slope, theta[1], rows);
            } else {
                activate_biased(self.activation, z, theta[1], rows);
            }
        }
        let output = &mut kept.outputs[last][..2 * moves.len()];
        let (raw, shift) = output.split_at_mut(moves.len());
        match direction {
            Direction::ToLatent => to_latent(self.bound, raw, shift, moves, log_det),
            Direction::ToData => to_data(self.bound, raw, shift, moves, log_det),
        }
    }

    fn backward(
        &self,
        theta: &[&[f32]],
        weight: &[f32],
        grad: &mut [f32],
        kept: &mut Kept,
        signal: &mut [f32],
        mut params: Option<&mut [Vec<f32>]>,
    ) {
        let rows = weight.len();
        let Kept { state, outputs, slopes } = kept;
        let (stays, moved) = self.split(&mut state[..grad.len()], rows);
        let (grad_stays, grad_moves) = self.split(grad, rows);
        let last = self.shapes.len() - 1;
        let (hidden, output) = outputs.split_at_mut(last);
        let (slope, scale) = output[0][..2 * moved.len()].split_at_mut(moved.len());
        pull_back(slope, scale, grad_moves, moved, weight);
        for (i, (shape, theta)) in self.shapes.iter().zip(theta.chunks_exact(2)).enumerate().rev() {
            let (below, here) = slopes.split_at_mut(i);
            let delta = if i == last { &*output[0] } else { &*here[0] };
            let delta = &delta[..shape[0] * rows];
            let delta_rows = by_rows(delta, &[shape[0], rows]);
            if let Some(params) = params.as_deref_mut() {
                let input = if i == 0 { &*stays } else { &hidden[i - 1][..shape[1] * rows] };
                let input = by_rows(input, &[shape[1], rows]).transpose();
                add_product(&mut params[2 * i], delta_rows, input);
                add_row_sums(&mut params[2 * i + 1], delta, rows);
            }
            let weights = by_rows(theta[0], shape).transpose();
            if i == 0 {
                add_product(grad_stays, weights, delta_rows);
            } else {
                // δ = ∂a · a′(z)
                let signal = &mut signal[..shape[1] * rows];
                product(signal, Accum::Replace, weights, delta_rows);
                multiply_by(&mut below[i - 1][..signal.len()], signal);
            }
        }
    }
}
