//! Affine couplings with perceptrons, and act-norms, on the CPU backend: explicit passes and an explicit way back instead of a
//! tape.
//!
//! The layers' tensor form is the reference; `tests/flow_cpu.rs` holds the two together. Rows are worked on in blocks of fixed
//! size; gradients of θ are added along a fixed binary tree, so results do not depend on the number of threads. Cost of `U`: the
//! networks' matrix products; of a gradient in x twice, in θ three times as much. `e^s` and `e^{−s}` are cut off beyond `e^{±87}`,
//! which takes a `log_scale_bound` above 87 to show.

mod elementwise;
mod pass;
mod workspace;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::cpu::{Pool, host, tensor};
use crate::energy::WeightedGrads;
use crate::energy::elementwise::add_rows;
use crate::params::upload;

use elementwise::add_squares;
pub(super) use pass::{Coupling, Step};
use pass::{Direction, Network};
use workspace::{BLOCK, Workspace};

/// Blocks whose gradients of θ are added one after the other.
const LEAF: usize = 2;

/// The CPU form of a chain.
#[derive(Debug, Default)]
pub(super) struct CpuForm {
    network: Network,
    workspaces: Pool<Workspace>,
}

/// One block of a term: positions, weights, and where its energies go.
struct Block<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    energy: &'a mut [f32],
}

/// The tensors in host memory, or `None` where one is not a plain CPU tensor.
fn hosts(theta: &[Tensor<1>]) -> Option<Vec<FloatTensor<Flex>>> {
    theta.iter().map(host).collect()
}

fn slices(tensors: &[FloatTensor<Flex>]) -> Option<Vec<&[f32]>> {
    tensors.iter().map(|tensor| tensor.as_slice()).collect()
}

impl CpuForm {
    /// The identity on `dim` coordinates.
    pub fn new(dim: usize) -> Self {
        Self { network: Network { dim, ..Network::default() }, workspaces: Pool::default() }
    }

    /// With one more step at the latent end; `None` where the form does not know it.
    pub fn with(mut self, step: Step) -> Option<Self> {
        let steps = &mut self.network.steps;
        if matches!(step, Step::EvenFirst) && !steps.is_empty() {
            return None;
        }
        let start = steps.last().map_or(0, |(params, _)| params.end);
        steps.push((start..start + step.params(), step));
        Some(self)
    }

