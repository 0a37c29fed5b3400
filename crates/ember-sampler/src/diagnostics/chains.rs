//! How a kernel mixes at fixed θ: acceptance, jumps between modes, R-hat and autocorrelation times along some hundred chains.
//!
//! Read at every step are the energy and some coordinates of every chain: [`MOST_CHAINS`] are enough. A quantity is said by its worst coordinate or mode.
//! R-hat near 1 says that the chains agree with one another; that all of them miss a mode it cannot say.

use burn::tensor::{Int, Tensor, TensorData};
use ember_model::Energy;
use ember_model::params::download;
use serde::Serialize;

use super::convergence::{autocorrelation_time, rank_normalised_r_hat};
use crate::error::Error;
use crate::progress::{Progress, Silent};
use crate::{Kernel, KernelConfig, Noise, Walkers, WeightRule};

/// Chains at most: every estimate here is long since precise with as many.
pub const MOST_CHAINS: usize = 128;
/// Coordinates watched at most, evenly spread.
const MOST_COORDINATES: usize = 64;
/// Numbers kept in host memory at most; long runs watch fewer coordinates.
const MOST_NUMBERS: usize = 1 << 25;
/// A time is doubtful unless the chains are this many times as long (as the documentation of emcee advises).
const LENGTHS: f64 = 50.0;
/// Lane of the chains' noise.
pub const LANE: u32 = 3 << 17;

/// How one quantity mixes.
#[derive(Clone, Debug, Serialize)]
pub struct Quantity {
    /// Which coordinate or mode it is, of those watched the worst; absent for the energy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Rank-normalised split R-hat; `null` (infinite) where no chain moved.
    pub r_hat: f64,
    /// Steps from one independent value to the next.
    pub autocorrelation_time: f64,
    /// Independent values that one chain gives in one step: `1/τ`.
    pub ess_per_step: f64,
    /// Whether the chains are too short for that: fewer than 50 times as long, where the time is a lower bound, or of anticorrelated
    /// values too few to tell how much shorter than a step it is.
    pub doubtful: bool,
}

impl Quantity {
    /// `None` where the quantity never differs.
    fn of(index: Option<usize>, chains: &[Vec<f32>]) -> Option<Self> {
        let r_hat = rank_normalised_r_hat(chains);
        if r_hat.is_nan() {
            return None;
        }
        let time = autocorrelation_time(chains);
        let steps = chains[0].len() as f64;
        Some(Self {
            index,
            r_hat,
            autocorrelation_time: time.steps,
            ess_per_step: time.steps.recip(),
            doubtful: !time.window_reached || !time.resolved || steps < LENGTHS * time.steps,
        })
    }

    /// The one of the longest time.
    fn worst(found: impl Iterator<Item = Option<Self>>) -> Option<Self> {
        found.flatten().max_by(|a, b| a.autocorrelation_time.total_cmp(&b.autocorrelation_time))
    }
}

/// What `ember eval --mixing` finds.
#[derive(Clone, Debug, Serialize)]
pub struct Mixing {
    /// Kernel steps of each chain.
    pub steps: usize,
    /// Chains.
    pub chains: usize,
    /// Where they started: `walkers`, `draws` of the model, or its `start`.
    pub starts: &'static str,
    /// The kernel, as in the config.
    pub kernel: KernelConfig,
    /// Fraction of local proposals taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_rate: Option<f64>,
    /// Fraction of chains that a flow's proposal moved, in a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_accept_rate: Option<f64>,
    /// How often a chain is nearest to another mode than a step before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jumps_per_step: Option<f64>,
    /// U.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy: Option<Quantity>,
    /// The worst coordinate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinate: Option<Quantity>,
    /// Coordinates watched.
    pub coordinates: usize,
    /// The worst of the modes' indicators, where the data's modes are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Quantity>,
    /// What the figures do not tell.
    pub caveat: &'static str,
}

