//! What a GPU decides by itself in an update, and when the host hears of it.
//!
//! A read costs a GPU more than an update of a small model. So the device checks the state in the launch that steps θ
//! (`ember_model::descent`): where it is not as it must be, θ stays from that update on and an alarm keeps its number. The host hears
//! of it at the next log step or checkpoint, and reports the update that the alarm names. On a CPU the host looks at every update.

use burn::tensor::Tensor;
#[cfg(feature = "wgpu")]
use ember_model::descent::{self, Alarm, Cause};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::{Scheme, Walkers};

use super::logged::{Findings, UnreadWalkers};
use super::{Settlement, Trainer};
use crate::error::Error;
#[cfg(feature = "wgpu")]
use crate::training::optimizer::Guarded;
use crate::training::optimizer::OptimizerInfo;

impl Trainer {
    /// Whether the device decides by itself.
    pub(super) fn is_on_gpu(&self) -> bool {
        #[cfg(feature = "wgpu")]
        return self.model.theta().first().is_some_and(descent::serves);
        #[cfg(not(feature = "wgpu"))]
        false
    }

    /// The largest energy gap that an update may have, with a watchdog.
    pub(super) fn max_gap(&self) -> Option<f64> {
        self.doubtful_gap().filter(|_| self.config.watchdog.max_rollbacks > 0)
    }

    /// The energy gap that is doubtful: 10 nats a coordinate unless given. Of an objective of the data alone none unless given, since
    /// nothing there brings the gap to 0: the walkers may be anywhere.
    pub(super) fn doubtful_gap(&self) -> Option<f64> {
        let most = 10.0 * self.model.dim() as f64;
        self.config.watchdog.max_energy_gap.or_else(|| (!self.has_data_loss()).then_some(most))
    }

    /// The sign that the terms of the gradient have: −1 on a GPU, where the walkers' weights then serve as they are.
    pub(super) fn gradient_sign(&self) -> f64 {
        if self.is_on_gpu() && !self.has_data_loss() { -1.0 } else { 1.0 }
    }

    /// θ one step further, by a gradient of that sign. On a GPU only while `stats`, the gradient and the gap of the mean energies of
    /// data and walkers are as they must be.
    pub(super) fn descend(
        &mut self,
        grads: Vec<Tensor<1>>,
        own: Option<&Tensor<1>>,
        stats: Option<Tensor<1>>,
        energies: [Option<&Tensor<1>>; 2],
    ) -> (EnergyModel, OptimizerInfo) {
        #[cfg(feature = "wgpu")]
        if self.is_on_gpu() {
            let alarm = self.alarm.take().unwrap_or_else(|| Alarm::none(&self.model.theta()[0]));
            let [data, walkers] = energies.map(|energy| energy.cloned());
            // Of an alarm that has not rung all numbers are finite.
            let mut finite = stats.or_else(|| data.clone()).unwrap_or_else(|| alarm.clone());
            if let Some(own) = own {
                finite = Tensor::cat(vec![finite, own.clone()], 0);
            }
            let gap = data.zip(walkers).map(|(data, walkers)| Tensor::cat(vec![data, walkers], 0));
            let guarded =
                Guarded { finite, gap: gap.zip(self.max_gap()), is_negated: self.gradient_sign() < 0.0 };
            let (model, info, alarm) =
                self.optimizer.step_guarded(self.step, &self.model, &grads, guarded, alarm);
            self.alarm = Some(alarm);
            return (model, info);
        }
        let _ = (own, stats, energies);
        self.optimizer.step_model(self.step, &self.model, grads)
    }

    /// `Trainer::settle` on a GPU: statistics, the decision to resample and what follows from it are the device's, for the walkers
    /// that moved and for the audit. The host reads nothing here: `logged.rs` does, at log steps.
    pub(super) fn settle_on_device(&mut self, moving: Walkers, log: bool) -> Result<Settlement, Error> {
        let (threshold, weighted) = (self.config.resampling.ess_threshold, self.carries_weights());
        let resampling = self.config.resampling.scheme.filter(|_| weighted);
        let stream = Stream::new(self.config.seed, Purpose::Resampling).at(self.step)?;
        let (moving, stats, weights, seen_weights) = match resampling {
            Some(scheme) => {
                let (moving, settled) = match self.is_partial() {
                    true => moving.settled_within(scheme, threshold, stream),
                    false => moving.settled(scheme, threshold, stream),
                };
                (moving, Some(settled.stats), settled.weights, settled.weights_before)
            }
            None if weighted => {
                let (stats, weights) = moving.weighed();
                (moving, Some(stats), weights.clone(), weights)
            }
            None => {
                let stats = log.then(|| moving.stats());
                let weights = self.gradient_weights(&moving);
                (moving, stats, weights.clone(), weights)
            }
        };
        let stats = stats.map(|stats| stats.packed());
        let mut findings = Findings::default();
        if let (true, Some(stats)) = (log, &stats) {
            // The bank of before, with the statistics of before.
            let bank = self.walkers.log_z.clone();
            findings.unread.walkers =
                Some(UnreadWalkers { stats: stats.clone(), bank, count: moving.count() });
        }
        let report_is_due = log && self.audit_report_is_due();
        if let Some(audit) = &mut self.audit {
            let banks = audit.log_z.clone();
            let scheme = resampling.unwrap_or(Scheme::Systematic);
            let stats = audit.resample(scheme, threshold, self.config.seed, self.step)?;
            findings.unread.audit = report_is_due.then_some((stats, banks));
        }
        Ok(Settlement { moving, weights, seen_weights, stats, findings })
    }

    /// Reads the alarm of a GPU; nothing elsewhere.
    ///
    /// # Errors
    /// What the alarm says: the trainer is then at the update it names.
    pub(super) fn hear(&mut self) -> Result<(), Error> {
        #[cfg(feature = "wgpu")]
        if let Some(alarm) = self.alarm.clone() {
            return self.heard(&ember_model::params::download(alarm));
        }
        Ok(())
    }

    /// What was read of the alarm.
    ///
    /// # Errors
    /// As [`Trainer::hear`].
    #[cfg(feature = "wgpu")]
    pub(super) fn heard(&mut self, read: &[f32]) -> Result<(), Error> {
        let Some(alarm) = Alarm::unpack(read) else { return Ok(()) };
        self.step = alarm.step;
        Err(self.told(alarm)?)
    }

    /// An alarm in words.
    #[cfg(feature = "wgpu")]
    fn told(&mut self, alarm: Alarm) -> Result<Error, Error> {
        if let (Cause::Gradient | Cause::Gap, Some(most)) = (alarm.cause, self.max_gap()) {
            return Ok(self.gap_error(alarm.gap, most, alarm.norm));
        }
        if alarm.cause == Cause::State && self.has_negative_phase() {
            return Ok(self.non_finite(&self.walkers));
        }
        if self.model.flow().is_some() {
            let batch = self.batches.batch(alarm.step)?;
            let terms = self.terms(batch, None);
            return Ok(self.flow_non_finite(&terms));
        }
        let what = "gradient of the parameters".to_owned();
        Ok(Error::NonFinite { step: alarm.step, what, walkers: Vec::new(), count: 0 })
    }
}
