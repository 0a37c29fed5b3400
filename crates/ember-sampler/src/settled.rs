//! A population settled after its moves: statistics, the decision to resample, the resampling and the weights of what comes out.
//!
//! On a processor the host decides, as it always did, from the statistics it reads. On a GPU the statistics are a kernel's, the next
//! kernels look at them and resample or leave the walkers in place, and the host neither waits nor knows: at most 4 launches for
//! statistics, decision, ancestors, gather, bank and weights (`device/cube/settle/`). Both take the same decision from the same
//! statistics, `ess < threshold · N`, and the same ancestors from the same log-weights, to the bit.

use burn::tensor::{Bool, Int, Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::Stream;

use crate::banked::Banked;
#[cfg(feature = "wgpu")]
use crate::device;
use crate::resampling::{Scheme, resample};
use crate::walkers::Walkers;
use crate::weights::{Summary, WeightStats, grouped_stats};

/// What settling a population found.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Statistics of the walkers as they came: of before any resampling.
    pub stats: WeightStats,
    /// `W` of the walkers that are returned, `[walkers]`.
    pub weights: Tensor<1>,
    /// `W` of the walkers *as they came*, `[walkers]`: a mean under these has no larger variance than one over the walkers returned, whose
    /// resampling only adds noise (Rao and Blackwell), and an evaluation made before the resampling serves it.
    pub weights_before: Tensor<1>,
    was_resampled: Option<bool>,
}

impl Settled {
    /// Whether walkers were replaced; `None` where only the device knows.
    pub fn was_resampled(&self) -> Option<bool> {
        self.was_resampled
    }
}

impl Walkers {
    /// ess, mean weight, mean energy and health, still on the device.
    pub fn stats(&self) -> WeightStats {
        #[cfg(feature = "wgpu")]
        if self.is_on_gpu() {
            return device::settle::weigh(self).0;
        }
        let square = (self.energy_grad.clone() * self.energy_grad.clone()).sum_dim(1).squeeze_dim::<1>(1);
        WeightStats::new(self.log_weights.value(), self.energy.clone(), square)
    }

    /// [`Walkers::stats`] in host memory: the one read of an update.
    pub fn summary(&self) -> Summary {
        self.stats().read()
    }

    /// Statistics and normalised weights, and no resampling: [`Walkers::stats`] and [`Walkers::weights`] in two launches on a GPU.
    pub fn weighed(&self) -> (WeightStats, Tensor<1>) {
        #[cfg(feature = "wgpu")]
        if self.is_on_gpu() {
            return device::settle::weigh(self);
        }
        (self.stats(), self.weights())
    }

    /// Resamples the population by `scheme` where its ess is below `threshold · N` and its statistics are finite, and banks the mean
    /// weight: [`resample`] and [`Walkers::resampled`], decided where the walkers are.
    ///
    /// The caller reads [`Settled::stats`] when it likes; a population that is not finite comes back as it was.
    pub fn settled(self, scheme: Scheme, threshold: f64, stream: Stream) -> (Self, Settled) {
        self.settle(scheme, threshold, stream, false)
    }

    /// The same of a mini-batch of walkers, which keeps its mean weight: [`Walkers::resampled_within`].
    pub fn settled_within(self, scheme: Scheme, threshold: f64, stream: Stream) -> (Self, Settled) {
        self.settle(scheme, threshold, stream, true)
    }

    fn settle(self, scheme: Scheme, threshold: f64, stream: Stream, within: bool) -> (Self, Settled) {
        #[cfg(feature = "wgpu")]
        if self.is_on_gpu() {
            let (walkers, stats, weights, before) =
                device::settle::settle(self, scheme, threshold, stream, within);
            return (walkers, Settled { stats, weights, weights_before: before, was_resampled: None });
        }
        let stats = self.stats();
        let Summary { ess, log_mean_exp, finite, .. } = stats.clone().read();
        let due = finite && ess < threshold * self.count() as f64;
        let weights_before = self.weights();
        let walkers = match due {
            false => self,
            true => {
                let ancestors = resample(scheme, self.log_weights.value(), stream);
                match within {
                    true => self.resampled_within(ancestors, log_mean_exp),
                    false => self.resampled(ancestors, log_mean_exp),
                }
            }
        };
        let weights = if due { walkers.weights() } else { weights_before.clone() };
        (walkers, Settled { stats, weights, weights_before, was_resampled: Some(due) })
    }

    /// Settles R equal consecutive groups of walkers, each a population of its own with its own bank: group `r` is resampled with
    /// the stream of lane `first_lane + r` where its ess is below `threshold · M`. The walkers' own `log_z` is not used, and the
    /// counter counts calls that resampled any group.
    ///
    /// → the walkers, the banks, and ess and `log_mean_exp` of every group before, `[2R]`, ess first.
    ///
    /// # Panics
    /// If the groups of `log_z` do not divide the walkers.
    pub fn settled_groups(
        self,
        log_z: Banked,
        scheme: Scheme,
        threshold: f64,
        stream: Stream,
        first_lane: u32,
    ) -> (Self, Banked, Tensor<1>) {
        let (groups, count) = (log_z.len(), self.count());
        assert!(groups > 0 && count % groups == 0, "{count} walkers in {groups} groups");
        #[cfg(feature = "wgpu")]
        if self.is_on_gpu() {
            return device::settle::settle_groups(self, log_z, scheme, threshold, stream.lane(first_lane));
        }
        let stats = grouped_stats(self.log_weights.value(), groups);
        let read: Vec<f64> = download(stats.clone()).into_iter().map(f64::from).collect();
        let (ess, log_mean_exp) = read.split_at(groups);
        let due: Vec<bool> = ess.iter().map(|&ess| ess < threshold * (count / groups) as f64).collect();
        let streams = (0..groups as u32).map(|r| stream.lane(first_lane + r));
        let walkers = self.resampled_groups(&due, scheme, streams);
        // x + (−0) is x, the zeros included.
        let gains = log_mean_exp.iter().zip(&due).map(|(&gain, &due)| if due { gain } else { -0.0 });
        (walkers, log_z.plus(&gains.collect::<Vec<f64>>()), stats)
    }

    /// Resamples the groups that are `due`, each with its stream; the others keep walkers and log-weights.
    fn resampled_groups(self, due: &[bool], scheme: Scheme, streams: impl Iterator<Item = Stream>) -> Self {
        if !due.contains(&true) {
            return self;
        }
        let size = self.count() / due.len();
        let device = self.position.device();
        let log_weights = self.log_weights.value();
        let mut ancestors = Vec::new();
        for (r, (&due, stream)) in due.iter().zip(streams).enumerate() {
            let first = r * size;
            if due {
                let slice = log_weights.clone().narrow(0, first, size);
                ancestors.push(resample(scheme, slice, stream).add_scalar(first as i64));
            } else {
                ancestors.push(Tensor::<1, Int>::arange(first as i64..(first + size) as i64, &device));
            }
        }
        let ancestors = Tensor::cat(ancestors, 0);
        let replaced: Vec<bool> = due.iter().flat_map(|&due| std::iter::repeat_n(due, size)).collect();
        let replaced = Tensor::<1, Bool>::from_data(TensorData::new(replaced, [self.count()]), &device);
        // Groups that were not due keep their log-weights: they kept their walkers in place. A mask, for −∞·0 is NaN.
        let log_weights = self.log_weights.map(|part| part.mask_fill(replaced.clone(), 0.0));
        Self { log_weights, ..self.resampled(ancestors, 0.0) }
    }
}
