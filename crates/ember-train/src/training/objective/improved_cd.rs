//! Improved contrastive divergence (Du, Li, Tenenbaum and Mordatch 2021, arXiv 2012.01316): the walkers' law follows θ too, and the
//! gradient says so.
//!
//! `L = E_data[U] − E_q[U] + λ (E_data[e²] + E_q[e²]) + a E_q[U_sg(x_K(θ))] − b H(x_K(θ))`, q the law of the walkers; sg: θ held.
//!
//! The walkers are those of `replay_cd`. The last two terms are `KL(q ‖ ρ)` less log Z, of which θ is followed
//! through the last step alone, `x_K = x′ − h ∇U_θ(x′) + √(2h) ξ`:
//!
//! `∂_θ = −(h/N) Σ_i ∂_θ[g_iᵀ ∇U_θ(x′_i)]`, `g_i = a ∇U(x_K,i) − b (x_K,i − b_i)/|x_K,i − b_i|²`,
//!
//! one line (`Architecture::jet`) a walker. `H = (1/N) Σ_i log |x_K,i − b_i|`, b_i the nearest of `entropy_neighbours` *other* walkers, held,
//! drawn anew in each update. (In the public code the buffer holds the sample itself as well, so that the distance is that to where the
//! sample was, or 0.) Kozachenko and Leonenko (1987): the entropy is `d H` and a constant, so that `a = 1`, `b = d` is the KL divergence itself;
//! the paper has a = 1, b = .3.
//!
//! The sign is the published one: it draws the walkers' law to the model. The derivative of `KL(p_data ‖ ρ) − KL(q ‖ ρ)` itself has the term with
//! a minus (Hinton 2002). At q = ρ its expectation is 0 for `b = d a`; with less entropy it deepens the wells that the walkers are in, and
//! makes masses worse (`compare/improved_cd.toml`).
//!
//! Biased as `replay_cd` is: a step follows θ, not the chain. ULA only, neither clipped nor reflected, and energies with jets. In one
//! and two dimensions the push from a neighbour, b/r, has no finite variance: take `optimizer.clip_norm`, as the paper does.
//! At a temperature T all of this is of `V = U/T`: a paper's λ is λT here, its b is b/T; a stays.

use burn::tensor::{Int, Tensor, TensorData};
use ember_model::EnergyModel;
use ember_model::energy::score::{Directions, Pull, ScoreLoss};
use ember_model::random::Stream;
use ember_model::reduce::sum;
use ember_sampler::kernel::BadValue;
use ember_sampler::{Kernel, Noise, StepInfo, Walkers};
use serde::{Deserialize, Serialize};

use super::data_loss::{LossGradient, TOGETHER, along, differentiated, in_slices, rows_of, rowwise};
use super::replay_cd::{check_probability, restarted};
use super::step_loss::{LastStep, StepLoss};
use super::{Objective, Schedule, walk};
use crate::error::Error;

/// `{ kind = "improved_cd", restart_probability, kl_weight, entropy_weight, entropy_neighbours, energy_l2 }`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImprovedCd {
    /// The probability that a walker begins anew in an update, .001 unless given.
    #[serde(default = "thousandth")]
    pub restart_probability: f64,
    /// a: the weight of the walkers' energy as θ moves them, 1 unless given.
    #[serde(default = "one")]
    pub kl_weight: f64,
    /// b: the weight of the walkers' entropy, .3 unless given.
    #[serde(default = "three_tenths")]
    pub entropy_weight: f64,
    /// Other walkers among which the nearest is looked for, 100 unless given.
    #[serde(default = "hundred")]
    pub entropy_neighbours: usize,
    /// λ of the added `λ (E_data[e²] + E_q[e²])`, `e` the energy less its confinement; 0 adds none.
    #[serde(default)]
    pub energy_l2: f64,
}

fn thousandth() -> f64 {
    1e-3
}

fn one() -> f64 {
    1.0
}

fn three_tenths() -> f64 {
    0.3
}

fn hundred() -> usize {
    100
}

impl Objective for ImprovedCd {
    fn energy_l2(&self) -> f64 {
        self.energy_l2
    }

    fn carries_weights(&self) -> bool {
        false
    }

    /// Without either weight nothing is left of it, and this is `replay_cd`.
    fn step_loss(&self) -> Option<&dyn StepLoss> {
        (self.kl_weight > 0.0 || self.entropy_weight > 0.0).then_some(self)
    }

