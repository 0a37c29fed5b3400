//! Tempered sequential Monte Carlo from a tractable start to the model (Del Moral, Doucet, Jasra 2006; ALGORITHMS 1.6).
//!
//! `U_β = (1 − β) U_0 + β U`, `U_0` a Gaussian with known `log Z_0` on the model's support, or the flow that a tilted energy is
//! built on. At each temperature the weights earn
//! `U_β(X) − U_β'(X)`, then MALA moves at β'. A pilot run chooses temperatures (conditional ess) and step sizes; the R
//! repeats then run that *fixed* schedule, so each `Z` is unbiased. Modes no repeat visits are not counted.

mod path;
mod pilot;
mod start;

use ember_model::EnergyModel;

use crate::Scheme;
use crate::error::Error;
use crate::evidence::Ensembles;
use crate::statistics::Estimate;
pub use path::{AnnealedPath, Rung, Tempered};
pub use pilot::{pilot, respaced};
pub use start::{GaussianStart, Start};

/// First lane of the repeats.
const REPEAT_LANE: u32 = 1 << 17;
/// Resample when ess falls below this fraction.
const ESS_THRESHOLD: f64 = 0.5;

/// Sizes of a tempered SMC.
#[derive(Clone, Copy, Debug)]
pub struct SmcOptions {
    /// Walkers per repeat.
    pub walkers: usize,
    /// Independent repeats R ≥ 2.
    pub repeats: usize,
    /// MALA steps at each temperature.
    pub moves: usize,
    /// The smallest conditional ess kept at each temperature, as a fraction.
    pub conditional_ess: f64,
    /// Seed of all noise.
    pub seed: u64,
}

impl Default for SmcOptions {
    fn default() -> Self {
        Self { walkers: 2_000, repeats: 8, moves: 4, conditional_ess: 0.9, seed: 0 }
    }
}

/// What a tempered SMC leaves.
pub struct SmcResult {
    /// `log Z` with its standard error over the repeats.
    pub log_z: Estimate,
    /// Temperatures used.
    pub temperatures: usize,
    /// MALA's h at β = 1.
    pub step_size: f64,
    /// The repeats at β = 1, weighted.
    pub ensembles: Ensembles,
}

impl SmcOptions {
    /// Sizes for samples of `dim` coordinates: fewer walkers for images, whose energies cost a network each.
    pub fn for_dim(dim: usize) -> Self {
        let options = Self::default();
        if dim > 256 { Self { walkers: 256, ..options } } else { options }
    }
}

/// `log Z` of the model by tempered SMC from its tractable start.
///
/// # Errors
/// No tractable start (a network without confinement or a flow), or as [`pilot`].
pub fn tempered(model: &EnergyModel, options: SmcOptions) -> Result<SmcResult, Error> {
    along(&AnnealedPath::of(model).ok_or(Error::NoStart)?, options)
}

/// `log Z` of the energy at the end of a path.
///
/// # Errors
/// As [`pilot`]; log-weights that are not finite at its end.
pub fn along(path: &AnnealedPath<'_>, options: SmcOptions) -> Result<SmcResult, Error> {
    let rungs = pilot(path, options)?;
    let count = options.walkers * options.repeats;
    let mut ensembles =
        Ensembles::new(path.starting_walkers(count, options.seed, REPEAT_LANE), options.repeats, REPEAT_LANE);
    for (t, rung) in rungs.iter().enumerate() {
        // A MALA kernel reweights to the new temperature before it moves.
        let (kernel, energy) = (path.kernel(rung.step_size), path.at(rung.beta));
        ensembles.advance(&kernel, 1, &energy, options.seed, t as u64, options.moves as u64)?;
        if t + 1 < rungs.len() {
            let scheme = Scheme::Systematic;
            ensembles.resample(scheme, ESS_THRESHOLD, options.seed, t as u64)?;
        }
        let (done, count) = (t + 1, rungs.len());
        let detail = || format!("temperature {done} of {count}");
        path.progress().reach("log Z by tempered SMC", done as f64 / count as f64, &detail);
    }
    if let Some(fault) = ensembles.fault() {
        return Err(Error::not_finite(format!(
            "tempered SMC: {fault}, so log Z cannot be estimated by it: the energy is not finite where its walkers went"
        )));
    }
    let step_size = rungs.last().map_or(f64::NAN, |rung| rung.step_size);
    Ok(SmcResult { log_z: ensembles.log_z(), temperatures: rungs.len(), step_size, ensembles })
}
