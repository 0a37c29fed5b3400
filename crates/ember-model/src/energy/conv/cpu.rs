//! The network on the CPU backend: an explicit forward and backward instead of a tape.
//!
//! The tensor form in the parent module is the reference; `tests/conv_cpu.rs` holds the two together. Images are worked on in
//! blocks of fixed size, one per thread; gradients of θ are added along a fixed binary tree over the blocks, so results do not
//! depend on the number of threads.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use super::super::WeightedGrads;
use super::pass::{Network, Weights, Workspace, backward, forward};

/// The tensor in contiguous host memory, or `None` where it is not a plain CPU tensor.
fn host<const D: usize>(tensor: &Tensor<D>) -> Option<FloatTensor<Flex>> {
    Some(tensor.clone().try_into_primitive::<Flex>().ok()?.to_contiguous())
}

fn weights(network: &Network, theta: &[Tensor<1>]) -> Option<Weights> {
    let theta = theta.iter().map(host).collect::<Option<Vec<_>>>()?;
    let slices: Option<Vec<&[f32]>> = theta.iter().map(|tensor| tensor.as_slice()).collect();
    Some(Weights::new(network, &slices?))
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Adds `½ c |x|²` to the energies and `c x` to the gradients.
fn confine(c: f32, x: &[f32], energy: &mut [f32], grad: Option<&mut [f32]>) {
    if c == 0.0 {
        return;
    }
    let dim = x.len() / energy.len();
    for (u, x) in energy.iter_mut().zip(x.chunks_exact(dim)) {
        let square: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        *u += (0.5 * f64::from(c) * square) as f32;
    }
    for (grad, &x) in grad.into_iter().flatten().zip(x) {
        *grad += c * x;
    }
}

/// `U [n]`, or `None` where a tensor is not a plain one on the CPU.
pub(super) fn energy(network: &Network, c: f32, theta: &[Tensor<1>], x: &Tensor<2>) -> Option<Tensor<1>> {
    let (position, weights) = (host(x)?, weights(network, theta)?);
    let position: &[f32] = position.as_slice()?;
    let (n, d, block) = (x.dims()[0], network.dim(), network.block);
    let mut energy = vec![0.0f32; n];
    energy.par_chunks_mut(block).zip(position.par_chunks(block * d)).for_each_init(
        || Workspace::new(network, false),
        |work, (energy, x)| {
            forward(network, &weights, x, energy, work, false);
            confine(c, x, energy, None);
        },
    );
    Some(tensor(energy, [n], &x.device()))
}

/// `(U [n], ∇U [n, d])`, or `None` where a tensor is not a plain one on the CPU.
pub(super) fn energy_and_grad(
    network: &Network,
    c: f32,
    theta: &[Tensor<1>],
    x: &Tensor<2>,
) -> Option<(Tensor<1>, Tensor<2>)> {
    let (position, weights) = (host(x)?, weights(network, theta)?);
    let position: &[f32] = position.as_slice()?;
    let (n, d, block) = (x.dims()[0], network.dim(), network.block);
    let mut energy = vec![0.0f32; n];
    let mut grad = vec![0.0f32; n * d];
    let blocks = energy.par_chunks_mut(block).zip(grad.par_chunks_mut(block * d));
    blocks.zip(position.par_chunks(block * d)).for_each_init(
        || (Workspace::new(network, true), vec![1.0; block]),
        |(work, ones), ((energy, grad), x)| {
            forward(network, &weights, x, energy, work, true);
            backward(network, &weights, &ones[..energy.len()], work, None, Some(grad));
            confine(c, x, energy, Some(grad));
        },
    );
    let device = x.device();
    Some((tensor(energy, [n], &device), tensor(grad, [n, d], &device)))
}

/// One block of a term: positions, weights, and where its energies go.
struct Block<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    energy: &'a mut [f32],
}

/// `Σ_t Σ_b w ∂_θU` and the energies, or `None` where a tensor is not a plain one on the CPU.
pub(super) fn weighted_param_grads(
    network: &Network,
    c: f32,
    theta: &[Tensor<1>],
    terms: &[(Tensor<2>, Tensor<1>)],
) -> Option<WeightedGrads> {
    let weights = weights(network, theta)?;
    let d = network.dim();
    let primitives = terms.iter().map(|(x, w)| Some((host(x)?, host(w)?))).collect::<Option<Vec<_>>>()?;
    let mut energies: Vec<Vec<f32>> = terms.iter().map(|(x, _)| vec![0.0; x.dims()[0]]).collect();
    let mut blocks = Vec::new();
    for ((x, scale), energy) in primitives.iter().zip(&mut energies) {
        let (x, scale): (&[f32], &[f32]) = (x.as_slice()?, scale.as_slice()?);
        let parts = x.chunks(network.block * d).zip(scale.chunks(network.block));
        let parts = parts.zip(energy.chunks_mut(network.block));
        blocks.extend(parts.map(|((x, scale), energy)| Block { x, scale, energy }));
    }
    let grads = sum_over(network, c, &weights, &mut blocks);
    let device = theta[0].device();
    Some(WeightedGrads {
        grads: grads
            .into_theta(network)
            .into_iter()
            .map(|values| {
                let len = values.len();
                tensor(values, [len], &device)
            })
            .collect(),
        energies: energies
            .into_iter()
            .map(|values| {
                let n = values.len();
                tensor(values, [n], &device)
            })
            .collect(),
    })
}

/// The gradients of some blocks, halves added to halves.
fn sum_over(network: &Network, c: f32, weights: &Weights, blocks: &mut [Block<'_>]) -> Weights {
    match blocks {
        [] => Weights::zeros(network),
        [Block { x, scale, energy }] => {
            let mut grads = Weights::zeros(network);
            let mut work = Workspace::new(network, true);
            forward(network, weights, x, energy, &mut work, true);
            backward(network, weights, scale, &mut work, Some(&mut grads), None);
            confine(c, x, energy, None);
            grads
        }
        _ => {
            let (left, right) = blocks.split_at_mut(blocks.len() / 2);
            let (mut sum, other) =
                rayon::join(|| sum_over(network, c, weights, left), || sum_over(network, c, weights, right));
            sum.add(&other);
            sum
        }
    }
}
