//! The network on the CPU backend: an explicit forward and backward instead of a tape.
//!
//! The tensor form in the parent module is the reference; `tests/conv_cpu.rs` holds the two together. Images are worked on in
//! blocks of fixed size, one per thread; gradients of θ are added along a fixed binary tree over the blocks, so results do not
//! depend on the number of threads.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

use super::super::WeightedGrads;
use super::super::elementwise::square_norm;
use super::pass::{Network, Weights, backward, forward};
use super::workspace::Workspace;
use crate::cpu::{Pool, host, tensor};
use crate::params::upload;

fn weights(network: &Network, theta: &[Tensor<1>]) -> Option<Weights> {
    let theta = theta.iter().map(host).collect::<Option<Vec<_>>>()?;
    let slices: Option<Vec<&[f32]>> = theta.iter().map(|tensor| tensor.as_slice()).collect();
    Some(Weights::new(network, &slices?))
}

/// The CPU form of a network energy.
#[derive(Debug)]
pub(super) struct CpuForm {
    network: Network,
    /// `c` of `½ c |x|²`.
    confinement: f32,
    workspaces: Pool<Workspace>,
}

/// One block of a term: positions, weights, and where its energies go.
struct Block<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    energy: &'a mut [f32],
}

impl CpuForm {
    pub fn new(network: Network, confinement: f64) -> Self {
        Self { network, confinement: confinement as f32, workspaces: Pool::default() }
    }

    fn with_workspace<T>(&self, f: impl FnOnce(&mut Workspace) -> T) -> T {
        self.workspaces.with(|| Workspace::new(&self.network), f)
    }

    /// The numbers of positions `[n, dim]`, or `None` where they are not on the CPU.
    fn rows<'a>(&self, x: &'a FloatTensor<Flex>, n: usize) -> Option<&'a [f32]> {
        let rows: &[f32] = x.as_slice()?;
        assert_eq!(rows.len(), n * self.network.dim(), "positions are [{n}, {}]", self.network.dim());
        Some(rows)
    }

    /// `U [n]`, or `None` where a tensor is not a plain one on the CPU.
    pub fn energy(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<Tensor<1>> {
        let network = &self.network;
        let (position, weights) = (host(x)?, weights(network, theta)?);
        let (n, block) = (x.dims()[0], network.block);
        let position = self.rows(&position, n)?;
        let mut energy = vec![0.0f32; n];
        energy.par_chunks_mut(block).zip(position.par_chunks(block * network.dim())).for_each(
            |(energy, x)| {
                self.with_workspace(|work| forward(network, &weights, x, energy, work, false));
                self.confine(x, energy);
            },
        );
        Some(tensor(energy, [n], &x.device()))
    }

    /// `(U [n], ∇U [n, d])`, or `None` where a tensor is not a plain one on the CPU.
    pub fn energy_and_grad(&self, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
        let network = &self.network;
        let (position, weights) = (host(x)?, weights(network, theta)?);
        let (n, d, block) = (x.dims()[0], network.dim(), network.block);
        let position = self.rows(&position, n)?;
        let ones = vec![1.0; block];
        let mut energy = vec![0.0f32; n];
        let mut grad = vec![0.0f32; n * d];
        let blocks = energy.par_chunks_mut(block).zip(grad.par_chunks_mut(block * d));
        blocks.zip(position.par_chunks(block * d)).for_each(|((energy, grad), x)| {
            self.with_workspace(|work| {
                forward(network, &weights, x, energy, work, true);
                backward(network, &weights, &ones[..energy.len()], work, None, Some(grad));
            });
            self.confine(x, energy);
            if self.confinement != 0.0 {
                for (grad, &x) in grad.iter_mut().zip(x) {
                    *grad += self.confinement * x;
                }
            }
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
        let network = &self.network;
        let weights = weights(network, theta)?;
        let terms = terms.iter().map(|(x, w)| Some((host(x)?, host(w)?))).collect::<Option<Vec<_>>>()?;
        let mut energies = Vec::with_capacity(terms.len());
        for (_, scale) in &terms {
            energies.push(vec![0.0f32; scale.as_slice::<f32>()?.len()]);
        }
        let mut blocks = Vec::new();
        for ((x, scale), energy) in terms.iter().zip(&mut energies) {
            let (x, scale) = (self.rows(x, energy.len())?, scale.as_slice()?);
            let parts = x.chunks(network.block * network.dim()).zip(scale.chunks(network.block));
            let parts = parts.zip(energy.chunks_mut(network.block));
            blocks.extend(parts.map(|((x, scale), energy)| Block { x, scale, energy }));
        }
        let grads = self.sum_over(&weights, &mut blocks).into_theta(network);
        let device = theta[0].device();
        let flat = |values: Vec<Vec<f32>>| values.into_iter().map(|values| upload(values, &device)).collect();
        Some(WeightedGrads { grads: flat(grads), energies: flat(energies) })
    }

    /// The gradients of some blocks, halves added to halves.
    fn sum_over(&self, weights: &Weights, blocks: &mut [Block<'_>]) -> Weights {
        let network = &self.network;
        match blocks {
            [] => Weights::zeros(network),
            [Block { x, scale, energy }] => {
                let mut grads = Weights::zeros(network);
                self.with_workspace(|work| {
                    forward(network, weights, x, energy, work, true);
                    backward(network, weights, scale, work, Some(&mut grads), None);
                });
                self.confine(x, energy);
                grads
            }
            _ => {
                let (left, right) = blocks.split_at_mut(blocks.len() / 2);
                let (mut sum, other) =
                    rayon::join(|| self.sum_over(weights, left), || self.sum_over(weights, right));
                sum.add(&other);
                sum
            }
        }
    }

    /// Adds `½ c |x|²`.
    fn confine(&self, x: &[f32], energy: &mut [f32]) {
        if self.confinement == 0.0 {
            return;
        }
        for (u, x) in energy.iter_mut().zip(x.chunks_exact(self.network.dim())) {
            *u += 0.5 * self.confinement * square_norm(x);
        }
    }
}
