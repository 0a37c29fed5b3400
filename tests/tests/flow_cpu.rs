//! The explicit CPU form of `real_nvp` is its tensor form: both directions, energies and every gradient, on random flows.

use burn::tensor::Tensor;
use ember_model::energy::energy_and_grad_by_autodiff;
use ember_model::params::{download, upload};
use ember_model::{Energy, EnergyModel};
use ember_tests::cpu;
use ember_tests::explicit::{difference, differences, gradient_is_the_energies, normals, terms};
use ember_tests::flows::trained;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Of the largest value of the tensor compared: sums in another order, over up to five couplings that each stretch by up to e.
const TOLERANCE: f32 = 2e-5;

/// The size of the peers' benchmark, with act-norm.
const LARGE: &str =
    "dim = 32\nkind = \"real_nvp\"\nlayers = 8\nhidden = [128, 128]\nactivation = \"relu\"\nact_norm = true";

/// Both directions, plain and on the tape, where the layers' tensor form is at work.
fn directions(model: &EnergyModel, n: usize) -> Vec<(String, f32)> {
    let flow = model.flow().expect("a flow");
    let at = normals(model, n, 3);
    let taped = || at.clone().autodiff().require_grad();
    let (x, out) = flow.forward(model.theta(), at.clone());
    let (reference_x, reference_out) = flow.forward(model.theta(), taped());
    let (z, inward) = flow.inverse(model.theta(), at.clone());
    let (reference_z, reference_inward) = flow.inverse(model.theta(), taped());
    // Log-determinants are sums of numbers of size ⅓ that may cancel: an absolute error.
    let apart = |a: Tensor<1>, b: Tensor<1>| download((a - b.without_autodiff()).abs().max())[0];
    vec![
        ("forward".to_owned(), difference(&x, &reference_x.without_autodiff())),
        ("inverse".to_owned(), difference(&z, &reference_z.without_autodiff())),
        ("forward's log det".to_owned(), apart(out, reference_out)),
        ("inverse's log det".to_owned(), apart(inward, reference_inward)),
    ]
}

fn agree(table: &str, n: usize) {
    let model = trained(table, &cpu());
    let found = differences(&model, n).into_iter().chain(directions(&model, n));
    for (what, difference) in found {
        // burn's own derivative of GELU is that of another approximation: only values are compared.
        if table.contains("gelu") && !what.starts_with("energ") && !what.contains("verse") {
            continue;
        }
        if table.contains("gelu") && what == "energy_grad" {
            continue;
        }
        assert!(difference <= TOLERANCE, "{what}: off by {difference:.2e} ({n} rows, {table})");
    }
}

fn flows() -> impl Strategy<Value = String> {
    let activation = prop::sample::select(vec!["silu", "tanh", "softplus", "gelu", "relu", "leaky_relu"]);
    let hidden = prop::collection::vec(1usize..40, 1..4);
    (2usize..20, 1usize..6, hidden, activation, any::<bool>(), any::<bool>(), 0.3f64..2.0).prop_map(
        |(dim, layers, hidden, activation, parity, act_norm, bound)| {
            let mask = if parity || dim % 2 == 1 { "checkerboard" } else { "half" };
            format!(
                "dim = {dim}\nkind = \"real_nvp\"\nlayers = {layers}\nhidden = {hidden:?}\nactivation = \"{activation}\"\n\
                 mask = \"{mask}\"\nact_norm = {act_norm}\nlog_scale_bound = {bound}"
            )
        },
    )
}

proptest! {
    // A fixed seed: a steep network, or an activation's kink that two roundings see from two sides, has no bound.
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    #[test]
    fn the_explicit_form_is_the_tape(table in flows(), n in 1usize..300) {
        agree(&table, n);
    }
}

#[test]
fn blocks_do_not_show() {
    // Fewer rows than a block, whole blocks, blocks and a rest, leaves of the sum and a rest.
    for n in [1, 127, 128, 129, 256, 257, 700] {
        agree(
            "dim = 5\nkind = \"real_nvp\"\nlayers = 3\nhidden = [9, 7]\nmask = \"checkerboard\"\nact_norm = true",
            n,
        );
    }
    agree(LARGE, 300);
}

#[test]
fn gelus_gradient_is_that_of_the_energies() {
    let table = LARGE.replace("relu", "gelu");
    let model = trained(&table, &cpu());
    gradient_is_the_energies(&model);
}

/// The comparison is between two forms, and it sees one tensor of θ off by 5 %.
#[test]
fn a_wrong_weight_is_seen() {
    let model = trained(LARGE, &cpu());
    let x = normals(&model, 5, 7);
    let (energy, grad) = model.energy_and_grad(x.clone());
    let architecture = model.spec().build().expect("it fits");
    let (_, reference) = energy_and_grad_by_autodiff(architecture.as_ref(), model.theta(), x.clone());
    assert_ne!(download(grad.clone()), download(reference), "the tape against itself");
    for i in 0..model.theta().len() {
        let mut theta = model.theta().to_vec();
        theta[i] = theta[i].clone() * 1.05;
        let (other_energy, other_grad) = model.with_theta(theta).energy_and_grad(x.clone());
        let seen = difference(&other_energy, &energy).max(difference(&other_grad, &grad));
        assert!(seen > TOLERANCE, "{}: {seen:.2e} goes unseen", model.params()[i].name);
    }
}

/// One thread and more give the same bits. (A pool of a size of its own, not the process's.)
#[test]
fn threads_do_not_matter() {
    let model = trained(LARGE, &cpu());
    let flow = model.flow().expect("a flow");
    let everything = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let x = normals(&model, 1_000, 1);
            let (energy, grad) = model.energy_and_grad(x.clone());
            let (out, out_det) = flow.forward(model.theta(), x.clone());
            let (z, z_det) = flow.inverse(model.theta(), x.clone());
            let grads = model.weighted_param_grads(&terms(&model, 1_000));
            let mut all = vec![download(energy), download(grad), download(model.energy(x))];
            all.extend([download(out), download(out_det), download(z), download(z_det)]);
            all.extend(grads.grads.into_iter().chain(grads.energies).map(download));
            all
        })
    };
    let one = everything(1);
    for threads in [2, 3, 5] {
        assert!(everything(threads) == one, "{threads} threads differ from one");
    }
}

/// A number that is not finite comes out as one: nothing hides it.
#[test]
fn nothing_hides_a_nan() {
    let model = trained(LARGE, &cpu());
    let mut rows = download(normals(&model, 3, 5));
    rows[33] = f32::NAN;
    let x = upload(rows, &cpu()).reshape([3, 32]);
    let (energy, grad) = model.energy_and_grad(x.clone());
    let energy = download(energy);
    assert!(energy[1].is_nan() && energy[0].is_finite() && energy[2].is_finite(), "{energy:?}");
    assert!(download(grad)[32..64].iter().any(|g| g.is_nan()));
    assert!(model.first_non_finite_layer(x).is_some());
}
