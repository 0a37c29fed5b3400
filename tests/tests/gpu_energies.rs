//! The energies' forms for GPUs are the tape's on a processor: on random networks, and on any number of walkers.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::Energy;
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::download;
use ember_tests::explicit::{
    self, difference, drawn, energy_difference, gradient_is_the_energies, kept_grads, normals, terms,
};
use ember_tests::{cpu, gpu};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Of the largest value of the tensor compared.
const TOLERANCE: f32 = 2e-5;

fn moved<const D: usize>(tensor: &Tensor<D>, device: &Device) -> Tensor<D> {
    let shape = tensor.dims();
    Tensor::from_data(TensorData::new(download(tensor.clone()), shape), device)
}

/// `keeps`: whether the energy has passes to keep; one launch has none.
fn agree(metadata: &str, n: usize, seed: u64, keeps: bool, device: &Device) {
    let (here, there) = (drawn(metadata, seed, &cpu()), drawn(metadata, seed, device));
    let architecture = here.spec().build().expect("it fits");
    let x = normals(&here, n, 7);
    let (energy, grad) = energy_and_grad_by_autodiff(architecture.as_ref(), here.theta(), x.clone());
    let (found_energy, found_grad) = there.energy_and_grad(moved(&x, device));
    let weighted = terms(&here, n);
    let terms_there: Vec<_> = weighted.iter().map(|(x, w)| (moved(x, device), moved(w, device))).collect();
    let reference = weighted_param_grads_by_autodiff(architecture.as_ref(), here.theta(), &weighted);
    let found = there.weighted_param_grads(&terms_there);
    // The size of a gradient is that with |w|: weights of both signs may cancel down to rounding.
    let sizes: Vec<_> = weighted.into_iter().map(|(x, w)| (x, w.abs())).collect();
    let sizes = weighted_param_grads_by_autodiff(architecture.as_ref(), here.theta(), &sizes).grads;
    let check = |what: &str, off: f32| {
        assert!(off <= TOLERANCE, "{what}: off by {off:.2e} ({n} walkers, {metadata})")
    };
    check("energy", energy_difference(&found_energy, &energy));
    check("energy_grad", difference(&found_grad, &grad));
    for (found, reference) in found.energies.iter().zip(&reference.energies) {
        check("energies of a term", energy_difference(found, reference));
    }
    let kept = kept_grads(&there, &terms_there);
    assert_eq!(kept.is_some(), keeps, "{metadata}");
    for grads in [Some(&found.grads), kept.as_ref()].into_iter().flatten() {
        for (((found, reference), size), spec) in
            grads.iter().zip(&reference.grads).zip(&sizes).zip(here.params())
        {
            let largest =
                |tensor: &Tensor<1>| download(tensor.clone()).iter().map(|v| v.abs()).fold(0.0, f32::max);
            let scale = largest(size).max(largest(reference)).max(f32::MIN_POSITIVE);
            check(&spec.name, largest(&(moved(found, &cpu()) - reference.clone())) / scale);
        }
    }
}

fn mlp(dim: usize, hidden: &[usize], activation: &str, confinement: f64) -> String {
    format!(
        "kind = \"mlp\"\ndim = {dim}\nhidden = {hidden:?}\nactivation = \"{activation}\"\nconfinement = {confinement:?}\n"
    )
}

const ACTIVATIONS: [&str; 5] = ["silu", "tanh", "softplus", "relu", "leaky_relu"];

proptest! {
    // Software Vulkan compiles kernels for every shape anew: few cases, unless asked for.
    // A fixed seed: a steep network, or an activation's kink that two roundings see from two sides, has no bound.
    #![proptest_config(ProptestConfig { cases: if std::env::var("EMBER_FULL").as_deref() == Ok("1") { 60 } else { 4 }, failure_persistence: None, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn any_perceptron(
        dim in 1usize..40,
        hidden in prop::collection::vec(1usize..70, 1..5),
        activation in prop::sample::select(ACTIVATIONS.to_vec()),
        n in 1usize..150,
        confined in any::<bool>(),
        vectors in any::<bool>(),
        seed in 0u64..1000,
    ) {
        let Some(device) = gpu() else { return Ok(()) };
        // Weights are read in fours where widths allow it.
        let hidden: Vec<usize> = hidden.iter().map(|w| if vectors { w.next_multiple_of(4) } else { *w }).collect();
        agree(&mlp(dim, &hidden, activation, if confined { 0.7 } else { 0.0 }), n, seed, false, &device);
    }
}

