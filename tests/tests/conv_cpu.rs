//! The explicit CPU form of `conv` is its tensor form: energies and every gradient, on random networks.

use ember_model::EnergyModel;
use ember_tests::cpu;
use ember_tests::explicit::{
    a_wrong_weight_is_seen, differences, drawn, gradient_is_the_energies, threads_do_not_matter,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Of the largest value of the tensor compared.
const TOLERANCE: f32 = 2e-5;

const MNIST: &str =
    "kind = \"conv\"\nshape = [1, 28, 28]\nactivation = \"silu\"\nconfinement = 0.01\nlayers = [
    { out = 16, kernel = 5, stride = 2, padding = 4 }, { out = 32, kernel = 3, stride = 2, padding = 1 },
    { out = 64, kernel = 3, stride = 2, padding = 1 }, { out = 64, kernel = 3, stride = 2, padding = 1 },
    { out = 64, kernel = 2 }, { out = 1, kernel = 1 }]\n";
const CIFAR: &str = "kind = \"conv\"\nshape = [3, 32, 32]\nactivation = \"leaky_relu\"\nlayers = [
    { out = 64, kernel = 3, padding = 1 }, { out = 128, kernel = 4, stride = 2, padding = 1 },
    { out = 256, kernel = 4, stride = 2, padding = 1 }, { out = 512, kernel = 4, stride = 2, padding = 1 },
    { out = 1, kernel = 4 }]\n";

fn model(metadata: &str, seed: u64) -> EnergyModel {
    drawn(metadata, seed, &cpu())
}

fn agree(model: &EnergyModel, n: usize) {
    for (what, difference) in differences(model, n) {
        assert!(difference <= TOLERANCE, "{what}: off by {difference:.2e} ({n} images, {:?})", model.spec());
    }
}

/// Any stack of layers that leaves `1 × 1 × 1`: the last one is as large as what it gets.
fn stacks() -> impl Strategy<Value = String> {
    let layer = (1usize..20, 1usize..6, 1usize..4, 0usize..4);
    let activation = prop::sample::select(vec!["silu", "tanh", "softplus", "relu", "leaky_relu"]);
    (1usize..5, 4usize..13, 4usize..13, prop::collection::vec(layer, 0..4), activation, 0usize..2).prop_map(
        |(channels, h, w, layers, activation, confinement)| {
            let (mut height, mut width, mut tables) = (h, w, Vec::new());
            for (out, kernel, stride, padding) in layers {
                if kernel > height + 2 * padding || kernel > width + 2 * padding {
                    continue;
                }
                height = (height + 2 * padding - kernel) / stride + 1;
                width = (width + 2 * padding - kernel) / stride + 1;
                tables.push(format!("{{ out = {out}, kernel = {kernel}, stride = {stride}, padding = {padding} }}"));
            }
            // A square kernel on what may be no square: a stride that leaves one patch.
            let (kernel, stride) = (height.min(width), height.max(width));
            tables.push(format!("{{ out = 1, kernel = {kernel}, stride = {stride} }}"));
            format!(
                "kind = \"conv\"\nshape = [{channels}, {h}, {w}]\nactivation = \"{activation}\"\nconfinement = {}\nlayers = [{}]\n",
                0.5 * confinement as f64,
                tables.join(", ")
            )
        },
    )
}

proptest! {
    // A fixed seed: a steep network, or an activation's kink that two roundings see from two sides, has no bound.
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn the_explicit_form_is_the_tape(metadata in stacks(), n in 1usize..70, seed in 0u64..1000) {
        agree(&model(&metadata, seed), n);
    }
}

#[test]
fn gelu_networks_have_the_same_energies() {
    // burn's own derivative of GELU is that of another approximation: only energies are compared.
    let model = model(
        "kind = \"conv\"\nshape = [2, 6, 6]\nactivation = \"gelu\"\nlayers = [{ out = 8, kernel = 3 }, { out = 1, kernel = 4 }]\n",
        3,
    );
    for (what, difference) in differences(&model, 37).iter().filter(|(what, _)| what.starts_with("energ")) {
        assert!(*difference <= TOLERANCE || what == "energy_grad", "{what}: off by {difference:.2e}");
    }
    // And the gradient is that of the energies: a central difference along a direction.
    gradient_is_the_energies(&model);
}

#[test]
fn the_papers_networks() {
    for (metadata, parameters, n) in [(MNIST, 76_993, 37), (CIFAR, 2_763_393, 9)] {
        let model = model(metadata, 1);
        assert_eq!(model.param_count(), parameters);
        agree(&model, n);
    }
}

/// Every gradient of a kept pass is compared, not only those of a fresh one.
#[test]
fn passes_are_kept() {
    let found = differences(&model(MNIST, 3), 33);
    assert_eq!(found.iter().filter(|(what, _)| what.ends_with(" of kept passes")).count(), 12);
}

#[test]
fn a_weight_off_by_a_hundredth_is_seen() {
    a_wrong_weight_is_seen(&model(MNIST, 2), TOLERANCE);
}

#[test]
fn threads_give_the_same_bits() {
    threads_do_not_matter(&model(MNIST, 4), 101);
}
