//! The perceptron on the CPU: forward and backward through the layers for one block of rows.
//!
//! Numbers are `[coordinates, rows]`, so that with `W: [out, in]` as θ has it a layer is `a(W x + b)`, its way back
//! `∂x = Wᵀ δ`, `∂W = δ xᵀ`, and bias, activation and slope are one pass over `z`. The last layer and, where samples have few
//! coordinates, the first are sums of scaled rows: too thin for a matrix product. The tensor form in the parent module is the
//! reference; `tests/mlp_cpu.rs` holds the two together.

use faer::{Accum, MatRef};

use super::super::activation::Activation;
use super::super::elementwise::{
    activate_biased, activate_biased_with_slope, add_row_sums, add_rows, multiply_by,
};
use super::thin;
use crate::cpu::{Passes, add_product, by_rows, product, transpose};

/// Rows per block: enough for the matrix products, few enough that activations and signals stay in the cache, and whole tiles of
/// the products' kernels (96 rows with AVX-512, 24 with AVX2).
const BLOCK: usize = 192;
/// Blocks whose gradients are added one after the other.
const LEAF: usize = 3;
/// Up to so many coordinates the first layer is a sum of scaled rows.
const FEW: usize = 8;

/// `w_L·a(… a(W_0 x + b_0) …) + b_L + ½ c |x|²`.
#[derive(Debug)]
pub(super) struct Perceptron {
    /// `[out, in]` of each layer; the last one has one output.
    pub shapes: Vec<Vec<usize>>,
    /// Between layers.
    pub activation: Activation,
    /// `c`.
    pub confinement: f32,
}

/// The buffers of one block, `[numbers, rows]`.
#[derive(Debug)]
pub(super) struct Work {
    /// Rows of the block at hand.
    rows: usize,
    /// The positions, where they have few coordinates, then `a(z)` of each hidden layer.
    inputs: Vec<Vec<f32>>,
    /// `a′(z)` of each hidden layer; on the way back, δ.
    signals: Vec<Vec<f32>>,
    /// The gradient of a layer's input, or a signal times the rows' weights.
    scratch: Vec<f32>,
}

impl Perceptron {
    /// Layers but the last.
    fn hidden(&self) -> usize {
        self.shapes.len() - 1
    }

    /// `z = W x` of hidden layer `i`, without its bias.
    fn forward(&self, i: usize, weight: &[f32], x: &[f32], input: &[f32], z: &mut [f32], rows: usize) {
        let (out, width) = (self.shapes[i][0], self.shapes[i][1]);
        if width > FEW {
            let input = self.input(i, x, input, rows);
            return product(z, Accum::Replace, by_rows(weight, &[out, width]), input);
        }
        thin::product(z, weight, &input[..width * rows], rows);
    }

    /// What hidden layer `i` sees, `[width, rows]`: the positions where they are, or numbers of the buffers.
    fn input<'a>(&self, i: usize, x: &'a [f32], input: &'a [f32], rows: usize) -> MatRef<'a, f32> {
        let width = self.shapes[i][1];
        if i == 0 {
            return by_rows(x, &[rows, width]).transpose();
        }
        by_rows(&input[..width * rows], &[width, rows])
    }

    /// `∂x = Wᵀ δ` of hidden layer `i`.
    fn back(&self, i: usize, weight: &[f32], delta: &[f32], to: &mut [f32], rows: usize) {
        let (out, width) = (self.shapes[i][0], self.shapes[i][1]);
        if width > FEW {
            let delta = by_rows(delta, &[out, rows]);
            return product(to, Accum::Replace, by_rows(weight, &[out, width]).transpose(), delta);
        }
        thin::transposed_product(to, weight, delta, rows);
    }

    /// `∂W += δ xᵀ` of hidden layer `i`.
    fn add_weight_grad(
        &self,
        i: usize,
        delta: &[f32],
        x: &[f32],
        input: &[f32],
        grad: &mut [f32],
        rows: usize,
    ) {
        let (out, width) = (self.shapes[i][0], self.shapes[i][1]);
        if width > FEW {
            let input = self.input(i, x, input, rows).transpose();
            return add_product(grad, by_rows(delta, &[out, rows]), input);
        }
        thin::add_outer(grad, delta, &input[..width * rows], rows);
    }

    /// `∂w_L += Σ_r s_r a_r`, `∂b_L += Σ_r s_r`.
    fn add_last_grads(&self, seed: &[f32], input: &[f32], grads: &mut [Vec<f32>]) {
        let last = 2 * self.hidden();
        thin::add_outer(
            &mut grads[last],
            &input[..self.shapes[self.hidden()][1] * seed.len()],
            seed,
            seed.len(),
        );
        // Weights of both signs cancel here.
        grads[last + 1][0] += seed.iter().map(|&s| f64::from(s)).sum::<f64>() as f32;
    }
}

impl Passes for Perceptron {
    type Theta<'a> = Vec<&'a [f32]>;
    type Work = Work;
    type Grads = Vec<Vec<f32>>;

    fn dim(&self) -> usize {
        self.shapes[0][1]
    }

    fn block(&self) -> usize {
        BLOCK
    }

    fn leaf(&self) -> usize {
        LEAF
    }

