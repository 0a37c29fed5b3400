//! Noise-contrastive estimation (Gutmann and Hyvärinen 2010; 2012, JMLR 13): data are told from noise whose density is known.
//!
//! `G(x) = −U(x) − c − log p_n(x) − log ν`, `J = −(1/n) Σ_i log σ(G(x_i)) − (1/n) Σ_j log σ(−G(y_j))`: n data x, νn draws y of `p_n`.
//!
//! c is a parameter beside θ. At the minimum `e^{−U−c}` is the data's density, so that c estimates log Z of U as it stands, with no walker:
//! with U right and fixed its variance is `(1/n)(1/I − 1 − 1/ν)`, `I = ∫ p ν p_n/(p + ν p_n)` (2012, Theorem 3). Energies of the registry
//! have no free additive constant (the last bias of a network and the first logit of a mixture are frozen); with one, only `U + c` is
//! learned, and c is still log Z of that U.
//!
//! Needs values of U only, so that it is for every energy; modes and their masses are seen wherever the noise is. It fails where noise is
//! told from data at a glance: σ(G) is then 0 or 1 and nothing is learned. A Gaussian of the data's mean and covariance is near them in a
//! few dimensions; images want a flow. `p_n` is fixed, but a flow with `flow_learning_rate` follows: it *raises* J, towards noise that
//! is harder to tell (Gao and others 2020, flow contrastive estimation).
//!
//! Cost a row: 1 + ν energies, then their gradients in θ. `∂J/∂U(x_i) = σ(−G)/n`, `∂J/∂U(y_j) = −σ(G)/n`, `∂J/∂c` their sum.

use burn::tensor::{Tensor, activation};
use ember_model::flow::standard_normal as log_standard_normal;
use ember_model::params::download;
use ember_model::random::Stream;
use ember_model::reduce::sum;
use ember_model::{Energy, EnergyConfig, EnergyModel};
use ember_sampler::FlowProposal;
use ember_sampler::device::standard_normal;
use ember_sampler::kernel::BadValue;
use ember_sampler::weights::grouped_stats;
use serde::{Deserialize, Serialize};

use super::Objective;
use super::data_loss::{DataLoss, Given, LossGradient, NoiseFlow, in_slices, rows_of, rowwise};
use super::noise_law::{GaussianLaw, NoiseLaw};
use crate::dataset::gaussian_fit::GaussianFit;
use crate::error::Error;

/// Draws of noise for each row of data, at most.
const MOST: f64 = 65_536.0;
/// Draws that the first c is estimated from.
const STARTS: usize = 256;

/// Lanes of the objective's stream: noise of the gradient, noise of the start.
const NOISE_LANE: u32 = 0;
const START_LANE: u32 = 1;

/// Which law the noise has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseKind {
    /// A Gaussian of the training data's mean and covariance (with their noise, and a ridge of 10⁻³ of the mean variance).
    #[default]
    Gaussian,
    /// A flow.
    Flow,
}

/// `{ kind = "noise_contrastive", noise, flow, flow_learning_rate, ratio, log_z_learning_rate_scale }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseContrastive {
    /// The law of the noise, "gaussian" unless given.
    #[serde(default)]
    pub noise: NoiseKind,
    /// The flow: a run or weight file, or its table, to be fitted to the data by `[pretrain]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<EnergyConfig>,
    /// Where the flow came from, once its path was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_from: Option<String>,
    /// Adam's learning rate for the flow, which then raises J; it is fixed unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_learning_rate: Option<f64>,
    /// ν: draws of noise for each row of data, 1 unless given.
    #[serde(default = "one")]
    pub ratio: f64,
    /// c moves at this times the learning rate, 1 unless given. c has to follow log Z of an energy that moves: Adam takes steps of the
    /// learning rate itself, too short for it early in the training of a network.
    #[serde(default = "one")]
    pub log_z_learning_rate_scale: f64,
}

fn one() -> f64 {
    1.0
}

impl Objective for NoiseContrastive {
    fn carries_weights(&self) -> bool {
        false
    }

    fn data_loss(&self) -> Option<&dyn DataLoss> {
        Some(self)
    }

