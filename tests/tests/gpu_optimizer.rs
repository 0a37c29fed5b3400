//! An optimiser over one buffer on the GPU path does what burn's does tensor by tensor on a processor, and stops where the state is
//! not as it must be.
#![cfg(feature = "wgpu")]

use burn::tensor::Tensor;
use ember_model::descent::{Alarm, Cause};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{EnergyModel, EnergySpec};
use ember_tests::{cpu, gpu};
use ember_train::config::{Adam, OptimizerConfig, Sgd};
use ember_train::training::optimizer::{Guarded, Optimizer};

/// Networks whose parameters fill less than a thread's share, an odd number of cubes, and more than one pass adds up.
const NETWORKS: [(usize, &[usize]); 4] = [(1, &[1]), (3, &[5, 7]), (2, &[128, 100]), (11, &[160, 150])];

fn model(dim: usize, hidden: &[usize], device: &burn::tensor::Device) -> EnergyModel {
    let spec = format!("kind = \"mlp\"\ndim = {dim}\nhidden = {hidden:?}\nconfinement = 1.0\n");
    EnergyModel::init(EnergySpec::from_metadata(&spec).expect("an energy"), 3, device).expect("it fits")
}

/// Gradients of one step, `scale` times a normal.
fn grads(model: &EnergyModel, step: u64, scale: f32) -> Vec<Vec<f32>> {
    let stream = Stream::new(9, Purpose::Noise).at(step).expect("small");
    let lens = model.params().into_iter().map(|spec| spec.len());
    lens.enumerate()
        .map(|(i, len)| stream.lane(i as u32).normals(1, len).into_iter().map(|z| scale * z).collect())
        .collect()
}

fn on(device: &burn::tensor::Device, grads: Vec<Vec<f32>>) -> Vec<Tensor<1>> {
    grads.into_iter().map(|values| upload(values, device)).collect()
}

fn sgd(clip_norm: Option<f64>) -> OptimizerConfig {
    let (schedule, target_ess, max_weight_change, ema) = (None, None, None, None);
    OptimizerConfig::Sgd(Sgd { learning_rate: 0.01, clip_norm, schedule, target_ess, max_weight_change, ema })
}

fn adam(clip_norm: Option<f64>) -> OptimizerConfig {
    OptimizerConfig::Adam(Adam { clip_norm, ..Adam::new(0.01) })
}

