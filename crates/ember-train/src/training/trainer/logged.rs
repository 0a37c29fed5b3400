//! What the host reads at a log step: everything in one transfer.

use std::ops::Range;

use burn::tensor::Tensor;
use ember_model::params::download;
use ember_sampler::{Banked, Summary};

use super::{Reading, Trainer, UpdateInfo};
use crate::error::Error;
use ember_sampler::evidence::Ensembles;
use ember_sampler::statistics::{Estimate, log_mean_z};

/// The numbers of a metric line that the device has.
#[derive(Clone, Debug)]
pub struct Logged {
    /// Mean `U` of the batch.
    pub energy_data: f64,
    /// `Σ W_i U_i` of the walkers; NaN where there is none.
    pub energy_walkers: f64,
    /// The loss, where the objective minimises one of the data alone.
    pub loss: Option<f64>,
    /// The numbers that the objective trains beside θ, after the update; none where there are none.
    pub own_numbers: Vec<f64>,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// The fraction of the optimiser's step that was made, where it is limited.
    pub step_scale: Option<f64>,
    /// Accepted proposals of the last kernel step, where the kernel rejects.
    pub accept_rate: Option<f64>,
    /// Walkers that a flow's proposal moved, where one proposed.
    pub global_accept_rate: Option<f64>,
    /// Walkers whose nearest mode changed, where the modes are known.
    pub jump_rate: Option<f64>,
    /// Resamplings so far.
    pub resamplings: u64,
    /// Starting walkers still represented; exact up to 2²⁴.
    pub distinct_ancestors: u64,
}

/// What settling the walkers found.
#[derive(Default)]
pub(super) struct Findings {
    /// What was read of the walkers, before resampling.
    pub reading: Option<Reading>,
    /// `log Z` by the audit.
    pub log_z_audit: Option<Estimate>,
    /// What a log step has still to read.
    pub unread: Unread,
}

/// Statistics that a GPU has and the host has not read, each with the bank that it belongs to.
#[derive(Default)]
pub(super) struct Unread {
    /// Of the walkers that moved.
    pub walkers: Option<UnreadWalkers>,
    /// ess and `log_mean_exp` of the audit's repeats, `[2R]`, before a resampling.
    pub audit: Option<(Tensor<1>, Banked)>,
}

/// Statistics of walkers before a resampling, and `log Z` banked then.
pub(super) struct UnreadWalkers {
    /// As `WeightStats::packed`, `[4]`.
    pub stats: Tensor<1>,
    pub bank: Banked,
    pub count: usize,
}

/// Small tensors that are read together.
#[derive(Default)]
struct OneRead {
    tensors: Vec<Tensor<1>>,
    len: usize,
}

impl OneRead {
    /// Where the tensor's numbers will be.
    fn add(&mut self, tensor: Tensor<1>) -> Range<usize> {
        let start = self.len;
        self.len += tensor.dims()[0];
        self.tensors.push(tensor);
        start..self.len
    }

    fn add_some(&mut self, tensor: Option<Tensor<1>>) -> Option<Range<usize>> {
        tensor.map(|tensor| self.add(tensor))
    }
}

impl Trainer {
    /// Reads what a log step says, in one transfer; on a GPU also whether all was well since the last one.
    ///
    /// # Errors
    /// What the alarm of a GPU says; walkers that are not finite.
    pub(super) fn read(&mut self, info: UpdateInfo, findings: Findings) -> Result<UpdateInfo, Error> {
        let Findings { mut reading, mut log_z_audit, unread } = findings;
        let mut all = OneRead::default();
        let energy_data = all.add_some(info.energy_data.clone());
        let energy_walkers = all.add_some(info.energy_walkers.clone());
        let loss = all.add_some(info.loss.clone());
        let own = all.add_some(self.own.as_ref().map(|own| own.values.clone()));
        let grad_norm = all.add(info.grad_norm.clone());
        let rate_factor = all.add_some(info.rate_factor.clone());
        let step_scale = all.add_some(info.step_scale.clone());
        let accept_rate = all.add_some(info.moves.accept_rate.clone());
        let global_accept_rate = all.add_some(info.moves.global_accept_rate.clone());
        let jumps = all.add_some(info.jumps.clone());
        let distinct = all.add(self.walkers.represented());
        let counter = all.add_some(self.walkers.resamplings.packed());
        let alarm = all.add_some(self.alarm.clone());
        let walkers = unread.walkers.map(|unread| {
            let stats = all.add(unread.stats);
            (stats, all.add_some(unread.bank.packed()), unread.bank, unread.count)
        });
        let audit = unread.audit.map(|(stats, banks)| {
            let stats = all.add(stats);
            (stats, all.add_some(banks.packed()), banks)
        });

        let read = download(Tensor::cat(all.tensors, 0));
        let slice = |range: Option<Range<usize>>| range.map_or(&[][..], |range| &read[range]);
        #[cfg(feature = "wgpu")]
        if let Some(alarm) = alarm {
            self.heard(&read[alarm])?;
        }
        #[cfg(not(feature = "wgpu"))]
        let _ = alarm;
        if let Some((stats, bank, banked, count)) = walkers {
            let summary = Summary::unpack(&read[stats]);
            if !summary.finite {
                return Err(self.non_finite(&self.walkers));
            }
            let log_z_online = match self.log_z_is_known() {
                true => banked.resolve(slice(bank))[0] + summary.log_mean_exp,
                false => f64::NAN,
            };
            reading = Some(Reading { summary, count, log_z_online });
        }
        if let Some((stats, bank, banks)) = audit {
            let stats: Vec<f64> = read[stats].iter().map(|&v| f64::from(v)).collect();
            log_z_audit = Some(log_mean_z(&Ensembles::repeats_of(&banks.resolve(slice(bank)), &stats)));
            self.look_at_audit(log_z_audit, self.step);
        }
        let one = |range: Option<Range<usize>>| range.map(|range| f64::from(read[range.start]));
        let logged = Logged {
            energy_data: one(energy_data).unwrap_or(f64::NAN),
            energy_walkers: one(energy_walkers).unwrap_or(f64::NAN),
            loss: one(loss),
            own_numbers: slice(own).iter().map(|&value| f64::from(value)).collect(),
            grad_norm: f64::from(read[grad_norm.start]),
            step_scale: one(step_scale),
            accept_rate: one(accept_rate),
            global_accept_rate: one(global_accept_rate),
            jump_rate: one(jumps),
            resamplings: self.walkers.resamplings.resolve(slice(counter)),
            distinct_ancestors: read[distinct.start] as u64,
        };
        let learning_rate = info.learning_rate * one(rate_factor).unwrap_or(1.0);
        Ok(UpdateInfo { learning_rate, reading, log_z_audit, logged: Some(logged), ..info })
    }
}
