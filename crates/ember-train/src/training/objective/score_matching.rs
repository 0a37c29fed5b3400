//! Score matching (Hyvärinen 2005): the model's score `s = −∇ₓU` is fitted to the data's, so that log Z plays no part.
//!
//! | form | loss, a mean over the data | gradients of U in x a row |
//! |---|---|---|
//! | `implicit` | `½ \|s\|² + ∇·s` | d lines |
//! | `sliced` (Song et al. 2019) | `vᵀ∇(vᵀs) + ½ (vᵀs)²`, v of random signs; with `variance_reduced` `½ \|s\|²` for the second term | `slices` lines, and one and a gradient |
//! | `denoising` (Vincent 2011) | `½ \|σ s(x + σε) + ε\|²`, ε normal | one line and a gradient |
//!
//! A line is a pass of `Architecture::jet`: `U`, `vᵀ∇U` and `vᵀHv` by forward mode, about six times the work of U with its way back.
//! A perceptron on the CPU has its own passes off the tape (`EnergyModel::score_grads`), five to ten times faster. Gradients in θ are exact: a square of a gradient g enters as `gᵀ∇U` with g constant, since `∂_θ ½ |∇U|² = gᵀ ∂_θ∇U`.
//!
//! The minimiser of the first two is the data's law, that of `denoising` the data's law with noise of variance σ² on it. With a list of
//! sigmas each row takes one of them at random, at weight σ² (in the formula already). An energy with `levels` is told which, and learns the
//! law of each; its levels are the sigmas. Any other serves them all at once, so that its minimiser is no single law.
//!
//! Fails without a warning on the masses of modes far apart: between them there are no data to compare the scores, and the loss does not
//! depend on the masses (`configs/toy1d_score_matching.toml`). A network with kinks has no second derivative to match: `implicit` and
//! `sliced` refuse it. The walkers follow the model by the run's kernel, without weights and without a part in the gradient; an
//! energy that nothing confines may let them escape.

use burn::tensor::Tensor;
use ember_model::energy::levels::Levels;
use ember_model::energy::score::{Directions, Pull, ScoreLoss};
use ember_model::random::Stream;
use ember_model::reduce::sum;
use ember_model::{Energy, EnergyModel};
use ember_sampler::device::uniform;
use ember_sampler::kernel::BadValue;
use serde::{Deserialize, Serialize};

use super::Objective;
use super::data_loss::{DataLoss, LossGradient, along, differentiated, in_slices, rows_of};
use super::denoising::{Noisy, Sigma};
use crate::error::Error;

/// Coordinates that the implicit form goes along one by one, at most.
const MOST_DIRECTIONS: usize = 64;
/// Slices of a row, at most.
const MOST_SLICES: usize = 1_024;

/// Lane of the objective's stream for random signs; `denoising.rs` has the others.
const SIGN_LANE: u32 = 1;
/// Relative rounding that a level may have been written with.
const WRITTEN: f64 = 1e-6;

/// `{ kind = "score_matching", form }` and the keys of that form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "form", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScoreMatching {
    /// Every direction: exact, for few coordinates.
    Implicit {},
    /// Random directions.
    Sliced {
        /// Directions of each row, 1 unless given.
        #[serde(default = "one")]
        slices: usize,
        /// Whether `½ |s|²` takes the place of its own estimate `½ (vᵀs)²`; yes unless given.
        #[serde(default = "yes")]
        variance_reduced: bool,
    },
    /// The noise that was added is found again.
    Denoising {
        /// The noise's standard deviation, or a ladder of them; the energy's levels unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sigma: Option<Sigma>,
    },
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

impl Objective for ScoreMatching {
    fn carries_weights(&self) -> bool {
        false
    }

    fn data_loss(&self) -> Option<&dyn DataLoss> {
        Some(self)
    }

