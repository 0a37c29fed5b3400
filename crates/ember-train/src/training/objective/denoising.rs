//! Rows of data with noise on them, and their score (Vincent 2011): `½ |σ s(x + σε) + ε|²`, for an energy that does not know the noise's level
//! and for one that does.
//!
//! The minimiser is the data's law with noise of variance σ² on it: of one energy for one σ, of an energy with `levels` for each of them.

use std::ops::Range;

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::score::{Directions, Pull, ScoreLoss};
use ember_model::random::Stream;
use ember_model::reduce::sum;
use ember_model::{Energy, EnergyModel};
use ember_sampler::device::standard_normal;
use serde::{Deserialize, Serialize};

use super::data_loss::{LossGradient, along, differentiated, rows_of, rowwise};
use crate::error::Error;

/// Lanes of the objective's stream: noise, the choice of σ.
const NOISE_LANE: u32 = 0;
const LADDER_LANE: u32 = 2;

/// One standard deviation of noise, or a ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number > 0, or a list of such numbers")]
pub enum Sigma {
    /// The same for every row.
    One(f64),
    /// One of these for each row, at random.
    Ladder(Vec<f64>),
}

impl Sigma {
    /// σ_1 … σ_L.
    pub fn values(&self) -> &[f64] {
        match self {
            Self::One(sigma) => std::slice::from_ref(sigma),
            Self::Ladder(sigmas) => sigmas,
        }
    }
}

/// A batch with noise on it: row i at level `levels[i]`.
pub(super) struct Noisy {
    /// The energy: over rows `[x, τ]` where it is told the level.
    model: EnergyModel,
    /// `x + σε`, `[n, d]`.
    pub x: Tensor<2>,
    /// ε, `[n, d]`.
    noise: Tensor<2>,
    /// σ of each row, `[n, 1]`.
    sigma: Tensor<2>,
    /// The level of each row, from 0.
    pub levels: Vec<u32>,
    /// τ of each row, `[n, 1]`, where the energy is told.
    input: Option<Tensor<2>>,
}

impl Noisy {
    /// Each row at one of the sigmas, all alike in probability. A model with levels is told which: they are its own then.
    pub fn new(model: &EnergyModel, batch: &Tensor<2>, sigmas: &[f64], stream: Stream) -> Self {
        let ([n, d], device) = (batch.dims(), batch.device());
        let levels = match sigmas {
            [_] => vec![0; n],
            _ => stream.lane(LADDER_LANE).categorical(n, &vec![1.0; sigmas.len()]),
        };
        let column = |of: &[f32]| {
            let values: Vec<f32> = levels.iter().map(|&k| of[k as usize]).collect();
            Tensor::<2>::from_data(TensorData::new(values, [n, 1]), &device)
        };
        let sigma = column(&sigmas.iter().map(|&sigma| sigma as f32).collect::<Vec<_>>());
        let noise = standard_normal([n, d], stream.lane(NOISE_LANE), &device);
        let input = model.levels().map(|known| column(&known.inputs()));
        Self {
            model: model.on_levels().unwrap_or_else(|| model.clone()),
            x: batch.clone() + noise.clone() * sigma.clone(),
            noise,
            sigma,
            levels,
            input,
        }
    }

    /// `(1/n) Σ ½ |r|²` over some of the n rows, `r = ε − σ ∇U(x + σε)`.
    pub fn score(&self, rows: &Range<usize>) -> Result<LossGradient, Error> {
        let [n, d] = self.x.dims();
        let [x, noise, sigma] = [&self.x, &self.noise, &self.sigma].map(|tensor| rows_of(tensor, rows));
        let input = self.input.as_ref().map(|input| rows_of(input, rows));
        // The level is given, not noised.
        let fixed = input.as_ref().map(Tensor::zeros_like);
        let x = beside(x, input);
        // By hand where the energy can: no tape.
        let wide = |column: &Tensor<2>| column.clone().expand([rows.len(), d]);
        let (all_noise, all_sigma) =
            (beside(noise.clone(), fixed.clone()), beside(wide(&sigma), fixed.clone()));
        let pull = Pull::Residual { noise: &all_noise, sigma: &all_sigma };
        let loss = ScoreLoss { pull, directions: Directions::None, weight: 0.0, of: n };
        if let Some(found) = self.model.score_grads(&x, &loss) {
            return Ok(found.into());
        }
        let grad = self.model.energy_and_grad(x.clone()).1.narrow(1, 0, d);
        let residual = noise - grad * sigma.clone();
        let value = rowwise(residual.clone() * residual.clone()).mul_scalar(0.5);
        let v = beside((residual * sigma).neg(), fixed);
        differentiated(&self.model, |taped| {
            // ∂_θ ½ |r|² = −σ rᵀ ∂_θ∇U
            let [_, pull, _] = along(taped, x, v)?;
            Ok(sum(pull.clone() - pull.detach() + value).div_scalar(n as f64))
        })
    }
}

/// `[x, column]`, or x alone.
fn beside(x: Tensor<2>, column: Option<Tensor<2>>) -> Tensor<2> {
    match column {
        Some(column) => Tensor::cat(vec![x, column], 1),
        None => x,
    }
}
