//! What a loss of the score needs of a network on the CPU.

use std::fmt::Debug;

use super::bent::Bends;
use crate::cpu::Passes;

/// Linear layers with an activation after each but the last, which leaves one number a row.
///
/// The numbers of a block are in an order of the stack's own, that of a layer the same for values, signals and directions. `h` is what a
/// layer sees and `z` what it leaves before its bias.
pub(in crate::energy) trait Stack: Passes {
    /// Buffers of the products.
    type Scratch: Debug + Send + Sync + 'static;

    /// Rows of a block: its buffers, a dozen numbers for each that a layer leaves, should stay in the cache.
    fn score_block(&self) -> usize;

    /// Fresh buffers.
    fn scratch(&self) -> Self::Scratch;

    /// Numbers that each hidden layer leaves of a row.
    fn widths(&self) -> Vec<usize>;

    /// `x: [rows, dim]` in the stack's order.
    fn load(&self, x: &[f32], to: &mut [f32], rows: usize);

    /// The reverse of [`Stack::load`].
    fn store(&self, from: &[f32], x: &mut [f32], rows: usize);

    /// `z = W h`.
    fn forward(
        &self,
        layer: usize,
        theta: &Self::Theta<'_>,
        h: &[f32],
        z: &mut [f32],
        scratch: &mut Self::Scratch,
        rows: usize,
    );

    /// `a(z + b)` and its derivatives; `bends.value` is z.
    fn activate(&self, layer: usize, theta: &Self::Theta<'_>, bends: &mut Bends<'_>, rows: usize);

    /// `to = Wᵀ δ`.
    fn back(
        &self,
        layer: usize,
        theta: &Self::Theta<'_>,
        delta: &[f32],
        to: &mut [f32],
        scratch: &mut Self::Scratch,
        rows: usize,
    );

    /// `∂W += δ hᵀ`.
    fn add_weight_grad(
        &self,
        layer: usize,
        delta: &[f32],
        h: &[f32],
        grads: &mut Self::Grads,
        scratch: &mut Self::Scratch,
        rows: usize,
    );

    /// `∂b += dz`, summed over rows.
    fn add_bias_grad(&self, layer: usize, dz: &[f32], grads: &mut Self::Grads, rows: usize);
}
