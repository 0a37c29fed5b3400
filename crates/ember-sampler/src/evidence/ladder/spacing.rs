//! Which of many candidates become rungs: the sparsest ladder whose neighbours still exchange.
//!
//! A population goes up the candidates as in sequential Monte Carlo. With `v = e^{U_c − U_j}` at `x ~ ρ_c`, the exchange of rungs c and j
//! is accepted with mean `E[min(v(x), v(x′))]/E[v]`, `x, x′ ~ ρ_c` independent: one less the Gini index of v. So one rung's points tell
//! how often it would exchange with any other. Bisection finds the farthest candidate that still does often enough; the population is
//! resampled to it and moved there. Whatever the choice, the tempering itself leaves its laws invariant: a bad one costs time.
//!
//! Cost: `walkers · (log₂ candidates + moves)` energies a rung. Points that a rung does not have (a mode that only later ones know) are
//! not weighed: rates measured by the tempering run are the truth.

use burn::tensor::Device;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};

use super::{Foot, LadderOptions, PILOT_LANE, Rung, TARGET_ACCEPTANCE, temper};
use crate::error::Error;
use crate::progress::Progress;
use crate::{Noise, Scheme, Walkers};

/// Times that a ladder is tried and made denser.
const TRIALS: u64 = 4;

/// How candidates are chosen.
#[derive(Clone, Copy)]
pub struct Spacing<'a> {
    /// The least mean acceptance of an exchange between neighbours.
    pub least: f64,
    /// Points of the pilot run.
    pub walkers: usize,
    /// Kernel steps at each rung.
    pub moves: usize,
    /// Seed of all noise.
    pub seed: u64,
    /// Who hears how far it is.
    pub progress: &'a dyn Progress,
}

/// A ladder from candidate 0 to candidate `count − 1`: the numbers of the candidates taken, with their rungs, whose kernels have the step
/// sizes that the pilot came to. Neighbours exchange less often than asked for only where they are neighbouring candidates.
///
/// # Errors
/// That of `open`, a step beyond 32 bits, weights that are not finite.
pub fn spaced<E: From<Error>>(
    count: usize,
    mut open: impl FnMut(usize) -> Result<Rung, E>,
    foot: &Foot<'_>,
    device: &Device,
    spacing: Spacing<'_>,
) -> Result<Vec<(usize, Rung)>, E> {
    let Spacing { least, walkers: points, moves, seed, progress } = spacing;
    let mut rung = open(0)?;
    let stream = Stream::new(seed, Purpose::Anneal).lane(PILOT_LANE);
    let mut walkers =
        Walkers::new(&*rung.energy, foot.points(points, rung.energy.dim(), stream, device), f64::NAN);
    let (mut chosen, mut current) = (Vec::new(), 0);
    while current + 1 < count {
        let rate = |next: &Rung| -> f64 {
            let log_v = download(walkers.energy.clone() - next.energy.energy(walkers.position.clone()));
            expected_swaps(&log_v.into_iter().map(f64::from).collect::<Vec<_>>())
        };
        // The farthest that is known to be near enough, and the nearest known to be too far.
        let (mut near, mut next) = (current + 1, open(current + 1)?);
        let mut far = if rate(&next) < least { near + 1 } else { count };
        let mut stride = 1;
        while near + 1 < far {
            let middle = if far == count { (near + stride).min(count - 1) } else { near.midpoint(far) };
            let candidate = open(middle)?;
            if rate(&candidate) < least {
                far = middle;
            } else {
                (near, next) = (middle, candidate);
            }
            stride *= 2;
        }
        let before = std::mem::replace(&mut rung, next);
        if let Some(h) = before.kernel.step_size().filter(|_| current > 0) {
            rung.kernel = rung.kernel.with_step_size(h);
        }
        chosen.push((current, before));
        current = near;
        let number = chosen.len() as u64;
        walkers = moved(walkers, &mut rung, moves, seed, number)?;
        progress.reach("choosing rungs", current as f64 / (count - 1) as f64, &|| {
            format!("{number} rungs to candidate {current} of {}", count - 1)
        });
    }
    chosen.push((current, rung));
    Ok(chosen)
}

