//! Independent repeats of a weighted population, stacked in one: the `[audit]` ensemble and tempered SMC.
//!
//! An audit follows θ beside the training and never touches it (ALGORITHMS 1.6): θ does not depend on it, so each of the
//! R repeats gives an unbiased `Z` and their spread an honest standard error. One gradient call moves all repeats.

use burn::tensor::{Device, Tensor};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::weights::{LogWeights, grouped_stats};
use ember_sampler::{Kernel, Noise, Scheme, Walkers, resample};

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
    pub log_z: Vec<f64>,
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
        Self { log_z: vec![walkers.log_z; repeats], walkers, lane }
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

    /// Resamples the repeats whose ess, read from [`Ensembles::stats`], is below `threshold · M`.
    ///
    /// # Errors
    /// An update number beyond 32 bits.
    pub fn resample(
        &mut self,
        stats: &[f64],
        scheme: Scheme,
        threshold: f64,
        seed: u64,
        update: u64,
    ) -> Result<(), Error> {
        let repeats = self.log_z.len();
        let per_repeat = self.walkers.count() / repeats;
        let (ess, log_mean_exp) = stats.split_at(repeats);
        let due: Vec<bool> = ess.iter().map(|&ess| ess < threshold * per_repeat as f64).collect();
        if !due.contains(&true) {
            return Ok(());
        }
        let device = self.walkers.position.device();
        let log_weights = self.walkers.log_weights.value();
        let mut ancestors = Vec::with_capacity(repeats);
        let mut kept = Vec::with_capacity(repeats);
        for (r, &due) in due.iter().enumerate() {
            let first = r * per_repeat;
            let ones = Tensor::<1>::ones([per_repeat], &device);
            if !due {
                let range = first as i64..(first + per_repeat) as i64;
                ancestors.push(Tensor::arange(range, &device));
                kept.push(ones);
                continue;
            }
            let stream = Stream::new(seed, Purpose::Resampling).lane(self.lane + 1 + r as u32).at(update)?;
            let slice = log_weights.clone().narrow(0, first, per_repeat);
            ancestors.push(resample(scheme, slice, stream).add_scalar(first as i64));
            kept.push(ones.zeros_like());
            self.log_z[r] += log_mean_exp[r];
        }
        let ancestors = Tensor::cat(ancestors, 0);
        let kept = Tensor::cat(kept, 0);
        let old = self.walkers.log_weights.clone();
        let walkers = self.walkers.clone().resampled(ancestors, 0.0);
        // Repeats that were not due keep their log-weights: they kept their walkers in place.
        self.walkers = Walkers {
            log_weights: LogWeights::from_parts(old.value() * kept.clone(), old.compensation() * kept),
            ..walkers
        };
        Ok(())
    }

    /// `log Z` of the θ the walkers are cached at, with its standard error. One read.
    pub fn log_z(&self) -> Estimate {
        let stats = ember_model::params::download(self.stats());
        self.log_z_from(&stats.into_iter().map(f64::from).collect::<Vec<_>>())
    }

    /// [`Ensembles::log_z`] from statistics already read.
    pub fn log_z_from(&self, stats: &[f64]) -> Estimate {
        let repeats: Vec<f64> = self
            .log_z
            .iter()
            .zip(&stats[self.log_z.len()..])
            .map(|(banked, log_mean_exp)| banked + log_mean_exp)
            .collect();
        log_mean_z(&repeats)
    }
}