    fn check(&self) -> Result<(), BadValue> {
        let ratio = self.ratio;
        if !(ratio > 0.0 && ratio <= MOST) {
            return Err(BadValue::new(
                "ratio",
                format!("found {ratio}, expected a number > 0, at most {MOST}"),
            ));
        }
        let scale = self.log_z_learning_rate_scale;
        if !(scale.is_finite() && scale > 0.0) {
            let message = format!("found {scale}, expected a finite number > 0");
            return Err(BadValue::new("log_z_learning_rate_scale", message));
        }
        let only = |key, found: bool| match found && self.noise == NoiseKind::Gaussian {
            true => Err(BadValue::new(key, "it belongs to noise = \"flow\": set that, or leave this out")),
            false => Ok(()),
        };
        only("flow", self.flow.is_some())?;
        only("flow_learning_rate", self.flow_learning_rate.is_some())?;
        if self.noise == NoiseKind::Flow && self.flow.is_none() {
            let message = "missing: the flow that the noise is drawn from, a run such as \"runs/moons_realnvp-seed0\", or a table such \
                           as { kind = \"real_nvp\", layers = 6, hidden = [64, 64] }";
            return Err(BadValue::new("flow", message));
        }
        match self.flow_learning_rate {
            Some(rate) if !(rate.is_finite() && rate > 0.0) => Err(BadValue::new(
                "flow_learning_rate",
                format!("found {rate}, expected a finite number > 0"),
            )),
            _ => Ok(()),
        }
    }
}

impl DataLoss for NoiseContrastive {
    fn evaluations(&self, _dim: usize, _levels: usize) -> u64 {
        1 + self.ratio.ceil() as u64
    }

    fn copies(&self, _levels: usize) -> usize {
        1 + self.ratio.ceil() as usize
    }

    fn check_batch(&self, rows: usize) -> Result<(), BadValue> {
        match self.draws(rows) {
            0 => {
                let message =
                    format!("{} × {rows} rows of a batch is less than one draw of noise", self.ratio);
                Err(BadValue::new("ratio", message))
            }
            _ => Ok(()),
        }
    }

    fn own_numbers(&self, _levels: usize) -> usize {
        1
    }

    fn own_learning_rate_scale(&self) -> f64 {
        self.log_z_learning_rate_scale
    }

    fn learned_log_z(&self) -> Option<usize> {
        Some(0)
    }

    fn noise_flow(&self) -> Option<NoiseFlow<'_>> {
        let table = self.flow.as_ref()?;
        Some(NoiseFlow { table, from: self.flow_from.as_deref(), learning_rate: self.flow_learning_rate })
    }

    fn fitted(&self, given: Given<'_>) -> Result<Option<Box<dyn DataLoss>>, Error> {
        let noise = match given.flow.map(FlowProposal::of) {
            Some(flow) => {
                NoiseLaw::Flow(Box::new(flow.ok_or_else(|| Error::usage("objective.flow: no flow"))?))
            }
            None => {
                let fit = GaussianFit::of_noisy(given.data, given.augmentation)?;
                NoiseLaw::Gaussian(Box::new(GaussianLaw::new(&fit, given.device)))
            }
        };
        Ok(Some(Box::new(Contrast { objective: self.clone(), noise })))
    }

    fn gradient(
        &self,
        _model: &EnergyModel,
        _own: Option<&Tensor<1>>,
        _batch: &Tensor<2>,
        _stream: Stream,
    ) -> Result<LossGradient, Error> {
        Err(Error::usage("objective \"noise_contrastive\": its noise is to be fitted first"))
    }
}

impl NoiseContrastive {
    /// Draws of noise for so many rows: νn, rounded. The ν of the formulas is that of these.
    fn draws(&self, rows: usize) -> usize {
        (self.ratio * rows as f64).round() as usize
    }
}

/// The loss with its noise.
#[derive(Debug)]
struct Contrast {
    objective: NoiseContrastive,
    noise: NoiseLaw,
}

impl DataLoss for Contrast {
    fn evaluations(&self, dim: usize, levels: usize) -> u64 {
        self.objective.evaluations(dim, levels)
    }

    fn copies(&self, levels: usize) -> usize {
        self.objective.copies(levels)
    }

