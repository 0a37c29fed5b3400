//! Losses of the score on the CPU: by hand, block by block, with no tape.
//!
//! Once u is known of a row (its pull: what `½ |∇U|²` or `½ |ε − σ∇U|²` gives back to `∇U`), the gradient in θ is that of
//! `F = uᵀ∇U − c Σ_s v_sᵀ ∇²U v_s`, u and v constant. Along a direction v a layer holds `z₁ = W h₁`, `h₁ = a′ z₁`. The second derivatives of
//! all directions and the first along u pass through the same weights and leave by the same signals, so that they are one stream:
//!
//! ```text
//! m_i = a′ (W m_{i−1}) − c a″ Σ_s z₁²,  m_{−1} = u,  F = w_L · m
//! P_{i−1} = Wᵀ δ,  δ = P a′,  κ = P a″,  τ = P a‴                    the signals of ∇U itself
//! dz₁ = P₁ a′ − 2c κ z₁,  P₁ below = Wᵀ dz₁                           of each direction
//! dz = κ (W m) − c τ Σ z₁² + a″ Σ P₁ z₁ + Q a′,  Q below = Wᵀ dz      of the values
//! ∂W = δ mᵀ + dz hᵀ + Σ_s dz₁ h₁ᵀ,  ∂b = dz,  ∂w_L = m
//! ```
//!
//! Products a layer: 6, and 3 more for each direction; twice a plain tape's `(U, ∇U)` and its way back takes 6 and 6. The tape's form in
//! `ember-train`'s `score_matching.rs` is the reference; `tests/score_grads.rs` holds the two together.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Tensor;
use faer::Accum;

use super::super::elementwise::{add_row_sums, square_norm};
use super::super::score::{Directions, Pull, ScoreGrads, ScoreLoss};
use super::bent::{
    Bends, Directed, activate, add_directed, add_product_of, along, back_along, back_from_top, merge, signals,
};
use super::cpu::Perceptron;
use super::pull::{Part, Terms, pull};
use super::thin;
use crate::cpu::{
    CpuForm, Passes, Pool, add_product, by_rows, host, hosts, product, slices, tensor, transpose,
};
use crate::params::upload;

/// Rows of a block: its buffers, a dozen a layer, should stay in the cache.
const BLOCK: usize = 96;
/// Up to so many coordinates the first layer is a sum of scaled rows.
const FEW: usize = 8;

/// The perceptron's losses of the score. Clones share their buffers.
#[derive(Clone, Debug)]
pub(super) struct ScoreForm {
    form: CpuForm<Perceptron>,
    pool: Arc<Pool<Work>>,
}

/// The buffers of one hidden layer, `[width, rows]` each.
#[derive(Debug)]
struct Layer {
    /// `h`.
    value: Vec<f32>,
    slope: Vec<f32>,
    second: Vec<f32>,
    /// `a‴`, then τ.
    third: Vec<f32>,
    delta: Vec<f32>,
    kappa: Vec<f32>,
    /// `z₁`, then `dz₁`.
    first: Vec<f32>,
    /// `h₁`.
    along: Vec<f32>,
    squares: Vec<f32>,
    crossed: Vec<f32>,
    /// `W m`, then `dz`.
    merged: Vec<f32>,
    /// `m`.
    out: Vec<f32>,
}

/// The buffers of one block.
#[derive(Debug)]
struct Work {
    layers: Vec<Layer>,
    /// x, u and a direction, `[dim, rows]`.
    x: Vec<f32>,
    pull: Vec<f32>,
    direction: Vec<f32>,
    /// `∇U`, then u, `[rows, dim]`.
    grad: Vec<f32>,
    /// What reaches the input of a layer, `[width, rows]`.
    below: Vec<f32>,
}

impl ScoreForm {
    pub fn new(form: &CpuForm<Perceptron>) -> Self {
        Self { form: form.clone(), pool: Arc::default() }
    }

