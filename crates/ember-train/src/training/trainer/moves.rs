//! The kernel of an update: its step size, its flows, and what is learned from its acceptance.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ember_model::EnergyModel;
use ember_model::params::download;
use ember_sampler::kernel::ready;
use ember_sampler::{FlowProposal, Kernel, Noise, Proposals, StepInfo};

use super::Trainer;
use super::assist::Change;
use crate::config::{Config, WalkerInit};
use crate::dataset::{Modes, Rows};
use crate::error::Error;
use crate::training::start;

/// How fast the step size follows the acceptance: `log h += GAIN (a − target)`.
const GAIN: f64 = 0.05;
/// Steps of the starting walkers' doubles that set a step size before the run, and their number and their gain.
const WARM_UP: u64 = 200;
const WARM_UP_WALKERS: usize = 1_000;
const WARM_UP_GAIN: f64 = 0.2;
/// Their lane.
const WARM_UP_LANE: u32 = 1 << 22;

/// The step size that brings the acceptance of the starting model's draws to the target, and that is then frozen: their own
/// draws, not the walkers, so that the weights know nothing of it.
///
/// # Errors
/// As [`start::walkers`] and [`ready`].
pub(super) fn warm_up(
    config: &Config,
    target: f64,
    model: &EnergyModel,
    proposals: Option<&Proposals>,
    device: &Device,
) -> Result<f64, Error> {
    let own = config.kernel.kernel.as_dyn();
    let count = config.walkers.count.min(WARM_UP_WALKERS);
    let (init, seed) = (WalkerInit::Model, config.seed);
    let mut walkers = start::walkers(model, init, count, &Rows::F32(Vec::new()), seed, WARM_UP_LANE, device)?;
    let mut step_size = own.step_size().unwrap_or_default();
    for step in 0..WARM_UP {
        let kernel = ready(&config.kernel.kernel, Some(step_size), proposals)?;
        let noise = Noise::at(seed, WARM_UP_LANE, step, own.noise_steps(), 0)?;
        let (moved, info) = kernel.step(model, walkers, &noise);
        walkers = moved;
        let rate = info.accept_rate.map_or(target, |rate| f64::from(download(rate)[0]));
        step_size *= (WARM_UP_GAIN * (rate - target)).exp();
    }
    tracing::info!(
        step_size,
        "the kernel's step size, set on draws of the starting model; frozen from here on, because weights need a fixed kernel"
    );
    Ok(step_size)
}

impl Trainer {
    /// The flows that the kernel proposes from.
    pub(crate) fn proposals(&self) -> Option<Proposals> {
        match &self.assist {
            Some(assist) => Some(assist.proposals()),
            None => FlowProposal::of(&self.model).map(Proposals::one),
        }
    }

    /// The kernel as it moves the walkers in this update.
    pub(super) fn kernel(&self) -> Result<Box<dyn Kernel>, Error> {
        let kernel = &self.config.kernel.kernel;
        let proposals = kernel.as_dyn().needs_proposals().then(|| self.proposals()).flatten();
        let ready = ready(kernel, self.step_size, proposals.as_ref())?;
        let proposes = self.assist.as_ref().is_none_or(|assist| assist.proposes(self.step));
        match ready.local_part().filter(|_| !proposes) {
            Some(local) => Ok(local),
            None => Ok(ready),
        }
    }

    fn adapts(&self) -> bool {
        self.config.kernel.target_accept_rate.is_some() && !self.config.objective.as_dyn().carries_weights()
    }

    /// The acceptances that this update learns from, `[1]` each: they join the update's one read.
    pub(super) fn rates_to_follow(&self, info: &StepInfo) -> Vec<Tensor<1>> {
        let local = info.accept_rate.clone().filter(|_| self.adapts());
        let global = info.global_accept_rate.clone().filter(|_| self.assist.is_some());
        local.into_iter().chain(global).collect()
    }

    /// Learns from them: the step size follows the local acceptance, the flow falls out of use below its floor.
    pub(super) fn follow(&mut self, info: &StepInfo, rates: &[f32]) {
        let mut rates = rates.iter().map(|&rate| f64::from(rate));
        if self.adapts()
            && info.accept_rate.is_some()
            && let (Some(rate), Some(target)) = (rates.next(), self.config.kernel.target_accept_rate)
        {
            let rate = if rate.is_finite() { rate } else { 0.0 };
            self.step_size = self.step_size.map(|h| h * (GAIN * (rate - target)).exp());
        }
        let floor = self.config.objective.as_dyn().assisted().map_or(0.0, |assisted| assisted.accept_floor);
        if let (Some(assist), Some(rate)) = (&mut self.assist, rates.next()) {
            match assist.follow(rate, floor) {
                Some(Change::Collapsed(rate)) => {
                    let rest = match self.config.kernel.kernel.as_dyn().local_part() {
                        Some(_) => "local moves go on alone, and the flow is tried again every 50 updates",
                        None => {
                            "and the kernel has no local moves to fall back on: `ex2mcmc`, or `flow_mh` with local_steps, has"
                        }
                    };
                    tracing::warn!(
                        step = self.step,
                        "the proposal flow has collapsed: {rate:.4} of its moves are accepted, objective.accept_floor is {floor}; {rest}"
                    );
                }
                Some(Change::Recovered(rate)) => tracing::info!(
                    step = self.step,
                    "the proposal flow is of use again: {rate:.4} of its moves are accepted"
                ),
                None => {}
            }
        }
    }
}

/// The modes of the data on the device: for who jumps between them.
pub(super) enum DeviceModes {
    /// Centres `[dim, modes]` and `½ |c|²` of each, `[1, modes]`.
    Centres(Box<[Tensor<2>; 2]>),
    /// Radii, `[1, modes]`.
    Rings(Box<Tensor<2>>),
}

impl DeviceModes {
    /// The same modes on a device.
    pub(super) fn new(modes: &Modes, device: &Device) -> Self {
        let upload = |values: Vec<f32>, shape| Tensor::<2>::from_data(TensorData::new(values, shape), device);
        match modes {
            Modes::Centres(centres) => {
                let shape = [centres.len(), centres.first().map_or(0, Vec::len)];
                let centres =
                    upload(centres.iter().flatten().map(|&c| c as f32).collect(), shape).transpose();
                let half_square = (centres.clone() * centres.clone()).sum_dim(0).mul_scalar(0.5);
                Self::Centres(Box::new([centres, half_square]))
            }
            Modes::Rings(radii) => {
                Self::Rings(Box::new(upload(radii.iter().map(|&r| r as f32).collect(), [1, radii.len()])))
            }
        }
    }

    /// The mode of every row. `x: [walkers, dim]` → `[walkers]`.
    pub(super) fn of(&self, x: Tensor<2>) -> Tensor<1, Int> {
        let nearness = match self {
            // x·c − ½ |c|²
            Self::Centres(centres) => x.matmul(centres[0].clone()) - centres[1].clone(),
            Self::Rings(radii) => ((x.clone() * x).sum_dim(1).sqrt() - *radii.clone()).abs().neg(),
        };
        nearness.argmax(1).squeeze_dim::<1>(1)
    }
}
