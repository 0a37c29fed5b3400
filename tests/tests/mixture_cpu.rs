//! The one-pass CPU form of `gaussian_mixture` is its tensor form: energies and every gradient, in one phase and in two.

use ember_model::Energy;
use ember_model::EnergyModel;
use ember_model::params::download;
use ember_tests::cpu;
use ember_tests::explicit::{differences, drawn, normals, threads_do_not_matter};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Of the largest value of the tensor compared.
const TOLERANCE: f32 = 1e-5;

fn model(dim: usize, modes: usize, seed: u64) -> EnergyModel {
    let means = vec![vec![0.0]; modes];
    drawn(&format!("kind = \"gaussian_mixture\"\ndim = {dim}\nmeans = {means:?}\n"), seed, &cpu())
}

fn agree(model: &EnergyModel, n: usize) {
    for (what, difference) in differences(model, n) {
        assert!(difference <= TOLERANCE, "{what}: off by {difference:.2e} ({n} rows, {:?})", model.spec());
    }
}

proptest! {
    // A fixed seed: a steep network, or an activation's kink that two roundings see from two sides, has no bound.
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn the_one_pass_form_is_the_tape(dim in 1usize..70, modes in 1usize..6, n in 1usize..900, seed in 0u64..1000) {
        agree(&model(dim, modes, seed), n);
    }
}

/// Every gradient of a kept pass is compared, not only those of a fresh one.
#[test]
fn passes_are_kept() {
    let found = differences(&model(50, 2, 3), 300);
    assert_eq!(found.iter().filter(|(what, _)| what.ends_with(" of kept passes")).count(), 2);
}

#[test]
fn threads_give_the_same_bits() {
    threads_do_not_matter(&model(50, 2, 4), 2_101);
}

/// A position that is not a number, or infinite, gives an energy that is not finite, and spoils no other row's.
#[test]
fn nothing_hides_a_nan() {
    let model = model(5, 3, 1);
    for bad in [f32::NAN, f32::INFINITY] {
        let x = normals(&model, 300, 1);
        let clean = download(model.energy(x.clone()));
        let mut values = download(x.clone());
        values[7 * 5 + 2] = bad;
        let x = burn::tensor::Tensor::<2>::from_data(burn::tensor::TensorData::new(values, [300, 5]), &cpu());
        for energy in [model.energy(x.clone()), model.energy_and_grad(x).0] {
            let energy = download(energy);
            assert!(!energy[7].is_finite());
            assert!(energy.iter().zip(&clean).enumerate().all(|(i, (a, b))| i == 7 || a == b));
        }
    }
}
