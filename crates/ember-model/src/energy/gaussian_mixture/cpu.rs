//! The mixture on the CPU backend: one pass over the positions instead of one per tensor operation.
//!
//! The tensor form in the parent module is the reference; `tests/energies.rs` holds the two together. Rows are worked on in
//! blocks of fixed size whose partial sums are added in order, so results do not depend on the number of threads.

use burn::backend::Flex;
use burn::tensor::{Tensor, TensorData};
use rayon::prelude::*;

/// Rows per block.
const ROWS: usize = 512;
/// Accumulators per sum: enough for the compiler to use vector registers.
const LANES: usize = 16;

/// `(U [n], ∇U [n, d])`, or `None` where `x` is not a plain CPU tensor.
pub(super) fn energy_and_grad(theta: &[Tensor<1>], x: &Tensor<2>) -> Option<(Tensor<1>, Tensor<2>)> {
    let [n, d] = x.dims();
    let means = theta[0].clone().try_into_primitive::<Flex>().ok()?;
    let logits = theta[1].clone().try_into_primitive::<Flex>().ok()?;
    let position = x.clone().try_into_primitive::<Flex>().ok()?.to_contiguous();
    let (means, logits) = (means.to_contiguous(), logits.to_contiguous());
    let (means, logits, position): (&[f32], &[f32], &[f32]) =
        (means.as_slice()?, logits.as_slice()?, position.as_slice()?);
    let k = logits.len();
    let mut energy = vec![0.0f32; n];
    let mut grad = vec![0.0f32; n * d];
    energy
        .par_chunks_mut(ROWS)
        .zip(grad.par_chunks_mut(ROWS * d))
        .zip(position.par_chunks(ROWS * d))
        .for_each(|((energy, grad), position)| {
            let mut r = vec![0.0f32; k];
            for ((u, grad), x) in
                energy.iter_mut().zip(grad.chunks_exact_mut(d)).zip(position.chunks_exact(d))
            {
                *u = responsibilities(x, means, logits, &mut r);
                // ∇U = Σ_k r_k (x − m_k)
                grad.copy_from_slice(x);
                for (mean, &r) in means.chunks_exact(d).zip(&r) {
                    for (g, &m) in grad.iter_mut().zip(mean) {
                        *g -= r * m;
                    }
                }
            }
        });
    let device = x.device();
    Some((
        Tensor::from_data(TensorData::new(energy, [n]), &device),
        Tensor::from_data(TensorData::new(grad, [n, d]), &device),
    ))
}

/// `Σ_b w_b ∂U/∂m [K·d]`, `Σ_b w_b ∂U/∂l [K]`, `U [n]`, or `None` where `x` is not a plain CPU tensor.
pub(super) fn weighted_param_grads(
    theta: &[Tensor<1>],
    x: &Tensor<2>,
    weights: &Tensor<1>,
) -> Option<(Tensor<1>, Tensor<1>, Tensor<1>)> {
    let [n, d] = x.dims();
    let means = theta[0].clone().try_into_primitive::<Flex>().ok()?;
    let logits = theta[1].clone().try_into_primitive::<Flex>().ok()?;
    let position = x.clone().try_into_primitive::<Flex>().ok()?.to_contiguous();
    let weights = weights.clone().try_into_primitive::<Flex>().ok()?;
    let (means, logits, weights) = (means.to_contiguous(), logits.to_contiguous(), weights.to_contiguous());
    let (means, logits): (&[f32], &[f32]) = (means.as_slice()?, logits.as_slice()?);
    let (position, weights): (&[f32], &[f32]) = (position.as_slice()?, weights.as_slice()?);
    let k = logits.len();
    let mut energy = vec![0.0f32; n];
    // Per block: Σ w r_k x [K·d], then Σ w r_k [K].
    let blocks: Vec<Vec<f32>> = energy
        .par_chunks_mut(ROWS)
        .zip(position.par_chunks(ROWS * d))
        .zip(weights.par_chunks(ROWS))
        .map(|((energy, position), weights)| {
            let mut sums = vec![0.0f32; k * d + k];
            let (pull, mass) = sums.split_at_mut(k * d);
            let mut r = vec![0.0f32; k];
            for ((u, x), &w) in energy.iter_mut().zip(position.chunks_exact(d)).zip(weights) {
                *u = responsibilities(x, means, logits, &mut r);
                for ((pull, mass), &r) in pull.chunks_exact_mut(d).zip(&mut *mass).zip(&r) {
                    let wr = w * r;
                    *mass += wr;
                    for (p, &x) in pull.iter_mut().zip(x) {
                        *p += wr * x;
                    }
                }
            }
            sums
        })
        .collect();
    let mut sums = vec![0.0f64; k * d + k];
    for block in &blocks {
        for (sum, &value) in sums.iter_mut().zip(block) {
            *sum += f64::from(value);
        }
    }
    let (pull, mass) = sums.split_at(k * d);
    // Σ w ∂U/∂m_k = m_k Σ w r_k − Σ w r_k x,  Σ w ∂U/∂l_k = −Σ w r_k
    let means_grad: Vec<f32> = means
        .iter()
        .zip(pull)
        .enumerate()
        .map(|(i, (&m, &pull))| (f64::from(m) * mass[i / d] - pull) as f32)
        .collect();
    let logits_grad: Vec<f32> = mass.iter().map(|&mass| -mass as f32).collect();
    let device = x.device();
    Some((
        Tensor::from_data(TensorData::new(means_grad, [k * d]), &device),
        Tensor::from_data(TensorData::new(logits_grad, [k]), &device),
        Tensor::from_data(TensorData::new(energy, [n]), &device),
    ))
}

/// Fills `r` with the responsibilities of one point and returns its energy.
fn responsibilities(x: &[f32], means: &[f32], logits: &[f32], r: &mut [f32]) -> f32 {
    let d = x.len();
    let mut max = f32::NEG_INFINITY;
    for ((r, mean), &logit) in r.iter_mut().zip(means.chunks_exact(d)).zip(logits) {
        *r = logit - 0.5 * square_distance(x, mean);
        max = max.max(*r);
    }
    // A NaN position must give a NaN energy, not the −∞ that `max` would hide it behind.
    let mut sum = 0.0;
    for r in r.iter_mut() {
        *r = (*r - max).exp();
        sum += *r;
    }
    for r in r.iter_mut() {
        *r /= sum;
    }
    -(max + sum.ln())
}

fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 =
        a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(a, b)| (a - b) * (a - b)).sum();
    for (a, b) in a_blocks.zip(b_blocks) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            let gap = a - b;
            *lane += gap * gap;
        }
    }
    lanes.iter().sum::<f32>() + rest
}
