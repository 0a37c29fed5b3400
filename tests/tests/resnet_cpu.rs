//! The explicit CPU form of `resnet` is its tensor form: energies and every gradient, on random networks.

use ember_model::EnergyModel;
use ember_tests::cpu;
use ember_tests::explicit::{
    a_wrong_weight_is_seen, differences, drawn, gradient_is_the_energies, threads_do_not_matter,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Of the largest value of the tensor compared: rounding, which random networks may treble.
const TOLERANCE: f32 = 1e-5;
/// Of a convolution's bias before a group norm, which takes out most of what it moves: the gradient that is left is small beside its
/// terms.
const BIAS_TOLERANCE: f32 = 1e-4;

/// On images of odd sides, so that pools drop a row and a column.
fn network(more: &str) -> String {
    format!("kind = \"resnet\"\nshape = [3, 11, 9]\nconfinement = 0.01\n{more}\n")
}

const PLAIN: &str = "channels = [12, 12]";
const SKIPS: &str = "channels = [8, 16, 8]\nblocks_per_stage = 1";
const GROUPS: &str = "channels = [8, 16]\nnorm = \"group\"\ngroups = 4";

fn model(metadata: &str, seed: u64) -> EnergyModel {
    drawn(metadata, seed, &cpu())
}

fn agree(model: &EnergyModel, n: usize) {
    for (what, difference) in differences(model, n) {
        let of_bias = what.contains(".conv1.bias");
        let tolerance = if of_bias { BIAS_TOLERANCE } else { 3.0 * TOLERANCE };
        assert!(difference <= tolerance, "{what}: off by {difference:.2e} ({n} images, {:?})", model.spec());
    }
}

/// Networks of up to three stages with smooth activations. Groups have two channels and eight numbers at least: a bias before the
/// norm of a single channel has no gradient, and one of a few numbers has hardly any, so that all that is left is rounding.
fn networks() -> impl Strategy<Value = String> {
    let stages = prop::collection::vec(1usize..7, 1..4);
    let activation = prop::sample::select(vec!["silu", "tanh", "softplus"]);
    let image = (1usize..4, 1usize..12, 1usize..12);
    let options = (1usize..4, 1usize..4, any::<bool>(), any::<bool>(), any::<bool>());
    (stages, activation, image, options).prop_filter_map(
        "room for the pools and the groups",
        |(stages, activation, (c, h, w), (blocks, groups, normed, pooled, confined))| {
            let halvings = if pooled { stages.len() - 1 } else { 0 };
            let (height, width) = (h >> halvings, w >> halvings);
            let per_group = if normed { groups * 2 } else { 1 };
            let channels: Vec<_> = stages.iter().map(|stage| stage * per_group).collect();
            let fits = !normed || stages.iter().all(|stage| 2 * stage * height * width >= 8);
            (height > 0 && width > 0 && fits).then(|| {
                format!(
                    "kind = \"resnet\"\nshape = [{c}, {h}, {w}]\nchannels = {channels:?}\nblocks_per_stage = {blocks}\nactivation = \"{activation}\"\nnorm = \"{}\"\ngroups = {groups}\npool = \"{}\"\nconfinement = {}\n",
                    if normed { "group" } else { "none" },
                    if pooled { "average" } else { "none" },
                    if confined { 0.5 } else { 0.0 },
                )
            })
        },
    )
}

proptest! {
    // A fixed seed: a steep network, or an activation's kink that two roundings see from two sides, has no bound.
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn the_explicit_form_is_the_tape(metadata in networks(), n in 1usize..30, seed in 0u64..1000) {
        agree(&model(&metadata, seed), n);
    }
}

/// Kinks give jumps where two forms round an activation to different sides of 0: seeds at which none does.
#[test]
fn activations_with_a_kink() {
    for activation in ["relu", "leaky_relu"] {
        for options in [PLAIN, SKIPS, GROUPS] {
            agree(&model(&network(&format!("activation = \"{activation}\"\n{options}")), 3), 11);
        }
    }
}

#[test]
fn gelu_networks_have_the_same_energies() {
    // burn's own derivative of GELU is that of another approximation: only energies are compared.
    for options in [PLAIN, SKIPS, GROUPS] {
        let model = model(&network(&format!("activation = \"gelu\"\n{options}")), 3);
        for (what, difference) in differences(&model, 19) {
            let of_energies = what == "energy" || what == "energy alone" || what == "energies of a term";
            assert!(difference <= TOLERANCE || !of_energies, "{what}: off by {difference:.2e}");
        }
        // And the gradient is that of the energies: a central difference along a direction.
        gradient_is_the_energies(&model);
    }
}

/// With one channel a group a bias before the second norm of a block has no gradient: all others are compared.
#[test]
fn instance_norm() {
    let model = model(&network("channels = [6, 12]\nnorm = \"group\"\ngroups = 6"), 5);
    for (what, difference) in
        differences(&model, 13).into_iter().filter(|(what, _)| !what.contains("conv1.bias"))
    {
        assert!(difference <= TOLERANCE, "{what}: off by {difference:.2e}");
    }
}

/// Every gradient of a kept pass is compared, not only those of a fresh one.
#[test]
fn passes_are_kept() {
    for (options, parameters) in [(PLAIN, 20), (SKIPS, 18), (GROUPS, 37)] {
        let model = model(&network(options), 3);
        assert_eq!(model.params().len(), parameters);
        let found = differences(&model, 21);
        assert_eq!(found.iter().filter(|(what, _)| what.ends_with(" of kept passes")).count(), parameters);
    }
}

#[test]
fn a_weight_off_by_a_hundredth_is_seen() {
    for options in [PLAIN, SKIPS, GROUPS] {
        a_wrong_weight_is_seen(&model(&network(options), 2), TOLERANCE);
    }
}

#[test]
fn threads_give_the_same_bits() {
    for options in [PLAIN, SKIPS, GROUPS] {
        threads_do_not_matter(&model(&network(options), 4), 53);
    }
}
