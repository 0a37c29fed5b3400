//! One direction of annealed importance sampling on a fixed schedule: independent chains, one log-weight each.

use ember_model::params::download;
use ember_model::random::{Purpose, Stream};

use super::AisOptions;
use crate::error::Error;
use crate::evidence::Ensembles;
use crate::evidence::smc::{AnnealedPath, Rung};
use crate::weights::normalised;
use crate::{Kernel, Noise, Walkers};

/// `chains / R` draws by weight from each of the R repeats, row-major; `chains` is a multiple of R.
pub(super) fn drawn(ensembles: &Ensembles, chains: usize, seed: u64, lane: u32) -> Result<Vec<f32>, Error> {
    let repeats = ensembles.log_z.len();
    let walkers = &ensembles.walkers;
    let (per_repeat, dim) = (walkers.count() / repeats, walkers.dim());
    let position = download(walkers.position.clone());
    let mut rows = Vec::with_capacity(chains * dim);
    for r in 0..repeats {
        let log_weights = walkers.log_weights.value().narrow(0, r * per_repeat, per_repeat);
        let weights: Vec<f64> = download(normalised(log_weights)).into_iter().map(f64::from).collect();
        if weights.iter().any(|w| !w.is_finite()) {
            return Err(Error::not_finite(format!(
                "the log-weights of repeat {r} of the walkers are not finite"
            )));
        }
        let stream = Stream::new(seed, Purpose::Anneal).lane(lane + r as u32);
        for picked in stream.categorical(chains / repeats, &weights) {
            let first = (r * per_repeat + picked as usize) * dim;
            rows.extend_from_slice(&position[first..first + dim]);
        }
    }
    Ok(rows)
}

/// Which way chains go along the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the start to the energy, β: 0 → 1.
    Forward,
    /// From the energy to the start, β: 1 → 0.
    Reverse,
}

/// `log w` of one chain from each row of `start`, row-major `[chains, dim]` → `[chains]`. `rungs` rise and end at β = 1;
/// `lane` names the chains' noise.
///
/// # Errors
/// A Langevin step beyond 32 bits, or a `log w` that is not finite.
pub fn log_weights(
    path: &AnnealedPath<'_>,
    rungs: &[Rung],
    start: Vec<f32>,
    direction: Direction,
    options: AisOptions,
    lane: u32,
) -> Result<Vec<f64>, Error> {
    let interior = &rungs[..rungs.len() - 1];
    let (from, to, what, stops): (_, _, _, Vec<Rung>) = match direction {
        Direction::Forward => (0.0, 1.0, "AIS forward", interior.to_vec()),
        Direction::Reverse => (1.0, 0.0, "AIS reverse", interior.iter().rev().copied().collect()),
    };
    let mut walkers = Walkers::new(&path.at(from), path.upload(start), 0.0);
    let (mut beta, moves) = (from, options.moves as u64);
    for (t, rung) in stops.iter().enumerate() {
        // log w += (U_{β_{t−1}} − U_{β_t})(x_{t−1}), then a move that leaves ρ_{β_t} invariant
        walkers = path.shift(walkers, beta, rung.beta);
        let (kernel, energy) = (path.kernel(rung.step_size), path.at(rung.beta));
        let first = Noise::at(options.seed, lane, t as u64, moves, 0)?;
        Noise::at(options.seed, lane, t as u64, moves, moves.saturating_sub(1))?;
        let noise = |sub_step: u64| Noise { step: first.step + sub_step, ..first };
        walkers = kernel.steps(&energy, &energy, walkers, moves, &noise).0;
        beta = rung.beta;
        let (done, count) = (t + 1, stops.len());
        path.progress().reach(what, done as f64 / count as f64, &|| format!("temperature {done} of {count}"));
    }
    let earned = path.shift(walkers, beta, to).log_weights;
    let (value, rest) = (download(earned.value()), download(earned.compensation()));
    let log_w: Vec<f64> = value.iter().zip(&rest).map(|(&hi, &lo)| f64::from(hi) + f64::from(lo)).collect();
    match log_w.iter().filter(|log_w| !log_w.is_finite()).count() {
        0 => Ok(log_w),
        lost => Err(Error::not_finite(format!(
            "{what}: the weights of {lost} of {} chains are not finite",
            log_w.len()
        ))),
    }
}
