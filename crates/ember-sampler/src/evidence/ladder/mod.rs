//! Parallel tempering over a sequence of models (Swendsen and Wang 1986; Geyer 1991), such as the checkpoints of one training: the
//! trajectory tempering of Béreux, Decelle, Furtlehner, Rosset, Seoane (2025). Each of M independent *ladders* has one chain a rung.
//!
//! One sweep: neighbours exchange their points, with probability `min(1, e^{U_i(x_i) + U_{i+1}(x_{i+1}) − U_i(x_{i+1}) − U_{i+1}(x_i)})` and a
//! coin of each ladder's own; then every rung takes K steps of a kernel that leaves its law invariant. The lowest rung has exact draws
//! where there are such, anew in every sweep. Even and odd pairs take turns (Okabe et al. 2001), which Syed, Bouchard-Côté,
//! Deligiannidis, Doucet (2022) show to make O(n) sweeps a round trip of what takes O(n²) with pairs at random.
//!
//! log Z along the ladder comes from the energies that the exchanges need (`log_z.rs`). Its standard error is over the M ladders, which
//! share no random number once the rungs and step sizes are set: both come from a pilot run and a burn-in that are thrown away.
//! Gradients of one sample: about `M · sweeps · n · (K + 1)` for n rungs. Fails where no ladder makes a round trip: what the top rung
//! then holds is what the burn-in left there.

mod chains;
mod log_z;
mod spacing;
mod swaps;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::Energy;
use ember_model::random::Stream;

use crate::error::Error;
use crate::progress::Progress;
use crate::statistics::Estimate;
use crate::{Kernel, WeightRule};
use chains::Chains;
pub use log_z::LogRatios;
pub use spacing::{Spacing, expected_swaps, refined, spaced};
pub use swaps::{Exchange, exchange};

/// First lane of the chains; one a rung.
const LANE: u32 = 1 << 23;
/// First lane of the coins; one a pair of neighbours. Draws at the foot use [`LANE`] and the sweep.
const COIN_LANE: u32 = LANE + (1 << 22);
/// Lane of the pilot run.
const PILOT_LANE: u32 = COIN_LANE + (1 << 21);
/// The acceptance of local moves that step sizes are led to: MALA's best (Roberts and Rosenthal 1998).
const TARGET_ACCEPTANCE: f64 = 0.574;
/// A ladder of more rungs is a mistake: lanes are counted in 24 bits.
const MOST_RUNGS: usize = 1 << 16;

/// One rung: a law, and a kernel that leaves it invariant.
pub struct Rung {
    /// U.
    pub energy: Box<dyn Energy>,
    /// What moves its chains.
    pub kernel: Box<dyn Kernel>,
}

/// Exact draws: `(count, stream)` → row-major `[count, dim]`.
pub type Draw<'a> = dyn Fn(usize, Stream) -> Vec<f32> + 'a;

/// What the lowest rung begins with.
pub enum Foot<'a> {
    /// Exact draws of its law, and its log Z.
    Exact {
        /// `log ∫ e^{−U}`.
        log_z: f64,
        /// Draws.
        draw: &'a Draw<'a>,
    },
    /// Points that are nearly its law's, `[n, dim]`; taken in turn where there are too few.
    Points(Vec<f32>),
}

impl Foot<'_> {
    /// `[count, dim]` points on a device.
    fn points(&self, count: usize, dim: usize, stream: Stream, device: &Device) -> Tensor<2> {
        let rows: Vec<f32> = match self {
            Self::Exact { draw, .. } => draw(count, stream),
            Self::Points(rows) => rows.iter().copied().cycle().take(count * dim).collect(),
        };
        Tensor::from_data(TensorData::new(rows, [count, dim]), device)
    }
}

/// Sizes of a tempering run.
#[derive(Clone, Copy)]
pub struct LadderOptions<'a> {
    /// Independent ladders M, at least 2.
    pub ladders: usize,
    /// Sweeps that count.
    pub sweeps: usize,
    /// Sweeps before those, in which step sizes are learned.
    pub burn_in: usize,
    /// Kernel steps a sweep.
    pub moves: usize,
    /// Times the top rung's points are kept, evenly spread over the sweeps; at most `sweeps`.
    pub kept: usize,
    /// Seed of all noise.
    pub seed: u64,
    /// Who hears how far it is.
    pub progress: &'a dyn Progress,
}

