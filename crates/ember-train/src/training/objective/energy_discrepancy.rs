//! Energy discrepancy (Schröder, Ou, Lim, Li, Vollmer, Duncan 2023, arXiv 2307.06431): data against their own perturbations.
//!
//! `L = (1/n) Σ_i log( w/M + (1/M) Σ_m e^{U(x_i) − U(x_im)} )`, `x_im = x_i + √t ξ_i + √t ξ′_im`, all ξ normal.
//!
//! Needs values of U only, so that it is for every energy; no walkers, no log Z. As `t → 0` it becomes score matching, and is as blind to
//! the masses of modes far apart; as `t → ∞` maximum likelihood. To see masses, perturbations must reach from mode to mode (√(2t) of
//! the distance or so), and M must then be large enough that some of them land in a mode: with few the loss is that of the w-term. w keeps
//! it bounded below for finite M; with `w = 0` it is steeper and may diverge.
//!
//! Cost a row: M + 1 energies, then their gradients in θ. The gradient is of energies alone: `∂L/∂U(x_im) = −p_im/n`,
//! `p_im = e^{U(x_i) − U(x_im)} / (w + Σ_l e^{U(x_i) − U(x_il)})`, `∂L/∂U(x_i) = Σ_m p_im/n`. The walkers follow the model by the run's kernel, without
//! weights and without a part in the gradient.

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

/// Lanes of the objective's stream: ξ and ξ′.
const COMMON_LANE: u32 = 0;
const OWN_LANE: u32 = 1;

/// `{ kind = "energy_discrepancy", t, samples, w }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyDiscrepancy {
    /// t: half the variance of a perturbation.
    pub t: f64,
    /// M: perturbations of each row, 16 unless given.
    #[serde(default = "sixteen")]
    pub samples: usize,
    /// w: the weight of the term that keeps the loss bounded below, 1 unless given.
    #[serde(default = "one")]
    pub w: f64,
}

fn sixteen() -> usize {
    16
}

fn one() -> f64 {
    1.0
}

impl Objective for EnergyDiscrepancy {
    fn carries_weights(&self) -> bool {
        false
    }

    fn data_loss(&self) -> Option<&dyn DataLoss> {
        Some(self)
    }

    fn check(&self) -> Result<(), BadValue> {
        let Self { t, samples, w } = *self;
        if !(t.is_finite() && t > 0.0) {
            return Err(BadValue::new("t", format!("found {t}, expected a finite number > 0")));
        }
        if !(1..=MOST_SAMPLES).contains(&samples) {
            let message = format!("found {samples}, expected 1 to {MOST_SAMPLES}");
            return Err(BadValue::new("samples", message));
        }
        if !(w.is_finite() && w >= 0.0) {
            return Err(BadValue::new("w", format!("found {w}, expected a finite number ≥ 0")));
        }
        Ok(())
    }
}

impl DataLoss for EnergyDiscrepancy {
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
        let root = self.t.sqrt();
        let common = standard_normal([n, d], stream.lane(COMMON_LANE), &device).mul_scalar(root);
        let centres = batch.clone() + common;
        let own = standard_normal([n * m, d], stream.lane(OWN_LANE), &device).mul_scalar(root);
        in_slices(model, [n, d], m, |rows| {
            let k = rows.len();
            let x = rows_of(batch, &rows);
            let near = rows_of(&centres, &rows).reshape([k, 1, d]).expand([k, m, d]).reshape([k * m, d]);
            let perturbed = near + rows_of(&own, &(rows.start * m..rows.end * m));
            // a_im = U(x_i) − U(x_im)
            let u = model.energy(x.clone()).reshape([k, 1]);
            let a = u - model.energy(perturbed.clone()).reshape([k, m]);
            let (losses, shares) = self.contrast(a);
            let of_data = shares.clone().sum_dim(1).reshape([k]).div_scalar(n as f64);
            let of_perturbed = shares.reshape([k * m]).div_scalar(-(n as f64));
            let grads = model.weighted_param_grads(&[(x, of_data), (perturbed, of_perturbed)]).grads;
            Ok(LossGradient { grads, own: None, loss: sum(losses).div_scalar(n as f64) })
        })
    }
}

impl EnergyDiscrepancy {
    /// `log((w + Σ_m e^{a_m})/M)` of every row, `[n]`, and `p_m = e^{a_m}/(w + Σ_l e^{a_l})`. `a` and p: `[n, M]`.
    fn contrast(&self, a: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let ([n, m], device) = (a.dims(), a.device());
        let terms = match self.w > 0.0 {
            true => Tensor::cat(vec![a, Tensor::full([n, 1], self.w.ln(), &device)], 1),
            false => a,
        };
        let max = terms.clone().max_dim(1);
        let total = (terms.clone() - max.clone()).exp().sum_dim(1).log() + max;
        let shares = activation::softmax(terms, 1).narrow(1, 0, m);
        (total.reshape([n]).sub_scalar((m as f64).ln()), shares)
    }
}
