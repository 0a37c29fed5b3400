//! Flows that propose global moves.
//!
//! A kernel that proposes from ρ_α leaves `ρ_θ` invariant *given α*, where α does not depend on the walker that is
//! moved (ALGORITHMS 5). [`Proposals`] holds one flow, or several of which each moves its own block of walkers: with
//! two, fitted each to the other's walkers, no walker is moved by a flow that was fitted to it.

use std::ops::Range;

use burn::tensor::Tensor;
use ember_model::flow::standard_normal as log_standard_normal;
use ember_model::random::Stream;
use ember_model::{Energy, EnergyModel};

use crate::device::standard_normal;

/// A flow at fixed parameters α.
#[derive(Clone, Debug)]
pub struct FlowProposal {
    model: EnergyModel,
}

impl FlowProposal {
    /// The flow of a model: the model itself where it is a flow, the base of a tilted energy; `None` where there is
    /// neither.
    pub fn of(model: &EnergyModel) -> Option<Self> {
        Some(Self { model: model.flow_part()? })
    }

    /// The flow as a model.
    pub fn model(&self) -> &EnergyModel {
        &self.model
    }

    /// Coordinates of one sample.
    pub fn dim(&self) -> usize {
        self.model.dim()
    }

    /// `count` draws and their `log ρ_α`. → `[count, dim]`, `[count]`.
    pub fn sample(&self, count: usize, stream: Stream) -> (Tensor<2>, Tensor<1>) {
        self.push(standard_normal([count, self.dim()], stream, self.model.device()))
    }

    /// `x = T(z)` and `log ρ_α(x)` of standard normal latents. `z: [batch, dim]` → `[batch, dim]`, `[batch]`.
    pub fn push(&self, z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let (x, log_det) = self.forward(z.clone());
        (x, log_standard_normal(z) - log_det)
    }

    /// `log ρ_α(x)`. `x: [batch, dim]` → `[batch]`.
    pub fn log_prob(&self, x: Tensor<2>) -> Tensor<1> {
        self.model.energy(x).neg()
    }

    /// `x = T(z)` and `log |det ∂x/∂z|`. `z: [batch, dim]` → `[batch, dim]`, `[batch]`.
    pub fn forward(&self, z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let flow = self.model.flow().expect("a proposal is made of a flow");
        flow.forward(self.model.theta(), z)
    }

    /// `z = T⁻¹(x)` and `log |det ∂z/∂x|`. `x: [batch, dim]` → `[batch, dim]`, `[batch]`.
    pub fn inverse(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let flow = self.model.flow().expect("a proposal is made of a flow");
        flow.inverse(self.model.theta(), x)
    }
}

/// Flows and the walkers they move: K flows move K consecutive blocks of the population, of equal size but for a
/// remainder.
#[derive(Clone, Debug)]
pub struct Proposals(Vec<FlowProposal>);

impl Proposals {
    /// One flow moves all walkers.
    pub fn one(flow: FlowProposal) -> Self {
        Self(vec![flow])
    }

    /// Flow k moves block k.
    ///
    /// # Panics
    /// Without any flow.
    pub fn blocks(flows: Vec<FlowProposal>) -> Self {
        assert!(!flows.is_empty(), "at least one flow");
        Self(flows)
    }

    /// The flows.
    pub fn flows(&self) -> &[FlowProposal] {
        &self.0
    }

    /// The rows of `count` walkers that flow `k` moves.
    pub fn rows(&self, k: usize, count: usize) -> Range<usize> {
        let blocks = self.0.len();
        count * k / blocks..count * (k + 1) / blocks
    }

    /// A draw for each of `count` walkers and its `log ρ_α` under the flow that moves the walker. The latents do not
    /// depend on the blocks. → `[count, dim]`, `[count]`.
    pub fn sample(&self, count: usize, stream: Stream) -> (Tensor<2>, Tensor<1>) {
        let first = &self.0[0];
        let z = standard_normal([count, first.dim()], stream, first.model.device());
        self.by_block(z, FlowProposal::push)
    }

    /// `log ρ_α` of every walker under the flow that moves it. `x: [walkers, dim]` → `[walkers]`.
    pub fn log_prob(&self, x: Tensor<2>) -> Tensor<1> {
        self.by_block(x, |flow, x| (x.clone(), flow.log_prob(x))).1
    }

    /// [`FlowProposal::forward`], each block through its own flow.
    pub fn forward(&self, z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.by_block(z, FlowProposal::forward)
    }

    /// [`FlowProposal::inverse`], each block through its own flow.
    pub fn inverse(&self, x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.by_block(x, FlowProposal::inverse)
    }

    fn by_block(
        &self,
        rows: Tensor<2>,
        map: impl Fn(&FlowProposal, Tensor<2>) -> (Tensor<2>, Tensor<1>),
    ) -> (Tensor<2>, Tensor<1>) {
        let [count, _] = rows.dims();
        let blocks =
            (0..self.0.len()).map(|k| (k, self.rows(k, count))).filter(|(_, block)| !block.is_empty());
        let (positions, logs) = blocks.map(|(k, block)| map(&self.0[k], narrow(&rows, block))).unzip();
        (joined(positions), joined(logs))
    }
}

/// The rows of `range`; nothing is copied where these are all.
pub(crate) fn narrow(rows: &Tensor<2>, range: Range<usize>) -> Tensor<2> {
    if range == (0..rows.dims()[0]) {
        return rows.clone();
    }
    rows.clone().narrow(0, range.start, range.len())
}

/// Blocks below one another; nothing is copied where there is one.
pub(crate) fn joined<const D: usize>(mut blocks: Vec<Tensor<D>>) -> Tensor<D> {
    match blocks.len() {
        1 => blocks.remove(0),
        _ => Tensor::cat(blocks, 0),
    }
}
