//! Chains of Langevin steps in one launch on the GPU path: bit for bit their single steps, and the steps of the processor to rounding.
#![cfg(feature = "wgpu")]

use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::chain::{Chain, ChainEnd, ChainRule, ChainState};
use ember_model::energy::{energy_and_grad_by_autodiff, with_tile};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::evidence::smc::{AnnealedPath, GaussianStart};
use ember_sampler::kernel::{Mala, Ula};
use ember_sampler::weights::LogWeights;
use ember_sampler::{Kernel, Noise, Walkers};
use ember_tests::explicit::{difference, drawn, energy_difference, normals};
use ember_tests::{cpu, gpu};

/// Of the largest value: sums of a few hundred products in another order, over a few steps.
const TOLERANCE: f32 = 5e-5;
/// Every way to cut a launch.
const TILES: [usize; 5] = [8, 16, 32, 64, 128];

fn mlp(dim: usize, hidden: &[usize], more: &str) -> String {
    format!("kind = \"mlp\"\ndim = {dim}\nhidden = {hidden:?}\nconfinement = 0.7\n{more}")
}

fn here<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(TensorData::new(download(tensor.clone()), tensor.dims()), &cpu())
}

/// Walkers with unequal log-weights.
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
        step_size: 0.2,
        noise_scale: 0.4f32.sqrt(),
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

/// K steps in one launch are K launches of one step, to the bit, weights and acceptances included; and end with the pair of their own positions.
#[test]
fn a_chain_is_its_single_steps() {
    let Some(device) = gpu() else { return };
    let weighted = ChainRule::Ula { weighted: true };
    type Case<'a> = (usize, &'a [usize], usize, usize, &'a [(ChainRule, bool)]);
    let cases: [Case<'_>; 3] = [
        (
            2,
            &[12, 20],
            70,
            8,
            &[(weighted, false), (ChainRule::Ula { weighted: false }, false), (ChainRule::Mala, false)],
        ),
        (5, &[9], 33, 64, &[(ChainRule::Mala, true)]),
        (3, &[7, 6, 5, 9], 131, 16, &[(weighted, true)]),
    ];
    for (dim, hidden, n, tile, rules) in cases {
        let model = drawn(&mlp(dim, hidden, ""), 3, &device);
        for &(rule, clipped) in rules {
            for steps in [1, 2, 7] {
                let chain = Chain { grad_clip: clipped.then_some(0.5), ..chain(rule, steps) };
                let run = |from: &ChainState, part: &Chain| model.chain(from, part).expect("a chain");
                let (whole, single) = with_tile(tile, || {
                    let from = state(&model, n);
                    (run(&from, &chain), ChainEnd::in_parts(&from, &chain, 1, run))
                });
                assert_eq!(bits(&whole.state), bits(&single.state), "{rule:?}, {steps} steps of {n}");
                let (energy, grad) = with_tile(tile, || model.energy_and_grad(whole.state.position.clone()));
                assert_eq!(download(energy), download(whole.state.energy.clone()), "the pair at the end");
                assert_eq!(download(grad), download(whole.state.energy_grad.clone()), "the pair at the end");
                assert_eq!(whole.accepted.is_some(), rule == ChainRule::Mala);
                if let (Some(whole), Some(single)) = (whole.accepted, single.accepted) {
                    assert_eq!(download(whole.last), download(single.last));
                    let [whole, single] = [whole.mean, single.mean].map(|mean| download(mean)[0]);
                    assert!((whole - single).abs() < 1e-6 && whole > 0.2 && whole < 1.0, "{whole} {single}");
                }
            }
        }
    }
}

/// More steps than one launch may have rounds of its loops: software Vulkan would end them without a word.
#[test]
fn a_long_chain_is_its_parts() {
    let Some(device) = gpu() else { return };
    let model = drawn(&mlp(2, &[40, 40], ""), 3, &device);
    let from = state(&model, 9);
    let chain = Chain { step_size: 0.01, noise_scale: 0.02f32.sqrt(), ..chain(ChainRule::Mala, 2500) };
    let run = |from: &ChainState, part: &Chain| model.chain(from, part).expect("a chain");
    let (whole, parts) = (run(&from, &chain), ChainEnd::in_parts(&from, &chain, 250, run));
    assert_eq!(bits(&whole.state), bits(&parts.state));
}

fn walkers(model: &EnergyModel, other: &EnergyModel, n: usize) -> Walkers {
    let start = state(model, n);
    // The pair of another θ: ULA's increment spans the change.
    let walkers = Walkers::new(other, start.position, 0.0);
    Walkers { log_weights: LogWeights::from_parts(start.log_weights.0, start.log_weights.1), ..walkers }
}

fn noise(step: u64) -> Noise {
    Noise { seed: 4, lane: 1, step: 100 + 2 * step }
}

