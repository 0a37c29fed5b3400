//! Chains of Langevin steps of a mixture in one launch on the GPU path: bit for bit their single steps, and the steps of the processor to
//! rounding.
#![cfg(feature = "wgpu")]

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::chain::{Chain, ChainEnd, ChainRule, ChainState};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::kernel::{Mala, Ula};
use ember_sampler::weights::LogWeights;
use ember_sampler::{Kernel, Noise, Walkers, WeightRule};
use ember_tests::explicit::{difference, drawn, energy_difference, normals};
use ember_tests::{cpu, gpu};

/// Of the largest value: sums of a few hundred products in another order, over a few steps.
const TOLERANCE: f32 = 5e-5;

/// Coordinates, modes, walkers: no multiples of anything, tiles that are not full, more tiles than one.
const CASES: [(usize, usize, usize); 5] = [(50, 2, 101), (1, 1, 1), (2, 5, 300), (17, 33, 45), (70, 3, 33)];

fn mixture(dim: usize, modes: usize, more: &str) -> String {
    format!("kind = \"gaussian_mixture\"\ndim = {dim}\nmeans = {:?}\n{more}", vec![vec![0.0]; modes])
}

fn here<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(TensorData::new(download(tensor.clone()), tensor.dims()), &cpu())
}

/// Walkers with unequal log-weights and the pair of `model`.
fn state(model: &EnergyModel, n: usize) -> ChainState {
    let x = normals(model, n, 7);
    let (energy, energy_grad) = model.energy_and_grad(x.clone());
    let weights = |lane: u32, size: f32| {
        let draws = Stream::new(2, Purpose::Start).lane(lane).normals(1, n);
        upload(draws.into_iter().map(|z| size * z).collect(), model.device())
    };
    ChainState { position: x, energy, energy_grad, log_weights: (weights(1, 30.0), weights(2, 1e-7)) }
}

fn chain(rule: ChainRule, steps: u32) -> Chain {
    let stream = |purpose| Stream::new(3, purpose).lane(5).at(10).expect("small");
    Chain {
        rule,
        step_size: 0.1,
        noise_scale: 0.2f32.sqrt(),
        scale: 1.0,
        confinement: 0.0,
        grad_clip: None,
        steps,
        noise: stream(Purpose::Noise),
        accept: stream(Purpose::Accept),
        stride: 3,
    }
}

fn bits(state: &ChainState) -> Vec<Vec<u32>> {
    let ChainState { position, energy, energy_grad, log_weights: (hi, lo) } = state.clone();
    let flat = [download(position), download(energy), download(energy_grad), download(hi), download(lo)];
    flat.into_iter().map(|values| values.into_iter().map(f32::to_bits).collect()).collect()
}

const RULES: [ChainRule; 3] =
    [ChainRule::Ula { weighted: true }, ChainRule::Ula { weighted: false }, ChainRule::Mala];

/// K steps in one launch are K launches of one step, to the bit, weights and acceptances included; and end with the pair of their own
/// positions.
#[test]
fn a_chain_is_its_single_steps() {
    let Some(device) = gpu() else { return };
    for (dim, modes, n) in [(50, 2, 101), (17, 33, 45), (2, 5, 300)] {
        let model = drawn(&mixture(dim, modes, ""), 3, &device);
        for rule in RULES {
            for steps in [1, 2, 7] {
                // Clipped or not is another kernel to compile: one of the two for each mixture.
                let chain = Chain { grad_clip: (modes % 2 == 1).then_some(0.5), ..chain(rule, steps) };
                let run = |from: &ChainState, part: &Chain| model.chain(from, part).expect("a chain");
                let from = state(&model, n);
                let (whole, single) = (run(&from, &chain), ChainEnd::in_parts(&from, &chain, 1, run));
                assert_eq!(bits(&whole.state), bits(&single.state), "{rule:?}, {steps} steps of {n}");
                let (energy, grad) = model.energy_and_grad(whole.state.position.clone());
                assert_eq!(download(energy), download(whole.state.energy.clone()), "the pair at the end");
                assert_eq!(download(grad), download(whole.state.energy_grad.clone()), "the pair at the end");
                assert_eq!(whole.accepted.is_some(), rule == ChainRule::Mala);
                if let (Some(whole), Some(single)) = (whole.accepted, single.accepted) {
                    assert_eq!(download(whole.last), download(single.last));
                    let [whole, single] = [whole.mean, single.mean].map(|mean| download(mean)[0]);
                    assert!(
                        (whole - single).abs() < 1e-6 && (0.0..=1.0).contains(&whole),
                        "{whole} {single}"
                    );
                }
            }
        }
    }
}