    fn check(&self) -> Result<(), BadValue> {
        match self {
            Self::Implicit {} => Ok(()),
            Self::Sliced { slices, .. } if (1..=MOST_SLICES).contains(slices) => Ok(()),
            Self::Sliced { slices, .. } => {
                Err(BadValue::new("slices", format!("found {slices}, expected 1 to {MOST_SLICES}")))
            }
            Self::Denoising { sigma: None } => Ok(()),
            Self::Denoising { sigma: Some(sigma) } => {
                if sigma.values().is_empty() {
                    return Err(BadValue::new("sigma", "found an empty list, expected at least one number"));
                }
                let is_bad = |sigma: &&f64| !(sigma.is_finite() && **sigma > 0.0);
                match sigma.values().iter().find(is_bad) {
                    Some(bad) => {
                        Err(BadValue::new("sigma", format!("found {bad}, expected a finite number > 0")))
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

impl DataLoss for ScoreMatching {
    fn evaluations(&self, dim: usize, _levels: usize) -> u64 {
        match self {
            Self::Implicit {} => dim as u64,
            Self::Sliced { slices, .. } => *slices as u64 + 1,
            Self::Denoising { .. } => 2,
        }
    }

    fn derivatives(&self) -> usize {
        match self {
            Self::Implicit {} | Self::Sliced { .. } => 2,
            Self::Denoising { .. } => 1,
        }
    }

    fn copies(&self, _levels: usize) -> usize {
        match self {
            Self::Implicit {} => 0,
            Self::Sliced { slices, .. } => *slices,
            Self::Denoising { .. } => 1,
        }
    }

    fn check_dim(&self, dim: usize) -> Result<(), BadValue> {
        if *self != (Self::Implicit {}) || dim <= MOST_DIRECTIONS {
            return Ok(());
        }
        let message = format!(
            "\"implicit\" goes along every coordinate, and the samples have {dim}, more than {MOST_DIRECTIONS}: take \
             form = \"sliced\", which goes along random directions"
        );
        Err(BadValue::new("form", message))
    }

    fn trains_levels(&self) -> bool {
        matches!(self, Self::Denoising { .. })
    }

    fn check_levels(&self, levels: &[f64]) -> Result<(), BadValue> {
        let Self::Denoising { sigma } = self else { return Ok(()) };
        let Some(sigma) = sigma else {
            let message = "missing: the noise's standard deviation, or give the energy `levels`";
            return if levels.is_empty() { Err(BadValue::new("sigma", message)) } else { Ok(()) };
        };
        let sigmas = sigma.values();
        let same = |(a, b): (&f64, &f64)| (a - b).abs() <= WRITTEN * b;
        if levels.is_empty() || (sigmas.len() == levels.len() && sigmas.iter().zip(levels).all(same)) {
            return Ok(());
        }
        let message = format!("found {sigmas:?}, but the energy's levels are {levels:?}: leave it out");
        Err(BadValue::new("sigma", message))
    }

    fn gradient(
        &self,
        model: &EnergyModel,
        _own: Option<&Tensor<1>>,
        batch: &Tensor<2>,
        stream: Stream,
    ) -> Result<LossGradient, Error> {
        match self {
            Self::Implicit {} => implicit(model, batch),
            Self::Sliced { slices, variance_reduced } => {
                sliced(model, batch, *slices, *variance_reduced, stream.lane(SIGN_LANE))
            }
            Self::Denoising { sigma } => {
                let known = model.levels().map(Levels::sigmas);
                let sigmas = known.or(sigma.as_ref().map(Sigma::values)).unwrap_or_default();
                let noisy = Noisy::new(model, batch, sigmas, stream);
                in_slices(model, batch.dims(), 1, |rows| noisy.score(&rows))
            }
        }
    }
}

/// `(1/n) Σ_i Σ_j ½ (∂_jU)² − ∂_j²U`: a line along each coordinate.
fn implicit(model: &EnergyModel, batch: &Tensor<2>) -> Result<LossGradient, Error> {
    let ([n, d], device) = (batch.dims(), batch.device());
    let loss = ScoreLoss { pull: Pull::Score, directions: Directions::Axes, weight: 1.0, of: n };
    if let Some(found) = model.score_grads(batch, &loss) {
        return Ok(found.into());
    }
    let unit = Tensor::<2>::eye(d, &device);
    in_slices(model, [n, d], d, |rows| {
        let m = rows.len();
        // Row i of the slice along coordinate j is row i·d + j.
        let x = copied(&rows_of(batch, &rows), d);
        let v = unit.clone().reshape([1, d, d]).expand([m, d, d]).reshape([m * d, d]);
        differentiated(model, |taped| {
            let [_, first, second] = along(taped, x, v)?;
            Ok(sum((first.clone() * first).mul_scalar(0.5) - second).div_scalar(n as f64))
        })
    })
}

/// `(1/nS) Σ ½ (vᵀ∇U)² − vᵀHv` over S directions of each row, or with `½ |∇U|²` for the first term.
fn sliced(
    model: &EnergyModel,
    batch: &Tensor<2>,
    slices: usize,
    variance_reduced: bool,
    stream: Stream,
) -> Result<LossGradient, Error> {
    let ([n, d], device) = (batch.dims(), batch.device());
    let coins = uniform(n * slices * d, stream, &device).reshape([n * slices, d]);
    // Signs: ±1 with probability ½ each.
    let signs = coins.lower_elem(0.5).float().mul_scalar(2.0).sub_scalar(1.0);
    let pull = if variance_reduced { Pull::Score } else { Pull::Slices };
    let loss = ScoreLoss { pull, directions: Directions::Rows(&signs), weight: 1.0 / slices as f64, of: n };
    if let Some(found) = model.score_grads(batch, &loss) {
        return Ok(found.into());
    }
    in_slices(model, [n, d], slices, |rows| {
        let x = rows_of(batch, &rows);
        let v = rows_of(&signs, &(rows.start * slices..rows.end * slices));
        let grad = variance_reduced.then(|| model.energy_and_grad(x.clone()).1);
        differentiated(model, |taped| {
            let [_, first, second] = along(taped, copied(&x, slices), v)?;
            let of_rows = (n * slices) as f64;
            let Some(grad) = grad else {
                return Ok(sum((first.clone() * first).mul_scalar(0.5) - second).div_scalar(of_rows));
            };
            let [_, square, _] = along(taped, x, grad)?;
            // gᵀ∇U − ½ |g|²: its value is ½ |∇U|², its gradient that of ½ |∇U|².
            let half = square.clone() - square.detach().mul_scalar(0.5);
            Ok(sum(half).div_scalar(n as f64) - sum(second).div_scalar(of_rows))
        })
    })
}

/// Each row `copies` times in a row. `[n, d]` → `[n·copies, d]`.
fn copied(x: &Tensor<2>, copies: usize) -> Tensor<2> {
    let [n, d] = x.dims();
    x.clone().reshape([n, 1, d]).expand([n, copies, d]).reshape([n * copies, d])
}
