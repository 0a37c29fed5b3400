//! Numbers of a population that outlive a resampling: the banked `log Z` and the count of resamplings.
//!
//! They live where the decision to resample is made. On a processor that is the host, and they are plain numbers. On a GPU the
//! decision is a kernel's, and they are small tensors that nobody reads until a log step or a checkpoint asks: reading is explicit,
//! [`Banked::values`] and [`Counter::read`], or part of a transfer of the caller's, `packed` and `resolve`.

use burn::tensor::{Device, Tensor};
use ember_model::params::{download, upload};

use crate::device;

/// What the low word of a counter on a device counts to before it carries: far below `2²⁴`, where `f32` counts no further.
pub(crate) const CARRY: u64 = 1 << 20;

/// `log Z` gained at resamplings, plus `log Z_{θ_0}`: one number for each independent group of a population.
///
/// A GPU holds each as an unevaluated sum `hi + lo` of two floats, of 48 bits or more, whose value in `f64` is exact: to a file and back
/// is the same pair.
#[derive(Clone, Debug)]
pub struct Banked(Bank);

// One or two of a population.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
enum Bank {
    Host(Vec<f64>),
    /// `[2R]`: every `hi`, then every `lo`; and whether all were finite at the start.
    Device(Tensor<1>, bool),
}

impl Banked {
    /// These numbers, where walkers on `device` need them.
    pub fn new(values: Vec<f64>, device: &Device) -> Self {
        if !device::is_gpu(device) {
            return Self(Bank::Host(values));
        }
        let known = values.iter().all(|value| value.is_finite());
        let hi = values.iter().map(|&value| value as f32);
        let lo = values.iter().map(|&value| match (value as f32).is_finite() {
            true => (value - f64::from(value as f32)) as f32,
            false => 0.0,
        });
        Self(Bank::Device(upload(hi.chain(lo).collect(), device), known))
    }

    /// Groups R.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match &self.0 {
            Bank::Host(values) => values.len(),
            Bank::Device(pairs, _) => pairs.dims()[0] / 2,
        }
    }

    /// Whether the start's `log Z` was known, so that these mean something. No read.
    pub fn is_known(&self) -> bool {
        match &self.0 {
            Bank::Host(values) => values.iter().all(|value| value.is_finite()),
            Bank::Device(_, known) => *known,
        }
    }

    /// All numbers, `[R]`. One read on a GPU.
    pub fn values(&self) -> Vec<f64> {
        match self.packed() {
            Some(pairs) => self.resolve(&download(pairs)),
            None => self.resolve(&[]),
        }
    }

    /// The number of a population of one group. One read on a GPU.
    pub fn value(&self) -> f64 {
        self.values()[0]
    }

    /// What a GPU holds, `[2R]`, for a read shared with other small tensors; `None` where the host has the numbers.
    pub fn packed(&self) -> Option<Tensor<1>> {
        match &self.0 {
            Bank::Host(_) => None,
            Bank::Device(pairs, _) => Some(pairs.clone()),
        }
    }

    /// The numbers from what was read of [`Banked::packed`]; those of the host need nothing.
    pub fn resolve(&self, read: &[f32]) -> Vec<f64> {
        match &self.0 {
            Bank::Host(values) => values.clone(),
            Bank::Device(..) => {
                let (hi, lo) = read.split_at(self.len());
                hi.iter().zip(lo).map(|(&hi, &lo)| f64::from(hi) + f64::from(lo)).collect()
            }
        }
    }

    /// Adds what the host knows, `[R]`. One read on a GPU.
    pub(crate) fn plus(self, gains: &[f64]) -> Self {
        let values = self.values().iter().zip(gains).map(|(value, gain)| value + gain).collect();
        match self.0 {
            Bank::Host(_) => Self(Bank::Host(values)),
            Bank::Device(pairs, _) => Self::new(values, &pairs.device()),
        }
    }

    /// The same groups after a kernel has added to them.
    #[cfg(feature = "wgpu")]
    pub(crate) fn moved(&self, pairs: Tensor<1>) -> Self {
        Self(Bank::Device(pairs, self.is_known()))
    }
}

/// Resamplings so far.
#[derive(Clone, Debug)]
pub struct Counter(Count);

// One of a population.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
enum Count {
    Host(u64),
    /// `[2]`: ones below [`CARRY`], and how often they carried; both exact.
    Device(Tensor<1>),
}

impl Counter {
    /// This many, where walkers on `device` need it.
    pub fn new(count: u64, device: &Device) -> Self {
        if !device::is_gpu(device) {
            return Self(Count::Host(count));
        }
        let words = vec![(count % CARRY) as f32, (count / CARRY) as f32];
        Self(Count::Device(upload(words, device)))
    }

    /// The number. One read on a GPU.
    pub fn read(&self) -> u64 {
        match self.packed() {
            Some(words) => self.resolve(&download(words)),
            None => self.resolve(&[]),
        }
    }

    /// What a GPU holds, `[2]`, for a read shared with other small tensors; `None` where the host has the number.
    pub fn packed(&self) -> Option<Tensor<1>> {
        match &self.0 {
            Count::Host(_) => None,
            Count::Device(words) => Some(words.clone()),
        }
    }

    /// The number from what was read of [`Counter::packed`]; that of the host needs nothing.
    pub fn resolve(&self, read: &[f32]) -> u64 {
        match &self.0 {
            Count::Host(count) => *count,
            Count::Device(_) => read[0] as u64 + read[1] as u64 * CARRY,
        }
    }

    /// One more, on the word of the host. One read on a GPU.
    pub(crate) fn next(&self) -> Self {
        match &self.0 {
            Count::Host(count) => Self(Count::Host(count + 1)),
            Count::Device(words) => Self::new(self.read() + 1, &words.device()),
        }
    }

    /// The same counter after a kernel has counted.
    #[cfg(feature = "wgpu")]
    pub(crate) fn moved(words: Tensor<1>) -> Self {
        Self(Count::Device(words))
    }
}
