//! Annealed importance sampling from both ends (Neal 2001; two-sided as in Grosse, Ghahramani, Adams 2015; ALGORITHMS 7).
//!
//! `log w_fwd = Σ_t (U_{β_{t−1}} − U_{β_t})(x_{t−1})` along `β: 0 → 1`, `x_0 ~ ρ_0`, with a MALA move that leaves `ρ_{β_t}` invariant
//! after each increment; `log w_rev` is the same sum along `β: 1 → 0` from `x ~ ρ_1`. Both `e^{log w}` are unbiased, so by Jensen
//! `E[log w_fwd] ≤ log Z₁/Z₀ ≤ −E[log w_rev]`.
//!
//! The temperatures are those of a pilot run, respaced as a trial of few chains asks. Given that fixed schedule the chains are
//! independent, for nothing resamples them, so the standard error is the chains' own. The upper side needs *exact* draws of
//! the model: only then is the pair called a bracket. Walkers instead are dependent and only approximately from the model: the pair is a two-sided
//! estimate, the standard error of its upper side is over the walkers' independent repeats, and a mode that neither the
//! walkers nor the start reach is missing from both sides.
//! Gradients per chain: 1 + moves · (temperatures − 1), for a change of β costs none (`smc/path.rs`).

mod chains;

use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use serde::Serialize;

use crate::error::Error;
use crate::evidence::Ensembles;
use crate::evidence::smc::{AnnealedPath, Rung, SmcOptions, pilot, respaced};
use crate::progress::Warning;
use crate::statistics::Estimate;
use chains::drawn;
pub use chains::{Direction, log_weights};

/// Lane of the forward chains. Reverse chains are `REVERSE` lanes further, draws from repeat r of walkers another r.
const LANE: u32 = 1 << 19;
/// Lane of the trial's forward chains.
const TRIAL_LANE: u32 = LANE + (1 << 18);
const REVERSE: u32 = 1 << 20;
/// An automatic schedule aims at this width, in bits per dimension …
const AIM: f64 = 0.005;
/// … and at no less than this one, in nats.
const LEAST_AIM: f64 = 0.1;
/// Chains of the trial, on each side.
const TRIAL_CHAINS: usize = 8;
/// The most temperatures an automatic schedule takes.
const MOST_TEMPERATURES: usize = 10_000;

/// Sizes of a two-sided AIS.
#[derive(Clone, Copy, Debug)]
pub struct AisOptions {
    /// Chains of each side, ≥ 2; rounded up to a multiple of the repeats whose walkers they start from.
    pub chains: usize,
    /// Temperatures of each side; chosen by the pilot and a trial where `None`.
    pub temperatures: Option<usize>,
    /// MALA moves at each temperature between the ends.
    pub moves: usize,
    /// The pilot run that shapes the schedule.
    pub pilot: SmcOptions,
    /// Seed of all noise.
    pub seed: u64,
}

impl Default for AisOptions {
    fn default() -> Self {
        let pilot = SmcOptions { walkers: 256, ..SmcOptions::default() };
        Self { chains: 64, temperatures: None, moves: 1, pilot, seed: 0 }
    }
}

/// Where the reverse chains start.
pub enum Starts<'a> {
    /// Exact draws of the model: `(count, stream)` → row-major `[count, dim]`.
    Exact(&'a dyn Fn(usize, Stream) -> Vec<f32>),
    /// Draws by weight from each repeat of an ensemble at the model's θ.
    Walkers(&'a Ensembles),
}

impl Starts<'_> {
    /// Groups of chains that start from one repeat each; 1 where the starts are exact.
    fn repeats(&self) -> usize {
        match self {
            Self::Exact(_) => 1,
            Self::Walkers(ensembles) => ensembles.log_z.len(),
        }
    }
}

