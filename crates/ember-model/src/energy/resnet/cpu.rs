//! The residual network on the CPU: an explicit forward and backward instead of a tape.
//!
//! The tensor form in the parent module is the reference; `tests/resnet_cpu.rs` holds the two together. Images are worked on in
//! blocks of fixed size, one per thread. θ is one vector a parameter, the weights of convolutions packed for their products.

use super::super::elementwise::add_rows;
use super::layers::Network;
use super::pass::{add_seeded_grads, backward, forward};
use super::workspace::Workspace;
use crate::cpu::Passes;

/// A network plus `½ c |x|²`.
#[derive(Debug)]
pub(super) struct Residual {
    pub network: Network,
    /// `c`.
    pub confinement: f32,
}

impl Passes for Residual {
    type Theta<'a> = Vec<Vec<f32>>;
    type Work = Workspace;
    type Grads = Vec<Vec<f32>>;

    fn dim(&self) -> usize {
        self.network.dim()
    }

    fn block(&self) -> usize {
        self.network.block
    }

    fn confinement(&self) -> f32 {
        self.confinement
    }

    fn theta(&self, theta: &[&[f32]]) -> Vec<Vec<f32>> {
        self.network.packed(theta)
    }

    fn work(&self) -> Workspace {
        Workspace::new(&self.network)
    }

    fn kept_bytes(&self) -> Option<usize> {
        Some(self.network.numbers() * self.network.block * size_of::<f32>())
    }

    fn evaluate(
        &self,
        theta: &Vec<Vec<f32>>,
        x: &[f32],
        energy: &mut [f32],
        work: &mut Workspace,
        keep: bool,
    ) {
        forward(&self.network, theta, x, energy, work, keep);
    }

    fn backward(
        &self,
        theta: &Vec<Vec<f32>>,
        _x: &[f32],
        seed: &[f32],
        work: &mut Workspace,
        params: Option<&mut Vec<Vec<f32>>>,
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
        params: &mut Vec<Vec<f32>>,
    ) {
        add_seeded_grads(&self.network, seed, work, params);
    }

    fn zeros(&self) -> Vec<Vec<f32>> {
        self.network.zeros()
    }

    fn add(&self, to: &mut Vec<Vec<f32>>, from: &Vec<Vec<f32>>) {
        to.iter_mut().zip(from).for_each(|(to, from)| add_rows(to, from));
    }

    fn flattened(&self, grads: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        self.network.unpacked(grads)
    }
}
