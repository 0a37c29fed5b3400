//! A step of an optimiser on a GPU: clipping, the rule and a check of the state, for all parameters at once in one or two launches.
//!
//! θ, its gradient and the moments are one flat buffer each (`flat.rs`). The host reads nothing: what must hold for a step to be made
//! is decided on the device. Where it does not hold, θ and the moments stay as they are, from that update on, and an [`Alarm`] says
//! which update it was; the host reads it when it reads anything. The plain twin is burn's optimiser, tensor by tensor, and a host
//! that looks at every update.
//!
//! ```text
//! |G|² = Σ_trained g²                          fixed order: every launch adds up the same numbers in the same way
//! g ← g · min(1, clip / (|G| + 1e−12))
//! sgd   θ ← θ − η s g
//! adam  m ← β₁ m + (1 − β₁) g,  v ← β₂ v + (1 − β₂) g²,  θ ← θ − η s κ m / (√v + ε√(1 − β₂ᵗ)),  κ = √(1 − β₂ᵗ) / (1 − β₁ᵗ)
//! ```
//! (Kingma and Ba 2015, the form at the end of their section 2); `s` is a parameter's share of the learning rate.

mod kernel;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Shape, Tensor};
use burn_cubecl::{Cube, CubeBackend};

/// How a gradient becomes a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// Plain gradient descent.
    Sgd,
    /// Adam.
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
        /// Steps made, this one included.
        time: u32,
    },
}

/// One step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// The rule.
    pub rule: Rule,
    /// η.
    pub learning_rate: f32,
    /// The norm that the gradient is cut to.
    pub clip_norm: Option<f32>,
    /// The largest difference of the two energies in `gap`.
    pub max_gap: Option<f32>,
    /// Whether the gradient comes with the opposite sign: a launch less where its weights are at hand with that sign.
    pub is_negated: bool,
    /// The parameter update, for the alarm.
    pub step: u64,
}

/// What must hold for a step to be made. All on the device.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Numbers that must be finite, `[m]`, m ≤ 256.
    pub finite: Tensor<1>,
    /// Mean energies of data and walkers, `[2]`, where [`Descent::max_gap`] is asked for.
    pub gap: Option<Tensor<1>>,
    /// The alarm so far, `[Alarm::LEN]`; see [`Alarm::none`].
    pub alarm: Tensor<1>,
}

/// θ and what the optimiser keeps, after a step. All on the device.
#[derive(Clone, Debug)]
pub struct Descended {
    /// θ, `[total]`.
    pub theta: Tensor<1>,
    /// The two moments, `[total]` each; those passed in for a rule that has none.
    pub moments: [Tensor<1>; 2],
    /// The gradient's norm before it was cut, `[1]`.
    pub norm: Tensor<1>,
    /// The alarm, `[Alarm::LEN]`.
    pub alarm: Tensor<1>,
}

/// The first update at which the state was not as it must be, in host memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alarm {
    /// The update.
    pub step: u64,
    /// Why.
    pub cause: Cause,
    /// The energy gap then; 0 where it was not asked for.
    pub gap: f32,
    /// The gradient's norm then.
    pub norm: f32,
}

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A number of [`Guard::finite`] is not finite.
    State,
    /// The gradient's norm is not finite.
    Gradient,
    /// The energy gap is not finite, or larger than allowed.
    Gap,
}

impl Alarm {
    /// Numbers of an alarm on the device: the update in two halves of 16 bits (plus one, so that 0 is none), the cause, gap, norm.
    pub const LEN: usize = 5;

    /// No alarm, beside `like`.
    pub fn none(like: &Tensor<1>) -> Tensor<1> {
        Tensor::zeros([Self::LEN], &like.device())
    }

    /// From its numbers, once they are read; `None` where there was no alarm.
    pub fn unpack(values: &[f32]) -> Option<Self> {
        let at = (values[0] as u64) << 16 | values[1] as u64;
        let cause = match values[2] as u32 {
            1 => Cause::State,
            2 => Cause::Gradient,
            _ => Cause::Gap,
        };
        at.checked_sub(1).map(|step| Self { step, cause, gap: values[3], norm: values[4] })
    }
}

/// The operation a GPU provides. Call [`descend`] instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait DescentOps: Backend {
    // An operation takes and gives tensors, nothing that holds them.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    #[fusion(meta = |theta, _grad, _scales, m, v, _finite, _gap, _alarm, _descent| {
        let short = |len: usize| TensorSpec::new(Shape::from([len]), theta.dtype);
        (theta.clone(), m.clone(), v.clone(), short(1), short(Alarm::LEN))
    })]
    fn descend(
        theta: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        finite: FloatTensor<Self>,
        gap: FloatTensor<Self>,
        alarm: FloatTensor<Self>,
        descent: Descent,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl DescentOps for CubeBackend {
    fn descend(
        theta: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        m: FloatTensor<Self>,
        v: FloatTensor<Self>,
        finite: FloatTensor<Self>,
        gap: FloatTensor<Self>,
        alarm: FloatTensor<Self>,
        descent: Descent,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        kernel::descend([theta, grad, scales, m, v], [finite, gap, alarm], descent)
    }
}

/// Whether a tensor is where these operations run.
pub fn serves(tensor: &Tensor<1>) -> bool {
    tensor.clone().try_into_primitive::<Cube>().is_ok()
}

/// One step. `theta`, `grad`, `scales` (each parameter's share of the learning rate, 0 where it is frozen) and the moments are
/// `[total]` each, on a GPU.
pub fn descend(
    theta: Tensor<1>,
    grad: Tensor<1>,
    scales: Tensor<1>,
    [m, v]: [Tensor<1>; 2],
    guard: Guard,
    descent: Descent,
) -> Descended {
    let gap = guard.gap.unwrap_or_else(|| guard.alarm.clone());
    let (theta, m, v, norm, alarm) = <Dispatch as DescentOps>::descend(
        theta.into_dispatch(),
        grad.into_dispatch(),
        scales.into_dispatch(),
        m.into_dispatch(),
        v.into_dispatch(),
        guard.finite.into_dispatch(),
        gap.into_dispatch(),
        guard.alarm.into_dispatch(),
        descent,
    );
    let [theta, m, v, norm, alarm] = [theta, m, v, norm, alarm].map(Tensor::from_dispatch);
    Descended { theta, moments: [m, v], norm, alarm }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_names_any_update() {
        assert_eq!(Alarm::unpack(&[0.0; 5]), None);
        for step in [0u64, 1, 65_534, 65_535, 65_536, 16_777_216, u64::from(u32::MAX) - 1] {
            let at = step + 1;
            let found = Alarm::unpack(&[(at >> 16) as f32, (at & 0xFFFF) as f32, 3.0, 1.5, 2.5]);
            assert_eq!(found, Some(Alarm { step, cause: Cause::Gap, gap: 1.5, norm: 2.5 }));
        }
    }
}
