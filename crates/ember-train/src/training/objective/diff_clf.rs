//! DiffCLF (arXiv 2601.21025): denoising score matching over noise levels, and a classifier of levels, both of one energy `U(x, t)`.
//!
//! `L = (1/n) Σ_i ½ |ε_i − σ_k ∇U(x_i, k)|² + weight · (1/n) Σ_i −log p(k | x_i)`, `x_i` the i-th row with noise σ_k ε_i on it, k uniform of the L
//! levels, `p(t | x) = softmax_t(−U(x, t) − c_t)`. The offsets c are numbers of the objective's own, one a level.
//!
//! Why: scores leave `U(·, t)` free by a constant on each region that the noise of level t does not connect, so that at small σ the masses
//! of modes far apart are not learned. Let p_t be the law of the data with noise σ_t. The classifier is best where it is the posterior
//! `p(t | x) ∝ p_t(x)`, that is `−U(x, t) − c_t = log p_t(x) + g(x)` with one g for every level. The scores are right where `∇g = 0` wherever
//! any p_t has mass. At the largest level that is one region, if its noise connects the modes: g is a constant, and every `e^{−U(x,t)}` is
//! `p_t` up to its own factor, masses included. From the largest σ, where the scores see the masses, the classifier hands them on to the
//! smallest, level by level: neighbours must overlap (a ratio of 2 or 3), and σ_L must reach from mode to mode.
//!
//! Then `c_t = log Z_t + const`: differences of c are those of log Z_t, the constant is not to be had. The level's input could take their place
//! in a network; they are there so that the energy need not move for them.
//!
//! What the run keeps is the energy at the smallest level: the data's law with noise σ_1, of variance `σ_1²` too much.
//!
//! Fails without a warning where σ_L does not connect the modes, or where neighbouring levels hardly overlap: the masses are then as free as by
//! scores alone. Cost a row: one line and a gradient, and L energies, then their gradients in θ. Walkers follow the energy at the smallest
//! level by the run's kernel, without weights and without a part in the gradient.

use burn::tensor::{Tensor, TensorData, activation};
use ember_model::energy::levels::Levels;
use ember_model::random::Stream;
use ember_model::reduce::sum;
use ember_model::{Energy, EnergyModel};
use ember_sampler::kernel::BadValue;
use serde::{Deserialize, Serialize};

use super::Objective;
use super::data_loss::{DataLoss, LossGradient, in_slices, rows_of};
use super::denoising::Noisy;
use crate::error::Error;

/// `{ kind = "diff_clf", weight }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffClf {
    /// The factor of the classifier's loss, 1 unless given.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl Objective for DiffClf {
    fn carries_weights(&self) -> bool {
        false
    }

    fn data_loss(&self) -> Option<&dyn DataLoss> {
        Some(self)
    }

    fn check(&self) -> Result<(), BadValue> {
        let weight = self.weight;
        if weight.is_finite() && weight > 0.0 {
            return Ok(());
        }
        let message = format!(
            "found {weight}, expected a finite number > 0; without the classifier it is kind = \"score_matching\", form = \"denoising\""
        );
        Err(BadValue::new("weight", message))
    }
}

impl DataLoss for DiffClf {
    fn derivatives(&self) -> usize {
        1
    }

    fn evaluations(&self, _dim: usize, levels: usize) -> u64 {
        2 + levels as u64
    }

    fn copies(&self, levels: usize) -> usize {
        1 + levels
    }

    fn check_levels(&self, levels: &[f64]) -> Result<(), BadValue> {
        if !levels.is_empty() {
            return Ok(());
        }
        let message = "\"diff_clf\" needs an energy that knows noise levels: an \"mlp\" or a \"conv\" with energy.levels, such as \
                       { from = 0.1, to = 5.0, count = 8 }";
        Err(BadValue::new("kind", message))
    }

    fn trains_levels(&self) -> bool {
        true
    }

    fn own_numbers(&self, levels: usize) -> usize {
        levels
    }

    fn gradient(
        &self,
        model: &EnergyModel,
        own: Option<&Tensor<1>>,
        batch: &Tensor<2>,
        stream: Stream,
    ) -> Result<LossGradient, Error> {
        let (Some(levels), Some(joint), Some(offsets)) = (model.levels(), model.on_levels(), own) else {
            return Err(Error::usage("objective \"diff_clf\" needs an energy with noise levels"));
        };
        let noisy = Noisy::new(model, batch, levels.sigmas(), stream);
        let classifier = Classifier { joint, levels, offsets, share: self.weight / batch.dims()[0] as f64 };
        in_slices(model, batch.dims(), self.copies(levels.count()), |rows| {
            let x = rows_of(&noisy.x, &rows);
            Ok(noisy.score(&rows)?.plus(classifier.part(x, &noisy.levels[rows])))
        })
    }
}

/// `p(t | x) = softmax_t(−U(x, t) − c_t)`.
struct Classifier<'a> {
    /// U over rows `[x, τ]`.
    joint: EnergyModel,
    levels: &'a Levels,
    /// c, `[L]`.
    offsets: &'a Tensor<1>,
    /// The weight of a row.
    share: f64,
}

impl Classifier<'_> {
    /// `share · Σ_i −log p(k_i | x_i)`: `∂/∂U(x_i, t) = share · (1[t = k_i] − p(t | x_i))`, and that of c_t its sum over i. `x: [m, d]`.
    fn part(&self, x: Tensor<2>, levels: &[u32]) -> LossGradient {
        let ([m, d], l, device) = (x.dims(), self.levels.count(), x.device());
        let input = Tensor::<1>::from_data(TensorData::new(self.levels.inputs(), [l]), &device);
        // Row i at level t is row i·L + t.
        let x = x.reshape([m, 1, d]).expand([m, l, d]).reshape([m * l, d]);
        let rows = Tensor::cat(vec![x, input.reshape([1, l]).expand([m, l]).reshape([m * l, 1])], 1);
        let u = self.joint.energy(rows.clone()).reshape([m, l]);
        let log_p = activation::log_softmax((u + self.offsets.clone().reshape([1, l])).neg(), 1);
        let truth =
            levels.iter().flat_map(|&k| (0..l).map(move |t| if t == k as usize { 1.0f32 } else { 0.0 }));
        let truth = Tensor::<2>::from_data(TensorData::new(truth.collect::<Vec<_>>(), [m, l]), &device);
        let loss = sum((log_p.clone() * truth.clone()).reshape([m * l])).mul_scalar(-self.share);
        let slopes = (truth - log_p.exp()).mul_scalar(self.share);
        let own = slopes.clone().sum_dim(0).reshape([l]);
        let grads = self.joint.weighted_param_grads(&[(rows, slopes.reshape([m * l]))]).grads;
        LossGradient { grads, own: Some(own), loss }
    }
}