/// Everything of the walkers but log-weights, which stay of size 30: by their change.
fn agree(what: &str, found: &Walkers, reference: &Walkers, start: &Walkers) {
    let close = |part: &str, off: f32| assert!(off < TOLERANCE, "{what}: {part} off by {off:.1e}");
    close("position", difference(&here(&found.position), &reference.position));
    close("energy", energy_difference(&here(&found.energy), &reference.energy));
    close("energy_grad", difference(&here(&found.energy_grad), &reference.energy_grad));
    let earned = |walkers: &Walkers| {
        let [hi, lo, start_hi, start_lo] = [
            walkers.log_weights.value(),
            walkers.log_weights.compensation(),
            start.log_weights.value(),
            start.log_weights.compensation(),
        ]
        .map(|part| download(part).into_iter().map(f64::from).collect::<Vec<_>>());
        let rows = hi.iter().zip(&lo).zip(start_hi.iter().zip(&start_lo));
        rows.map(|((hi, lo), (start_hi, start_lo))| (hi - start_hi) + (lo - start_lo)).collect::<Vec<f64>>()
    };
    for (found, reference) in earned(found).iter().zip(earned(reference)) {
        assert!((found - reference).abs() < 1e-4 * reference.abs().max(1.0), "{what}: {found} {reference}");
    }
}

/// Rows of a kernel on the GPU are those on the processor, step by step there, at shapes that are no multiple of anything and in every form.
#[test]
fn chains_follow_the_processor() {
    let Some(device) = gpu() else { return };
    let kernels: [&dyn Kernel; 4] = [
        &Ula::new(0.05),
        &Mala::new(0.2),
        &Ula { drift_clip: Some(0.03), ..Ula::new(0.05) },
        &Mala { drift_clip: Some(0.03), ..Mala::new(0.2) },
    ];
    let cases: [(usize, &[usize], usize, &str); 6] = [
        (2, &[24, 24], 101, ""),
        (1, &[5], 1, "activation = \"tanh\"\n"),
        (17, &[30, 7, 11], 45, "activation = \"softplus\"\n"),
        (6, &[66], 200, "spectral_norm = true\n"),
        (3, &[24, 16], 70, "levels = [0.1, 1.0]\n"),
        (2, &[16], 61, "temperature = 2.0\n"),
    ];
    for (i, (dim, hidden, n, more)) in cases.into_iter().enumerate() {
        let text = mlp(dim, hidden, more);
        let tile = TILES[i % TILES.len()];
        for kernel in [kernels[i % 4], kernels[(i + 1) % 4]] {
            let run = |device: &Device, count: u64| {
                let (model, other) = (drawn(&text, 3, device), drawn(&text, 8, device));
                let invariant = kernel.weight_rule() == ember_sampler::WeightRule::Invariant;
                let start = walkers(&model, if invariant { &model } else { &other }, n);
                let end = kernel.steps(&model, &model.keeping(), start.clone(), count, &noise);
                (start, end)
            };
            let (_, (found, info)) = with_tile(tile, || run(&device, 3));
            let (start, (reference, expected)) = run(&cpu(), 3);
            agree(&format!("{kernel:?}, {text}"), &found, &reference, &start);
            let rates = |info: ember_sampler::StepInfo| {
                [info.accept_rate, info.mean_accept_rate].map(|rate| rate.map(|rate| download(rate)[0]))
            };
            for (found, expected) in rates(info).into_iter().zip(rates(expected)) {
                assert_eq!(found.is_some(), expected.is_some());
                let (found, expected) = (found.unwrap_or(0.0), expected.unwrap_or(0.0));
                assert!((found - expected).abs() < 1e-6, "{kernel:?}: {found} {expected}");
            }
        }
    }
}

/// The comparison of log-weights sees an increment without its half terms, and one without the term in h.
#[test]
fn a_wrong_increment_is_seen() {
    let Some(device) = gpu() else { return };
    let model = drawn(&mlp(2, &[24, 24], ""), 3, &device);
    let from = state(&model, 50);
    let to = model.chain(&from, &chain(ChainRule::Ula { weighted: true }, 1)).expect("a chain").state;
    let zeros = from.energy.zeros_like();
    let plain = ChainState { log_weights: (zeros.clone(), zeros), ..from.clone() };
    let earned = model
        .chain(&plain, &chain(ChainRule::Ula { weighted: true }, 1))
        .expect("a chain")
        .state
        .log_weights
        .0;
    let [x, gx, y, gy] = [&from.position, &from.energy_grad, &to.position, &to.energy_grad].map(here);
    let [ux, uy] = [&from.energy, &to.energy].map(here);
    let (h, earned) = (0.2, here(&earned));
    // Δ = U(x) − U(y) + ½ (∇U(x) + ∇U(y))·(y − x + (h/2)(∇U(x) − ∇U(y)))
    let increment = |half: f64, step: f64| {
        let gap = y.clone() - x.clone() + (gx.clone() - gy.clone()).mul_scalar(step);
        let work = ((gx.clone() + gy.clone()) * gap).sum_dim(1).squeeze_dim::<1>(1);
        ux.clone() - uy.clone() + work.mul_scalar(half)
    };
    let off = |half, step| difference(&earned, &increment(half, step));
    assert!(off(0.5, 0.5 * h) < TOLERANCE, "{}", off(0.5, 0.5 * h));
    for (half, step) in [(0.0, 0.0), (1.0, 0.5 * h), (0.5, 0.0), (0.5, h)] {
        assert!(off(half, step) > 20.0 * TOLERANCE, "{half} {step}: {} goes unseen", off(half, step));
    }
}