    /// The numbers of positions `[n, dim]`, or `None` where they are not 32-bit floats.
    fn rows<'a>(&self, x: &'a FloatTensor<Flex>, n: usize) -> Option<&'a [f32]> {
        let rows: &[f32] = x.as_slice()?;
        assert_eq!(rows.len(), n * self.network.dim, "positions are [{n}, {}]", self.network.dim);
        Some(rows)
    }

    fn with_workspace<T>(&self, rows: usize, f: impl FnOnce(&mut Workspace) -> T) -> T {
        self.workspaces.with(
            || Workspace::new(&self.network),
            |work| {
                work.log_det.resize(rows, 0.0);
                f(work)
            },
        )
    }

    /// `z` and `log |det ∂z/∂x|`, or `None` where a tensor is not a plain one on the CPU.
    pub fn inverse(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<2>, Tensor<1>)> {
        self.map(theta, x, Direction::ToLatent)
    }

    /// `x` and `log |det ∂x/∂z|`, or `None` where a tensor is not a plain one on the CPU.
    pub fn forward(&self, theta: &[Tensor<1>], z: &Tensor<2>) -> Option<(Tensor<2>, Tensor<1>)> {
        self.map(theta, z, Direction::ToData)
    }

    fn map(
        &self,
        theta: &[Tensor<1>],
        from: &Tensor<2>,
        direction: Direction,
    ) -> Option<(Tensor<2>, Tensor<1>)> {
        let (theta, position, [n, d]) = (hosts(theta)?, host(from)?, from.dims());
        let (theta, position) = (slices(&theta)?, self.rows(&position, n)?);
        let mut to = vec![0.0f32; n * d];
        let mut log_det = vec![0.0f32; n];
        let blocks = to.par_chunks_mut(BLOCK * d).zip(log_det.par_chunks_mut(BLOCK));
        blocks.zip(position.par_chunks(BLOCK * d)).for_each(|((to, log_det), from)| {
            self.with_workspace(log_det.len(), |work| {
                self.load(from, &mut work.state, direction == Direction::ToLatent);
                self.network.pass(&theta, direction, work, false);
                self.store(&work.state, to, direction == Direction::ToData);
                for (to, &log_det) in log_det.iter_mut().zip(&work.log_det) {
                    *to = log_det as f32;
                }
            });
        });
        let device = from.device();
        Some((tensor(to, [n, d], &device), tensor(log_det, [n], &device)))
    }

    /// `U [n]`, or `None` where a tensor is not a plain one on the CPU.
    pub fn energy(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<Tensor<1>> {
        let (theta, position, [n, d]) = (hosts(theta)?, host(x)?, x.dims());
        let (theta, position) = (slices(&theta)?, self.rows(&position, n)?);
        let mut energy = vec![0.0f32; n];
        energy.par_chunks_mut(BLOCK).zip(position.par_chunks(BLOCK * d)).for_each(|(energy, x)| {
            self.with_workspace(energy.len(), |work| self.evaluate(&theta, x, energy, work, false));
        });
        Some(tensor(energy, [n], &x.device()))
    }

    /// `(U [n], ∇U [n, d])`, or `None` where a tensor is not a plain one on the CPU.
    pub fn energy_and_grad(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
        let (theta, position, [n, d]) = (hosts(theta)?, host(x)?, x.dims());
        let (theta, position) = (slices(&theta)?, self.rows(&position, n)?);
        let ones = [1.0f32; BLOCK];
        let mut energy = vec![0.0f32; n];
        let mut grad = vec![0.0f32; n * d];
        let blocks = energy.par_chunks_mut(BLOCK).zip(grad.par_chunks_mut(BLOCK * d));
        blocks.zip(position.par_chunks(BLOCK * d)).for_each(|((energy, grad), x)| {
            self.with_workspace(energy.len(), |work| {
                self.evaluate(&theta, x, energy, work, true);
                self.network.backward(&theta, &ones[..energy.len()], work, None);
                self.store(&work.grad, grad, true);
            });
        });
        let device = x.device();
        Some((tensor(energy, [n], &device), tensor(grad, [n, d], &device)))
    }

    /// `Σ_t Σ_b w ∂_θU` and the energies, or `None` where a tensor is not a plain one on the CPU.
    pub fn weighted_param_grads(
        &self,
        theta: &[Tensor<1>],
        terms: &[(Tensor<2>, Tensor<1>)],
    ) -> Option<WeightedGrads> {
        let device = theta.first()?.device();
        let theta = hosts(theta)?;
        let theta = slices(&theta)?;
        let terms = terms.iter().map(|(x, w)| Some((host(x)?, host(w)?))).collect::<Option<Vec<_>>>()?;
        let mut energies = Vec::with_capacity(terms.len());
        for (_, weight) in &terms {
            energies.push(vec![0.0f32; weight.as_slice::<f32>()?.len()]);
        }
        let mut blocks = Vec::new();
        for ((x, weight), energy) in terms.iter().zip(&mut energies) {
            let (x, weight) = (self.rows(x, energy.len())?, weight.as_slice()?);
            let parts = x.chunks(BLOCK * self.network.dim).zip(weight.chunks(BLOCK));
            let parts = parts.zip(energy.chunks_mut(BLOCK));
            blocks.extend(parts.map(|((x, weight), energy)| Block { x, weight, energy }));
        }
        let grads = self.sum_over(&theta, &mut blocks);
        let flat = |values: Vec<Vec<f32>>| values.into_iter().map(|values| upload(values, &device)).collect();
        Some(WeightedGrads { grads: flat(grads), energies: flat(energies) })
    }

    /// The gradients of some blocks, halves added to halves.
    fn sum_over(&self, theta: &[&[f32]], blocks: &mut [Block<'_>]) -> Vec<Vec<f32>> {
        if blocks.len() > LEAF {
            let (left, right) = blocks.split_at_mut(blocks.len() / 2);
            let (mut sum, other) = rayon::join(|| self.sum_over(theta, left), || self.sum_over(theta, right));
            for (to, from) in sum.iter_mut().zip(&other) {
                add_rows(to, from);
            }
            return sum;
        }
        let mut grads: Vec<Vec<f32>> = theta.iter().map(|values| vec![0.0; values.len()]).collect();
        for Block { x, weight, energy } in blocks {
            self.with_workspace(energy.len(), |work| {
                self.evaluate(theta, x, energy, work, true);
                self.network.backward(theta, weight, work, Some(&mut grads));
            });
        }
        grads
    }

    /// `U = ½ |z|² + (d/2) ln 2π − log_det` of one block; with `keep`, the way back may follow.
    fn evaluate(&self, theta: &[&[f32]], x: &[f32], energy: &mut [f32], work: &mut Workspace, keep: bool) {
        self.load(x, &mut work.state, true);
        self.network.pass(theta, Direction::ToLatent, work, keep);
        let mut squares = [0.0f64; BLOCK];
        let squares = &mut squares[..energy.len()];
        add_squares(squares, &work.state[..x.len()]);
        let constant = 0.5 * self.network.dim as f64 * (2.0 * std::f64::consts::PI).ln();
        for ((u, square), log_det) in energy.iter_mut().zip(squares).zip(&work.log_det) {
            *u = (0.5 * *square + constant - log_det) as f32;
        }
    }

    /// `x: [rows, dim]` into `[dim, rows]`; data in the order of the first coupling's parts.
    fn load(&self, x: &[f32], state: &mut [f32], is_data: bool) {
        let (dim, rows) = (self.network.dim, x.len() / self.network.dim);
        for (j, to) in state.chunks_exact_mut(rows).take(dim).enumerate() {
            for (to, from) in to.iter_mut().zip(x[self.source(j, is_data)..].iter().step_by(dim)) {
                *to = *from;
            }
        }
    }

    /// The reverse of [`Self::load`].
    fn store(&self, state: &[f32], x: &mut [f32], is_data: bool) {
        let (dim, rows) = (self.network.dim, x.len() / self.network.dim);
        for (j, from) in state.chunks_exact(rows).take(dim).enumerate() {
            for (from, to) in from.iter().zip(x[self.source(j, is_data)..].iter_mut().step_by(dim)) {
                *to = *from;
            }
        }
    }

    /// Which coordinate stands in place j.
    fn source(&self, j: usize, is_data: bool) -> usize {
        let evens = self.network.dim.div_ceil(2);
        match is_data && self.network.is_even_first() {
            false => j,
            true if j < evens => 2 * j,
            true => 2 * (j - evens) + 1,
        }
    }
}
