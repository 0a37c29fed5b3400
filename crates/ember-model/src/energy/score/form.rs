//! Losses of the score of a stack of layers on the CPU: by hand, block by block, with no tape.
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

use super::super::elementwise::square_norm;
use super::bent::{
    Bends, Directed, add_directed, add_product_of, along, back_along, back_from_top, merge, signals,
};
use super::pull::{Part, Terms, pull};
use super::stack::Stack;
use super::{Directions, Pull, ScoreGrads, ScoreLoss};
use crate::cpu::{CpuForm, Pool, host, hosts, slices, tensor};
use crate::params::upload;

/// Numbers of the buffers for each that a layer leaves.
pub(in crate::energy) const BUFFERS: usize = 12;

/// A stack's losses of the score. Clones share their buffers.
#[derive(Debug)]
pub(in crate::energy) struct ScoreForm<S: Stack> {
    form: CpuForm<S>,
    pool: Arc<Pool<Work<S>>>,
}

impl<S: Stack> Clone for ScoreForm<S> {
    fn clone(&self) -> Self {
        Self { form: self.form.clone(), pool: self.pool.clone() }
    }
}

/// The buffers of one hidden layer.
#[derive(Debug)]
struct Layer {
    /// Numbers of a row.
    width: usize,
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
struct Work<S: Stack> {
    layers: Vec<Layer>,
    /// x, u and a direction, in the stack's order.
    x: Vec<f32>,
    pull: Vec<f32>,
    direction: Vec<f32>,
    /// `∇U`, then u, `[rows, dim]`.
    grad: Vec<f32>,
    /// What reaches the input of a layer.
    below: Vec<f32>,
    /// One number a row: ones, and what the last layer leaves.
    ones: Vec<f32>,
    last: Vec<f32>,
    scratch: S::Scratch,
}

impl<S: Stack> ScoreForm<S> {
    pub fn new(form: &CpuForm<S>) -> Self {
        Self { form: form.clone(), pool: Arc::default() }
    }

