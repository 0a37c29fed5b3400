//! log Z of laws of bits, by annealing in the parameters from the law without couplings.

use ember_model::EnergyModel;
use ember_sampler::Progress;
use ember_sampler::evidence::{Ensembles, ParameterOptions, along_parameters};
use ember_sampler::kernel::Gibbs;

use crate::error::Error;
use crate::judging::eval_options::EvalOptions;

/// Models on the way of a tempered SMC, and of AIS unless `--temperatures` says.
const SMC_TEMPERATURES: usize = 200;
const AIS_TEMPERATURES: usize = 1_000;
/// Resample when ess falls below this fraction.
const ESS_THRESHOLD: f64 = 0.5;

/// A law of bits to be judged.
pub struct Bits<'a> {
    /// The model.
    pub model: &'a EnergyModel,
    /// What was asked for.
    pub options: &'a EvalOptions,
    /// Who hears how far it is.
    pub progress: &'a dyn Progress,
}

impl Bits<'_> {
    /// Walkers at the model by tempered SMC, and the models on the way.
    ///
    /// # Errors
    /// As [`along_parameters`].
    pub fn smc(&self) -> Result<(Ensembles, usize), Error> {
        let sizes = self.options.smc(ember_model::Energy::dim(self.model));
        let moves = self.options.smc_moves.unwrap_or(1);
        let found =
            self.along(ParameterOptions { walkers: sizes.walkers, moves, ..self.sizes(SMC_TEMPERATURES) })?;
        Ok((found, SMC_TEMPERATURES))
    }

    /// Independent walkers by AIS, where `--ais` asks for them.
    ///
    /// # Errors
    /// As [`along_parameters`].
    pub fn ais(&self) -> Result<Option<Ensembles>, Error> {
        let Some(ais) = &self.options.ais else { return Ok(None) };
        let sizes = self.sizes(ais.temperatures.unwrap_or(AIS_TEMPERATURES));
        let walkers = ais.chains.div_ceil(sizes.repeats);
        let seed = sizes.seed.wrapping_add(1);
        Ok(Some(self.along(ParameterOptions { walkers, ess_threshold: 0.0, seed, ..sizes })?))
    }

    fn sizes(&self, temperatures: usize) -> ParameterOptions<'_> {
        ParameterOptions {
            walkers: 0,
            repeats: self.options.repeats,
            temperatures,
            moves: 1,
            ess_threshold: ESS_THRESHOLD,
            seed: self.options.seed,
            progress: self.progress,
        }
    }

    fn along(&self, options: ParameterOptions<'_>) -> Result<Ensembles, Error> {
        Ok(along_parameters(&self.model.start(), self.model, &Gibbs {}, options)?)
    }
}