/// More steps than one launch may have rounds of its loops: software Vulkan would end them without a word.
#[test]
fn a_long_chain_is_its_parts() {
    let Some(device) = gpu() else { return };
    let model = drawn(&mixture(50, 2, ""), 3, &device);
    let from = state(&model, 9);
    let chain = Chain { step_size: 0.01, noise_scale: 0.02f32.sqrt(), ..chain(ChainRule::Mala, 4000) };
    let run = |from: &ChainState, part: &Chain| model.chain(from, part).expect("a chain");
    let (whole, parts) = (run(&from, &chain), ChainEnd::in_parts(&from, &chain, 100, run));
    assert_eq!(bits(&whole.state), bits(&parts.state));
}

fn noise(step: u64) -> Noise {
    Noise { seed: 4, lane: 1, step: 100 + 2 * step }
}

/// How far off a kernel's walkers are on the GPU after three steps, of each part of them, and the acceptances that the two report.
fn off(
    text: &str,
    n: usize,
    device: &Device,
    [kernel, other]: [&dyn Kernel; 2],
) -> (Vec<(&'static str, f64)>, [f32; 2]) {
    let run = |kernel: &dyn Kernel, device: &Device| {
        let (model, earlier) = (drawn(text, 3, device), drawn(text, 8, device));
        let start = state(&model, n);
        // The pair of another θ: ULA's increment spans the change.
        let invariant = kernel.weight_rule() == WeightRule::Invariant;
        let walkers = Walkers::new(if invariant { &model } else { &earlier }, start.position, 0.0);
        let (hi, lo) = start.log_weights;
        let start = Walkers { log_weights: LogWeights::from_parts(hi, lo), ..walkers };
        let (end, info) = kernel.steps(&model, &model.keeping(), start.clone(), 3, &noise);
        (start, end, info.mean_accept_rate.map_or(0.0, |rate| download(rate)[0]))
    };
    let (start, reference, expected) = run(kernel, &cpu());
    let (_, found, rate) = run(other, device);
    let earned = |walkers: &Walkers| {
        let [hi, lo, start_hi, start_lo] = [
            walkers.log_weights.value(),
            walkers.log_weights.compensation(),
            start.log_weights.value(),
            start.log_weights.compensation(),
        ]
        .map(|part| download(part).into_iter().map(f64::from).collect::<Vec<_>>());
        (0..hi.len()).map(|i| (hi[i] - start_hi[i]) + (lo[i] - start_lo[i])).collect::<Vec<f64>>()
    };
    let (earned, expected_earned) = (earned(&found), earned(&reference));
    let weights = earned.iter().zip(&expected_earned).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
    let parts = vec![
        ("position", f64::from(difference(&here(&found.position), &reference.position))),
        ("energy", f64::from(energy_difference(&here(&found.energy), &reference.energy))),
        ("energy_grad", f64::from(difference(&here(&found.energy_grad), &reference.energy_grad))),
        ("log-weights", 0.5 * weights.fold(0.0, f64::max)),
    ];
    (parts, [rate, expected])
}

#[test]
fn chains_follow_the_processor() {
    let Some(device) = gpu() else { return };
    let kernels: [&dyn Kernel; 4] = [
        &Ula::new(0.05),
        &Mala::new(0.1),
        &Ula { drift_clip: Some(0.03), ..Ula::new(0.05) },
        &Mala { drift_clip: Some(0.03), ..Mala::new(0.1) },
    ];
    for (i, (dim, modes, n)) in CASES.into_iter().enumerate() {
        let text = mixture(dim, modes, if i % 2 == 0 { "" } else { "temperature = 2.0\n" });
        for kernel in kernels {
            let (parts, [rate, expected]) = off(&text, n, &device, [kernel, kernel]);
            for (part, off) in parts {
                assert!(off < f64::from(TOLERANCE), "{kernel:?}, {text}: {part} off by {off:.1e}");
            }
            assert!((rate - expected).abs() < 1e-6, "{kernel:?}: {rate} {expected}");
        }
    }
}

/// A step size off by 1 % is seen in every part that it changes.
#[test]
fn another_step_size_is_seen() {
    let Some(device) = gpu() else { return };
    let (parts, _) = off(&mixture(50, 2, ""), 101, &device, [&Ula::new(0.05), &Ula::new(0.0505)]);
    for (part, off) in parts {
        assert!(off > 20.0 * f64::from(TOLERANCE), "{part}: {off:.1e} goes unseen");
    }
}

#[test]
fn a_large_population_moves() {
    let Some(device) = gpu() else { return };
    let kernel: &dyn Kernel = &Ula::new(0.05);
    let (parts, _) = off(&mixture(3, 2, ""), 70_001, &device, [kernel, kernel]);
    assert!(parts.iter().all(|(_, off)| *off < f64::from(TOLERANCE)), "{parts:?}");
}
