//! The rule of Metropolis et al. (1953) and Hastings (1970): a proposal is taken with probability `min(1, a)`.

use burn::tensor::{Bool, Tensor};
use ember_model::random::Purpose;

use crate::device::open_uniform;
use crate::noise::Noise;
use crate::walkers::Walkers;

/// Points `[walkers, dim]` with their energies `[walkers]` and gradients `[walkers, dim]`.
pub(crate) type Points = (Tensor<2>, Tensor<1>, Tensor<2>);

/// The walkers after accepting or rejecting `proposed` at `log a`, `[walkers]`, and which of them moved. Nothing is
/// taken whose ratio is NaN or whose energy is not finite.
pub(super) fn metropolis(
    walkers: Walkers,
    proposed: Points,
    log_ratio: Tensor<1>,
    noise: &Noise,
) -> (Walkers, Tensor<1, Bool>) {
    // u > 0: log 0 would take a proposal of any finite ratio.
    let uniforms = open_uniform(walkers.count(), noise.stream(Purpose::Accept), &log_ratio.device());
    // A NaN ratio compares false: rejected.
    let accept = uniforms.log().lower(log_ratio).bool_and(is_finite(proposed.1.clone()));
    (replaced(walkers, proposed, accept.clone()), accept)
}

/// The walkers with the rows that `moved` names taken from `points`.
pub(crate) fn replaced(walkers: Walkers, (x, energy, grad): Points, moved: Tensor<1, Bool>) -> Walkers {
    let rows = moved.clone().reshape([walkers.count(), 1]);
    Walkers {
        energy: walkers.energy.mask_where(moved, energy),
        position: walkers.position.mask_where(rows.clone(), x),
        energy_grad: walkers.energy_grad.mask_where(rows, grad),
        ..walkers
    }
}

/// Which values are finite, by a comparison, which no compiler simplifies away.
pub(super) fn is_finite(values: Tensor<1>) -> Tensor<1, Bool> {
    values.abs().lower_elem(f32::MAX)
}

/// Which rows of `[walkers, dim]` have a finite square.
pub(super) fn is_finite_row(values: Tensor<2>) -> Tensor<1, Bool> {
    is_finite((values.clone() * values).sum_dim(1).squeeze_dim::<1>(1))
}

/// The fraction of true entries, `[1]`.
pub(super) fn fraction(taken: Tensor<1, Bool>) -> Tensor<1> {
    crate::reduce::mean(taken.float())
}