/// What a tempering run leaves.
pub struct Tempered {
    /// Fraction of the exchanges that were made, of each pair of neighbours, `[rungs − 1]`.
    pub swap_rates: Vec<f64>,
    /// Fraction of local moves that were taken, where the kernel rejects, `[rungs]`.
    pub accept_rates: Vec<Option<f64>>,
    /// Step sizes that the burn-in came to, `[rungs]`.
    pub step_sizes: Vec<Option<f64>>,
    /// Ways from the lowest rung to the top and back, of each ladder, `[ladders]`.
    pub round_trips: Vec<usize>,
    /// `log Z` of every rung less that of the lowest.
    pub log_ratios: LogRatios,
    /// log Z of the lowest rung, where it is known.
    pub log_z_start: Option<f64>,
    /// The top rung's points, oldest first, `[ladders, dim]` each.
    pub top: Vec<Tensor<2>>,
    /// Kernel steps of one chain, all rungs and ladders together.
    pub kernel_steps: u64,
}

impl Tempered {
    /// log Z of every rung, by the bridge between neighbours; `None` without an exact start.
    pub fn log_z(&self) -> Option<Vec<Estimate>> {
        let start = self.log_z_start?;
        let from_start = |ratio: &Estimate| Estimate { value: start + ratio.value, ..*ratio };
        Some(self.log_ratios.bridge.iter().map(from_start).collect())
    }

    /// Round trips of all ladders together.
    pub fn all_round_trips(&self) -> usize {
        self.round_trips.iter().sum()
    }

    /// The kept points of the top rung in `repeats` groups of ladders, group after group, `[repeats · k, dim]`.
    ///
    /// # Panics
    /// If the ladders are no multiple of the repeats.
    pub fn grouped(&self, repeats: usize) -> Tensor<2> {
        let ladders = self.round_trips.len();
        assert_eq!(ladders % repeats, 0, "{ladders} ladders in {repeats} groups");
        let size = ladders / repeats;
        let of_group = |r: usize| self.top.iter().map(move |x| x.clone().narrow(0, r * size, size));
        Tensor::cat((0..repeats).flat_map(of_group).collect(), 0)
    }
}

/// M ladders over `rungs`, lowest first, whose tensors are on `device`. The kernels keep the step sizes that the burn-in came to.
///
/// # Errors
/// Fewer than two rungs or ladders, a kernel that leaves no law invariant, an energy that is not a number, a step beyond 32 bits.
pub fn temper(
    rungs: &mut [Rung],
    foot: &Foot<'_>,
    device: &Device,
    options: LadderOptions<'_>,
) -> Result<Tempered, Error> {
    let LadderOptions { ladders, sweeps, burn_in, progress, .. } = options;
    if rungs.len() < 2 || rungs.len() > MOST_RUNGS || ladders < 2 || sweeps < 2 {
        return Err(Error::options(format!(
            "{} rungs, {ladders} ladders and {sweeps} sweeps: at least 2 of each are needed, and at most {MOST_RUNGS} rungs",
            rungs.len()
        )));
    }
    if rungs.iter().any(|rung| rung.kernel.weight_rule() != WeightRule::Invariant) {
        return Err(Error::options(
            "parallel tempering needs kernels that leave their law invariant, and one of these does not",
        ));
    }
    let mut chains = Chains::new(rungs, foot, device, options)?;
    let every = (sweeps / options.kept.max(1)).max(1);
    let mut top = Vec::new();
    let total = burn_in + sweeps;
    for sweep in 1..=total {
        let counts = sweep > burn_in;
        chains.swap(sweep as u64, counts)?;
        chains.advance(foot, sweep as u64, counts)?;
        let left = total - sweep;
        if counts && left.is_multiple_of(every) && left / every < options.kept {
            top.push(chains.top());
        }
        let detail = || format!("sweep {sweep} of {total}");
        progress.reach("parallel tempering", sweep as f64 / total as f64, &detail);
    }
    let (rungs, log_ratios) = (chains.rungs.len(), chains.log_ratios());
    let attempts = |pair: usize| chains.attempts[pair].max(1) * ladders;
    Ok(Tempered {
        swap_rates: (0..rungs - 1).map(|i| chains.swapped[i] as f64 / attempts(i) as f64).collect(),
        accept_rates: chains.accept_rates(),
        step_sizes: chains.rungs.iter().map(|rung| rung.kernel.step_size()).collect(),
        round_trips: chains.trips.counts().to_vec(),
        log_ratios,
        log_z_start: match foot {
            Foot::Exact { log_z, .. } => Some(*log_z),
            Foot::Points(_) => None,
        },
        top,
        kernel_steps: chains.kernel_steps,
    })
}