/// log Z between two sides.
#[derive(Clone, Debug, Serialize)]
pub struct TwoSided {
    /// `log Z_0 + mean log w_fwd`: below log Z in expectation. Standard error over the chains.
    pub lower: Estimate,
    /// `log Z_0 − mean log w_rev`: above log Z in expectation, given exact starts.
    pub upper: Estimate,
    /// `bracket` with exact reverse starts, else `two-sided estimate`.
    pub kind: &'static str,
    /// Where the reverse chains started: `exact draws` or `walkers`.
    pub starts: &'static str,
    /// Independent repeats behind the standard error of `upper`, where the starts were walkers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats: Option<usize>,
    /// Temperatures above 0 of each side.
    pub temperatures: usize,
    /// MALA moves at each temperature between the ends.
    pub moves: usize,
    /// Chains of each side.
    pub chains: usize,
    /// Gradients of one sample's energy, both sides, the pilot run and the trial together.
    pub gradient_evaluations: u64,
    /// Wall-clock seconds, all of it, where the caller has measured them: this crate has no clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// `(upper − lower)/(d ln 2)`.
    pub width_bits_per_dim: f64,
}

impl TwoSided {
    /// What the figures are and what they cost, in words.
    pub fn cost(&self) -> String {
        format!(
            "{} from {}; width {:.4} bits/dim; {} temperatures × {} moves × {} chains a side, {:.2e} gradients{}",
            self.kind,
            self.starts,
            self.width_bits_per_dim,
            self.temperatures,
            self.moves,
            self.chains,
            self.gradient_evaluations as f64,
            self.seconds.map(|seconds| format!(", {seconds:.0} s")).unwrap_or_default()
        )
    }
}

/// Both sides for a model: exact reverse starts where it can be drawn, else `walkers`.
///
/// # Errors
/// No tractable start, neither draws nor walkers, or as [`two_sided`].
pub fn of_model(
    model: &EnergyModel,
    walkers: Option<&Ensembles>,
    options: AisOptions,
) -> Result<TwoSided, Error> {
    of_model_along(&AnnealedPath::of(model).ok_or(Error::NoStart)?, model, walkers, options)
}

/// [`of_model`] along its path, which may tell somebody how far it is.
///
/// # Errors
/// As [`of_model`].
pub fn of_model_along(
    path: &AnnealedPath<'_>,
    model: &EnergyModel,
    walkers: Option<&Ensembles>,
    options: AisOptions,
) -> Result<TwoSided, Error> {
    // Whether a model can be drawn does not depend on how many draws are asked for.
    let draw = |count: usize, stream: Stream| model.draw(count, stream).unwrap_or_default();
    let starts = match walkers {
        _ if model.log_z().is_some() && !draw(1, Stream::new(0, Purpose::Anneal)).is_empty() => {
            Starts::Exact(&draw)
        }
        Some(ensembles) => Starts::Walkers(ensembles),
        None => return Err(Error::NoSamples),
    };
    two_sided(path, &starts, options)
}

/// Both sides for the energy at the end of a path.
///
/// # Errors
/// As [`pilot`], fewer than two chains, or a weight that is not finite.
pub fn two_sided(
    path: &AnnealedPath<'_>,
    starts: &Starts<'_>,
    options: AisOptions,
) -> Result<TwoSided, Error> {
    let repeats = starts.repeats();
    let options = AisOptions { chains: options.chains.next_multiple_of(repeats), ..options };
    if options.chains < 2 {
        return Err(Error::options("1 AIS chain: at least 2 are needed for a standard error"));
    }
    let found = pilot(path, SmcOptions { seed: options.seed, ..options.pilot })?;
    let mut cost = options.pilot.walkers * found.len() * (options.pilot.moves + 1);
    let rungs = match options.temperatures {
        Some(count) => respaced(&found, count),
        None => enough(path, &found, starts, options, &mut cost)?,
    };
    let (lower, upper, repeats) = sides(path, &rungs, starts, options, LANE)?;
    cost += both_sides_cost(rungs.len(), options);
    let exact = matches!(starts, Starts::Exact(_));
    Ok(TwoSided {
        width_bits_per_dim: (upper.value - lower.value) / (path.dim() as f64 * std::f64::consts::LN_2),
        lower,
        upper,
        kind: if exact { "bracket" } else { "two-sided estimate" },
        starts: if exact { "exact draws" } else { "walkers" },
        repeats,
        temperatures: rungs.len(),
        moves: options.moves,
        chains: options.chains,
        gradient_evaluations: cost as u64,
        seconds: None,
    })
}

