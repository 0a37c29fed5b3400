//! The perceptron as a stack of layers, for losses of the score. Numbers are `[coordinates, rows]`, as in `cpu.rs`.

use faer::Accum;

use super::super::elementwise::add_row_sums;
use super::super::score::{Bends, Stack, activate};
use super::cpu::Perceptron;
use super::thin;
use crate::cpu::{add_product, by_rows, product, transpose};

/// Rows of a block.
const BLOCK: usize = 96;
/// Up to so many coordinates, or outputs, a layer is a sum of scaled rows.
const FEW: usize = 8;

impl Perceptron {
    fn shape(&self, layer: usize) -> [usize; 2] {
        [self.shapes[layer][0], self.shapes[layer][1]]
    }
}

impl Stack for Perceptron {
    type Scratch = ();

    fn score_block(&self) -> usize {
        BLOCK
    }

    fn scratch(&self) {}

    fn widths(&self) -> Vec<usize> {
        self.shapes[..self.shapes.len() - 1].iter().map(|shape| shape[0]).collect()
    }

    fn load(&self, x: &[f32], to: &mut [f32], rows: usize) {
        transpose(x, to, rows);
    }

    fn store(&self, from: &[f32], x: &mut [f32], rows: usize) {
        transpose(from, x, from.len() / rows);
    }

    fn forward(&self, layer: usize, theta: &Vec<&[f32]>, h: &[f32], z: &mut [f32], _: &mut (), rows: usize) {
        let ([out, width], weight) = (self.shape(layer), theta[2 * layer]);
        if width <= FEW || out == 1 {
            return thin::product(z, weight, h, rows);
        }
        product(z, Accum::Replace, by_rows(weight, &[out, width]), by_rows(h, &[width, rows]));
    }

    fn activate(&self, layer: usize, theta: &Vec<&[f32]>, bends: &mut Bends<'_>, rows: usize) {
        activate(self.activation, bends, theta[2 * layer + 1], rows);
    }

    fn back(
        &self,
        layer: usize,
        theta: &Vec<&[f32]>,
        delta: &[f32],
        to: &mut [f32],
        _: &mut (),
        rows: usize,
    ) {
        let ([out, width], weight) = (self.shape(layer), theta[2 * layer]);
        if width <= FEW || out == 1 {
            return thin::transposed_product(to, weight, delta, rows);
        }
        let weight = by_rows(weight, &[out, width]).transpose();
        product(to, Accum::Replace, weight, by_rows(delta, &[out, rows]));
    }

    fn add_weight_grad(
        &self,
        layer: usize,
        delta: &[f32],
        h: &[f32],
        grads: &mut Vec<Vec<f32>>,
        _: &mut (),
        rows: usize,
    ) {
        let ([out, width], grad) = (self.shape(layer), &mut grads[2 * layer]);
        if out == 1 {
            // ∂w = h δ: as a column.
            return thin::add_outer(grad, h, delta, rows);
        }
        if width <= FEW {
            return thin::add_outer(grad, delta, h, rows);
        }
        add_product(grad, by_rows(delta, &[out, rows]), by_rows(h, &[width, rows]).transpose());
    }

    fn add_bias_grad(&self, layer: usize, dz: &[f32], grads: &mut Vec<Vec<f32>>, rows: usize) {
        add_row_sums(&mut grads[2 * layer + 1], dz, rows);
    }
}
