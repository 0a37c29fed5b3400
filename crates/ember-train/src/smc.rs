//! Tempered sequential Monte Carlo from a tractable Gaussian to the model (Del Moral, Doucet, Jasra 2006; ALGORITHMS 1.6).
//!
//! `U_β = (1 − β) U_0 + β U`, `U_0` a Gaussian with known `log Z_0`. At each temperature the weights earn
//! `U_β(X) − U_β'(X)`, then MALA moves at β'. A pilot run chooses temperatures (conditional ess) and step sizes; the R
//! repeats then run that *fixed* schedule, so each `Z` is unbiased. Modes no repeat visits are not counted.

use burn::tensor::{Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::kernel::Mala;
use ember_sampler::{Kernel, Noise, Scheme, Walkers};

use crate::ensembles::Ensembles;
use crate::error::Error;
use crate::statistics::Estimate;

/// Lane of the pilot run's noise.
const PILOT_LANE: u32 = 1 << 16;
/// First lane of the repeats.
const REPEAT_LANE: u32 = 1 << 17;
/// Resample when ess falls below this fraction.
const ESS_THRESHOLD: f64 = 0.5;
/// More temperatures than this mean that the path does not get through.
const MAX_TEMPERATURES: usize = 2_000;

/// Sizes of a tempered SMC.
#[derive(Clone, Copy, Debug)]
pub struct SmcOptions {
    /// Walkers per repeat.
    pub walkers: usize,
    /// Independent repeats R ≥ 2.
    pub repeats: usize,
    /// MALA steps at each temperature.
    pub moves: usize,
    /// Conditional ess, as a fraction, that a temperature step may cost.
    pub conditional_ess: f64,
    /// Seed of all noise.
    pub seed: u64,
}

impl Default for SmcOptions {
    fn default() -> Self {
        Self { walkers: 2_000, repeats: 8, moves: 4, conditional_ess: 0.9, seed: 0 }
    }
}

/// What a tempered SMC leaves.
pub struct SmcResult {
    /// `log Z` with its standard error over the repeats.
    pub log_z: Estimate,
    /// Temperatures used.
    pub temperatures: usize,
    /// The repeats at β = 1, weighted.
    pub ensembles: Ensembles,
}

/// A Gaussian with independent coordinates: the tractable start.
#[derive(Clone, Debug)]
pub struct GaussianStart {
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl GaussianStart {
    /// `N(0, I/c)` for a confined network, moments matched for a mixture; `None` where neither is known.
    pub fn of(model: &EnergyModel) -> Option<Self> {
        if let Some(c) = model.confinement() {
            return Some(Self { mean: vec![0.0; model.dim()], std: vec![c.sqrt().recip(); model.dim()] });
        }
        let mixture = model.mixture()?;
        let moment = |power: i32, j: usize| -> f64 {
            let terms = mixture.means.iter().zip(&mixture.masses);
            terms.map(|(mean, mass)| mass * mean[j].powi(power)).sum()
        };
        let mean: Vec<f64> = (0..model.dim()).map(|j| moment(1, j)).collect();
        let std =
            mean.iter().enumerate().map(|(j, m)| (1.0 + moment(2, j) - m * m).max(1.0).sqrt()).collect();
        Some(Self { mean, std })
    }

    fn log_z(&self) -> f64 {
        let half_log_2pi = 0.5 * (2.0 * std::f64::consts::PI).ln();
        self.std.iter().map(|std| half_log_2pi + std.ln()).sum()
    }

    fn draw(&self, count: usize, stream: Stream) -> Vec<f32> {
        let dim = self.mean.len();
        let mut draws = stream.normals(count, dim);
        for row in draws.chunks_exact_mut(dim) {
            for ((x, mean), std) in row.iter_mut().zip(&self.mean).zip(&self.std) {
                *x = (mean + std * f64::from(*x)) as f32;
            }
        }
        draws
    }
}

/// `U_β = (1 − β) U_0 + β U`.
struct Tempered<'a> {
    model: &'a EnergyModel,
    mean: Tensor<2>,
    precision: Tensor<2>,
    beta: f64,
}

impl<'a> Tempered<'a> {
    fn new(model: &'a EnergyModel, start: &GaussianStart) -> Self {
        let row = |values: Vec<f32>| {
            let dim = values.len();
            Tensor::from_data(TensorData::new(values, [1, dim]), model.device())
        };
        Self {
            model,
            mean: row(start.mean.iter().map(|&m| m as f32).collect()),
            precision: row(start.std.iter().map(|s| (s * s).recip() as f32).collect()),
            beta: 0.0,
        }
    }

    fn at(&self, beta: f64) -> Self {
        Self { model: self.model, mean: self.mean.clone(), precision: self.precision.clone(), beta }
    }

    /// `(U_0, ∇U_0)`.
    fn base(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let gap = x - self.mean.clone();
        let grad = gap.clone() * self.precision.clone();
        let u = (gap * grad.clone()).sum_dim(1).squeeze_dim::<1>(1);
        (u.mul_scalar(0.5), grad)
    }

    /// `U − U_0`, `[walkers]`: what a change of β multiplies.
    fn gap(&self, x: Tensor<2>) -> Vec<f64> {
        let gap = self.model.energy(x.clone()) - self.base(x).0;
        let gap = ember_model::params::download(gap);
        gap.into_iter().map(f64::from).collect()
    }
}

impl Energy for Tempered<'_> {
    fn dim(&self) -> usize {
        self.model.dim()
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        let (base, _) = self.base(x.clone());
        base.mul_scalar(1.0 - self.beta) + self.model.energy(x).mul_scalar(self.beta)
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (base, base_grad) = self.base(x.clone());
        let (u, grad) = self.model.energy_and_grad(x);
        (
            base.mul_scalar(1.0 - self.beta) + u.mul_scalar(self.beta),
            base_grad.mul_scalar(1.0 - self.beta) + grad.mul_scalar(self.beta),
        )
    }
}