/// What was seen along the chains.
#[derive(Clone, Debug)]
pub struct Seen {
    /// U, `[chains][steps]`.
    pub energy: Vec<Vec<f32>>,
    /// Which coordinates were watched.
    pub columns: Vec<usize>,
    /// Each of them, `[columns][chains][steps]`.
    pub coordinates: Vec<Vec<Vec<f32>>>,
    /// The nearest mode, `[chains][steps]`; empty where no modes are known.
    pub modes: Vec<Vec<usize>>,
    /// Changes of the nearest mode, all chains together, the first step from the start included.
    pub jumps: usize,
    /// Mean acceptance of local proposals.
    pub accept_rate: Option<f64>,
    /// Mean acceptance of global ones.
    pub global_accept_rate: Option<f64>,
    /// Whether the kernel leaves the model invariant.
    pub is_invariant: bool,
}

impl Seen {
    /// How U mixes; `None` where it never differs.
    pub fn energy_mixing(&self) -> Option<Quantity> {
        Quantity::of(None, &self.energy)
    }

    /// How the worst coordinate mixes: that of the longest autocorrelation time. `None` where none ever differs.
    pub fn worst_coordinate(&self) -> Option<Quantity> {
        let watched = self.columns.iter().zip(&self.coordinates);
        Quantity::worst(watched.map(|(&j, chains)| Quantity::of(Some(j), chains)))
    }

    /// How the worst mode's indicator mixes. `None` where no modes are known, or all chains are in one and the
    /// same all the time.
    pub fn worst_mode(&self) -> Option<Quantity> {
        let indicator = |k: usize| -> Vec<Vec<f32>> {
            let is_k =
                |chain: &Vec<usize>| chain.iter().map(|&mode| f32::from(u8::from(mode == k))).collect();
            self.modes.iter().map(is_k).collect()
        };
        Quantity::worst((0..self.mode_count()).map(|k| Quantity::of(Some(k), &indicator(k))))
    }

    /// How often a chain is nearest to another mode than a step before; `None` where no modes are known.
    pub fn jumps_per_step(&self) -> Option<f64> {
        let steps = self.energy.len() * self.energy[0].len();
        (self.mode_count() > 0).then(|| self.jumps as f64 / steps as f64)
    }

    /// One more than the last mode seen.
    fn mode_count(&self) -> usize {
        self.modes.iter().flatten().max().map_or(0, |last| last + 1)
    }

    /// The figures, with the kernel and where the chains started.
    pub fn named(self, kernel: KernelConfig, starts: &'static str) -> Mixing {
        Mixing {
            steps: self.energy[0].len(),
            chains: self.energy.len(),
            starts,
            kernel,
            accept_rate: self.accept_rate,
            global_accept_rate: self.global_accept_rate,
            jumps_per_step: self.jumps_per_step(),
            energy: self.energy_mixing(),
            coordinate: self.worst_coordinate(),
            coordinates: self.columns.len(),
            mode: self.worst_mode(),
            caveat: if self.is_invariant {
                "modes that no chain visits are not seen"
            } else {
                "the kernel does not leave the model invariant: chains go to a law that is off by the order of the step size, and the \
                 figures are that law's; modes that no chain visits are not seen"
            },
        }
    }
}

/// The mode that a position `[dim]` belongs to.
pub type ModeOf<'a> = dyn Fn(&[f64]) -> usize + 'a;

/// How chains are run.
#[derive(Clone, Copy)]
pub struct ChainOptions<'a> {
    /// Kernel steps.
    pub steps: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// The mode that a position `[dim]` belongs to, where modes are known.
    pub mode_of: Option<&'a ModeOf<'a>>,
    /// Who hears how far they are.
    pub progress: &'a dyn Progress,
}

impl ChainOptions<'_> {
    /// Without modes, and nobody listens.
    pub fn new(steps: usize, seed: u64) -> Self {
        Self { steps, seed, mode_of: None, progress: &Silent }
    }
}

