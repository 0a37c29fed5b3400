//! The explicit CPU form of `mlp` is its tensor form: energies and every gradient, in one phase and in two, on random networks.

use ember_model::EnergyModel;
use ember_tests::cpu;
use ember_tests::explicit::{
    a_wrong_weight_is_seen, differences, drawn, gradient_is_the_energies, threads_do_not_matter,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Of the largest value of the tensor compared.
const TOLERANCE: f32 = 1e-5;

const SMALL: &str =
    "kind = \"mlp\"\ndim = 3\nhidden = [20, 33, 17]\nactivation = \"silu\"\nconfinement = 0.5\n";

fn model(metadata: &str, seed: u64) -> EnergyModel {
    drawn(metadata, seed, &cpu())
}

fn agree(model: &EnergyModel, n: usize) {
    for (what, difference) in differences(model, n) {
        assert!(difference <= TOLERANCE, "{what}: off by {difference:.2e} ({n} rows, {:?})", model.spec());
    }
}

/// Thin and wide samples, one to four hidden layers of any width, with and without confinement.
fn perceptrons() -> impl Strategy<Value = String> {
    let activation = prop::sample::select(vec!["silu", "tanh", "softplus", "relu", "leaky_relu"]);
    (1usize..40, prop::collection::vec(1usize..70, 1..5), activation, 0usize..2).prop_map(
        |(dim, hidden, activation, confinement)| {
            format!(
                "kind = \"mlp\"\ndim = {dim}\nhidden = {hidden:?}\nactivation = \"{activation}\"\nconfinement = {}\n",
                0.5 * confinement as f64
            )
        },
    )
}

proptest! {
    // A fixed seed: a steep network, or an activation's kink that two roundings see from two sides, has no bound.
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    /// Up to five blocks, the last one of any size.
    #[test]
    fn the_explicit_form_is_the_tape(metadata in perceptrons(), n in 1usize..600, seed in 0u64..1000) {
        agree(&model(&metadata, seed), n);
    }
}

/// The networks of the benchmarks, over more blocks than one leaf of the sum.
#[test]
fn the_networks_of_the_benchmarks() {
    for (dim, width) in [(2, 128), (64, 256)] {
        let metadata =
            format!("kind = \"mlp\"\ndim = {dim}\nhidden = [{width}, {width}, {width}]\nconfinement = 1.0\n");
        agree(&model(&metadata, 1), 1_937);
    }
}

#[test]
fn gelu_networks_have_the_same_energies() {
    // burn's own derivative of GELU is that of another approximation: only energies are compared.
    let model = model("kind = \"mlp\"\ndim = 5\nhidden = [31, 12]\nactivation = \"gelu\"\n", 3);
    for (what, difference) in differences(&model, 137).iter().filter(|(what, _)| what.starts_with("energ")) {
        assert!(*difference <= TOLERANCE || what == "energy_grad", "{what}: off by {difference:.2e}");
    }
    gradient_is_the_energies(&model);
}

/// Every gradient of a kept pass is compared, not only those of a fresh one.
#[test]
fn passes_are_kept() {
    let found = differences(&model(SMALL, 3), 300);
    assert_eq!(found.iter().filter(|(what, _)| what.ends_with(" of kept passes")).count(), 8);
}

#[test]
fn a_weight_off_by_a_hundredth_is_seen() {
    a_wrong_weight_is_seen(&model(SMALL, 2), TOLERANCE);
}

#[test]
fn threads_give_the_same_bits() {
    threads_do_not_matter(&model(SMALL, 4), 1_101);
}