/// Energies and gradients in every form, and in the one for wide networks, are the tape's.
#[test]
fn every_form_evaluates() {
    let Some(device) = gpu() else { return };
    let cases: [(usize, &[usize], usize, &[usize]); 5] = [
        (2, &[128, 128], 75, &[8, 32]),
        (1, &[5], 1, &[128]),
        (40, &[33, 12], 130, &[16, 64]),
        (3, &[64], 300, &[128, 0]),
        (2, &[256, 100], 19, &[8, 0]),
    ];
    for (dim, hidden, n, tiles) in cases {
        let text = mlp(dim, hidden, "");
        let (here_model, there) = (drawn(&text, 3, &cpu()), drawn(&text, 3, &device));
        let architecture = here_model.spec().build().expect("it fits");
        let x = normals(&here_model, n, 7);
        let (energy, grad) = energy_and_grad_by_autodiff(architecture.as_ref(), here_model.theta(), x);
        for &tile in tiles {
            let (found, found_grad) = with_tile(tile, || there.energy_and_grad(normals(&there, n, 7)));
            let off = energy_difference(&here(&found), &energy).max(difference(&here(&found_grad), &grad));
            assert!(off < 2e-5, "{text} {n} walkers in tiles of {tile}: {off:.1e}");
        }
    }
}

/// Many tiles a cube, and a last one that is not full.
#[test]
fn a_large_population_moves() {
    let Some(device) = gpu() else { return };
    let text = mlp(1, &[5], "");
    let run = |device: &Device| {
        let model = drawn(&text, 3, device);
        let start = walkers(&model, &model, 70_001);
        let end = Ula::new(0.05).steps(&model, &model, start.clone(), 2, &noise).0;
        (start, end)
    };
    let ((start, reference), (_, found)) = (run(&cpu()), with_tile(8, || run(&device)));
    agree("70,001 walkers", &found, &reference, &start);
}

/// A rung of an annealed path from an isotropic Gaussian is a chain of the energy at a temperature.
#[test]
fn annealed_paths_are_chains() {
    let Some(device) = gpu() else { return };
    let text = mlp(3, &[20, 20], "");
    let run = |device: &Device| {
        let model = drawn(&text, 3, device);
        let path = AnnealedPath::new(&model, GaussianStart::of(&model).expect("confined"), device);
        let energy = path.at(0.3);
        let start = Walkers::new(&energy, normals(&model, 40, 7), 0.0);
        let is_chain = energy
            .chain(
                &ChainState {
                    position: start.position.clone(),
                    energy: start.energy.clone(),
                    energy_grad: start.energy_grad.clone(),
                    log_weights: (start.log_weights.value(), start.log_weights.compensation()),
                },
                &chain(ChainRule::Mala, 1),
            )
            .is_some();
        let end = path.kernel(0.3).steps(&energy, &energy, start.clone(), 3, &noise).0;
        (start, end, is_chain)
    };
    let ((start, reference, plain), (_, found, chained)) = (run(&cpu()), run(&device));
    assert!(chained && !plain);
    agree("a rung", &found, &reference, &start);
}

/// A proposal whose energy is not finite is never taken.
#[test]
fn non_finite_proposals_are_rejected() {
    let Some(device) = gpu() else { return };
    let model = drawn(&mlp(2, &[8], ""), 3, &device);
    let mut theta = model.theta().to_vec();
    let last = theta.len() - 1;
    theta[last] = upload(vec![f32::NAN], &device);
    let broken = model.with_theta(theta);
    let from = state(&model, 21);
    let end = broken.chain(&from, &chain(ChainRule::Mala, 3)).expect("a chain");
    assert_eq!(bits(&end.state), bits(&from));
    assert_eq!(download(end.accepted.expect("rates").mean), [0.0]);
}

/// 2,000 steps of MALA, one call each, end: what they did not on an H100 in a minute.
#[test]
fn two_thousand_mala_steps_end() {
    let Some(device) = gpu() else { return };
    let model = drawn(&mlp(2, &[32, 32], ""), 3, &device);
    let mut walkers = Walkers::new(&model, normals(&model, 64, 7), 0.0);
    let begin = Instant::now();
    let mut accepted: Option<Tensor<1>> = None;
    for step in 0..2_000 {
        let (moved, info) = Mala::new(0.01).step(&model, walkers, &noise(step));
        walkers = moved;
        let rate = info.accept_rate.expect("MALA accepts");
        accepted = Some(accepted.map_or(rate.clone(), |sum| sum + rate));
    }
    let mean = f64::from(download(accepted.expect("steps"))[0]) / 2_000.0;
    println!("2,000 MALA steps at 64 walkers: {:?}, {mean} accepted", begin.elapsed());
    assert!(mean > 0.5 && mean < 1.0, "{mean}");
    assert!(begin.elapsed() < Duration::from_secs(120), "{:?}", begin.elapsed());
}
