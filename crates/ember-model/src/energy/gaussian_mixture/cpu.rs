//! The mixture on the CPU backend: one pass over the positions instead of one per tensor operation.
//!
//! The tensor form in the parent module is the reference; `tests/mixture_cpu.rs` holds the two together. What the way back needs
//! of a row are its K responsibilities.

use super::rows::{add_pulls, log_terms, pull, scale_rows, softmax};
use crate::cpu::Passes;
use crate::energy::elementwise::add_rows;

/// Rows per block.
const BLOCK: usize = 256;
/// Blocks whose gradients are added one after the other.
const LEAF: usize = 4;

/// K modes on `dim` coordinates. θ: the means `[K·dim]`, the logits `[K]`.
#[derive(Debug)]
pub(super) struct Modes {
    pub dim: usize,
    pub count: usize,
}

/// The buffers of one block, `[K, rows]`.
#[derive(Debug)]
pub(super) struct Work {
    responsibilities: Vec<f32>,
    /// Those times the rows' weights.
    weighted: Vec<f32>,
}

impl Passes for Modes {
    type Theta<'a> = Vec<&'a [f32]>;
    type Work = Work;
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

    fn work(&self) -> Work {
        let numbers = || vec![0.0; self.count * BLOCK];
        Work { responsibilities: numbers(), weighted: numbers() }
    }

    fn kept_bytes(&self) -> Option<usize> {
        Some(2 * self.count * BLOCK * size_of::<f32>())
    }

    fn evaluate(&self, theta: &Vec<&[f32]>, x: &[f32], energy: &mut [f32], work: &mut Work, _keep: bool) {
        let terms = &mut work.responsibilities[..self.count * energy.len()];
        log_terms(terms, x, theta[0], theta[1]);
        softmax(terms, energy);
    }

    fn backward(
        &self,
        theta: &Vec<&[f32]>,
        x: &[f32],
        seed: &[f32],
        work: &mut Work,
        params: Option<&mut Vec<Vec<f32>>>,
        input: Option<&mut [f32]>,
    ) {
        if let Some(params) = params {
            self.param_grads(theta, x, seed, work, params);
        }
        if let Some(input) = input {
            pull(input, x, seed, theta[0], &work.responsibilities[..self.count * seed.len()]);
        }
    }

    fn param_grads(
        &self,
        theta: &[&[f32]],
        x: &[f32],
        seed: &[f32],
        work: &mut Work,
        params: &mut Vec<Vec<f32>>,
    ) {
        let numbers = self.count * seed.len();
        let weighted = &mut work.weighted[..numbers];
        let (means, logits) = params.split_at_mut(1);
        // ∂U/∂l_k = −r_k, ∂U/∂m_k = r_k (m_k − x)
        scale_rows(weighted, &mut logits[0], &work.responsibilities[..numbers], seed);
        add_pulls(&mut means[0], x, theta[0], weighted, seed.len());
        // The first logit is frozen.
        logits[0][0] = 0.0;
    }

    fn zeros(&self) -> Vec<Vec<f32>> {
        vec![vec![0.0; self.count * self.dim], vec![0.0; self.count]]
    }

    fn add(&self, to: &mut Vec<Vec<f32>>, from: &Vec<Vec<f32>>) {
        to.iter_mut().zip(from).for_each(|(to, from)| add_rows(to, from));
    }

    fn flattened(&self, grads: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        grads
    }
}
