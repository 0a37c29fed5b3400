//! Flows that propose global moves.
//!
//! A kernel that proposes from ρ_α leaves `ρ_θ` invariant *given α*, where α does not depend on the walker that is moved
//! (ALGORITHMS 5). [`Proposals`] holds one flow, or several of which each moves its own block of walkers: with two, fitted each to
//! the other's walkers, no walker is moved by a flow that was fitted to it.

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
    /// The flow of a model: the model itself where it is a flow, the base of a tilted energy; `None` where there is neither.
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
        let dim = self.dim();
        let z = standard_normal([count, dim], stream, self.model.device());
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

/// Flows and the walkers they move: K flows move K consecutive blocks of the population, of equal size but for a remainder.
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
}
