//! Conditional noise-contrastive estimation (Ceylan and Gutmann 2018, ICML; eq. 9 to 12): data against their own perturbations.
//!
//! `J = (2/(nM)) Σ_i Σ_m log(1 + e^{−(U(x_im) − U(x_i))})`, `x_im = x_i + σ z_im`, z normal: which of the two is the datum? The density of
//! the perturbation is symmetric and cancels, and so does log Z.
//!
//! Needs values of U only, so that it is for every energy; no walkers, no log Z. As `σ → 0` it becomes score matching (`J − 2 log 2` is
//! `σ²/2` times that loss, to leading order), and is as blind to the masses of modes far apart: σ must be of the size of their distance.
//! With a σ far beyond it every perturbation is told from a datum at a glance, and little is learned.
//!
//! Cost a row: M + 1 energies, then their gradients in θ. `∂J/∂U(x_im) = −2 σ(U(x_i) − U(x_im))/(nM)` (σ the logistic function here),
//! `∂J/∂U(x_i)` the sum of these over m with the other sign.

use burn::tensor::{Tensor, activation};
use ember_model::random::Stream;
use ember_model::reduce::sum;
use ember_model::{Energy, EnergyModel};
use ember_sampler::device::standard_normal;
use ember_sampler::kernel::BadValue;
use serde::{Deserialize, Serialize};

use super::Objective;
use super::data_loss::{DataLoss, LossGradient, in_slices, rows_of};
use crate::error::Error;

/// Perturbations of a row, at most.
const MOST_SAMPLES: usize = 1 << 16;

/// Lane of the objective's stream.
const NOISE_LANE: u32 = 0;

/// `{ kind = "conditional_nce", sigma, samples }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionalNce {
    /// σ: the standard deviation of a perturbation.
    pub sigma: f64,
    /// M: perturbations of each row, 8 unless given.
    #[serde(default = "eight")]
    pub samples: usize,
}

fn eight() -> usize {
    8
}

impl Objective for ConditionalNce {
    fn carries_weights(&self) -> bool {
        false
    }

    fn data_loss(&self) -> Option<&dyn DataLoss> {
        Some(self)
    }

    fn check(&self) -> Result<(), BadValue> {
        let Self { sigma, samples } = *self;
        if !(sigma.is_finite() && sigma > 0.0) {
            return Err(BadValue::new("sigma", format!("found {sigma}, expected a finite number > 0")));
        }
        if !(1..=MOST_SAMPLES).contains(&samples) {
            let message = format!("found {samples}, expected 1 to {MOST_SAMPLES}");
            return Err(BadValue::new("samples", message));
        }
        Ok(())
    }
}

impl DataLoss for ConditionalNce {
    fn evaluations(&self, _dim: usize, _levels: usize) -> u64 {
        1 + self.samples as u64
    }

    fn copies(&self, _levels: usize) -> usize {
        self.samples
    }

    fn gradient(
        &self,
        model: &EnergyModel,
        _own: Option<&Tensor<1>>,
        batch: &Tensor<2>,
        stream: Stream,
    ) -> Result<LossGradient, Error> {
        let ([n, d], m, device) = (batch.dims(), self.samples, batch.device());
        let pairs = (n * m) as f64;
        let noise = standard_normal([n * m, d], stream.lane(NOISE_LANE), &device).mul_scalar(self.sigma);
        in_slices(model, [n, d], m, |rows| {
            let k = rows.len();
            let x = rows_of(batch, &rows);
            let near = x.clone().reshape([k, 1, d]).expand([k, m, d]).reshape([k * m, d]);
            let perturbed = near + rows_of(&noise, &(rows.start * m..rows.end * m));
            // a_im = U(x_i) − U(x_im)
            let u = model.energy(x.clone()).reshape([k, 1]);
            let a = u - model.energy(perturbed.clone()).reshape([k, m]);
            let loss =
                sum(activation::log_sigmoid(a.clone().neg()).reshape([k * m])).mul_scalar(-2.0 / pairs);
            let shares = activation::sigmoid(a).mul_scalar(2.0 / pairs);
            let of_data = shares.clone().sum_dim(1).reshape([k]);
            let of_perturbed = shares.reshape([k * m]).neg();
            let grads = model.weighted_param_grads(&[(x, of_data), (perturbed, of_perturbed)]).grads;
            Ok(LossGradient { grads, own: None, loss })
        })
    }
}
