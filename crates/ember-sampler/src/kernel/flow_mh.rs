//! Independence Metropolis–Hastings with a flow's draws (Gabrié, Rotskoff, Vanden-Eijnden 2022, arXiv 2105.12603),
//! then MALA steps where asked for.
//!
//! `x' = T(z)`, `z ~ N(0, I)`, accepted with probability `min(1, p(x')ρ_α(x)/(p(x)ρ_α(x')))`. Gradients per step: 1
//! at the proposals, and one a local move; flow passes: one draw, one `log ρ_α`. Leaves `ρ_θ` invariant given α
//! (`global.rs`). Fails where the flow does not cover the target, or in many dimensions: `p/ρ_α` then varies so much
//! that nothing is accepted, and walkers in the flow's tails stay for long.

use burn::tensor::Tensor;
use ember_model::Energy;
use ember_model::random::Purpose;
use serde::{Deserialize, Serialize};

use super::global::{FlowKernel, LocalMoves, then_local};
use super::metropolis::{fraction, is_finite_row, metropolis};
use super::{BadValue, StepInfo};
use crate::noise::Noise;
use crate::proposal::Proposals;
use crate::walkers::Walkers;

/// `{ kind = "flow_mh", local_steps, step_size }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowMh {
    /// MALA steps after each global move; none unless given.
    #[serde(default)]
    pub local_steps: u64,
    /// h of the local moves; with them only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_size: Option<f64>,
}

impl FlowKernel for FlowMh {
    fn step_with(
        &self,
        proposals: &Proposals,
        energy: &dyn Energy,
        walkers: Walkers,
        noise: &Noise,
    ) -> (Walkers, StepInfo) {
        let moved = global_move(proposals, energy, walkers, noise);
        then_local(self.local_moves(), energy, moved, noise)
    }

    fn local_moves(&self) -> Option<LocalMoves> {
        LocalMoves::new(self.local_steps, self.step_size?)
    }

    fn local_step_size(&self) -> Option<f64> {
        self.step_size
    }

    fn at_step_size(&self, step_size: f64) -> Self {
        Self { step_size: self.step_size.map(|_| step_size), ..self.clone() }
    }

    fn check_table(&self) -> Result<(), BadValue> {
        match (self.local_steps, self.step_size) {
            (0, Some(h)) => Err(BadValue::new(
                "step_size",
                format!(
                    "found {h}, but with local_steps = 0 nothing moves by it: leave it out, or set local_steps"
                ),
            )),
            (steps, None) if steps > 0 => Err(BadValue::new(
                "step_size",
                format!("missing: local_steps = {steps} MALA steps need one, a number > 0"),
            )),
            _ => Ok(()),
        }
    }
}

/// One proposal for every walker, and the fraction that were taken, `[1]`.
fn global_move(
    proposals: &Proposals,
    energy: &dyn Energy,
    walkers: Walkers,
    noise: &Noise,
) -> (Walkers, Tensor<1>) {
    let (y, log_q_y) = proposals.sample(walkers.count(), noise.stream(Purpose::Proposal));
    let log_q_x = proposals.log_prob(walkers.position.clone());
    let (u_y, grad_y) = energy.energy_and_grad(y.clone());
    // log a = U(x) − U(x') + log ρ_α(x) − log ρ_α(x')
    let log_ratio = walkers.energy.clone() - u_y.clone() + log_q_x - log_q_y;
    let log_ratio = log_ratio.mask_fill(is_finite_row(grad_y.clone()).bool_not(), f32::NEG_INFINITY);
    let (walkers, taken) = metropolis(walkers, (y, u_y, grad_y), log_ratio, noise);
    (walkers, fraction(taken))
}
