//! Iterated sampling importance resampling with a flow's draws (Tjelmeland 2004; Andrieu, Doucet, Holenstein 2010; as
//! "i-SIR" in Samsonov et al. 2022, arXiv 2111.02702).
//!
//! N − 1 draws `x_j = T(z_j)` and the current point `x_0`: one of the N is picked with probability `∝ w_j`,
//! `w = p/ρ_α`. The choice is the largest of `log w_j − log(−log u_j)` (Gumbel-max), so that nothing is summed along
//! an axis or read by the host; `u` has 24 bits and is never 0 or 1, which shifts probabilities by less than 1e-6. Per step and walker: N
//! − 1 energies, draws and their densities, one `log ρ_α`, and one gradient, at the point picked. Memory:
//! `(N − 1)·walkers·dim` latent numbers; all else is done in blocks of rows. Leaves `ρ_θ` invariant given α
//! (`global.rs`), for every N ≥ 2. A draw of weight that is not finite is never picked; a current point whose weight
//! is not finite stays. Fails as independence Metropolis–Hastings does, later by about a factor N in the variation of
//! w.

use std::ops::Range;

use burn::tensor::{Int, Tensor};
use ember_model::Energy;
use ember_model::random::Purpose;
use serde::{Deserialize, Serialize};

use super::global::{FlowKernel, then_local};
use super::metropolis::{fraction, is_finite, is_finite_row, replaced};
use super::{BadValue, StepInfo};
use crate::device::{open_uniform, standard_normal};
use crate::noise::Noise;
use crate::proposal::{FlowProposal, Proposals, joined, narrow};
use crate::walkers::Walkers;

/// Candidates that pass through flow and energy together, and their coordinates: what bounds the memory of a step.
const BLOCK_ROWS: usize = 1 << 14;
const BLOCK_ELEMENTS: usize = 1 << 22;

/// `{ kind = "i_sir", proposals }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ISir {
    /// N: the current point and N − 1 draws.
    pub proposals: usize,
}

impl FlowKernel for ISir {
    fn step_with(
        &self,
        proposals: &Proposals,
        energy: &dyn Energy,
        walkers: Walkers,
        noise: &Noise,
    ) -> (Walkers, StepInfo) {
        let moved = global_move(self.proposals, proposals, energy, walkers, noise);
        then_local(None, energy, moved, noise)
    }

    fn local_step_size(&self) -> Option<f64> {
        None
    }

    fn at_step_size(&self, _step_size: f64) -> Self {
        self.clone()
    }

    fn check_table(&self) -> Result<(), BadValue> {
        check_proposals(self.proposals)
    }

    fn rows(&self) -> usize {
        self.proposals
    }
}

/// Checks N.
pub(super) fn check_proposals(proposals: usize) -> Result<(), BadValue> {
    BadValue::unless_at_least("proposals", proposals as u64, 2).map_err(|error| {
        let message = format!("{}: the current point is one of them", error.message);
        BadValue { message, ..error }
    })
}

/// One choice among `candidates` for every walker, and the fraction that left their point, `[1]`.
pub(super) fn global_move(
    candidates: usize,
    proposals: &Proposals,
    energy: &dyn Energy,
    walkers: Walkers,
    noise: &Noise,
) -> (Walkers, Tensor<1>) {
    let fresh = candidates - 1;
    let rows = BLOCK_ROWS.min(BLOCK_ELEMENTS / walkers.dim().max(1));
    let choice = Choice::new(candidates, &walkers, noise);
    let (picked, best) = choice.among(proposals, energy, (rows / fresh).max(1));
    let log_q = proposals.log_prob(walkers.position.clone());
    let log_w = walkers.energy.clone().neg() - log_q;
    // A current point beyond what the flow can place stays: its weight counts as infinite.
    let log_w = log_w.clone().mask_fill(is_finite(log_w).bool_not(), f32::INFINITY);
    let (u, grad) = energy.energy_and_grad(picked.clone());
    // A point without a finite gradient counts as outside the support.
    let whole = is_finite(u.clone()).bool_and(is_finite_row(grad.clone()));
    let moved = best.greater(log_w + choice.current()).bool_and(whole);
    (replaced(walkers, (picked, u, grad), moved.clone()), fraction(moved))
}

/// The random numbers of one choice: latents `[walkers·(N − 1), dim]`, the draws of one walker after one another, and
/// Gumbel numbers `[walkers, N]`, the current point's first.
struct Choice {
    latents: Tensor<2>,
    gumbels: Tensor<2>,
}

impl Choice {
    fn new(candidates: usize, walkers: &Walkers, noise: &Noise) -> Self {
        let ([n, dim], device) = (walkers.position.dims(), walkers.position.device());
        let stream = noise.stream(Purpose::Proposal);
        let latents = standard_normal([n * (candidates - 1), dim], stream, &device);
        let uniforms = open_uniform(n * candidates, noise.stream(Purpose::Accept), &device);
        // −log(−log u)
        let gumbels = uniforms.log().neg().log().neg().reshape([n, candidates]);
        Self { latents, gumbels }
    }

    /// Those of the current points, `[walkers]`.
    fn current(&self) -> Tensor<1> {
        self.gumbels.clone().narrow(1, 0, 1).squeeze_dim::<1>(1)
    }

    /// The best draw of every walker and its `log w + Gumbel`, from blocks of at most `rows` walkers.
    fn among(&self, proposals: &Proposals, energy: &dyn Energy, rows: usize) -> (Tensor<2>, Tensor<1>) {
        let [n, _] = self.gumbels.dims();
        let mut picked = Vec::new();
        let mut best = Vec::new();
        for (k, flow) in proposals.flows().iter().enumerate() {
            let Range { mut start, end } = proposals.rows(k, n);
            while start < end {
                let block = start..end.min(start + rows);
                start = block.end;
                let (x, score) = self.best_of(flow, energy, block);
                picked.push(x);
                best.push(score);
            }
        }
        (joined(picked), joined(best))
    }

    fn best_of(
        &self,
        flow: &FlowProposal,
        energy: &dyn Energy,
        block: Range<usize>,
    ) -> (Tensor<2>, Tensor<1>) {
        let ([_, candidates], count) = (self.gumbels.dims(), block.len());
        let fresh = candidates - 1;
        let latents = narrow(&self.latents, block.start * fresh..block.end * fresh);
        let (x, log_q) = flow.push(latents);
        // log w = −U − log ρ_α
        let log_w = energy.energy(x.clone()).neg() - log_q;
        let log_w = log_w.clone().mask_fill(is_finite(log_w).bool_not(), f32::NEG_INFINITY);
        let gumbels = narrow(&self.gumbels, block).narrow(1, 1, fresh);
        let scores = log_w.reshape([count, fresh]) + gumbels;
        let (best, index) = scores.max_dim_with_indices(1);
        // The draws of walker i of the block are rows i·(N − 1) and on.
        let first = Tensor::<1, Int>::arange(0..count as i64, &x.device()).mul_scalar(fresh as i64);
        let picked = x.select(0, first + index.squeeze_dim::<1>(1));
        (picked, best.squeeze_dim::<1>(1))
    }
}
