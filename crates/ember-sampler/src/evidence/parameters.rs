//! Annealing in the parameters, `θ_t = θ_A + (t/T)(θ_B − θ_A)`, from a model that can be drawn to another: for laws of bits, where a path of
//! energies has no Gibbs kernel and a path of parameters has one at every θ (Salakhutdinov and Murray 2008).
//!
//! At each θ_t the weights earn `U_{t−1}(X) − U_t(X)`, then the kernel moves the walkers. With `ess_threshold = 0` nothing is
//! resampled: annealed importance sampling, the walkers independent; above it tempered SMC. The schedule is fixed, so each repeat's Z is
//! unbiased. Cost: `walkers · repeats · temperatures` steps and energies. Modes that no repeat visits are not counted.

use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};

use crate::error::Error;
use crate::evidence::Ensembles;
use crate::progress::Progress;
use crate::{Kernel, Scheme, Walkers, WeightRule};
use burn::tensor::{Tensor, TensorData};

/// Lane of the walkers; their resampling has the next ones.
const LANE: u32 = (1 << 17) + (1 << 15);

/// Sizes of an annealing in the parameters.
#[derive(Clone, Copy)]
pub struct ParameterOptions<'a> {
    /// Walkers of each repeat.
    pub walkers: usize,
    /// Independent repeats, at least 2.
    pub repeats: usize,
    /// Models on the way, the last one included.
    pub temperatures: usize,
    /// Kernel steps at each.
    pub moves: usize,
    /// Resample when ess falls below this fraction; 0 never does.
    pub ess_threshold: f64,
    /// Seed of all noise.
    pub seed: u64,
    /// Who hears how far it is.
    pub progress: &'a dyn Progress,
}

/// Weighted walkers at `end`, which began as exact draws of `start`.
///
/// # Errors
/// A start that cannot be drawn, a kernel that is not invariant, fewer than two repeats, weights that are not finite.
pub fn along_parameters(
    start: &EnergyModel,
    end: &EnergyModel,
    kernel: &dyn Kernel,
    options: ParameterOptions<'_>,
) -> Result<Ensembles, Error> {
    let ParameterOptions { walkers, repeats, temperatures, moves, ess_threshold, seed, progress } = options;
    if repeats < 2 || temperatures == 0 || kernel.weight_rule() != WeightRule::Invariant {
        return Err(Error::options(
            "annealing in the parameters needs at least 2 repeats, 1 temperature and a kernel that leaves its law invariant",
        ));
    }
    let count = walkers * repeats;
    let draws = start.draw(count, Stream::new(seed, Purpose::Anneal).lane(LANE)).ok_or(Error::NoStart)?;
    let position = Tensor::from_data(TensorData::new(draws, [count, start.dim()]), start.device());
    let start_log_z = start.log_z().ok_or(Error::NoStart)?;
    let mut ensembles = Ensembles::new(Walkers::new(start, position, start_log_z), repeats, LANE);
    for t in 1..=temperatures {
        let share = t as f64 / temperatures as f64;
        let at =
            if t == temperatures { end.clone() } else { start.towards(end, |step| step.mul_scalar(share)) };
        ensembles.advance(kernel, kernel.noise_steps(), &at, seed, t as u64, moves as u64)?;
        if t < temperatures && ess_threshold > 0.0 {
            ensembles.resample(Scheme::Systematic, ess_threshold, seed, t as u64)?;
        }
        let detail = || format!("temperature {t} of {temperatures}");
        progress.reach("annealing in the parameters", share, &detail);
    }
    match ensembles.fault() {
        Some(fault) => Err(Error::not_finite(format!("annealing in the parameters: {fault}"))),
        None => Ok(ensembles),
    }
}