    /// The loss and its gradient; `None` where a tensor is not a plain one on the CPU.
    pub fn grads(&self, theta: &[Tensor<1>], x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        let ([n, dim], device) = (x.dims(), x.device());
        let (theta, positions) = (hosts(theta)?, host(x)?);
        let (theta, x) = (slices(&theta)?, self.form.rows(&positions, n)?);
        let [noise, sigma] = match loss.pull {
            Pull::Residual { noise, sigma } => [Some(host(noise)?), Some(host(sigma)?)],
            Pull::Along(direction) => [Some(host(direction)?), None],
            Pull::Score | Pull::Slices => [None, None],
        };
        let directions = match loss.directions {
            Directions::Rows(directions) => Some(host(directions)?),
            Directions::Axes | Directions::None => None,
        };
        let [noise, sigma, directions] = [numbers(&noise)?, numbers(&sigma)?, numbers(&directions)?];
        let slices = match loss.directions {
            Directions::Axes => dim,
            Directions::Rows(_) | Directions::None => directions.len() / (n * dim),
        };
        let axes = matches!(loss.directions, Directions::Axes);
        let terms = Terms { pull: loss.pull, slices, axes, weight: loss.weight, share: 1.0 / loss.of as f64 };
        let mut parts = Vec::with_capacity(n.div_ceil(BLOCK));
        for start in (0..n).step_by(BLOCK) {
            let rows = start..(start + BLOCK).min(n);
            let x = of_rows(x, dim, &rows);
            let (noise, sigma) = (of_rows(noise, dim, &rows), of_rows(sigma, dim, &rows));
            parts.push(Part {
                x,
                noise,
                sigma,
                directions: of_rows(directions, slices * dim, &rows),
                loss: 0.0,
            });
        }
        let perceptron = self.form.passes();
        let grads = self.form.sum_over(&mut parts, &|part, grads| {
            self.pool
                .with(|| Work::new(perceptron), |work| work.add(perceptron, &theta, &terms, part, grads));
        });
        let total: f64 = parts.iter().map(|part| part.loss).sum();
        let grads = grads.into_iter().map(|values| upload(values, &device)).collect();
        Some(ScoreGrads { grads, loss: tensor(vec![total as f32], [1], &device) })
    }
}

/// The numbers of a tensor on the host; none of none.
fn numbers(tensor: &Option<FloatTensor<Flex>>) -> Option<&[f32]> {
    tensor.as_ref().map_or(Some(&[]), |tensor| tensor.as_slice())
}

/// Rows of `values: [n, width]`; nothing where there is nothing.
fn of_rows<'a>(values: &'a [f32], width: usize, rows: &std::ops::Range<usize>) -> &'a [f32] {
    if values.is_empty() { values } else { &values[rows.start * width..rows.end * width] }
}

impl Layer {
    fn new(width: usize) -> Self {
        let buffer = || vec![0.0; width * BLOCK];
        Self {
            value: buffer(),
            slope: buffer(),
            second: buffer(),
            third: buffer(),
            delta: buffer(),
            kappa: buffer(),
            first: buffer(),
            along: buffer(),
            squares: buffer(),
            crossed: buffer(),
            merged: buffer(),
            out: buffer(),
        }
    }
}

/// `z = W h`: `z: [out, rows]`, `h: [width, rows]`.
fn forward(weight: &[f32], [out, width]: [usize; 2], h: &[f32], z: &mut [f32], rows: usize) {
    if width <= FEW {
        return thin::product(z, weight, h, rows);
    }
    product(z, Accum::Replace, by_rows(weight, &[out, width]), by_rows(h, &[width, rows]));
}

/// `Wᵀ δ`.
fn back(weight: &[f32], [out, width]: [usize; 2], delta: &[f32], to: &mut [f32], rows: usize) {
    if width <= FEW {
        return thin::transposed_product(to, weight, delta, rows);
    }
    let weight = by_rows(weight, &[out, width]).transpose();
    product(to, Accum::Replace, weight, by_rows(delta, &[out, rows]));
}

/// `∂W += δ hᵀ`.
fn add_outer(grad: &mut [f32], [out, width]: [usize; 2], delta: &[f32], h: &[f32], rows: usize) {
    if width <= FEW {
        return thin::add_outer(grad, delta, h, rows);
    }
    add_product(grad, by_rows(delta, &[out, rows]), by_rows(h, &[width, rows]).transpose());
}

impl Work {
    fn new(perceptron: &Perceptron) -> Self {
        let (hidden, dim) = (perceptron.shapes.len() - 1, perceptron.dim());
        let widest = perceptron.shapes.iter().flatten().copied().max().unwrap_or(1);
        let rows = || vec![0.0; dim * BLOCK];
        Self {
            layers: perceptron.shapes[..hidden].iter().map(|shape| Layer::new(shape[0])).collect(),
            x: rows(),
            pull: rows(),
            direction: rows(),
            grad: rows(),
            below: vec![0.0; widest * BLOCK],
        }
    }