/// A ladder with more of its candidates, where a trial of `options` shows that neighbours exchange less often than `least` and there are
/// candidates between them: the middle one is taken in, four times at most. The pilot's points are not the rungs' own, so that it may
/// misjudge.
///
/// # Errors
/// That of `open`, or as [`temper`].
pub fn refined<E: From<Error>>(
    mut chosen: Vec<(usize, Rung)>,
    mut open: impl FnMut(usize) -> Result<Rung, E>,
    foot: &Foot<'_>,
    device: &Device,
    least: f64,
    options: LadderOptions<'_>,
) -> Result<Vec<(usize, Rung)>, E> {
    for trial in 0..TRIALS {
        let (numbers, mut rungs): (Vec<usize>, Vec<Rung>) = chosen.into_iter().unzip();
        let rates = match rungs.len() {
            // One rung alone is its own top.
            1 => Vec::new(),
            _ => {
                temper(
                    &mut rungs,
                    foot,
                    device,
                    LadderOptions { seed: options.seed ^ (trial << 40), ..options },
                )?
                .swap_rates
            }
        };
        chosen = numbers.into_iter().zip(rungs).collect();
        let gap = |i: &usize| rates[*i] < least && chosen[i + 1].0 - chosen[*i].0 > 1;
        let gaps: Vec<usize> = (0..rates.len()).filter(gap).collect();
        if gaps.is_empty() {
            break;
        }
        // From the top, so that the places below stay.
        for i in gaps.into_iter().rev() {
            let middle = chosen[i].0.midpoint(chosen[i + 1].0);
            let mut rung = open(middle)?;
            if let Some(h) = chosen[i + 1].1.kernel.step_size() {
                rung.kernel = rung.kernel.with_step_size(h);
            }
            chosen.insert(i + 1, (middle, rung));
        }
    }
    Ok(chosen)
}

/// The population resampled to a rung and moved there, while its step size learns.
fn moved(walkers: Walkers, rung: &mut Rung, moves: usize, seed: u64, number: u64) -> Result<Walkers, Error> {
    let scheme = Stream::new(seed, Purpose::Resampling).lane(PILOT_LANE).at(number)?;
    // Any ess below the whole
    let mut walkers = walkers.reweight(&*rung.energy).settled(Scheme::Systematic, 1.0, scheme).0;
    let numbers = rung.kernel.noise_steps();
    for step in 0..moves as u64 {
        let noise = Noise::at(seed, PILOT_LANE, number, moves as u64 * numbers, step * numbers)?;
        let (next, info) = rung.kernel.step(&*rung.energy, walkers, &noise);
        walkers = next;
        if let (Some(rate), Some(h)) = (info.accept_rate, rung.kernel.step_size()) {
            let rate = f64::from(download(rate)[0]);
            rung.kernel = rung.kernel.with_step_size(h * (rate - TARGET_ACCEPTANCE).exp());
        }
    }
    if !walkers.summary().finite {
        return Err(Error::not_finite(
            "parallel tempering: an energy is not finite where the pilot run went",
        ));
    }
    Ok(walkers.unweighted())
}

/// The mean acceptance of exchanges with a rung whose density is `v = e^{log_v}` times this one's, from draws of this one: `1 − Gini(v)`.
/// With equal v it is 1. What is not a number has no weight.
pub fn expected_swaps(log_v: &[f64]) -> f64 {
    let max = log_v.iter().copied().filter(|v| !v.is_nan()).fold(f64::NEG_INFINITY, f64::max);
    if !max.is_finite() {
        return 0.0;
    }
    let mut v: Vec<f64> = log_v.iter().map(|l| if l.is_nan() { 0.0 } else { (l - max).exp() }).collect();
    v.sort_by(f64::total_cmp);
    let n = v.len() as f64;
    // Σ_{a<b} min(v_a, v_b): the k-th smallest is the lesser of n − 1 − k pairs
    let lesser: f64 = v.iter().enumerate().map(|(k, v)| v * (n - 1.0 - k as f64)).sum();
    let mean = v.iter().sum::<f64>() / n;
    lesser / (0.5 * n * (n - 1.0)) / mean
}