    fn confinement(&self) -> f32 {
        self.confinement
    }

    fn theta<'a>(&self, theta: &[&'a [f32]]) -> Self::Theta<'a> {
        theta.to_vec()
    }

    fn work(&self) -> Work {
        let buffer = |shape: &Vec<usize>, side: usize, used: bool| {
            vec![0.0; if used { shape[side] * BLOCK } else { 0 }]
        };
        let hidden = &self.shapes[..self.hidden()];
        Work {
            rows: 0,
            inputs: self
                .shapes
                .iter()
                .enumerate()
                .map(|(i, shape)| buffer(shape, 1, i > 0 || shape[1] <= FEW))
                .collect(),
            signals: hidden.iter().map(|shape| buffer(shape, 0, true)).collect(),
            scratch: vec![0.0; self.shapes.iter().flatten().max().map_or(0, |widest| widest * BLOCK)],
        }
    }

    fn kept_bytes(&self) -> Option<usize> {
        let numbers: usize = self.shapes.iter().flatten().sum();
        Some(numbers * BLOCK * size_of::<f32>())
    }

    fn evaluate(&self, theta: &Vec<&[f32]>, x: &[f32], energy: &mut [f32], work: &mut Work, keep: bool) {
        let rows = energy.len();
        work.rows = rows;
        if self.dim() <= FEW {
            transpose(x, &mut work.inputs[0][..x.len()], rows);
        }
        for i in 0..self.hidden() {
            let (before, after) = work.inputs.split_at_mut(i + 1);
            let z = &mut after[0][..self.shapes[i][0] * rows];
            self.forward(i, theta[2 * i], x, &before[i], z, rows);
            if keep {
                let slope = &mut work.signals[i][..z.len()];
                activate_biased_with_slope(self.activation, z, slope, theta[2 * i + 1], rows);
            } else {
                activate_biased(self.activation, z, theta[2 * i + 1], rows);
            }
        }
        let last = 2 * self.hidden();
        energy.fill(theta[last + 1][0]);
        thin::add_product(energy, theta[last], &work.inputs[self.hidden()], rows);
    }

    fn backward(
        &self,
        theta: &Vec<&[f32]>,
        x: &[f32],
        seed: &[f32],
        work: &mut Work,
        mut params: Option<&mut Vec<Vec<f32>>>,
        input: Option<&mut [f32]>,
    ) {
        let (rows, hidden) = (seed.len(), self.hidden());
        let Work { inputs, signals, scratch, .. } = work;
        // δ = w_L s · a′(z)
        thin::multiply_by_outer(&mut signals[hidden - 1], theta[2 * hidden], seed);
        if let Some(params) = params.as_deref_mut() {
            self.add_last_grads(seed, &inputs[hidden], params);
        }
        for i in (0..hidden).rev() {
            let (below, here) = signals.split_at_mut(i);
            let delta = &here[0][..self.shapes[i][0] * rows];
            if let Some(params) = params.as_deref_mut() {
                self.add_weight_grad(i, delta, x, &inputs[i], &mut params[2 * i], rows);
                add_row_sums(&mut params[2 * i + 1], delta, rows);
            }
            let scratch = &mut scratch[..self.shapes[i][1] * rows];
            if i > 0 {
                // δ = ∂a · a′(z)
                self.back(i, theta[2 * i], delta, scratch, rows);
                multiply_by(&mut below[i - 1][..scratch.len()], scratch);
            }
        }
        if let Some(input) = input {
            let (out, dim) = (self.shapes[0][0], self.dim());
            let delta = &signals[0][..out * rows];
            if dim > FEW {
                let delta = by_rows(delta, &[out, rows]).transpose();
                return product(input, Accum::Replace, delta, by_rows(theta[0], &[out, dim]));
            }
            let scratch = &mut scratch[..dim * rows];
            self.back(0, theta[0], delta, scratch, rows);
            transpose(scratch, input, dim);
        }
    }

    fn param_grads(
        &self,
        _theta: &[&[f32]],
        x: &[f32],
        seed: &[f32],
        work: &mut Work,
        params: &mut Vec<Vec<f32>>,
    ) {
        let (rows, hidden) = (seed.len(), self.hidden());
        assert_eq!(work.rows, rows, "one weight a row");
        let Work { inputs, signals, scratch, .. } = work;
        self.add_last_grads(seed, &inputs[hidden], params);
        for i in 0..hidden {
            let scaled = &mut scratch[..self.shapes[i][0] * rows];
            thin::scale_columns(scaled, &mut params[2 * i + 1], &signals[i], seed);
            self.add_weight_grad(i, scaled, x, &inputs[i], &mut params[2 * i], rows);
        }
    }

    fn zeros(&self) -> Vec<Vec<f32>> {
        self.shapes.iter().flat_map(|shape| [vec![0.0; shape[0] * shape[1]], vec![0.0; shape[0]]]).collect()
    }

    fn add(&self, to: &mut Vec<Vec<f32>>, from: &Vec<Vec<f32>>) {
        to.iter_mut().zip(from).for_each(|(to, from)| add_rows(to, from));
    }

    fn flattened(&self, grads: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        grads
    }
}
