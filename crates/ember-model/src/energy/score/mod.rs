//! Losses of the model's score `−∇ₓU`, for energies that have a form of their own for them off the tape.

use burn::tensor::Tensor;

pub(super) use bent::{Bends, activate};
pub(super) use form::{BUFFERS, ScoreForm};
pub(super) use stack::Stack;

mod bent;
mod form;
mod pull;
mod stack;

/// What takes the place of `½ |∇U|²` in the loss of a row.
#[derive(Clone, Copy, Debug)]
pub enum Pull<'a> {
    /// `½ |∇U|²`.
    Score,
    /// `½ |ε − σ ∇U|²`: the noise is found again. `noise, sigma: [n, dim]`; where σ is 0 a coordinate has no part.
    Residual {
        /// ε.
        noise: &'a Tensor<2>,
        /// σ.
        sigma: &'a Tensor<2>,
    },
    /// `uᵀ∇U`. `[n, dim]`.
    Along(&'a Tensor<2>),
    /// `w Σ_s ½ (v_sᵀ∇U)²`, of the loss's directions.
    Slices,
}

/// The v of a loss.
#[derive(Clone, Copy, Debug)]
pub enum Directions<'a> {
    /// None: there is no second term.
    None,
    /// The axes, of every row: `Σ_s vᵀ ∇²U v` is the trace.
    Axes,
    /// `[n·S, dim]`: row `i·S + s` is direction s of row i.
    Rows(&'a Tensor<2>),
}

/// `(1/n) Σ_i [ pull_i − w Σ_s v_isᵀ ∇²U(x_i) v_is ]` over some of n rows.
#[derive(Clone, Copy, Debug)]
pub struct ScoreLoss<'a> {
    /// The first term.
    pub pull: Pull<'a>,
    /// v.
    pub directions: Directions<'a>,
    /// w.
    pub weight: f64,
    /// n.
    pub of: usize,
}

/// A loss of the score and its gradient in θ.
#[derive(Clone, Debug)]
pub struct ScoreGrads {
    /// One flat gradient a parameter.
    pub grads: Vec<Tensor<1>>,
    /// The loss, `[1]`.
    pub loss: Tensor<1>,
}