    /// Adds one block's gradient, and notes its loss.
    fn add(
        &mut self,
        perceptron: &Perceptron,
        theta: &[&[f32]],
        terms: &Terms<'_>,
        part: &mut Part<'_>,
        grads: &mut [Vec<f32>],
    ) {
        let (dim, scale) = (perceptron.dim(), terms.weight * terms.share);
        let rows = part.x.len() / dim;
        self.evaluate(perceptron, theta, part.x, rows);
        if terms.slices > 0 {
            for layer in &mut self.layers {
                layer.squares.fill(0.0);
                layer.crossed.fill(0.0);
            }
        }
        let (loss, pulled) = pull(&mut self.grad[..dim * rows], perceptron.confinement, dim, terms, part);
        transpose(&self.grad[..dim * rows], &mut self.pull[..dim * rows], rows);
        for s in 0..terms.slices {
            self.turn(terms, part.directions, s, [rows, dim]);
            self.direct(perceptron, theta, rows, scale as f32, grads);
        }
        let directed = (terms.slices > 0).then_some(scale as f32);
        // F − uᵀ∇U is the second derivatives' part.
        part.loss = loss + self.merge(perceptron, theta, rows, directed, grads) - pulled;
        let squares = if terms.axes { part.x.len() as f64 } else { f64::from(square_norm(part.directions)) };
        let confined = f64::from(perceptron.confinement) * squares;
        part.loss -= scale * confined;
    }

    /// Direction s of every row, to `direction`.
    fn turn(&mut self, terms: &Terms<'_>, directions: &[f32], s: usize, [rows, dim]: [usize; 2]) {
        let to = &mut self.direction[..dim * rows];
        if terms.axes {
            to.fill(0.0);
            return to[s * rows..(s + 1) * rows].fill(1.0);
        }
        for (row, to) in self.grad.chunks_exact_mut(dim).enumerate().take(rows) {
            to.copy_from_slice(&directions[(row * terms.slices + s) * dim..][..dim]);
        }
        transpose(&self.grad[..dim * rows], to, rows);
    }

    /// Values, derivatives of the activations, and the signals of ∇U, which goes to `grad`, without the confinement's part.
    fn evaluate(&mut self, perceptron: &Perceptron, theta: &[&[f32]], x: &[f32], rows: usize) {
        let (dim, hidden) = (perceptron.dim(), self.layers.len());
        transpose(x, &mut self.x[..dim * rows], rows);
        for i in 0..hidden {
            let shape = [perceptron.shapes[i][0], perceptron.shapes[i][1]];
            let (before, after) = self.layers.split_at_mut(i);
            let input = before.last().map_or(&self.x, |layer| &layer.value);
            let (n, layer) = (shape[0] * rows, &mut after[0]);
            forward(theta[2 * i], shape, &input[..shape[1] * rows], &mut layer.value[..n], rows);
            let mut bends = Bends {
                value: &mut layer.value[..n],
                slope: &mut layer.slope[..n],
                second: &mut layer.second[..n],
                third: &mut layer.third[..n],
            };
            activate(perceptron.activation, &mut bends, theta[2 * i + 1], rows);
        }
        // P = w_L at the top.
        let top = theta[2 * hidden];
        for (p, &w) in self.below[..top.len() * rows].chunks_exact_mut(rows).zip(top) {
            p.fill(w);
        }
        for i in (0..hidden).rev() {
            let shape = [perceptron.shapes[i][0], perceptron.shapes[i][1]];
            let (n, layer) = (shape[0] * rows, &mut self.layers[i]);
            let (delta, kappa) = (&mut layer.delta[..n], &mut layer.kappa[..n]);
            signals(
                &self.below[..n],
                &layer.slope[..n],
                &layer.second[..n],
                &mut layer.third[..n],
                delta,
                kappa,
            );
            back(theta[2 * i], shape, delta, &mut self.below[..shape[1] * rows], rows);
        }
        transpose(&self.below[..dim * rows], &mut self.grad[..dim * rows], dim);
    }