    fn check(&self) -> Result<(), BadValue> {
        for (key, weight) in [("kl_weight", self.kl_weight), ("entropy_weight", self.entropy_weight)] {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(BadValue::new(key, format!("found {weight}, expected a finite number ≥ 0")));
            }
        }
        BadValue::unless_at_least("entropy_neighbours", self.entropy_neighbours as u64, 1)?;
        check_probability(self.restart_probability)
    }

    fn advance(
        &self,
        kernel: &dyn Kernel,
        model: &EnergyModel,
        walkers: Walkers,
        _batch: &Tensor<2>,
        schedule: Schedule,
        noise: &dyn Fn(u64) -> Noise,
    ) -> (Walkers, Option<StepInfo>) {
        let walkers = restarted(walkers, self.restart_probability, model, noise(0)).refresh(model);
        // The steps are at least one: `config/validate.rs`.
        let last = schedule.steps - 1;
        let (walkers, _) = kernel.steps(model, model, walkers, last, noise);
        let before = self.step_loss().map(|_| walkers.position.clone());
        let schedule = Schedule { steps: 1, ..schedule };
        let (walkers, info) = walk(kernel, model, walkers, schedule, &|step| noise(last + step));
        (walkers.unweighted(), info.map(|info| StepInfo { before, ..info }))
    }
}

impl StepLoss for ImprovedCd {
    fn derivatives(&self) -> usize {
        1
    }

    fn check_walkers(&self, count: usize) -> Result<(), BadValue> {
        let others = count - 1;
        if self.entropy_weight == 0.0 || self.entropy_neighbours <= others {
            return Ok(());
        }
        let message = format!(
            "found {}, expected at most {others}: a walker's neighbours are other walkers, and walkers.count = {count}",
            self.entropy_neighbours
        );
        Err(BadValue::new("entropy_neighbours", message))
    }

    fn gradient(
        &self,
        model: &EnergyModel,
        step: &LastStep<'_>,
        stream: Stream,
    ) -> Result<LossGradient, Error> {
        let LastStep { before, after, step_size, population, first } = *step;
        let [n, d] = before.dims();
        let mut pull = after.energy_grad.clone().mul_scalar(self.kl_weight);
        let mut value = after.energy.clone().mul_scalar(self.kl_weight);
        if self.entropy_weight > 0.0 {
            let places = self.places(population.dims()[0], stream);
            let (log_distance, grad) = nearest(&after.position, first, population, &places);
            pull = pull - grad.mul_scalar(self.entropy_weight);
            value = value - log_distance.mul_scalar(self.entropy_weight);
        }
        // x_K moves by −h ∂_θ∇U_θ(x′).
        let pull = pull.mul_scalar(-step_size);
        let by_hand =
            ScoreLoss { pull: Pull::Along(&pull), directions: Directions::None, weight: 0.0, of: n };
        if let Some(found) = model.score_grads(before, &by_hand) {
            return Ok(LossGradient { loss: sum(value).div_scalar(n as f64), ..found.into() });
        }
        in_slices(model, [n, d], 1, |rows| {
            let (x, v) = (rows_of(before, &rows), rows_of(&pull, &rows));
            let value = value.clone().narrow(0, rows.start, rows.len());
            differentiated(model, |taped| {
                let [_, first, _] = along(taped, x, v)?;
                Ok(sum(first.clone() - first.detach() + value).div_scalar(n as f64))
            })
        })
    }
}

impl ImprovedCd {
    /// How far on from itself in the population, in a ring, each walker finds its neighbours: never at 0, where it is itself.
    fn places(&self, count: usize, stream: Stream) -> Vec<usize> {
        let order = stream.permutation(count - 1);
        order.into_iter().take(self.entropy_neighbours).map(|place| place as usize + 1).collect()
    }
}

/// `log |x − b|` to the nearest b of every row, `[n]`, and its gradient in x, `(x − b)/|x − b|²`, `[n, dim]`. `x: [n, dim]`; the b of row i are
/// the rows `first + i + place` of the population `[walkers, dim]`, counted round. Where x is b, −∞ and no direction: 0. Slices of
/// 16 MiB.
pub fn nearest(
    x: &Tensor<2>,
    first: usize,
    population: &Tensor<2>,
    places: &[usize],
) -> (Tensor<1>, Tensor<2>) {
    let ([n, d], m, count, device) = (x.dims(), places.len(), population.dims()[0], x.device());
    let slice = (TOGETHER / (m * d).max(1)).max(1);
    let mut logs = Vec::new();
    let mut grads = Vec::new();
    for start in (0..n).step_by(slice) {
        let k = slice.min(n - start);
        let rows = |i: usize| places.iter().map(move |place| ((first + start + i + place) % count) as i32);
        let rows: Vec<i32> = (0..k).flat_map(rows).collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [k * m]), &device);
        let own = x.clone().narrow(0, start, k).reshape([k, 1, d]).expand([k, m, d]).reshape([k * m, d]);
        let gaps = own - population.clone().select(0, rows);
        let squares = rowwise(gaps.clone() * gaps.clone()).reshape([k, m]);
        let best = squares.argmin(1).reshape([k])
            + Tensor::<1, Int>::arange(0..k as i64, &device).mul_scalar(m as i64);
        let gap = gaps.select(0, best);
        let square = rowwise(gap.clone() * gap.clone());
        logs.push(square.clone().log().mul_scalar(0.5));
        grads.push(gap / square.clamp_min(f32::MIN_POSITIVE).reshape([k, 1]));
    }
    (Tensor::cat(logs, 0), Tensor::cat(grads, 0))
}