/// The largest difference of two parameter lists, of the largest change that either made.
fn difference(a: &EnergyModel, b: &EnergyModel, start: &EnergyModel) -> f32 {
    let pairs = a.host_theta().concat().into_iter().zip(b.host_theta().concat());
    let off = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let moved = a.host_theta().concat().into_iter().zip(start.host_theta().concat());
    off / moved.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Five steps of both rules, cut and not, agree to rounding.
#[test]
fn one_buffer_steps_as_tensor_by_tensor() {
    let Some(device) = gpu() else { return };
    for (dim, hidden) in NETWORKS {
        for config in [sgd(None), sgd(Some(0.5)), adam(None), adam(Some(0.5))] {
            let start = model(dim, hidden, &cpu());
            let (mut here, mut there) = (start.clone(), model(dim, hidden, &device));
            let mut optimizers = [0, 1].map(|_| Optimizer::new(&config, start.params()));
            for step in 0..5 {
                let g = grads(&start, step, 0.1);
                let (next, seen) = optimizers[0].step_model(step, &here, on(&cpu(), g.clone()));
                let (next_there, seen_there) = optimizers[1].step_model(step, &there, on(&device, g));
                (here, there) = (next, next_there);
                let (norm, norm_there) = (download(seen.grad_norm)[0], download(seen_there.grad_norm)[0]);
                assert!(
                    (norm - norm_there).abs() <= 1e-5 * norm,
                    "{hidden:?}: norm {norm_there}, not {norm}"
                );
            }
            let off = difference(&here, &there, &start);
            // Ten roundings a step, of numbers near the parameters' own size, which is up to a hundred times that of their change.
            assert!(off <= 1e-4, "{config:?}, {hidden:?}: off by {off:.2e}");
            let (last, first) = (there.host_theta().pop(), start.host_theta().pop());
            assert_eq!(last, first, "the last bias is frozen");
        }
    }
}

/// The comparison sees a rate that is 1 % off.
#[test]
fn a_wrong_rate_is_seen() {
    let Some(device) = gpu() else { return };
    let start = model(3, &[5, 7], &cpu());
    let mut right = Optimizer::new(&sgd(None), start.params());
    let mut wrong = Optimizer::new(&sgd(None), start.params());
    wrong.learning_rate_scale = 1.01;
    let g = grads(&start, 0, 0.1);
    let here = right.step_model(0, &start, on(&cpu(), g.clone())).0;
    let there = wrong.step_model(0, &model(3, &[5, 7], &device), on(&device, g)).0;
    assert!(difference(&here, &there, &start) > 5e-3);
}

/// The moments that a checkpoint holds go on bit for bit, and are a processor's to rounding.
#[test]
fn moments_come_back() {
    let Some(device) = gpu() else { return };
    let start = model(2, &[128, 100], &device);
    let config = adam(None);
    let mut whole = Optimizer::new(&config, start.params());
    let mut theta = start.clone();
    for step in 0..3 {
        theta = whole.step_model(step, &theta, on(&device, grads(&start, step, 0.1))).0;
    }
    let (tensors, counters) = whole.state();
    let counter = |name: &str| counters.iter().find(|(known, _)| known == name).map(|(_, time)| *time);
    let mut resumed = Optimizer::new(&config, start.params());
    resumed.load_state(&tensors, counter, &device).expect("its own state");
    let resumed_start =
        start.with_theta(theta.host_theta().into_iter().map(|t| upload(t, &device)).collect());
    let next = |optimizer: &mut Optimizer, from: &EnergyModel| {
        optimizer.step_model(3, from, on(&device, grads(&start, 3, 0.1))).0.host_theta()
    };
    assert_eq!(next(&mut whole, &theta), next(&mut resumed, &resumed_start));
    // One state a trained tensor: the last bias has none.
    assert_eq!(counters.len(), start.params().len() - 1);
    assert!(counters.iter().all(|(_, time)| *time == 3));
}

/// A number that is not finite, a gradient that is not, a gap too large: θ and the moments stay, and the first update is named.
#[test]
fn an_alarm_keeps_the_state() {
    let Some(device) = gpu() else { return };
    let start = model(3, &[5, 7], &device);
    let fine = || upload(vec![1.0, -2.0, 0.0], &device);
    let gap = |a: f32, b: f32| Some((upload(vec![a, b], &device), 10.0));
    let infinite = |place: usize| {
        let mut g = grads(&start, 1, 0.1);
        g[place][0] = f32::NAN;
        g
    };
    let good = || grads(&start, 1, 0.1);
    type Case<G> = (&'static str, Vec<f32>, G, Vec<Vec<f32>>, Option<Cause>);
    let cases: [Case<_>; 8] = [
        ("fine", vec![0.0; 4], None, good(), None),
        ("a NaN", vec![0.0, f32::NAN], None, good(), Some(Cause::State)),
        ("an infinity", vec![f32::INFINITY, 1.0], None, good(), Some(Cause::State)),
        ("a gradient", vec![0.0], None, infinite(2), Some(Cause::Gradient)),
        ("a frozen gradient", vec![0.0], None, infinite(5), None),
        ("a gap within", vec![0.0], gap(3.0, -6.9), good(), None),
        ("a gap beyond", vec![0.0], gap(3.0, -7.1), good(), Some(Cause::Gap)),
        ("a gap of NaN", vec![0.0], gap(3.0, f32::NAN), good(), Some(Cause::Gap)),
    ];
    for (what, finite, gap, g, cause) in cases {
        let mut optimizer = Optimizer::new(&adam(None), start.params());
        let none = Alarm::none(&fine());
        let step = 70_000;
        let guarded = Guarded { finite: upload(finite, &device), gap, is_negated: false };
        let (next, _, alarm) = optimizer.step_guarded(step, &start, &on(&device, g), guarded, none);
        let found = Alarm::unpack(&download(alarm.clone()));
        assert_eq!(found.map(|alarm| (alarm.step, alarm.cause)), cause.map(|cause| (step, cause)), "{what}");
        assert_eq!(next.host_theta() == start.host_theta(), cause.is_some(), "{what}: θ");
        let moments = optimizer.state().0;
        assert_eq!(
            moments.iter().all(|t| t.values.iter().all(|&v| v == 0.0)),
            cause.is_some(),
            "{what}: moments"
        );
        // Once it rang it keeps ringing, for the first update.
        let guarded = Guarded { finite: fine(), gap: None, is_negated: false };
        let (after, _, alarm) = optimizer.step_guarded(step + 1, &next, &on(&device, good()), guarded, alarm);
        let again = Alarm::unpack(&download(alarm));
        assert_eq!(
            again.map(|alarm| (alarm.step, alarm.cause)),
            cause.map(|cause| (step, cause)),
            "{what}: again"
        );
        assert_eq!(after.host_theta() == next.host_theta(), cause.is_some(), "{what}: θ afterwards");
    }
}