/// The benchmark's network; many coordinates; units for a tile of 16 and of 8; more layers than are fused, and more units.
#[test]
fn perceptrons_of_every_size() {
    let Some(device) = gpu() else { return };
    let cases: [(usize, &[usize], usize, bool); 6] = [
        (2, &[128, 128, 128], 101, false),
        (784, &[33], 50, false),
        (64, &[256], 37, false),
        (3, &[400, 17], 20, false),
        (2, &[9, 8, 7, 6, 5], 33, true),
        (2, &[5000], 9, true),
    ];
    for (dim, hidden, n, keeps) in cases {
        agree(&mlp(dim, hidden, "silu", 1.0), n, 3, keeps, &device);
    }
}

/// A network that knows noise levels: at the smallest, in the network's own launch, and over rows `[x, τ]`.
#[test]
fn a_network_that_knows_its_level() {
    let Some(device) = gpu() else { return };
    let text = mlp(3, &[24, 16], "silu", 0.7) + "levels = [0.1, 1.0, 4.0]\n";
    agree(&text, 70, 3, false, &device);
    let [here, there] =
        [cpu(), device.clone()].map(|device| drawn(&text, 3, &device).on_levels().expect("it has levels"));
    let weighted = terms(&here, 70);
    let terms_there: Vec<_> = weighted.iter().map(|(x, w)| (moved(x, &device), moved(w, &device))).collect();
    let [(u, grad), (found, found_grad)] = [(&here, &weighted), (&there, &terms_there)]
        .map(|(model, terms)| model.energy_and_grad(terms[0].0.clone()));
    assert!(energy_difference(&found, &u) <= TOLERANCE && difference(&found_grad, &grad) <= TOLERANCE);
    let [expected, found] = [(&here, &weighted), (&there, &terms_there)]
        .map(|(model, terms)| model.weighted_param_grads(terms).grads);
    // All but the last bias, whose gradient cancels.
    for (found, expected) in found.iter().zip(&expected).rev().skip(1) {
        assert!(difference(found, expected) <= 1e-4);
    }
}

/// More tiles than cubes: each cube goes on with another.
#[test]
fn a_population_of_many_tiles() {
    let Some(device) = gpu() else { return };
    agree(&mlp(1, &[5], "tanh", 0.5), 70_001, 4, false, &device);
}

#[test]
fn gelu_has_the_gradient_of_its_energies() {
    let Some(device) = gpu() else { return };
    gradient_is_the_energies(&drawn(&mlp(3, &[20, 10], "gelu", 1.0), 1, &device));
}

/// The image networks: strides that leave rows over, a last layer as large as its input and one that is not.
#[test]
fn convolutions_of_every_kind() {
    let Some(device) = gpu() else { return };
    let conv = |shape: [usize; 3], activation: &str, layers: &str| {
        format!(
            "kind = \"conv\"\nshape = {shape:?}\nactivation = \"{activation}\"\nconfinement = 0.1\nlayers = [{layers}]\n"
        )
    };
    let whole = "{ out = 6, kernel = 3, padding = 1 }, { out = 8, kernel = 4, stride = 2, padding = 1 }, { out = 1, kernel = 4 }";
    let over = "{ out = 5, kernel = 3, stride = 2 }, { out = 7, kernel = 2, stride = 2, padding = 1 }, { out = 1, kernel = 3, stride = 3 }";
    agree(&conv([3, 8, 8], "leaky_relu", whole), 5, 1, true, &device);
    agree(&conv([1, 12, 10], "silu", over), 3, 2, true, &device);
    agree(&conv([2, 4, 4], "tanh", "{ out = 3, kernel = 4 }, { out = 1, kernel = 1 }"), 9, 3, true, &device);
}

/// The comparison sees one weight off by 1 %.
#[test]
fn a_wrong_weight_is_seen() {
    let Some(device) = gpu() else { return };
    let model = drawn(&mlp(2, &[40, 30], "silu", 1.0), 2, &device);
    explicit::a_wrong_weight_is_seen(&model, TOLERANCE);
}
