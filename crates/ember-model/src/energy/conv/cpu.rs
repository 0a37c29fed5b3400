//! The network on the CPU backend: an explicit forward and backward instead of a tape.
//!
//! The tensor form in the parent module is the reference; `tests/conv_cpu.rs` holds the two together. Images are worked on in
//! blocks of fixed size, one per thread.

use super::network::Network;
use super::pass::{Weights, add_weight_grads, backward, forward};
use super::workspace::Workspace;
use crate::cpu::Passes;

/// A network plus `½ c |x|²`.
#[derive(Debug)]
pub(super) struct Convolutions {
    pub network: Network,
    /// `c`.
    pub confinement: f32,
}

impl Passes for Convolutions {
    type Theta<'a> = Weights;
    type Work = Workspace;
    type Grads = Weights;

    fn dim(&self) -> usize {
        self.network.dim()
    }

    fn block(&self) -> usize {
        self.network.block
    }

    fn confinement(&self) -> f32 {
        self.confinement
    }

    fn theta(&self, theta: &[&[f32]]) -> Weights {
        Weights::new(&self.network, theta)
    }

    fn work(&self) -> Workspace {
        Workspace::new(&self.network)
    }

    fn kept_bytes(&self) -> Option<usize> {
        Some(Workspace::bytes(&self.network))
    }

    fn evaluate(&self, theta: &Weights, x: &[f32], energy: &mut [f32], work: &mut Workspace, keep: bool) {
        forward(&self.network, theta, x, energy, work, keep);
    }

    fn backward(
        &self,
        theta: &Weights,
        _x: &[f32],
        seed: &[f32],
        work: &mut Workspace,
        params: Option<&mut Weights>,
        input: Option<&mut [f32]>,
    ) {
        backward(&self.network, theta, seed, work, params, input);
    }

    fn param_grads(
        &self,
        _theta: &[&[f32]],
        _x: &[f32],
        seed: &[f32],
        work: &mut Workspace,
        params: &mut Weights,
    ) {
        add_weight_grads(&self.network, seed, work, params);
    }

    fn zeros(&self) -> Weights {
        Weights::zeros(&self.network)
    }

    fn add(&self, to: &mut Weights, from: &Weights) {
        to.add(from);
    }

    fn flattened(&self, grads: Weights) -> Vec<Vec<f32>> {
        grads.into_theta(&self.network)
    }
}