    /// One direction of every row, forwards and back.
    fn direct(
        &mut self,
        perceptron: &Perceptron,
        theta: &[&[f32]],
        rows: usize,
        c: f32,
        grads: &mut [Vec<f32>],
    ) {
        let hidden = self.layers.len();
        for i in 0..hidden {
            let shape = [perceptron.shapes[i][0], perceptron.shapes[i][1]];
            let (before, after) = self.layers.split_at_mut(i);
            let input = before.last().map_or(&self.direction, |layer| &layer.along);
            let (n, layer) = (shape[0] * rows, &mut after[0]);
            forward(theta[2 * i], shape, &input[..shape[1] * rows], &mut layer.first[..n], rows);
            along(&layer.first[..n], &layer.slope[..n], &mut layer.along[..n], &mut layer.squares[..n]);
        }
        for i in (0..hidden).rev() {
            let shape = [perceptron.shapes[i][0], perceptron.shapes[i][1]];
            let (before, after) = self.layers.split_at_mut(i);
            let input = before.last().map_or(&self.direction, |layer| &layer.along);
            let (n, layer) = (shape[0] * rows, &mut after[0]);
            let (first, kappa) = (&mut layer.first[..n], &layer.kappa[..n]);
            if i + 1 == hidden {
                back_from_top(first, kappa, c);
            } else {
                back_along(first, &self.below[..n], &layer.slope[..n], kappa, &mut layer.crossed[..n], c);
            }
            add_outer(&mut grads[2 * i], shape, first, &input[..shape[1] * rows], rows);
            if i > 0 {
                back(theta[2 * i], shape, first, &mut self.below[..shape[1] * rows], rows);
            }
        }
    }

    /// The merged stream forwards and the values' way back; F, the network's part. `c` where there were directions.
    fn merge(
        &mut self,
        perceptron: &Perceptron,
        theta: &[&[f32]],
        rows: usize,
        c: Option<f32>,
        grads: &mut [Vec<f32>],
    ) -> f64 {
        let hidden = self.layers.len();
        for i in 0..hidden {
            let shape = [perceptron.shapes[i][0], perceptron.shapes[i][1]];
            let (before, after) = self.layers.split_at_mut(i);
            let input = before.last().map_or(&self.pull, |layer| &layer.out);
            let (n, layer) = (shape[0] * rows, &mut after[0]);
            let (z, out) = (&mut layer.merged[..n], &mut layer.out[..n]);
            forward(theta[2 * i], shape, &input[..shape[1] * rows], z, rows);
            merge(z, &layer.slope[..n], &layer.kappa[..n], out);
            if let Some(c) = c {
                let directed = Directed {
                    second: &layer.second[..n],
                    tau: &layer.third[..n],
                    squares: &layer.squares[..n],
                    crossed: &layer.crossed[..n],
                };
                add_directed(z, out, &directed, c);
            }
        }
        // F = w_L · m
        let (top, last) = (theta[2 * hidden], &self.layers[hidden - 1].out[..theta[2 * hidden].len() * rows]);
        let sums = last.chunks_exact(rows).map(|m| m.iter().map(|&m| f64::from(m)).sum::<f64>());
        let mut found = 0.0;
        for ((sum, &w), grad) in sums.zip(top).zip(&mut grads[2 * hidden]) {
            found += f64::from(w) * sum;
            *grad += sum as f32;
        }
        for i in (0..hidden).rev() {
            let shape = [perceptron.shapes[i][0], perceptron.shapes[i][1]];
            let (before, after) = self.layers.split_at_mut(i);
            let (value, out) = match before.last() {
                Some(layer) => (&layer.value, &layer.out),
                None => (&self.x, &self.pull),
            };
            let (n, width, layer) = (shape[0] * rows, shape[1] * rows, &mut after[0]);
            let dz = &mut layer.merged[..n];
            if i + 1 < hidden {
                add_product_of(dz, &self.below[..n], &layer.slope[..n]);
            }
            add_outer(&mut grads[2 * i], shape, &layer.delta[..n], &out[..width], rows);
            add_outer(&mut grads[2 * i], shape, dz, &value[..width], rows);
            add_row_sums(&mut grads[2 * i + 1], dz, rows);
            if i > 0 {
                back(theta[2 * i], shape, dz, &mut self.below[..width], rows);
            }
        }
        found
    }
}
