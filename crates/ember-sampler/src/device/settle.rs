//! The operations behind [`Walkers::settled`](crate::Walkers::settled) on a GPU: nothing here waits for the device.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use ember_model::random::Stream;

use super::cube;
use super::rule::Rule;
use crate::banked::{Banked, Counter};
use crate::resampling::Scheme;
use crate::walkers::Walkers;
use crate::weights::{LogWeights, WeightStats};

/// The operations a GPU provides. Call the functions below instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
pub(crate) trait SettleOps: Backend {
    /// Statistics `[4]` and normalised weights `[walkers]` of log-weights.
    #[fusion(meta = |log_weights, _energy, _energy_grad| {
        (TensorSpec::new(Shape::from([4]), log_weights.dtype), log_weights.clone())
    })]
    fn weigh(
        log_weights: FloatTensor<Self>,
        energy: FloatTensor<Self>,
        energy_grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Position, energy, gradient, both parts of the log-weights and ancestors of the settled walkers; their weights, those of the
    /// walkers as they came, the statistics (`[4]`, or `[2R]` without energies), the banks and the counter.
    #[allow(clippy::too_many_arguments, clippy::type_complexity)]
    #[fusion(meta = |position, energy, energy_grad, hi, lo, ancestor, log_z, counter, rule| {
        let stats = if rule.with_energy { 4 } else { 2 };
        (
            position.clone(), energy.clone(), energy_grad.clone(), hi.clone(), lo.clone(), ancestor.clone(),
            hi.clone(), hi.clone(), TensorSpec::new(Shape::from([stats * rule.groups]), DType::F32),
            log_z.clone(), counter.clone(),
        )
    })]
    fn settle(
        position: FloatTensor<Self>,
        energy: FloatTensor<Self>,
        energy_grad: FloatTensor<Self>,
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        ancestor: IntTensor<Self>,
        log_z: FloatTensor<Self>,
        counter: FloatTensor<Self>,
        rule: Rule,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    );
}

impl SettleOps for CubeBackend {
    fn weigh(
        log_weights: FloatTensor<Self>,
        energy: FloatTensor<Self>,
        energy_grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        cube::settle::weigh(log_weights, energy, energy_grad)
    }

    fn settle(
        position: FloatTensor<Self>,
        energy: FloatTensor<Self>,
        energy_grad: FloatTensor<Self>,
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        ancestor: IntTensor<Self>,
        log_z: FloatTensor<Self>,
        counter: FloatTensor<Self>,
        rule: Rule,
    ) -> (
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        IntTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let [position, energy, energy_grad, hi, lo, ancestor, weights, before, stats, log_z, counter] =
            cube::settle::settle([position, energy, energy_grad, hi, lo, ancestor, log_z, counter], rule);
        (position, energy, energy_grad, hi, lo, ancestor, weights, before, stats, log_z, counter)
    }
}

/// The smallest `f32` that is not below `value`: an `f32` is below the one exactly if it is below the other.
fn limit(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) < value { near.next_up() } else { near }
}

/// Statistics and normalised weights.
pub(crate) fn weigh(walkers: &Walkers) -> (WeightStats, Tensor<1>) {
    let (stats, weights) = <Dispatch as SettleOps>::weigh(
        walkers.log_weights.value().into_dispatch(),
        walkers.energy.clone().into_dispatch(),
        walkers.energy_grad.clone().into_dispatch(),
    );
    (WeightStats::from_packed(Tensor::from_dispatch(stats)), Tensor::from_dispatch(weights))
}

/// The settled walkers, the statistics, their weights and those of the walkers as they came.
pub(crate) fn settle(
    walkers: Walkers,
    scheme: Scheme,
    threshold: f64,
    stream: Stream,
    within: bool,
) -> (Walkers, WeightStats, Tensor<1>, Tensor<1>) {
    let limit = limit(threshold * walkers.count() as f64);
    let rule = Rule { scheme, limit, stream, groups: 1, within, with_energy: true };
    let log_z = walkers.log_z.clone();
    let (walkers, log_z, stats, weights, before) = launch(walkers, log_z, rule);
    (Walkers { log_z, ..walkers }, WeightStats::from_packed(stats), weights, before)
}

/// The settled groups, their banks and ess and `log_mean_exp` of each, `[2R]`.
pub(crate) fn settle_groups(
    walkers: Walkers,
    log_z: Banked,
    scheme: Scheme,
    threshold: f64,
    stream: Stream,
) -> (Walkers, Banked, Tensor<1>) {
    let groups = log_z.len();
    let limit = limit(threshold * (walkers.count() / groups) as f64);
    let rule = Rule { scheme, limit, stream, groups, within: false, with_energy: false };
    let (walkers, log_z, stats, _, _) = launch(walkers, log_z, rule);
    (walkers, log_z, stats)
}

fn launch(walkers: Walkers, log_z: Banked, rule: Rule) -> (Walkers, Banked, Tensor<1>, Tensor<1>, Tensor<1>) {
    let count = walkers.count();
    assert!(i32::try_from(count).is_ok(), "{count} walkers do not fit 32-bit ancestors");
    let pairs = log_z.packed().expect("a bank lives where its walkers do");
    let counter = walkers.resamplings.packed().expect("a counter lives where its walkers do");
    let own_log_z = walkers.log_z.clone();
    let (position, energy, energy_grad, hi, lo, ancestor, weights, before, stats, pairs, counter) =
        <Dispatch as SettleOps>::settle(
            walkers.position.into_dispatch(),
            walkers.energy.into_dispatch(),
            walkers.energy_grad.into_dispatch(),
            walkers.log_weights.value().into_dispatch(),
            walkers.log_weights.compensation().into_dispatch(),
            walkers.ancestor.into_dispatch(),
            pairs.into_dispatch(),
            counter.into_dispatch(),
            rule,
        );
    let walkers = Walkers {
        position: Tensor::from_dispatch(position),
        energy: Tensor::from_dispatch(energy),
        energy_grad: Tensor::from_dispatch(energy_grad),
        log_weights: LogWeights::from_parts(Tensor::from_dispatch(hi), Tensor::from_dispatch(lo)),
        ancestor: Tensor::from_dispatch(ancestor),
        log_z: own_log_z,
        resamplings: Counter::moved(Tensor::from_dispatch(counter)),
    };
    let log_z = log_z.moved(Tensor::from_dispatch(pairs));
    let tensor = Tensor::from_dispatch;
    (walkers, log_z, tensor(stats), tensor(weights), tensor(before))
}

#[cfg(test)]
mod tests {
    use super::limit;

    #[test]
    fn the_limit_takes_the_host_s_decision() {
        for value in [0.5 * 4096.0, 0.1 * 257.0, 0.3 * 70_001.0, 1.0, 0.9 * 3.0, 1e-3 * 4096.0, 0.0] {
            let near = value as f32;
            for ess in [near.next_down(), near, near.next_up()] {
                assert_eq!(ess < limit(value), f64::from(ess) < value, "{ess} under {value}");
            }
        }
    }
}
