//! Markov kernels, each with its rule for the log-weights. A new kernel is one file and one line in the registry below.

pub mod ex2mcmc;
pub mod flow_mh;
pub mod gibbs;
mod global;
pub mod hmc;
pub mod i_sir;
pub mod mala;
mod metropolis;
pub mod neutra;
mod ready;
mod row;
mod transition;
pub mod ula;

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;
use ember_model::{Custom, Energy, Pass};
use serde::{Deserialize, Serialize};

use crate::noise::Noise;
use crate::proposal::Proposals;
use crate::walkers::Walkers;
pub use ex2mcmc::Ex2Mcmc;
pub use flow_mh::FlowMh;
pub use gibbs::Gibbs;
pub use hmc::Hmc;
pub use i_sir::ISir;
pub use mala::Mala;
pub(crate) use metropolis::replaced;
pub use neutra::Neutra;
pub use ready::ready;
pub use transition::Boundary;
pub use ula::Ula;

/// How a kernel keeps the weighted population on target while θ moves, and hence which cached pair it starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightRule {
    /// The step's own transition density enters the increment, which spans the change of θ: it starts from the pair
    /// `(U, ∇U)` of θ_k and ends with that of θ_{k+1} (ALGORITHMS 1.1). K steps cost K gradients.
    TransitionDensity,
    /// The kernel leaves `ρ_θ` invariant and earns no weight: the caller reweights to θ_{k+1} first
    /// (ALGORITHMS 1.2). K steps cost K + 1 gradients.
    Invariant,
}

/// What a step did. Tensors, so that nothing is read from the device before a log step asks.
#[derive(Clone, Debug, Default)]
pub struct StepInfo {
    /// Fraction of local proposals that were taken, `[1]`; `None` for a kernel that has none or never rejects.
    pub accept_rate: Option<Tensor<1>>,
    /// That fraction as a mean over all steps of [`Kernel::steps`], `[1]`.
    pub mean_accept_rate: Option<Tensor<1>>,
    /// Fraction of walkers that a flow's proposal moved, `[1]`; `None` for a kernel without global moves.
    pub global_accept_rate: Option<Tensor<1>>,
    /// The evaluation at the walkers' new positions, where the energy kept it and every walker moved.
    pub pass: Option<Arc<dyn Pass>>,
    /// Where the walkers stood before the last step, `[walkers, dim]`, where an objective asks for it.
    pub before: Option<Tensor<2>>,
}

/// A value of a kernel's table that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadValue {
    /// The key.
    pub key: &'static str,
    /// What was found, what was expected, what to do.
    pub message: String,
}

impl BadValue {
    /// A value of `key`.
    pub fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into() }
    }

    /// # Errors
    /// A number below `least`.
    pub fn unless_at_least(key: &'static str, found: u64, least: u64) -> Result<(), Self> {
        if found >= least {
            return Ok(());
        }
        Err(Self::new(key, format!("found {found}, expected at least {least}")))
    }
}

/// One Markov transition of all walkers.
pub trait Kernel: Debug + Send + Sync {
    /// Which weight rule the kernel keeps.
    fn weight_rule(&self) -> WeightRule;

    /// Moves every walker once under `energy`.
    ///
    /// A [`WeightRule::TransitionDensity`] kernel accepts walkers cached at another θ and accounts for it; an
    /// [`WeightRule::Invariant`] kernel needs `walkers` cached at `energy` itself.
    fn step(&self, energy: &dyn Energy, walkers: Walkers, noise: &Noise) -> (Walkers, StepInfo);

    /// Moves every walker `steps` times under `energy`, in one piece where the energy can (`row.rs`); `noise(s)` is that of sub-step s. `last`
    /// is the energy of the last step: the same one, which may keep its pass. What is told is told of the last step.
    fn steps(
        &self,
        energy: &dyn Energy,
        last: &dyn Energy,
        walkers: Walkers,
        steps: u64,
        noise: &dyn Fn(u64) -> Noise,
    ) -> (Walkers, StepInfo) {
        row::one_by_one(self, energy, last, walkers, steps, noise)
    }

    /// Consecutive step numbers of [`Noise`] that one step uses, from that of its `noise` on.
    fn noise_steps(&self) -> u64 {
        1
    }

    /// Whether the kernel proposes from a flow: [`Kernel::step`] may be called only on what
    /// [`Kernel::with_proposals`] gives.
    fn needs_proposals(&self) -> bool {
        false
    }

    /// The kernel that proposes from these flows; `None` for one that needs none.
    fn with_proposals(&self, _proposals: &Proposals) -> Option<Box<dyn Kernel>> {
        None
    }

    /// Whether it moves points of zeros and ones, of an energy with hidden units, and no others.
    fn moves_bits(&self) -> bool {
        false
    }

    /// The kernel's local moves alone, for where the flow is of no use; `None` where it has none, or nothing but
    /// local moves.
    fn local_part(&self) -> Option<Box<dyn Kernel>> {
        None
    }

    /// Rows that one walker has in the largest batch of a step.
    fn rows_per_walker(&self) -> usize {
        1
    }

    /// Checks what its own numbers may be, but for step size and clip.
    ///
    /// # Errors
    /// The first bad value.
    fn check(&self) -> Result<(), BadValue> {
        Ok(())
    }

    /// The same kernel at another step size, for samplers that tune it; unchanged where it has none.
    fn with_step_size(&self, step_size: f64) -> Box<dyn Kernel>;

    /// h of the local moves; `None` for a kernel that has none.
    fn step_size(&self) -> Option<f64>;

    /// The largest drift of one coordinate, where it is limited.
    fn drift_clip(&self) -> Option<f64>;

    /// What the kernel does at the faces of the cube `[−1, 1]^d`.
    fn boundary(&self) -> Boundary;

    /// Brings walkers cached at an earlier θ to `energy` if the rule asks for it.
    fn prepare(&self, energy: &dyn Energy, walkers: Walkers) -> Walkers {
        match self.weight_rule() {
            WeightRule::TransitionDensity => walkers,
            WeightRule::Invariant => walkers.reweight(energy),
        }
    }
}

macro_rules! kernels {
    ($($(#[$doc:meta])* $Variant:ident($Type:ty) = $kind:literal),* $(,)?) => {
        /// The transition of the `[kernel]` table, tagged by `kind`: the config value is the algorithm.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum KernelConfig {
            $($(#[$doc])* #[serde(rename = $kind)] $Variant($Type),)*
            /// A kernel that a program brings itself.
            #[serde(skip)]
            Custom(Custom<dyn Kernel>),
        }

        impl KernelConfig {
            /// Every `kind` there is.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The kernel itself.
            pub fn as_dyn(&self) -> &dyn Kernel {
                match self { $(Self::$Variant(kernel) => kernel,)* Self::Custom(kernel) => &**kernel }
            }
        }
    };
}

kernels! {
    /// Unadjusted Langevin.
    Ula(Ula) = "ula",
    /// Metropolis-adjusted Langevin.
    Mala(Mala) = "mala",
    /// Hamiltonian Monte Carlo.
    Hmc(Hmc) = "hmc",
    /// Independence Metropolis–Hastings from a flow.
    FlowMh(FlowMh) = "flow_mh",
    /// A choice among a flow's draws and the current point.
    ISir(ISir) = "i_sir",
    /// i-SIR, then MALA.
    Ex2Mcmc(Ex2Mcmc) = "ex2mcmc",
    /// MALA or HMC in a flow's latent space.
    Neutra(Neutra) = "neutra",
    /// Block Gibbs, of zeros and ones.
    Gibbs(Gibbs) = "gibbs",
}
