//! What the kernels share that propose from flows.
//!
//! Each is two types: the table of the config, which says what it is, and [`Bound`], the table with its flows, which
//! steps. A step is a global move at the first of its step numbers, then local moves at the next ones, each with
//! numbers of its own. `log ρ_α` of the walkers is computed afresh in every step: α moves while the walkers stay. All
//! leave `ρ_θ` invariant given α, where α does not depend on the walker that is moved; a flow fitted to the same
//! walkers does, and biases them by `O(1/N)` (ALGORITHMS 5; measured in `tests/tests/fitted_flow_bias.rs`).

use std::fmt::Debug;

use burn::tensor::Tensor;
use ember_model::Energy;

use super::{BadValue, Boundary, Kernel, Mala, StepInfo, WeightRule};
use crate::noise::Noise;
use crate::proposal::Proposals;
use crate::walkers::Walkers;

/// The table of a kernel that proposes from flows.
pub trait FlowKernel: Clone + Debug + Send + Sync + 'static {
    /// One step of all walkers.
    fn step_with(
        &self,
        proposals: &Proposals,
        energy: &dyn Energy,
        walkers: Walkers,
        noise: &Noise,
    ) -> (Walkers, StepInfo);

    /// The moves that follow the global one.
    fn local_moves(&self) -> Option<LocalMoves> {
        None
    }

    /// h, where there is one.
    fn local_step_size(&self) -> Option<f64>;

    /// The same table at another h.
    fn at_step_size(&self, step_size: f64) -> Self;

    /// See [`Kernel::check`].
    fn check_table(&self) -> Result<(), BadValue>;

    /// See [`Kernel::rows_per_walker`].
    fn rows(&self) -> usize {
        1
    }
}

impl<T: FlowKernel> Kernel for T {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::Invariant
    }

    /// # Panics
    /// Always: `Bound` is what steps.
    fn step(&self, _energy: &dyn Energy, _walkers: Walkers, _noise: &Noise) -> (Walkers, StepInfo) {
        panic!("{self:?} proposes from a flow: step what `with_proposals` gives")
    }

    fn noise_steps(&self) -> u64 {
        self.local_moves().map_or(1, |local| local.count.saturating_add(1))
    }

    fn needs_proposals(&self) -> bool {
        true
    }

    fn with_proposals(&self, proposals: &Proposals) -> Option<Box<dyn Kernel>> {
        Some(Box::new(Bound { kernel: self.clone(), proposals: proposals.clone() }))
    }

    fn local_part(&self) -> Option<Box<dyn Kernel>> {
        Some(Box::new(self.local_moves()?))
    }

    fn check(&self) -> Result<(), BadValue> {
        self.check_table()
    }

    fn rows_per_walker(&self) -> usize {
        self.rows()
    }

    fn with_step_size(&self, step_size: f64) -> Box<dyn Kernel> {
        Box::new(self.at_step_size(step_size))
    }

    fn step_size(&self) -> Option<f64> {
        self.local_step_size()
    }

    fn drift_clip(&self) -> Option<f64> {
        None
    }

    fn boundary(&self) -> Boundary {
        Boundary::None
    }
}

/// A kernel with the flows that it proposes from.
#[derive(Clone, Debug)]
struct Bound<T> {
    kernel: T,
    proposals: Proposals,
}

impl<T: FlowKernel> Kernel for Bound<T> {
    fn weight_rule(&self) -> WeightRule {
        self.kernel.weight_rule()
    }

    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        self.kernel.step_with(&self.proposals, energy, walkers, noise)
    }

    fn noise_steps(&self) -> u64 {
        self.kernel.noise_steps()
    }

    fn needs_proposals(&self) -> bool {
        true
    }

    fn with_proposals(&self, proposals: &Proposals) -> Option<Box<dyn Kernel>> {
        self.kernel.with_proposals(proposals)
    }

    fn local_part(&self) -> Option<Box<dyn Kernel>> {
        self.kernel.local_part()
    }

    fn check(&self) -> Result<(), BadValue> {
        self.kernel.check()
    }

    fn rows_per_walker(&self) -> usize {
        self.kernel.rows_per_walker()
    }

    fn with_step_size(&self, step_size: f64) -> Box<dyn Kernel> {
        Box::new(Self { kernel: self.kernel.at_step_size(step_size), proposals: self.proposals.clone() })
    }

    fn step_size(&self) -> Option<f64> {
        self.kernel.step_size()
    }

    fn drift_clip(&self) -> Option<f64> {
        self.kernel.drift_clip()
    }

    fn boundary(&self) -> Boundary {
        self.kernel.boundary()
    }
}

/// MALA steps in a row, one step number each.
#[derive(Clone, Debug)]
pub struct LocalMoves {
    /// How many; at least 1.
    pub count: u64,
    /// The kernel of each.
    pub mala: Mala,
}

impl LocalMoves {
    /// `count` steps of this h; `None` where there are none.
    pub fn new(count: u64, step_size: f64) -> Option<Self> {
        (count > 0).then(|| Self { count, mala: Mala::new(step_size) })
    }
}

impl Kernel for LocalMoves {
    fn weight_rule(&self) -> WeightRule {
        WeightRule::Invariant
    }

    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo) {
        let at = |j: u64| Noise { step: noise.step + j, ..*noise };
        let (walkers, info) = self.mala.steps(energy, energy, walkers, self.count, &at);
        (walkers, StepInfo { accept_rate: info.mean_accept_rate, ..StepInfo::default() })
    }

    fn noise_steps(&self) -> u64 {
        self.count
    }

    fn with_step_size(&self, step_size: f64) -> Box<dyn Kernel> {
        Box::new(Self { mala: Mala { step_size, ..self.mala.clone() }, ..self.clone() })
    }

    fn step_size(&self) -> Option<f64> {
        self.mala.step_size()
    }

    fn drift_clip(&self) -> Option<f64> {
        self.mala.drift_clip()
    }

    fn boundary(&self) -> Boundary {
        self.mala.boundary()
    }
}

/// What follows a global move that moved the fraction `moved`, `[1]`: the local moves, at the step numbers after its
/// own.
pub(super) fn then_local(
    local: Option<LocalMoves>,
    energy: &dyn Energy,
    (walkers, moved): (Walkers, Tensor<1>),
    noise: &Noise,
) -> (Walkers, StepInfo) {
    let (walkers, accept_rate) = match local {
        Some(local) => {
            let (walkers, info) = local.step(energy, walkers, &Noise { step: noise.step + 1, ..*noise });
            (walkers, info.accept_rate)
        }
        None => (walkers, Some(moved.clone())),
    };
    (walkers, StepInfo { accept_rate, global_accept_rate: Some(moved), ..StepInfo::default() })
}