/// One temperature of the schedule, with the MALA step size used there.
#[derive(Clone, Copy, Debug)]
struct Rung {
    beta: f64,
    step_size: f64,
}

/// `log Z` of the model by tempered SMC from its tractable start.
///
/// # Errors
/// No tractable start (a network without confinement), or a path that needs more than 2,000 temperatures.
pub fn tempered(model: &EnergyModel, options: SmcOptions) -> Result<SmcResult, Error> {
    let start = GaussianStart::of(model).ok_or_else(|| {
        Error::usage("log Z of this energy needs a tractable start: a network needs energy.confinement > 0")
    })?;
    let rungs = pilot(model, &start, options)?;
    let tempered = Tempered::new(model, &start);
    let count = options.walkers * options.repeats;
    let mut ensembles = Ensembles::new(
        starting_walkers(&tempered, &start, count, options.seed, REPEAT_LANE),
        options.repeats,
        REPEAT_LANE,
    );
    for (t, rung) in rungs.iter().enumerate() {
        let kernel = Mala::new(rung.step_size);
        // A MALA kernel reweights to the new temperature before it moves.
        let energy = tempered.at(rung.beta);
        ensembles.advance(&kernel, &energy, options.seed, t as u64, options.moves as u64)?;
        let stats = ember_model::params::download(ensembles.stats());
        let stats: Vec<f64> = stats.into_iter().map(f64::from).collect();
        if t + 1 < rungs.len() {
            let scheme = Scheme::Systematic;
            ensembles.resample(&stats, scheme, ESS_THRESHOLD, options.seed, t as u64)?;
        }
    }
    Ok(SmcResult { log_z: ensembles.log_z(), temperatures: rungs.len(), ensembles })
}

fn starting_walkers(
    tempered: &Tempered<'_>,
    start: &GaussianStart,
    count: usize,
    seed: u64,
    lane: u32,
) -> Walkers {
    let stream = Stream::new(seed, Purpose::Anneal).lane(lane);
    let dim = tempered.dim();
    let position = TensorData::new(start.draw(count, stream), [count, dim]);
    let position = Tensor::from_data(position, tempered.model.device());
    Walkers::new(&tempered.at(0.0), position, start.log_z())
}

/// Chooses temperatures and step sizes on one population.
fn pilot(model: &EnergyModel, start: &GaussianStart, options: SmcOptions) -> Result<Vec<Rung>, Error> {
    let tempered = Tempered::new(model, start);
    let count = options.walkers;
    let mut pilot =
        Ensembles::new(starting_walkers(&tempered, start, count, options.seed, PILOT_LANE), 1, PILOT_LANE);
    let mut rungs: Vec<Rung> = Vec::new();
    let (mut beta, mut step_size) = (0.0, 0.5 / (model.dim() as f64).cbrt());
    while beta < 1.0 {
        if rungs.len() == MAX_TEMPERATURES {
            return Err(Error::usage(format!(
                "tempered SMC reached only β = {beta:.4} in {MAX_TEMPERATURES} temperatures: the energy is too far from its start"
            )));
        }
        let gaps = tempered.gap(pilot.walkers.position.clone());
        let weights = ember_model::params::download(pilot.walkers.weights());
        let weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
        beta = next_beta(beta, &gaps, &weights, options.conditional_ess);
        let energy = tempered.at(beta);
        let kernel = Mala::new(step_size);
        let mut walkers = kernel.prepare(&energy, pilot.walkers.clone());
        let mut accepted = 0.0;
        for sub_step in 0..options.moves {
            let (rung, moves) = (rungs.len() as u64, options.moves as u64);
            let noise = Noise::at(options.seed, PILOT_LANE, rung, moves, sub_step as u64)?;
            let (moved, info) = kernel.step(&energy, walkers, &noise);
            walkers = moved;
            if let Some(rate) = info.accept_rate {
                accepted += f64::from(ember_model::params::download(rate)[0]);
            }
        }
        pilot.walkers = walkers;
        rungs.push(Rung { beta, step_size });
        match accepted / options.moves as f64 {
            rate if rate > 0.75 => step_size *= 1.25,
            rate if rate < 0.55 => step_size *= 0.7,
            _ => {}
        }
        let stats = ember_model::params::download(pilot.stats());
        let stats: Vec<f64> = stats.into_iter().map(f64::from).collect();
        let rung = rungs.len() as u64;
        pilot.resample(&stats, Scheme::Systematic, ESS_THRESHOLD, options.seed, rung)?;
    }
    Ok(rungs)
}

/// The largest β' whose conditional ess `(Σ W v)² / Σ W v²`, `v = e^{−(β'−β)(U − U_0)}`, is still `target`
/// (Zhou, Johansen, Aston 2016), by bisection.
fn next_beta(beta: f64, gaps: &[f64], weights: &[f64], target: f64) -> f64 {
    let conditional_ess = |next: f64| {
        let log_v: Vec<f64> = gaps.iter().map(|gap| -(next - beta) * gap).collect();
        let max = log_v.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut first, mut second) = (0.0, 0.0);
        for (log_v, w) in log_v.iter().zip(weights) {
            let v = (log_v - max).exp();
            first += w * v;
            second += w * v * v;
        }
        first * first / second
    };
    if conditional_ess(1.0) >= target {
        return 1.0;
    }
    let (mut low, mut high) = (beta, 1.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if conditional_ess(middle) >= target {
            low = middle;
        } else {
            high = middle;
        }
    }
    // Never stand still, whatever rounding does.
    low.max(beta + 1e-9)
}
