//! Independent repeats of a weighted population, stacked in one: the `[audit]` ensemble and tempered SMC.
//!
//! An audit follows θ beside the training and never touches it (ALGORITHMS 1.6): θ does not depend on it, so each of the
//! R repeats gives an unbiased `Z` and their spread an honest standard error. One gradient call moves all repeats.

use burn::tensor::Tensor;
use ember_model::Energy;
use ember_model::params::upload;
use ember_model::random::{Purpose, Stream};

use crate::error::Error;
use crate::statistics::{Estimate, log_mean_z};
use crate::weights::grouped_stats;
use crate::{Banked, Kernel, Noise, Scheme, Walkers};

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

    /// One population of all repeats, each with the mass of its own Z: `A += log Z_r`, up to a constant. Draws by weight of one repeat's
    /// log-weights alone would forget what it banked at its resamplings.
    pub fn pooled(self) -> Walkers {
        let banked = self.log_z.values();
        let most = banked.iter().copied().filter(|log_z| log_z.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        let per_repeat = self.walkers.count() / banked.len();
        let gains = banked.iter().flat_map(|log_z| std::iter::repeat_n((log_z - most) as f32, per_repeat));
        let gains = upload(gains.collect(), &self.walkers.position.device());
        Walkers { log_weights: self.walkers.log_weights.clone().accumulate(gains), ..self.walkers }
    }

    /// The repeats whose `log Z` is not finite, of statistics already read: a walker whose log-weight is none leaves none to its repeat.
    pub fn lost(&self, stats: &[f64]) -> Vec<usize> {
        let repeats = Self::repeats_of(&self.log_z.values(), stats);
        (0..repeats.len()).filter(|&r| !repeats[r].is_finite()).collect()
    }

    /// What is wrong, where some repeat's `log Z` is not finite. One read.
    pub fn fault(&self) -> Option<String> {
        let stats: Vec<f64> =
            ember_model::params::download(self.stats()).into_iter().map(f64::from).collect();
        let (lost, repeats) = (self.lost(&stats).len(), self.log_z.len());
        (lost > 0).then(|| format!("the log-weights of {lost} of its {repeats} repeats are not finite"))
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

    /// Each repeat's `log Z`, `[R]`, from the banks `[R]` and statistics of before a resampling `[2R]`.
    pub fn repeats_of(banked: &[f64], stats: &[f64]) -> Vec<f64> {
        banked
            .iter()
            .zip(&stats[banked.len()..])
            .map(|(banked, log_mean_exp)| banked + log_mean_exp)
            .collect()
    }

    /// [`Ensembles::log_z`] from statistics already read, of before a resampling. One read of the banks on a GPU.
    pub fn log_z_from(&self, stats: &[f64]) -> Estimate {
        log_mean_z(&Self::repeats_of(&self.log_z.values(), stats))
    }
}
