//! The pilot run: temperatures by conditional ess (Zhou, Johansen, Aston 2016) and step sizes by acceptance, on one
//! population. What follows runs the schedule as it stands, so that the pilot's choices bias nothing.

use ember_model::params::download;

use super::{AnnealedPath, ESS_THRESHOLD, Rung, SmcOptions};
use crate::error::Error;
use crate::evidence::Ensembles;
use crate::{Kernel, Noise, Scheme};

/// Lane of the pilot run's noise.
const PILOT_LANE: u32 = 1 << 16;
/// More temperatures than this mean that the path does not get through.
const MAX_TEMPERATURES: usize = 2_000;

/// Chooses temperatures and step sizes; the last rung is β = 1. Costs `walkers · rungs · (moves + 1)` gradients.
///
/// # Errors
/// A path that needs more than 2,000 temperatures, or an energy that is not finite on it.
pub fn pilot(path: &AnnealedPath<'_>, options: SmcOptions) -> Result<Vec<Rung>, Error> {
    let start = path.starting_walkers(options.walkers, options.seed, PILOT_LANE);
    let mut pilot = Ensembles::new(start, 1, PILOT_LANE);
    let mut rungs: Vec<Rung> = Vec::new();
    let (mut beta, mut step_size) = (0.0, 0.5 / (path.dim() as f64).cbrt());
    while beta < 1.0 {
        if rungs.len() == MAX_TEMPERATURES {
            return Err(Error::TooFar { beta, temperatures: MAX_TEMPERATURES });
        }
        let gaps = path.gap(pilot.walkers.position.clone());
        let lost = gaps.iter().filter(|gap| !gap.is_finite()).count();
        if lost > 0 {
            return Err(Error::not_finite(format!(
                "tempered SMC: the energy is not finite at {lost} of {} walkers of β = {beta:.4} on the annealed path, so log Z cannot \
                 be estimated by it",
                gaps.len()
            )));
        }
        let weights: Vec<f64> = download(pilot.walkers.weights()).into_iter().map(f64::from).collect();
        beta = next_beta(beta, &gaps, &weights, options.conditional_ess);
        let energy = path.at(beta);
        let kernel = path.kernel(step_size);
        let mut walkers = kernel.prepare(&energy, pilot.walkers.clone());
        let mut accepted = 0.0;
        for sub_step in 0..options.moves {
            let (rung, moves) = (rungs.len() as u64, options.moves as u64);
            let noise = Noise::at(options.seed, PILOT_LANE, rung, moves, sub_step as u64)?;
            let (moved, info) = kernel.step(&energy, walkers, &noise);
            walkers = moved;
            if let Some(rate) = info.accept_rate {
                accepted += f64::from(download(rate)[0]);
            }
        }
        pilot.walkers = walkers;
        rungs.push(Rung { beta, step_size });
        let detail = || format!("{} temperatures to β = {beta:.3}", rungs.len());
        path.progress().reach("choosing temperatures", beta, &detail);
        match accepted / options.moves as f64 {
            rate if rate > 0.75 => step_size *= 1.25,
            rate if rate < 0.55 => step_size *= 0.7,
            _ => {}
        }
        let rung = rungs.len() as u64;
        pilot.resample(Scheme::Systematic, ESS_THRESHOLD, options.seed, rung)?;
    }
    Ok(rungs)
}

/// The same path in `count` temperatures: β piecewise linear between the pilot's rungs, each as far from the next by the
/// pilot's measure; the step size is that of the rung above.
///
/// # Panics
/// If there are no rungs or `count` is 0.
pub fn respaced(rungs: &[Rung], count: usize) -> Vec<Rung> {
    assert!(!rungs.is_empty() && count > 0, "a schedule has at least one temperature");
    let beta = |i: usize| if i == 0 { 0.0 } else { rungs[i - 1].beta };
    let mut spaced: Vec<Rung> = (1..=count)
        .map(|k| {
            let t = k as f64 * rungs.len() as f64 / count as f64;
            let above = (t.ceil() as usize).clamp(1, rungs.len());
            let part = t - (above - 1) as f64;
            Rung { beta: beta(above - 1) + part * (beta(above) - beta(above - 1)), ..rungs[above - 1] }
        })
        .collect();
    spaced[count - 1].beta = 1.0;
    spaced
}

/// The largest β' whose conditional ess `(Σ W v)² / Σ W v²`, `v = e^{−(β'−β)(U − U_0)}`, is still `target`
/// (Zhou, Johansen, Aston 2016), by bisection.
fn next_beta(beta: f64, gaps: &[f64], weights: &[f64], target: f64) -> f64 {
    let conditional_ess = |next: f64| {
        let log_v: Vec<f64> = gaps.iter().map(|gap| -(next - beta) * gap).collect();
        let max = log_v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut first, mut second) = (0.0, 0.0);
        for (log_v, w) in log_v.iter().zip(weights) {
            let v = (log_v - max).exp();
            first += w * v;
            second += w * v * v;
        }
        first * first / second
    };
    if conditional_ess(1.0) >= target {
        return 1.0;
    }
    let (mut low, mut high) = (beta, 1.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if conditional_ess(middle) >= target {
            low = middle;
        } else {
            high = middle;
        }
    }
    // Never stand still, whatever rounding does.
    low.max(beta + 1e-9)
}
