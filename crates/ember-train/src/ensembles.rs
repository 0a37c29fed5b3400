//! Independent repeats of a weighted population, stacked in one: the `[audit]` ensemble and tempered SMC.
//!
//! An audit follows θ beside the training and never touches it (ALGORITHMS 1.6): θ does not depend on it, so each of the
//! R repeats gives an unbiased `Z` and their spread an honest standard error. One gradient call moves all repeats.

use burn::tensor::{Device, Tensor};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::weights::grouped_stats;
use ember_sampler::{Banked, Kernel, Noise, Scheme, Walkers};

use crate::config::{AuditConfig, WalkerInit};
use crate::dataset::Rows;
use crate::error::Error;
use crate::statistics::{Estimate, log_mean_z};

/// Lane of the `[audit]` ensemble's noise; its resampling holds the next R lanes. The training walkers hold lane 0.
pub const AUDIT_LANE: u32 = 1;

/// R independent ensembles of M walkers each.
#[derive(Clone, Debug)]
pub struct Ensembles {
    /// All walkers, repeat after repeat, `R·M` of them. Their own `log_z` is not used.
    pub walkers: Walkers,
    /// `log Z` banked by each repeat, `[R]`.
    pub log_z: Banked,
    /// First lane of the generator these ensembles use.
    pub lane: u32,
}

impl Ensembles {
    /// The `[audit]` ensemble at its start: exact draws of the starting model.
    ///
    /// # Errors
    /// A starting model that cannot be drawn.
    pub fn audit(
        config: &AuditConfig,
        model: &EnergyModel,
        seed: u64,
        device: &Device,
    ) -> Result<Self, Error> {
        let count = config.repeats * config.walkers;
        let init = WalkerInit::Model;
        let walkers =
            crate::start::walkers(model, init, count, &Rows::F32(Vec::new()), seed, AUDIT_LANE, device)?;
        Ok(Self::new(walkers, config.repeats, AUDIT_LANE))
    }

    /// `repeats` equal consecutive groups of `walkers`, each starting from the walkers' `log_z`.
    pub fn new(walkers: Walkers, repeats: usize, lane: u32) -> Self {
        let log_z = vec![walkers.log_z.value(); repeats];
        Self { log_z: Banked::new(log_z, &walkers.position.device()), walkers, lane }
    }

    /// Brings the ensembles to the model's θ: K kernel steps with weights, each with `numbers` step numbers of the noise.
    ///
    /// # Errors
    /// A Langevin step beyond 32 bits.
    pub fn advance(
        &mut self,
        kernel: &dyn Kernel,
        numbers: u64,
        energy: &dyn Energy,
        seed: u64,
        update: u64,
        steps: u64,
    ) -> Result<(), Error> {
        let walkers = kernel.prepare(energy, self.walkers.clone());
        let first = Noise::at(seed, self.lane, update, steps * numbers, 0)?;
        // The last one fits, and so do all before it.
        Noise::at(seed, self.lane, update, steps * numbers, steps.saturating_sub(1) * numbers)?;
        let noise = |sub_step: u64| Noise { step: first.step + sub_step * numbers, ..first };
        let walkers = kernel.steps(energy, energy, walkers, steps, &noise).0;
        self.walkers = walkers;
        Ok(())
    }

    /// ess and `log_mean_exp(A)` of every repeat, still on the device, `[2R]`: ess first.
    pub fn stats(&self) -> Tensor<1> {
        grouped_stats(self.walkers.log_weights.value(), self.log_z.len())
    }

    /// Resamples the repeats whose ess is below `threshold · M`, and banks their mean weights; what [`Ensembles::stats`] said before,
    /// still on the device, `[2R]`.
    ///
    /// # Errors
    /// An update number beyond 32 bits.
    pub fn resample(
        &mut self,
        scheme: Scheme,
        threshold: f64,
        seed: u64,
        update: u64,
    ) -> Result<Tensor<1>, Error> {
        let stream = Stream::new(seed, Purpose::Resampling).at(update)?;
        let (walkers, log_z, stats) =
            self.walkers.clone().settled_groups(self.log_z.clone(), scheme, threshold, stream, self.lane + 1);
        (self.walkers, self.log_z) = (walkers, log_z);
        Ok(stats)
    }

    /// `log Z` of the θ the walkers are cached at, with its standard error. One read.
    pub fn log_z(&self) -> Estimate {
        let stats = ember_model::params::download(self.stats());
        self.log_z_from(&stats.into_iter().map(f64::from).collect::<Vec<_>>())
    }

    /// `log Z` from the banks `[R]` and statistics of before a resampling `[2R]`.
    pub fn log_z_of(banked: &[f64], stats: &[f64]) -> Estimate {
        let gains = &stats[banked.len()..];
        let repeats: Vec<f64> =
            banked.iter().zip(gains).map(|(banked, log_mean_exp)| banked + log_mean_exp).collect();
        log_mean_z(&repeats)
    }

    /// [`Ensembles::log_z`] from statistics already read, of before a resampling. One read of the banks on a GPU.
    pub fn log_z_from(&self, stats: &[f64]) -> Estimate {
        Self::log_z_of(&self.log_z.values(), stats)
    }
}
