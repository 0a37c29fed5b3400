//! The population of walkers: plain data, off the tape.

use std::ops::Range;

use burn::tensor::{Int, Tensor};
use ember_model::Energy;

use crate::banked::{Banked, Counter};
use crate::weights::{LogWeights, normalised};

/// N walkers with the energy and gradient of the θ last passed in, and the log-weights earned since the last resampling.
#[derive(Clone, Debug)]
pub struct Walkers {
    /// X, `[walkers, dim]`.
    pub position: Tensor<2>,
    /// `U_θ(X)`, `[walkers]`.
    pub energy: Tensor<1>,
    /// `∇ₓU_θ(X)`, `[walkers, dim]`.
    pub energy_grad: Tensor<2>,
    /// A, `[walkers]`, compensated.
    pub log_weights: LogWeights,
    /// Index of the starting walker each walker descends from, `[walkers]`.
    pub ancestor: Tensor<1, Int>,
    /// `log Z` gained at resamplings, plus `log Z_{θ_0}`: the running estimate is `log_z + log_mean_exp(A)`.
    pub log_z: Banked,
    /// Resamplings so far.
    pub resamplings: Counter,
}

impl Walkers {
    /// Walkers at `position` `[walkers, dim]` with equal weights. `log_z` is `log Z` of the law they were drawn from.
    pub fn new(energy: &dyn Energy, position: Tensor<2>, log_z: f64) -> Self {
        let [n, _] = position.dims();
        let device = position.device();
        let (u, grad) = energy.energy_and_grad(position.clone());
        Self {
            position,
            log_weights: LogWeights::zeros(&u),
            energy: u,
            energy_grad: grad,
            ancestor: Tensor::arange(0..n as i64, &device),
            log_z: Banked::new(vec![log_z], &device),
            resamplings: Counter::new(0, &device),
        }
    }

    /// Number of walkers N.
    pub fn count(&self) -> usize {
        self.position.dims()[0]
    }

    /// Coordinates of one walker.
    pub fn dim(&self) -> usize {
        self.position.dims()[1]
    }

    /// `W = softmax(A)`, `[walkers]`.
    pub fn weights(&self) -> Tensor<1> {
        normalised(self.log_weights.value())
    }

    /// Brings cached energies to the energy passed in and earns the weight of the change of θ at fixed positions:
    /// `A += U_{θ_k}(X) − U_{θ_{k+1}}(X)` (ALGORITHMS 1.2). One gradient evaluation.
    pub fn reweight(self, energy: &dyn Energy) -> Self {
        let (u, grad) = energy.energy_and_grad(self.position.clone());
        let log_weights = self.log_weights.accumulate(self.energy - u.clone());
        Self { energy: u, energy_grad: grad, log_weights, ..self }
    }

    /// Brings cached energies to the energy passed in *without* weights: for objectives that carry none.
    pub fn refresh(self, energy: &dyn Energy) -> Self {
        let (u, grad) = energy.energy_and_grad(self.position.clone());
        Self { energy: u, energy_grad: grad, ..self }
    }

    /// The same walkers with equal weights, for objectives that carry none.
    pub fn unweighted(self) -> Self {
        Self { log_weights: LogWeights::zeros(&self.energy), ..self }
    }

    /// Replaces the population by `ancestors` (indices into it, `[walkers]`) and banks the mean weight:
    /// `log_z += log_mean_exp(A)`, `A = 0`.
    pub fn resampled(self, ancestors: Tensor<1, Int>, log_mean_exp: f64) -> Self {
        let energy = self.energy.select(0, ancestors.clone());
        Self {
            position: self.position.select(0, ancestors.clone()),
            log_weights: LogWeights::zeros(&energy),
            energy,
            energy_grad: self.energy_grad.select(0, ancestors.clone()),
            ancestor: self.ancestor.select(0, ancestors),
            log_z: self.log_z.plus(&[log_mean_exp]),
            resamplings: self.resamplings.next(),
        }
    }