/// Steps of a kernel that needs nothing more, from `position: [chains, dim]`, at fixed θ. One read a step.
///
/// # Errors
/// An energy that is not finite, a step number beyond 32 bits.
pub fn along(
    energy: &dyn Energy,
    kernel: &dyn Kernel,
    position: Tensor<2>,
    options: ChainOptions<'_>,
) -> Result<Seen, Error> {
    let ([chains, _], dim, device) = (position.dims(), energy.dim(), position.device());
    let ChainOptions { steps, seed, mode_of, progress } = options;
    let columns = columns(dim, chains * steps);
    // The nearest mode needs every coordinate.
    let read: Vec<usize> = if mode_of.is_some() { (0..dim).collect() } else { columns.clone() };
    let count = read.len();
    let select = TensorData::new(read.into_iter().map(|j| j as i32).collect(), [count]);
    let select = Tensor::<1, Int>::from_data(select, &device);
    let place: Vec<usize> = if mode_of.is_some() { columns.clone() } else { (0..columns.len()).collect() };
    let rows = |walkers: &Walkers| {
        let energy = walkers.energy.clone().reshape([chains, 1]);
        download(Tensor::cat(vec![energy, walkers.position.clone().select(1, select.clone())], 1))
    };
    let mode_of_row = |row: &[f32]| {
        let x: Vec<f64> = row[1..].iter().map(|&x| f64::from(x)).collect();
        mode_of.map(|mode_of| mode_of(&x))
    };
    let mut walkers = Walkers::new(energy, position, f64::NAN);
    let width = 1 + count;
    let mut last: Vec<Option<usize>> = rows(&walkers).chunks_exact(width).map(mode_of_row).collect();
    let mut seen = Seen {
        energy: vec![Vec::with_capacity(steps); chains],
        coordinates: vec![vec![Vec::with_capacity(steps); chains]; columns.len()],
        columns,
        modes: vec![Vec::new(); if mode_of.is_some() { chains } else { 0 }],
        jumps: 0,
        accept_rate: None,
        global_accept_rate: None,
        is_invariant: kernel.weight_rule() == WeightRule::Invariant,
    };
    let (mut local, mut global) = (None, None);
    for step in 0..steps {
        let noise = Noise::at(seed, LANE, step as u64, kernel.noise_steps(), 0)?;
        let (moved, info) = kernel.step(energy, walkers, &noise);
        walkers = moved;
        local = plus(local, info.accept_rate);
        global = plus(global, info.global_accept_rate);
        for (c, row) in rows(&walkers).chunks_exact(width).enumerate() {
            if !row[0].is_finite() {
                return Err(Error::not_finite(format!(
                    "the energy of chain {c} is not finite after step {}: the step size is too large for this model",
                    step + 1
                )));
            }
            seen.energy[c].push(row[0]);
            for (series, &j) in seen.coordinates.iter_mut().zip(&place) {
                series[c].push(row[1 + j]);
            }
            if let Some(mode) = mode_of_row(row) {
                seen.jumps += usize::from(last[c].replace(mode) != Some(mode));
                seen.modes[c].push(mode);
            }
        }
        let done = step + 1;
        progress.reach("mixing", done as f64 / steps as f64, &|| format!("step {done} of {steps}"));
    }
    let mean = |sum: Option<Tensor<1>>| sum.map(|sum| f64::from(download(sum)[0]) / steps as f64);
    (seen.accept_rate, seen.global_accept_rate) = (mean(local), mean(global));
    Ok(seen)
}

/// Which coordinates are watched: all, or evenly spread ones, as many as `values` of each leave room for.
fn columns(dim: usize, values: usize) -> Vec<usize> {
    let count = dim.min(MOST_COORDINATES).min((MOST_NUMBERS / values).max(1));
    (0..count).map(|k| k * dim / count).collect()
}

fn plus(sum: Option<Tensor<1>>, rate: Option<Tensor<1>>) -> Option<Tensor<1>> {
    match (sum, rate) {
        (Some(sum), Some(rate)) => Some(sum + rate),
        (sum, rate) => sum.or(rate),
    }
}
