//! Energies of many rows, a block at a time, so that a network's activations stay small.

use burn::tensor::Tensor;
use ember_model::Energy;
use ember_model::energy::chain::{Chain, ChainEnd, ChainState};

/// Coordinates of one call of the energy.
const BLOCK: usize = 1 << 20;

/// The same energy, its rows in blocks.
#[derive(Clone)]
pub(crate) struct Blockwise<E>(pub E);

impl<E: Energy> Energy for Blockwise<E> {
    fn dim(&self) -> usize {
        self.0.dim()
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        Tensor::cat(blocks(&x).into_iter().map(|x| self.0.energy(x)).collect(), 0)
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let parts = blocks(&x).into_iter().map(|x| self.0.energy_and_grad(x));
        let (energies, grads): (Vec<_>, Vec<_>) = parts.unzip();
        (Tensor::cat(energies, 0), Tensor::cat(grads, 0))
    }

    /// One launch, which takes its walkers tile by tile.
    fn chain(&self, from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        self.0.chain(from, chain)
    }
}

/// The rows of `x: [n, dim]` in order, at most [`BLOCK`] numbers at a time.
fn blocks(x: &Tensor<2>) -> Vec<Tensor<2>> {
    let [n, dim] = x.dims();
    let rows = rows_at_a_time(dim);
    (0..n).step_by(rows).map(|first| x.clone().narrow(0, first, rows.min(n - first))).collect()
}

/// How many rows of `dim` coordinates make a block.
pub(crate) fn rows_at_a_time(dim: usize) -> usize {
    (BLOCK / dim).max(1)
}
