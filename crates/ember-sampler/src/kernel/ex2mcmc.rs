//! Ex²MCMC (Samsonov et al. 2022, arXiv 2111.02702, algorithm 2): i-SIR from a flow, then MALA steps.
//!
//! The global choice is that of `i_sir.rs`, the moves after it that of `mala.rs`, 5 unless given. Invariant given α,
//! though not reversible. Gradients per step: `1 + local_steps`, with i-SIR's N − 1 energies. Fails where the flow
//! misses a mode: local moves do not cross.

use ember_model::Energy;
use serde::{Deserialize, Serialize};

use super::global::{FlowKernel, LocalMoves, then_local};
use super::i_sir::{check_proposals, global_move};
use super::{BadValue, StepInfo};
use crate::noise::Noise;
use crate::proposal::Proposals;
use crate::walkers::Walkers;

/// `{ kind = "ex2mcmc", proposals, local_steps, step_size }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ex2Mcmc {
    /// N: the current point and N − 1 draws.
    pub proposals: usize,
    /// MALA steps after each choice; 5 unless given.
    #[serde(default = "five")]
    pub local_steps: u64,
    /// h of the local moves.
    pub step_size: f64,
}

fn five() -> u64 {
    5
}

impl FlowKernel for Ex2Mcmc {
    fn step_with(
        &self,
        proposals: &Proposals,
        energy: &dyn Energy,
        walkers: Walkers,
        noise: &Noise,
    ) -> (Walkers, StepInfo) {
        let moved = global_move(self.proposals, proposals, energy, walkers, noise);
        then_local(self.local_moves(), energy, moved, noise)
    }

    fn local_moves(&self) -> Option<LocalMoves> {
        LocalMoves::new(self.local_steps, self.step_size)
    }

    fn local_step_size(&self) -> Option<f64> {
        Some(self.step_size)
    }

    fn at_step_size(&self, step_size: f64) -> Self {
        Self { step_size, ..self.clone() }
    }

    fn check_table(&self) -> Result<(), BadValue> {
        check_proposals(self.proposals)?;
        if self.local_steps == 0 {
            let message = "found 0, expected at least 1: without local moves the kernel is \"i_sir\"";
            return Err(BadValue::new("local_steps", message));
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        self.proposals
    }
}
