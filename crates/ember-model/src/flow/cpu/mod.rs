//! Affine couplings with perceptrons, and act-norms, on the CPU backend: explicit passes and an explicit way back instead of a
//! tape.
//!
//! The layers' tensor form is the reference; `tests/flow_cpu.rs` holds the two together. Cost of `U`: the
//! networks' matrix products; of a gradient in x twice, in θ three times as much. `e^s` and `e^{−s}` are cut off beyond `e^{±87}`,
//! which takes a `log_scale_bound` above 87 to show.

mod elementwise;
mod pass;
mod workspace;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::steps::{Network, Step};
use crate::cpu::{self, Passes, doubled, host, hosts, slices, tensor};
use crate::energy::elementwise::add_rows;

use elementwise::add_squares;
use pass::Direction;
use workspace::{BLOCK, Workspace};

/// Blocks whose gradients of θ are added one after the other.
const LEAF: usize = 2;

/// The CPU form of a chain.
pub(super) type CpuForm = cpu::CpuForm<Network>;

impl CpuForm {
    /// The identity on `dim` coordinates.
    pub fn identity(dim: usize) -> Self {
        Self::new(Network { dim, ..Network::default() })
    }

    /// With one more step at the latent end; `None` where the form does not know it.
    pub fn with(&self, step: Step) -> Option<Self> {
        let mut network = self.passes().clone();
        if matches!(step, Step::EvenFirst) && !network.steps.is_empty() {
            return None;
        }
        let start = network.steps.last().map_or(0, |(params, _)| params.end);
        let params = step.param_lens(network.dim).len();
        network.steps.push((start..start + params, step));
        Some(Self::new(network))
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
        let network = self.passes();
        let mut to = vec![0.0f32; n * d];
        let mut log_det = vec![0.0f32; n];
        let blocks = to.par_chunks_mut(BLOCK * d).zip(log_det.par_chunks_mut(BLOCK));
        blocks.zip(position.par_chunks(BLOCK * d)).for_each(|((to, log_det), from)| {
            self.with_work(|work| match self.is_doubled(log_det.len()) {
                true => {
                    let (mut both, mut log_dets) = (doubled(from), [0.0; 2]);
                    network.map(&theta, &doubled(from), direction, &mut both, &mut log_dets, work);
                    to.copy_from_slice(&both[..d]);
                    log_det[0] = log_dets[0];
                }
                false => network.map(&theta, from, direction, to, log_det, work),
            });
        });
        let device = from.device();
        Some((tensor(to, [n, d], &device), tensor(log_det, [n], &device)))
    }
}

impl Passes for Network {
    type Theta<'a> = Vec<&'a [f32]>;
    type Work = Workspace;
    type Grads = Vec<Vec<f32>>;

    fn dim(&self) -> usize {
        self.dim
    }

    fn block(&self) -> usize {
        BLOCK
    }

    fn leaf(&self) -> usize {
        LEAF
    }

    fn theta<'a>(&self, theta: &[&'a [f32]]) -> Self::Theta<'a> {
        theta.to_vec()
    }

    fn work(&self) -> Workspace {
        Workspace::new(self)
    }

    /// `U = ½ |z|² + (d/2) ln 2π − log_det`.
    fn evaluate(&self, theta: &Vec<&[f32]>, x: &[f32], energy: &mut [f32], work: &mut Workspace, keep: bool) {
        work.log_det.resize(energy.len(), 0.0);
        self.load(x, &mut work.state, true);
        self.pass(theta, Direction::ToLatent, work, keep);
        let mut squares = [0.0f64; BLOCK];
        let squares = &mut squares[..energy.len()];
        add_squares(squares, &work.state[..x.len()]);
        let constant = 0.5 * self.dim as f64 * (2.0 * std::f64::consts::PI).ln();
        for ((u, square), log_det) in energy.iter_mut().zip(squares).zip(&work.log_det) {
            *u = (0.5 * *square + constant - log_det) as f32;
        }
    }

    fn backward(
        &self,
        theta: &Vec<&[f32]>,
        _x: &[f32],
        seed: &[f32],
        work: &mut Workspace,
        params: Option<&mut Vec<Vec<f32>>>,
        input: Option<&mut [f32]>,
    ) {
        self.pull_back(theta, seed, work, params.map(Vec::as_mut_slice));
        if let Some(input) = input {
            self.store(&work.grad, input, true);
        }
    }

    fn zeros(&self) -> Vec<Vec<f32>> {
        let lens = self.steps.iter().flat_map(|(_, step)| step.param_lens(self.dim));
        lens.map(|len| vec![0.0; len]).collect()
    }

    fn add(&self, to: &mut Vec<Vec<f32>>, from: &Vec<Vec<f32>>) {
        to.iter_mut().zip(from).for_each(|(to, from)| add_rows(to, from));
    }

    fn flattened(&self, grads: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        grads
    }
}

impl Network {
    /// One block through the chain, `[rows, dim]`, with its `log |det|`, `[rows]`.
    fn map(
        &self,
        theta: &[&[f32]],
        from: &[f32],
        direction: Direction,
        to: &mut [f32],
        log_det: &mut [f32],
        work: &mut Workspace,
    ) {
        work.log_det.resize(log_det.len(), 0.0);
        self.load(from, &mut work.state, direction == Direction::ToLatent);
        self.pass(theta, direction, work, false);
        self.store(&work.state, to, direction == Direction::ToData);
        for (to, &log_det) in log_det.iter_mut().zip(&work.log_det) {
            *to = log_det as f32;
        }
    }

    /// `x: [rows, dim]` into `[dim, rows]`; data in the order of the first coupling's parts.
    fn load(&self, x: &[f32], state: &mut [f32], is_data: bool) {
        let (dim, rows) = (self.dim, x.len() / self.dim);
        for (j, to) in state.chunks_exact_mut(rows).take(dim).enumerate() {
            for (to, from) in to.iter_mut().zip(x[self.source(j, is_data)..].iter().step_by(dim)) {
                *to = *from;
            }
        }
    }

    /// The reverse of [`Self::load`].
    fn store(&self, state: &[f32], x: &mut [f32], is_data: bool) {
        let (dim, rows) = (self.dim, x.len() / self.dim);
        for (j, from) in state.chunks_exact(rows).take(dim).enumerate() {
            for (from, to) in from.iter().zip(x[self.source(j, is_data)..].iter_mut().step_by(dim)) {
                *to = *from;
            }
        }
    }

    /// Which coordinate stands in place j.
    fn source(&self, j: usize, is_data: bool) -> usize {
        let evens = self.dim.div_ceil(2);
        match is_data && self.is_even_first() {
            false => j,
            true if j < evens => 2 * j,
            true => 2 * (j - evens) + 1,
        }
    }
}