    fn own_numbers(&self, levels: usize) -> usize {
        self.objective.own_numbers(levels)
    }

    fn own_learning_rate_scale(&self) -> f64 {
        self.objective.own_learning_rate_scale()
    }

    fn learned_log_z(&self) -> Option<usize> {
        self.objective.learned_log_z()
    }

    /// `c = log (1/M) Σ_j e^{−U(y_j)} / p_n(y_j)`: importance sampling of the starting energy.
    fn own_start(&self, model: &EnergyModel, stream: Stream) -> Vec<f32> {
        let (y, log_noise) = self.noise.sample(STARTS, stream.lane(START_LANE));
        let log_weights = (model.energy(y) + log_noise).neg();
        vec![download(grouped_stats(log_weights, 1))[1]]
    }

    fn gradient(
        &self,
        model: &EnergyModel,
        own: Option<&Tensor<1>>,
        batch: &Tensor<2>,
        stream: Stream,
    ) -> Result<LossGradient, Error> {
        let [n, d] = batch.dims();
        let draws = self.objective.draws(n);
        let c = own.expect("noise-contrastive estimation has one number of its own").clone();
        // G = −h, h = U + log p_n + c + log ν
        let shift = c.add_scalar((draws as f64 / n as f64).ln());
        let (noise, log_noise) = self.noise.sample(draws, stream.lane(NOISE_LANE));
        in_slices(model, [n, d], self.copies(0), |rows| {
            let x = rows_of(batch, &rows);
            let h = model.energy(x.clone()) + self.noise.log_prob(x.clone()) + shift.clone();
            let of_data = activation::sigmoid(h.clone()).div_scalar(n as f64);
            let mut loss = sum(activation::log_sigmoid(h.neg()));
            let mut own = sum(of_data.clone());
            let mut terms = vec![(x, of_data)];
            let part = rows.start * draws / n..rows.end * draws / n;
            if !part.is_empty() {
                let y = rows_of(&noise, &part);
                let log_noise = log_noise.clone().narrow(0, part.start, part.len());
                let h = model.energy(y.clone()) + log_noise + shift.clone();
                let of_noise = activation::sigmoid(h.clone().neg()).div_scalar(-(n as f64));
                loss = loss + sum(activation::log_sigmoid(h));
                own = own + sum(of_noise.clone());
                terms.push((y, of_noise));
            }
            let grads = model.weighted_param_grads(&terms).grads;
            Ok(LossGradient { grads, own: Some(own), loss: loss.div_scalar(-(n as f64)) })
        })
    }

    /// `∂_α J` of the flow's parameters: through its density at data and draws, and through the draws themselves.
    fn flow_gradient(
        &self,
        model: &EnergyModel,
        own: Option<&Tensor<1>>,
        batch: &Tensor<2>,
        stream: Stream,
    ) -> Option<Vec<Tensor<1>>> {
        let NoiseLaw::Flow(flow) = &self.noise else { return None };
        let [n, _] = batch.dims();
        let draws = self.objective.draws(n);
        let shift = own?.clone().add_scalar((draws as f64 / n as f64).ln());
        let z = standard_normal([draws, flow.dim()], stream.lane(NOISE_LANE), &batch.device());
        let (y, _) = flow.push(z.clone());
        let (u, grad) = model.energy_and_grad(y.clone());
        let of_data = model.energy(batch.clone());
        let found = flow.model().differentiated(|taped| {
            let map = taped.flow().expect("a flow");
            let (moved, log_det) = map.forward(taped.theta(), z.clone());
            let log_noise = log_standard_normal(z.clone()) - log_det;
            // U at the draws to first order in the flow's parameters.
            let u = u.clone() + rowwise((moved - y.clone()) * grad.clone());
            let h_noise = u + log_noise + shift.clone();
            let h_data = of_data.clone() - taped.energy(batch.clone()) + shift.clone();
            let total = activation::log_sigmoid(h_data.neg()).sum() + activation::log_sigmoid(h_noise).sum();
            Ok::<_, Error>(total.div_scalar(-(n as f64)))
        });
        found.ok().map(|(grads, _)| grads)
    }
}
