//! The walkers' part of an update: they move to the model's θ, are read once, and resampled where their weights ask for it.

use burn::tensor::{Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_sampler::{Noise, Scheme, StepInfo, Summary, Walkers, reduce, resample};

use super::logged::Findings;
use super::{NegativePhase, Reading, Settlement, Trainer, WALKER_LANE};
use crate::error::Error;
use crate::training::epochs::Epochs;
use crate::training::objective::Schedule;
use ember_sampler::evidence::Ensembles;
use ember_sampler::statistics::Estimate;

impl Trainer {
    /// Brings the walkers of this update to the model's θ, with the audit beside them.
    pub(super) fn advance(&mut self, batch: &Tensor<2>, log: bool) -> Result<NegativePhase, Error> {
        let (seed, update) = (self.config.seed, self.step);
        let steps = self.config.kernel.steps_per_update;
        let kernel = self.kernel()?;
        // The whole run's step numbers were checked when the state was assembled.
        let numbers = self.config.kernel.kernel.as_dyn().noise_steps();
        let noise = |sub_step| Noise { seed, lane: 0, step: (update * steps + sub_step) * numbers };
        let schedule = Schedule { update, steps, partial: self.is_partial() };
        let (first, moving) = self.next_walkers()?;
        let modes = self.modes.as_ref().filter(|_| log);
        let before = modes.map(|modes| modes.of(moving.position.clone()));
        let objective = self.config.objective.as_dyn();
        let (moving, info) = objective.advance(&*kernel, &self.model, moving, batch, schedule, &noise);
        let after = modes.map(|modes| modes.of(moving.position.clone()));
        let jumps = before.zip(after).map(|(before, after)| reduce::mean(before.not_equal(after).float()));
        if let Some(audit) = &mut self.audit {
            audit.advance(&*kernel, numbers, &self.model, seed, update, steps)?;
        }
        let mut info = info.unwrap_or_default();
        let (pass, before, seen) = (info.pass.take(), info.before.take(), moving.clone());
        let Settlement { moving, weights, seen_weights, stats, mut findings } =
            self.settle(moving, &info, log)?;
        if self.is_partial() {
            self.walkers = self.walkers.clone().with_batch(first, moving.clone());
            let due = (update + 1).is_multiple_of(self.config.walkers.flush_every());
            if due || log {
                let reading = self.look_at_all(due)?;
                if log {
                    findings.reading = Some(reading);
                }
                findings.unread.walkers = None;
            }
        } else {
            self.walkers = moving.clone();
        }
        Ok(NegativePhase {
            seen,
            seen_weights,
            pass,
            before,
            first,
            moving,
            weights,
            stats,
            info,
            jumps,
            findings,
        })
    }

    /// The walkers this update moves and where they begin: all of them, or the next slice of this epoch's order.
    fn next_walkers(&mut self) -> Result<(usize, Walkers), Error> {
        let moved = self.moved_per_update();
        if !self.is_partial() {
            return Ok((0, self.walkers.clone()));
        }
        let count = self.walkers.count();
        let epochs = Epochs::new(count, moved, self.config.seed, WALKER_LANE);
        let (epoch, dealt) = epochs.at(self.step);
        if dealt.start == 0 {
            // The walkers themselves change places: an epoch's mini-batches are then slices.
            let order: Vec<i32> = epochs.order(epoch)?.into_iter().map(|i| i as i32).collect();
            let order = Tensor::from_data(TensorData::new(order, [count]), &self.device);
            self.walkers = self.walkers.clone().permuted(order);
        }
        Ok((dealt.start, self.walkers.narrow(dealt)))
    }

    /// `W` of the walkers in the gradient, `[walkers]`.
    pub(super) fn gradient_weights(&self, walkers: &Walkers) -> Tensor<1> {
        if self.carries_weights() {
            return walkers.weights();
        }
        let count = walkers.count();
        Tensor::full([count], 1.0 / count as f64, &self.device)
    }

    /// `U` less its confinement or base, `[walkers]`.
    pub(super) fn unconfined(&self, u: Tensor<1>, x: Tensor<2>) -> Tensor<1> {
        match self.model.base_energy(x) {
            Some(base) => u - base,
            None => u,
        }
    }

    /// Reads the statistics of the walkers that moved and of the audit in one transfer, stops on a non-finite state, and
    /// resamples where ess asks for it. What is read is from before the resampling. On a GPU the device does this by itself, unless the
    /// host is to learn from acceptances.
    fn settle(&mut self, moving: Walkers, info: &StepInfo, log: bool) -> Result<Settlement, Error> {
        let rates = self.rates_to_follow(info);
        if self.is_on_gpu() && rates.is_empty() {
            return self.settle_on_device(moving, log);
        }
        let resampling = self.config.resampling.scheme.filter(|_| self.carries_weights());
        if !log && resampling.is_none() && self.audit.is_none() && rates.is_empty() {
            let weights = self.gradient_weights(&moving);
            return Ok(self.settled_by_host(moving, weights, false, None, None));
        }
        let followed = rates.len();
        let mut packed = vec![moving.stats().packed()];
        packed.extend(rates);
        packed.extend(self.audit.as_ref().map(Ensembles::stats));
        let values = ember_model::params::download(Tensor::cat(packed, 0));
        let (own, rest) = values.split_at(4);
        let (rates, rest) = rest.split_at(followed);
        self.follow(info, rates);
        let reading = self.reading(Summary::unpack(own), moving.count());
        if !reading.summary.finite {
            return Err(self.non_finite(&moving));
        }
        let threshold = self.config.resampling.ess_threshold;
        let due = resampling.filter(|_| reading.summary.ess < threshold * moving.count() as f64);
        let seen_weights = self.gradient_weights(&moving);
        let mut moved = moving;
        if let Some(scheme) = due {
            let stream = Stream::new(self.config.seed, Purpose::Resampling).at(self.step)?;
            let ancestors = resample(scheme, moved.log_weights.value(), stream);
            let log_mean_exp = reading.summary.log_mean_exp;
            moved = match self.is_partial() {
                true => moved.resampled_within(ancestors, log_mean_exp),
                false => moved.resampled(ancestors, log_mean_exp),
            };
        }
        let report_is_due = log && self.audit_report_is_due();
        let mut estimate = None;
        if let Some(audit) = &mut self.audit {
            let stats: Vec<f64> = rest.iter().map(|&v| f64::from(v)).collect();
            estimate = report_is_due.then(|| audit.log_z_from(&stats));
            audit.resample(
                resampling.unwrap_or(Scheme::Systematic),
                threshold,
                self.config.seed,
                self.step,
            )?;
        }
        self.look_at_audit(estimate, self.step + 1);
        Ok(self.settled_by_host(moved, seen_weights, due.is_some(), Some(reading), estimate))
    }

    /// The walkers that came out, which have the weights of before unless others came.
    fn settled_by_host(
        &self,
        moving: Walkers,
        seen_weights: Tensor<1>,
        resampled: bool,
        reading: Option<Reading>,
        log_z_audit: Option<Estimate>,
    ) -> Settlement {
        let weights = if resampled { self.gradient_weights(&moving) } else { seen_weights.clone() };
        let findings = Findings { reading, log_z_audit, ..Findings::default() };
        Settlement { moving, weights, seen_weights, stats: None, findings }
    }

    /// Warns once where the audit's log Z is not finite: the run goes on, for θ does not depend on the audit.
    pub(super) fn look_at_audit(&mut self, estimate: Option<Estimate>, step: u64) {
        if self.audit_is_lost || estimate.is_none_or(|estimate| estimate.value.is_finite()) {
            return;
        }
        self.audit_is_lost = true;
        let fault = self.audit.as_ref().and_then(Ensembles::fault);
        tracing::warn!(
            step,
            "the [audit] has no finite log Z: {}. Training goes on without it, and `ember eval` estimates log Z otherwise; a smaller \
             kernel.step_size keeps its walkers",
            fault.unwrap_or_else(|| "its log-weights were not finite before they were resampled".into())
        );
    }

    /// Whether the audit's next report falls to this log step: one that came due since the last log step goes into this one's line.
    pub(super) fn audit_report_is_due(&self) -> bool {
        let every = self.config.audit.as_ref().map_or(1, |audit| audit.every);
        let next = self.step + 1;
        next / every > next.saturating_sub(self.config.output.log_every) / every
    }

    /// Reads the global weights of all walkers at the current θ: a mini-batch's own weights say nothing about the others (ALGORITHMS
    /// 1.4). One pass over all walkers. A `flush` keeps it and resamples globally where ess asks for it; a log step that is none
    /// leaves the walkers as they are, so that how often a run logs changes nothing in it.
    fn look_at_all(&mut self, flush: bool) -> Result<Reading, Error> {
        let walkers = self.walkers_at_theta();
        let summary = walkers.summary();
        if !summary.finite {
            return Err(self.non_finite(&walkers));
        }
        let reading = self.reading(summary, walkers.count());
        if !flush {
            return Ok(reading);
        }
        self.flushes += 1;
        self.walkers = walkers;
        if let Some(scheme) = self.config.resampling.scheme.filter(|_| self.carries_weights())
            && summary.ess < self.config.resampling.ess_threshold * self.walkers.count() as f64
        {
            let stream = Stream::new(self.config.seed, Purpose::Resampling).lane(WALKER_LANE).at(self.step)?;
            let ancestors = resample(scheme, self.walkers.log_weights.value(), stream);
            self.walkers = self.walkers.clone().resampled(ancestors, summary.log_mean_exp);
        }
        Ok(reading)
    }

    fn reading(&self, summary: Summary, count: usize) -> Reading {
        let log_z_online = match self.log_z_is_known() {
            true => self.walkers.log_z.value() + summary.log_mean_exp,
            false => f64::NAN,
        };
        Reading { summary, count, log_z_online }
    }
}