    /// Replaces a mini-batch of walkers by `ancestors` (indices into it, `[walkers]`) and gives each the batch's mean weight:
    /// `A = log_mean_exp(A)`, not 0, for the walkers outside the batch keep theirs (ALGORITHMS 1.4).
    pub fn resampled_within(self, ancestors: Tensor<1, Int>, log_mean_exp: f64) -> Self {
        let log_z = self.log_z.clone();
        let walkers = self.resampled(ancestors, 0.0);
        Self { log_weights: LogWeights::constant(&walkers.energy, log_mean_exp), log_z, ..walkers }
    }

    /// The walkers of `range`, as a population of their own.
    pub fn narrow(&self, range: Range<usize>) -> Self {
        let (start, len) = (range.start, range.len());
        Self {
            position: self.position.clone().narrow(0, start, len),
            energy: self.energy.clone().narrow(0, start, len),
            energy_grad: self.energy_grad.clone().narrow(0, start, len),
            log_weights: self.log_weights.map(|part| part.narrow(0, start, len)),
            ancestor: self.ancestor.clone().narrow(0, start, len),
            log_z: self.log_z.clone(),
            resamplings: self.resamplings.clone(),
        }
    }

    /// The population with the walkers from `start` on replaced by `batch`, and its count of resamplings. `log_z` stays.
    pub fn with_batch(self, start: usize, batch: Self) -> Self {
        let rows = start..start + batch.count();
        let columns = 0..self.dim();
        let merge = |whole: Tensor<1>, part: Tensor<1>| whole.slice_assign([rows.clone()], part);
        Self {
            position: self.position.slice_assign([rows.clone(), columns.clone()], batch.position),
            energy: merge(self.energy, batch.energy),
            energy_grad: self.energy_grad.slice_assign([rows.clone(), columns], batch.energy_grad),
            log_weights: self.log_weights.zip(batch.log_weights, merge),
            ancestor: self.ancestor.slice_assign([rows], batch.ancestor),
            log_z: self.log_z,
            resamplings: batch.resamplings,
        }
    }

    /// The same walkers in another order: `order` `[walkers]` is a permutation.
    pub fn permuted(self, order: Tensor<1, Int>) -> Self {
        Self {
            position: self.position.select(0, order.clone()),
            energy: self.energy.select(0, order.clone()),
            energy_grad: self.energy_grad.select(0, order.clone()),
            log_weights: self.log_weights.map(|part| part.select(0, order.clone())),
            ancestor: self.ancestor.select(0, order.clone()),
            ..self
        }
    }

    /// Whether kernels of ours serve this population.
    #[cfg(feature = "wgpu")]
    pub(crate) fn is_on_gpu(&self) -> bool {
        crate::device::is_gpu(&self.position.device())
    }

    /// Starting walkers still represented, `[1]`, for a read shared with other small tensors; exact up to 2²⁴.
    pub fn represented(&self) -> Tensor<1> {
        crate::device::distinct(self.ancestor.clone(), self.count()).float()
    }

    /// Starting walkers still represented. One read.
    pub fn distinct_ancestors(&self) -> usize {
        let count = crate::device::distinct(self.ancestor.clone(), self.count());
        count.into_data().iter::<i64>().next().unwrap_or(0) as usize
    }

    /// Indices of walkers whose energy or gradient is not finite. Reads the whole population: only for error messages.
    pub fn non_finite(&self) -> Vec<usize> {
        let dim = self.dim();
        let energy = ember_model::params::download(self.energy.clone());
        let grad = ember_model::params::download(self.energy_grad.clone());
        let log_weights = ember_model::params::download(self.log_weights.value());
        energy
            .iter()
            .zip(grad.chunks_exact(dim))
            .zip(&log_weights)
            .enumerate()
            .filter(|(_, ((u, grad), a))| {
                !(u.is_finite() && a.is_finite() && grad.iter().all(|g| g.is_finite()))
            })
            .map(|(i, _)| i)
            .collect()
    }
}
