//! K Langevin steps at fixed θ in one piece: noise, move, `(U, ∇ₓU)`, weight or acceptance.
//!
//! A kernel asks its energy for [`Energy::chain`](super::Energy::chain) first. On a GPU an energy that can take a walker through all of a step
//! without leaving the launch makes a chain one launch; every other energy gives `None`, and the kernel goes step by step. Both
//! orders are the same: move from the cached pair, evaluate, then earn or accept.

#[cfg(feature = "wgpu")]
pub mod cube;

use burn::tensor::Tensor;

use crate::random::Stream;

/// What a step of a chain does with the point it moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChainRule {
    /// Goes there: unadjusted Langevin. `A += α_k(x, y) − α_{k+1}(y, x)` where `weighted` (Carbone et al. 2023, Algorithm 1), else A stays.
    Ula {
        /// Whether log-weights are earned.
        weighted: bool,
    },
    /// Goes there with probability `min(1, a)`, `log a = α_θ(x, y) − α_θ(y, x)`: MALA. The log-weights stay.
    Mala,
}

/// K Langevin steps `y = x − h ∇U(x) + s ξ` at fixed θ on an unbounded space, under `U = scale · U_θ + ½ confinement |x|²`: a temperature, or
/// a rung of an annealed path from an isotropic Gaussian.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chain {
    /// What follows a move.
    pub rule: ChainRule,
    /// h.
    pub step_size: f32,
    /// s, `√(2h)`.
    pub noise_scale: f32,
    /// What multiplies the energy; 1 but on an annealed path.
    pub scale: f32,
    /// What is added to the energy, as the factor of `½ |x|²`; 0 but on an annealed path.
    pub confinement: f32,
    /// The largest `|∂U/∂x_j|` that a step follows: the limit of the drift over h. The density is that of the clipped step.
    pub grad_clip: Option<f32>,
    /// K ≥ 1.
    pub steps: u32,
    /// ξ of the first step; that of sub-step s has a step number larger by `s · stride`.
    pub noise: Stream,
    /// Uniforms of the first step's acceptance; those of the others as for `noise`.
    pub accept: Stream,
    /// Step numbers from one sub-step to the next.
    pub stride: u32,
}

impl Chain {
    /// Whether the chain is of the energy as it is.
    pub fn is_plain(&self) -> bool {
        self.scale == 1.0 && self.confinement == 0.0
    }

    /// The part of the chain that is sub-steps `begin .. begin + steps`.
    ///
    /// # Panics
    /// If a step number does not fit 32 bits.
    pub fn part(&self, begin: u32, steps: u32) -> Self {
        let later = |stream: Stream| {
            let [step, _] = stream.counter_tail();
            let step = u64::from(step) + u64::from(begin) * u64::from(self.stride);
            stream.at(step).unwrap_or_else(|overflow| panic!("{overflow}"))
        };
        Self { steps, noise: later(self.noise), accept: later(self.accept), ..*self }
    }
}

/// Where the walkers of a chain are, off the tape.
#[derive(Clone, Debug)]
pub struct ChainState {
    /// X, `[walkers, dim]`.
    pub position: Tensor<2>,
    /// `U`, `[walkers]`: of an earlier θ, where a chain of ULA begins.
    pub energy: Tensor<1>,
    /// `∇ₓU`, `[walkers, dim]`, of the same θ.
    pub energy_grad: Tensor<2>,
    /// The log-weights `hi + lo`, `[walkers]` each.
    pub log_weights: (Tensor<1>, Tensor<1>),
}

/// What MALA took of its proposals.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The fraction of walkers that took the last step, `[1]`.
    pub last: Tensor<1>,
    /// The fraction that was taken of all proposals, `[1]`.
    pub mean: Tensor<1>,
}

/// The walkers after a chain.
#[derive(Clone, Debug)]
pub struct ChainEnd {
    /// Positions with the pair of the chain's θ, and their log-weights.
    pub state: ChainState,
    /// Of MALA.
    pub accepted: Option<Accepted>,
}

impl ChainEnd {
    /// The chain in parts of at most `most` steps, where one launch would outlast what drivers allow. `run` makes one part.
    pub fn in_parts(
        from: &ChainState,
        chain: &Chain,
        most: u32,
        run: impl Fn(&ChainState, &Chain) -> Self,
    ) -> Self {
        let most = most.max(1);
        if chain.steps <= most {
            return run(from, chain);
        }
        let (mut state, mut begin) = (from.clone(), 0);
        let mut accepted: Option<Accepted> = None;
        while begin < chain.steps {
            let steps = most.min(chain.steps - begin);
            let part = run(&state, &chain.part(begin, steps));
            // The mean over all steps is that of the parts, each by its share.
            let share = f64::from(steps) / f64::from(chain.steps);
            accepted = part.accepted.map(|Accepted { last, mean }| {
                let mean = mean.mul_scalar(share);
                let mean = accepted.take().map_or(mean.clone(), |before| before.mean + mean);
                Accepted { last, mean }
            });
            (state, begin) = (part.state, begin + steps);
        }
        Self { state, accepted }
    }
}

/// Whether a tensor is on a GPU, and off the tape.
#[cfg(feature = "wgpu")]
pub(crate) fn is_on_gpu(x: &Tensor<2>) -> bool {
    x.clone().try_into_primitive::<burn_cubecl::Cube>().is_ok()
}

/// Whether a tensor is on a GPU: there is none in this build.
#[cfg(not(feature = "wgpu"))]
pub(crate) fn is_on_gpu(_x: &Tensor<2>) -> bool {
    false
}