    /// The loss and its gradient; `None` where a tensor is not a plain one on the CPU, and of a single linear layer.
    pub fn grads(&self, theta: &[Tensor<1>], x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        let ([n, dim], device, stack) = (x.dims(), x.device(), self.form.passes());
        if stack.widths().is_empty() {
            return None;
        }
        let (theta, positions) = (hosts(theta)?, host(x)?);
        let (theta, x) = (stack.theta(&slices(&theta)?), self.form.rows(&positions, n)?);
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
        let block = stack.score_block();
        let mut parts = Vec::with_capacity(n.div_ceil(block));
        for start in (0..n).step_by(block) {
            let rows = start..(start + block).min(n);
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
        let grads = self.form.sum_over(&mut parts, &|part, grads| {
            self.pool.with(|| Work::new(stack), |work| work.add(stack, &theta, &terms, part, grads));
        });
        let total: f64 = parts.iter().map(|part| part.loss).sum();
        let grads = stack.flattened(grads).into_iter().map(|values| upload(values, &device)).collect();
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
    fn new(width: usize, rows: usize) -> Self {
        let buffer = || vec![0.0; width * rows];
        Self {
            width,
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

/// What hidden layer `before.len()` sees: what the one before it holds by `of`, or the block's own.
fn seen<'a>(
    before: &'a [Layer],
    of: impl Fn(&'a Layer) -> &'a Vec<f32>,
    own: &'a [f32],
    rows: usize,
) -> &'a [f32] {
    before.last().map_or(own, |layer| &of(layer)[..layer.width * rows])
}

impl<S: Stack> Work<S> {
    fn new(stack: &S) -> Self {
        let (block, dim, widths) = (stack.score_block(), stack.dim(), stack.widths());
        let widest = widths.iter().copied().max().unwrap_or(1).max(dim);
        let rows = || vec![0.0; dim * block];
        Self {
            layers: widths.into_iter().map(|width| Layer::new(width, block)).collect(),
            x: rows(),
            pull: rows(),
            direction: rows(),
            grad: rows(),
            below: vec![0.0; widest * block],
            ones: vec![1.0; block],
            last: vec![0.0; block],
            scratch: stack.scratch(),
        }
    }

    /// Adds one block's gradient, and notes its loss.
    fn add(
        &mut self,
        stack: &S,
        theta: &S::Theta<'_>,
        terms: &Terms<'_>,
        part: &mut Part<'_>,
        grads: &mut S::Grads,
    ) {
        let (dim, scale) = (stack.dim(), terms.weight * terms.share);
        let rows = part.x.len() / dim;
        self.evaluate(stack, theta, part.x, rows);
        if terms.slices > 0 {
            for layer in &mut self.layers {
                layer.squares.fill(0.0);
                layer.crossed.fill(0.0);
            }
        }
        let (loss, pulled) = pull(&mut self.grad[..dim * rows], stack.confinement(), dim, terms, part);
        stack.load(&self.grad[..dim * rows], &mut self.pull[..dim * rows], rows);
        for s in 0..terms.slices {
            self.turn(stack, terms, part.directions, s, rows);
            self.direct(stack, theta, rows, scale as f32, grads);
        }
        let directed = (terms.slices > 0).then_some(scale as f32);
        // F − uᵀ∇U is the second derivatives' part.
        part.loss = loss + self.merge(stack, theta, rows, directed, grads) - pulled;
        let squares = if terms.axes { part.x.len() as f64 } else { f64::from(square_norm(part.directions)) };
        part.loss -= scale * f64::from(stack.confinement()) * squares;
    }

    /// Direction s of every row, to `direction`. `grad` is free by then.
    fn turn(&mut self, stack: &S, terms: &Terms<'_>, directions: &[f32], s: usize, rows: usize) {
        let dim = stack.dim();
        let by_rows = &mut self.grad[..dim * rows];
        for (row, to) in by_rows.chunks_exact_mut(dim).enumerate() {
            if terms.axes {
                to.fill(0.0);
                to[s] = 1.0;
            } else {
                to.copy_from_slice(&directions[(row * terms.slices + s) * dim..][..dim]);
            }
        }
        stack.load(by_rows, &mut self.direction[..dim * rows], rows);
    }

    /// Values, derivatives of the activations, and the signals of ∇U, which goes to `grad`, without the confinement's part.
    fn evaluate(&mut self, stack: &S, theta: &S::Theta<'_>, x: &[f32], rows: usize) {
        let (dim, hidden) = (stack.dim(), self.layers.len());
        stack.load(x, &mut self.x[..dim * rows], rows);
        for i in 0..hidden {
            let (before, after) = self.layers.split_at_mut(i);
            let input = seen(before, |layer| &layer.value, &self.x[..dim * rows], rows);
            let layer = &mut after[0];
            let n = layer.width * rows;
            stack.forward(i, theta, input, &mut layer.value[..n], &mut self.scratch, rows);
            let mut bends = Bends {
                value: &mut layer.value[..n],
                slope: &mut layer.slope[..n],
                second: &mut layer.second[..n],
                third: &mut layer.third[..n],
            };
            stack.activate(i, theta, &mut bends, rows);
        }
        // P = w_L at the top.
        let top = self.layers[hidden - 1].width * rows;
        stack.back(hidden, theta, &self.ones[..rows], &mut self.below[..top], &mut self.scratch, rows);
        for i in (0..hidden).rev() {
            let width = if i == 0 { dim } else { self.layers[i - 1].width };
            let layer = &mut self.layers[i];
            let n = layer.width * rows;
            let (delta, kappa) = (&mut layer.delta[..n], &mut layer.kappa[..n]);
            signals(
                &self.below[..n],
                &layer.slope[..n],
                &layer.second[..n],
                &mut layer.third[..n],
                delta,
                kappa,
            );
            stack.back(i, theta, delta, &mut self.below[..width * rows], &mut self.scratch, rows);
        }
        stack.store(&self.below[..dim * rows], &mut self.grad[..dim * rows], rows);
    }

    /// One direction of every row, forwards and back.
    fn direct(&mut self, stack: &S, theta: &S::Theta<'_>, rows: usize, c: f32, grads: &mut S::Grads) {
        let (dim, hidden) = (stack.dim(), self.layers.len());
        for i in 0..hidden {
            let (before, after) = self.layers.split_at_mut(i);
            let input = seen(before, |layer| &layer.along, &self.direction[..dim * rows], rows);
            let layer = &mut after[0];
            let n = layer.width * rows;
            stack.forward(i, theta, input, &mut layer.first[..n], &mut self.scratch, rows);
            along(&layer.first[..n], &layer.slope[..n], &mut layer.along[..n], &mut layer.squares[..n]);
        }
        for i in (0..hidden).rev() {
            let (before, after) = self.layers.split_at_mut(i);
            let input = seen(before, |layer| &layer.along, &self.direction[..dim * rows], rows);
            let layer = &mut after[0];
            let n = layer.width * rows;
            let (first, kappa) = (&mut layer.first[..n], &layer.kappa[..n]);
            if i + 1 == hidden {
                back_from_top(first, kappa, c);
            } else {
                back_along(first, &self.below[..n], &layer.slope[..n], kappa, &mut layer.crossed[..n], c);
            }
            stack.add_weight_grad(i, first, input, grads, &mut self.scratch, rows);
            if i > 0 {
                stack.back(i, theta, first, &mut self.below[..input.len()], &mut self.scratch, rows);
            }
        }
    }

    /// The merged stream forwards and the values' way back; F, the network's part. `c` where there were directions.
    fn merge(
        &mut self,
        stack: &S,
        theta: &S::Theta<'_>,
        rows: usize,
        c: Option<f32>,
        grads: &mut S::Grads,
    ) -> f64 {
        let (dim, hidden) = (stack.dim(), self.layers.len());
        for i in 0..hidden {
            let (before, after) = self.layers.split_at_mut(i);
            let input = seen(before, |layer| &layer.out, &self.pull[..dim * rows], rows);
            let layer = &mut after[0];
            let n = layer.width * rows;
            let (z, out) = (&mut layer.merged[..n], &mut layer.out[..n]);
            stack.forward(i, theta, input, z, &mut self.scratch, rows);
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
        let top = seen(&self.layers, |layer| &layer.out, &self.pull, rows);
        let (ones, last) = (&self.ones[..rows], &mut self.last[..rows]);
        stack.forward(hidden, theta, top, last, &mut self.scratch, rows);
        stack.add_weight_grad(hidden, ones, top, grads, &mut self.scratch, rows);
        let found = last.iter().map(|&f| f64::from(f)).sum();
        for i in (0..hidden).rev() {
            let (before, after) = self.layers.split_at_mut(i);
            let value = seen(before, |layer| &layer.value, &self.x[..dim * rows], rows);
            let out = seen(before, |layer| &layer.out, &self.pull[..dim * rows], rows);
            let layer = &mut after[0];
            let n = layer.width * rows;
            let dz = &mut layer.merged[..n];
            if i + 1 < hidden {
                add_product_of(dz, &self.below[..n], &layer.slope[..n]);
            }
            stack.add_weight_grad(i, &layer.delta[..n], out, grads, &mut self.scratch, rows);
            stack.add_weight_grad(i, dz, value, grads, &mut self.scratch, rows);
            stack.add_bias_grad(i, dz, grads, rows);
            if i > 0 {
                stack.back(i, theta, dz, &mut self.below[..value.len()], &mut self.scratch, rows);
            }
        }
        found
    }
}