/// A schedule for the aimed width: moves mix imperfectly, so a trial of few chains measures it, and the width of N equal steps
/// falls as 1/N. The trial takes `N_0 = L²/aim` temperatures, enough were every move to mix perfectly: a pilot of T rungs, each
/// of which costs `1/cess − 1 = δ²`, has gone `L = T δ`, and equal steps leave `L²/N`.
fn enough(
    path: &AnnealedPath<'_>,
    found: &[Rung],
    starts: &Starts<'_>,
    options: AisOptions,
    cost: &mut usize,
) -> Result<Vec<Rung>, Error> {
    let aim = (AIM * path.dim() as f64 * std::f64::consts::LN_2).max(LEAST_AIM);
    let length_square = (found.len() * found.len()) as f64 * (options.pilot.conditional_ess.recip() - 1.0);
    let at_first = ((length_square / aim).ceil() as usize).clamp(found.len(), MOST_TEMPERATURES);
    let trial = AisOptions { chains: TRIAL_CHAINS.next_multiple_of(starts.repeats()), ..options };
    let (lower, upper, _) = sides(path, &respaced(found, at_first), starts, trial, TRIAL_LANE)?;
    *cost += both_sides_cost(at_first, trial);
    let width = upper.value - lower.value;
    let wanted = (at_first as f64 * (width / aim).max(1.0)).ceil() as usize;
    let count = wanted.min(MOST_TEMPERATURES);
    path.progress().note(&format!(
        "AIS: a trial of {at_first} temperatures left {width:.2} nats between its sides; {count} are taken"
    ));
    if wanted > count {
        path.progress().warn(&Warning::TooFewTemperatures { wanted, width: aim });
    }
    Ok(respaced(found, count))
}

/// Gradients of one sample: at the start of each chain, and one for each move between the ends.
fn both_sides_cost(temperatures: usize, options: AisOptions) -> usize {
    2 * options.chains * (1 + options.moves * (temperatures - 1))
}

/// The two sides on a schedule, and the repeats behind the upper one's standard error.
fn sides(
    path: &AnnealedPath<'_>,
    rungs: &[Rung],
    starts: &Starts<'_>,
    options: AisOptions,
    lane: u32,
) -> Result<(Estimate, Estimate, Option<usize>), Error> {
    let AisOptions { chains, seed, .. } = options;
    let log_z0 = path.start().log_z();
    let start = path.start().draw(chains, Stream::new(seed, Purpose::Anneal).lane(lane));
    let forward = log_weights(path, rungs, start, Direction::Forward, options, lane)?;
    // log Z_0 + E[log w_fwd] ≤ log Z_1
    let lower = Estimate::mean(&forward.iter().map(|log_w| log_z0 + log_w).collect::<Vec<_>>());
    let (start, repeats) = match starts {
        Starts::Exact(draw) => (draw(chains, Stream::new(seed, Purpose::Anneal).lane(lane + REVERSE)), None),
        Starts::Walkers(ensembles) => {
            (drawn(ensembles, chains, seed, lane + REVERSE)?, Some(ensembles.log_z.len()))
        }
    };
    let reverse = log_weights(path, rungs, start, Direction::Reverse, options, lane + REVERSE)?;
    // log Z_1 ≤ log Z_0 − E[log w_rev]
    let upper: Vec<f64> = reverse.iter().map(|log_w| log_z0 - log_w).collect();
    let upper = match repeats {
        None => Estimate::mean(&upper),
        Some(repeats) => {
            let mean = |group: &[f64]| group.iter().sum::<f64>() / group.len() as f64;
            Estimate::mean(&upper.chunks(chains / repeats).map(mean).collect::<Vec<_>>())
        }
    };
    Ok((lower, upper, repeats))
}
