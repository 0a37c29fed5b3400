//! Energies of many rows, a block at a time, so that a network's activations stay small.

use crate::energy::Energy;
use crate::energy::chain::{Chain, ChainEnd, ChainState};
use crate::model::EnergyModel;
use crate::params::download;
use burn::tensor::{Tensor, TensorData};

/// Coordinates of one call of the energy.
const BLOCK: usize = 1 << 20;

/// Rows in host memory that go to the device at a time, and coordinates of them: a convolution keeps many numbers of each image.
const HOST_ROWS: usize = 16_384;
const HOST_COORDINATES: usize = 1 << 18;

/// The same energy, its rows in blocks.
#[derive(Clone, Debug)]
pub struct Blockwise<E>(pub E);

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

    fn hidden_units(&self) -> Option<usize> {
        self.0.hidden_units()
    }

    fn block_gibbs(&self, v: Tensor<2>, [hidden, visible]: [Tensor<2>; 2]) -> Tensor<2> {
        let rows = rows_at_a_time(v.dims()[1]);
        let block =
            |all: &Tensor<2>, first: usize| all.clone().narrow(0, first, rows.min(all.dims()[0] - first));
        let of_block = |first: usize| {
            self.0.block_gibbs(block(&v, first), [block(&hidden, first), block(&visible, first)])
        };
        Tensor::cat((0..v.dims()[0]).step_by(rows).map(of_block).collect(), 0)
    }
}

/// The rows of `x: [n, dim]` in order, at most [`BLOCK`] numbers at a time.
fn blocks(x: &Tensor<2>) -> Vec<Tensor<2>> {
    let [n, dim] = x.dims();
    let rows = rows_at_a_time(dim);
    (0..n).step_by(rows).map(|first| x.clone().narrow(0, first, rows.min(n - first))).collect()
}

/// How many rows of `dim` coordinates make a block.
pub fn rows_at_a_time(dim: usize) -> usize {
    (BLOCK / dim).max(1)
}

/// `U_θ` of rows in host memory, row-major `[n, dim]`, in blocks: +∞ outside the model's support, where it has no density.
pub fn energies(model: &EnergyModel, rows: &[f32]) -> Vec<f32> {
    let (dim, support) = (model.dim(), model.spec().support);
    let block = HOST_ROWS.min(HOST_COORDINATES / dim).max(1) * dim;
    rows.chunks(block)
        .flat_map(|block| {
            let x = TensorData::new(block.to_vec(), [block.len() / dim, dim]);
            let u = download(model.energy(Tensor::from_data(x, model.device())));
            let inside = block.chunks_exact(dim).map(move |x| support.contains(x));
            u.into_iter().zip(inside).map(|(u, inside)| if inside { u } else { f32::INFINITY })
        })
        .collect()
}
