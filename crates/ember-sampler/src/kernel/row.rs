//! Steps in a row at fixed θ: in one piece where the energy takes them so ([`ember_model::energy::chain`]), else one by one.

use burn::tensor::Tensor;
use ember_model::Energy;
use ember_model::energy::chain::{Chain, ChainRule, ChainState};
use ember_model::random::Purpose;

use super::transition::{Boundary, Transition};
use super::{Kernel, StepInfo};
use crate::noise::Noise;
use crate::walkers::Walkers;
use crate::weights::LogWeights;

/// See [`Kernel::steps`]: one step after the other.
pub(super) fn one_by_one<K: Kernel + ?Sized>(
    kernel: &K,
    energy: &dyn Energy,
    last: &dyn Energy,
    mut walkers: Walkers,
    steps: u64,
    noise: &dyn Fn(u64) -> Noise,
) -> (Walkers, StepInfo) {
    let mut info = StepInfo::default();
    let mut accepted: Option<Tensor<1>> = None;
    for step in 0..steps {
        let energy = if step + 1 == steps { last } else { energy };
        (walkers, info) = kernel.step(energy, walkers, &noise(step));
        accepted = match (accepted, info.accept_rate.clone()) {
            (Some(sum), Some(rate)) => Some(sum + rate),
            (sum, rate) => sum.or(rate),
        };
    }
    info.mean_accept_rate = accepted.map(|sum| if steps > 1 { sum.div_scalar(steps as f64) } else { sum });
    (walkers, info)
}

/// The steps in one piece; `None` where the energy does not take them so, or the walkers have walls.
pub(super) fn in_one_piece(
    transition: &Transition,
    rule: ChainRule,
    energy: &dyn Energy,
    walkers: &Walkers,
    steps: u64,
    noise: &dyn Fn(u64) -> Noise,
) -> Option<(Walkers, StepInfo)> {
    let count = u32::try_from(steps).ok().filter(|count| *count > 0)?;
    if transition.boundary != Boundary::None || u32::try_from(walkers.count()).is_err() {
        return None;
    }
    let (first, stride) = evenly(steps, noise)?;
    let h = transition.step_size;
    let chain = Chain {
        rule,
        step_size: h as f32,
        noise_scale: (2.0 * h).sqrt() as f32,
        scale: 1.0,
        confinement: 0.0,
        grad_clip: transition.drift_clip.map(|clip| (clip / h) as f32),
        steps: count,
        noise: first.stream(Purpose::Noise),
        accept: first.stream(Purpose::Accept),
        stride,
    };
    let from = ChainState {
        position: walkers.position.clone(),
        energy: walkers.energy.clone(),
        energy_grad: walkers.energy_grad.clone(),
        log_weights: (walkers.log_weights.value(), walkers.log_weights.compensation()),
    };
    let end = energy.chain(&from, &chain)?;
    let (hi, lo) = end.state.log_weights;
    let walkers = Walkers {
        position: end.state.position,
        energy: end.state.energy,
        energy_grad: end.state.energy_grad,
        log_weights: LogWeights::from_parts(hi, lo),
        ..walkers.clone()
    };
    let (accept_rate, mean_accept_rate) = end.accepted.map(|taken| (taken.last, taken.mean)).unzip();
    Some((walkers, StepInfo { accept_rate, mean_accept_rate, ..StepInfo::default() }))
}

/// The first step's noise and how far apart step numbers are, where they are evenly spaced and all fit 32 bits.
fn evenly(steps: u64, noise: &dyn Fn(u64) -> Noise) -> Option<(Noise, u32)> {
    let first = noise(0);
    let stride = if steps > 1 { noise(1).step.checked_sub(first.step)? } else { 0 };
    let place = |step: u64| first.step.checked_add(step.checked_mul(stride)?);
    let even =
        (0..steps).all(|step| place(step).is_some_and(|at| noise(step) == Noise { step: at, ..first }));
    let fits = place(steps - 1).is_some_and(|at| u32::try_from(at).is_ok());
    (even && fits).then_some((first, u32::try_from(stride).ok()?))
}
