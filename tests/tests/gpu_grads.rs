//! Weighted gradients in θ on a GPU, of perceptrons and mixtures, against the tape on a processor: any shape, any number of rows.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::{WeightedGrads, energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_tests::explicit::{difference, drawn, energy_difference, normals};
use ember_tests::{cpu, gpu};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Of the largest value of the tensor compared, where weights do not cancel: sums of up to 100,000 f32 products in another order.
const TOLERANCE: f32 = 2e-5;

/// [`TOLERANCE`] of samples of `dim` coordinates: terms of a mixture are of order dim in size, and their rounding, on either side, is
/// that of the responsibilities.
fn tolerance(dim: usize) -> f32 {
    TOLERANCE.max(2.0 * f32::EPSILON * dim as f32)
}

type Terms = Vec<(Tensor<2>, Tensor<1>)>;

fn moved<const D: usize>(tensor: &Tensor<D>, device: &Device) -> Tensor<D> {
    let shape = tensor.dims();
    Tensor::from_data(TensorData::new(download(tensor.clone()), shape), device)
}

/// Terms of these many rows, with weights of both signs that sum to about 1 in size.
fn terms(model: &EnergyModel, rows: &[usize]) -> Terms {
    let term = |(i, &n): (usize, &usize)| {
        let weights = Stream::new(i as u64, Purpose::Noise).normals(1, n);
        let weights = weights.into_iter().map(|w| w / n as f32).collect();
        (normals(model, n, i as u64), upload(weights, model.device()))
    };
    rows.iter().enumerate().map(term).collect()
}

fn largest(tensor: &Tensor<1>) -> f32 {
    download(tensor.clone()).iter().map(|v| v.abs()).fold(0.0, f32::max)
}

/// How far off the gradients are, of the largest value of each: the size of a gradient is that with |w|.
fn off(found: &WeightedGrads, model: &EnergyModel, terms: &Terms) -> Vec<(String, f32)> {
    let architecture = model.spec().build().expect("it fits");
    let reference = weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), terms);
    let sizes: Terms = terms.iter().map(|(x, w)| (x.clone(), w.clone().abs())).collect();
    let sizes = weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &sizes).grads;
    let mut all = Vec::new();
    for (found, reference) in found.energies.iter().zip(&reference.energies) {
        all.push(("energies".to_owned(), energy_difference(found, reference)));
    }
    assert_eq!(found.energies.len(), terms.len());
    for (((found, reference), size), spec) in
        found.grads.iter().zip(&reference.grads).zip(&sizes).zip(model.params())
    {
        let mut reference = download(reference.clone());
        if spec.name == "log_masses" {
            // The first logit is frozen.
            reference[0] = 0.0;
        }
        let reference = upload(reference, &cpu());
        let scale = largest(size).max(largest(&reference)).max(f32::MIN_POSITIVE);
        let found = moved(found, &cpu());
        assert!(download(found.clone()).iter().all(|v| v.is_finite()), "{}", spec.name);
        all.push((spec.name, largest(&(found - reference)) / scale));
    }
    all
}

fn agree(metadata: &str, rows: &[usize], seed: u64, device: &Device) {
    let (here, there) = (drawn(metadata, seed, &cpu()), drawn(metadata, seed, device));
    let weighted = terms(&here, rows);
    let moved: Terms = weighted.iter().map(|(x, w)| (moved(x, device), moved(w, device))).collect();
    let found = there.weighted_param_grads(&moved);
    for (what, off) in off(&found, &here, &weighted) {
        assert!(off <= tolerance(here.dim()), "{what}: off by {off:.2e} ({rows:?} rows, {metadata})");
    }
    let again = there.weighted_param_grads(&moved);
    for (a, b) in found.grads.into_iter().zip(again.grads) {
        assert_eq!(download(a), download(b), "the same bits in every run ({rows:?} rows, {metadata})");
    }
}

fn mlp(dim: usize, hidden: &[usize], activation: &str, confinement: f64) -> String {
    format!(
        "kind = \"mlp\"\ndim = {dim}\nhidden = {hidden:?}\nactivation = \"{activation}\"\nconfinement = {confinement:?}\n"
    )
}

fn mixture(dim: usize, modes: usize) -> String {
    format!("kind = \"gaussian_mixture\"\ndim = {dim}\nmeans = {:?}\n", vec![vec![0.0]; modes])
}

fn cases() -> u32 {
    if std::env::var("EMBER_FULL").as_deref() == Ok("1") { 60 } else { 4 }
}

proptest! {
    // Software Vulkan compiles kernels for every shape anew: few cases, unless asked for. A fixed seed: a steep network has no bound.
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn any_perceptron(
        dim in 1usize..40,
        hidden in prop::collection::vec(1usize..70, 1..5),
        activation in prop::sample::select(vec!["silu", "tanh", "softplus", "relu", "leaky_relu"]),
        rows in prop::collection::vec(1usize..200, 1..4),
        confined in any::<bool>(),
        vectors in any::<bool>(),
        seed in 0u64..1000,
    ) {
        let Some(device) = gpu() else { return Ok(()) };
        // Weights are read in fours where widths allow it.
        let hidden: Vec<usize> = hidden.iter().map(|w| if vectors { w.next_multiple_of(4) } else { *w }).collect();
        agree(&mlp(dim, &hidden, activation, if confined { 0.7 } else { 0.0 }), &rows, seed, &device);
    }

    #[test]
    fn any_mixture(
        dim in 1usize..70,
        modes in 1usize..9,
        rows in prop::collection::vec(1usize..400, 1..4),
        seed in 0u64..1000,
    ) {
        let Some(device) = gpu() else { return Ok(()) };
        agree(&mixture(dim, modes), &rows, seed, &device);
    }
}

/// The benchmark's network; many coordinates, which go through shared memory in parts; units for the smaller tiles.
#[test]
fn perceptrons_of_every_size() {
    let Some(device) = gpu() else { return };
    let cases: [(usize, &[usize], &[usize]); 6] = [
        (2, &[128, 128, 128], &[101, 64]),
        (784, &[33], &[50, 7]),
        (64, &[256], &[37]),
        (3, &[400, 17], &[20, 1]),
        (1, &[1], &[1]),
        (5, &[900, 8], &[9, 40]),
    ];
    for (dim, hidden, rows) in cases {
        agree(&mlp(dim, hidden, "silu", 1.0), rows, 3, &device);
    }
}

/// More tiles than cubes: each cube goes on with another, of the second term as well.
#[test]
fn populations_of_many_tiles() {
    let Some(device) = gpu() else { return };
    agree(&mlp(1, &[5], "tanh", 0.5), &[70_001, 3], 4, &device);
    agree(&mlp(3, &[32, 20], "silu", 0.5), &[9_001, 12_345], 5, &device);
    agree(&mixture(2, 3), &[70_001, 40_000], 6, &device);
    agree(&mixture(50, 2), &[10_000, 10_000], 7, &device);
}

/// More walkers than one launch takes on software Vulkan, where loops end after 65,535 rounds: they go in pieces.
#[test]
fn populations_in_pieces() {
    let Some(device) = gpu() else { return };
    agree(&mixture(1, 1000), &[15_000, 100], 1, &device);
    agree(&mlp(5, &[900, 8], "silu", 1.0), &[45_001, 7], 2, &device);
}

/// Many modes, many coordinates, and one of each; rows that make one tile, and one more.
#[test]
fn mixtures_of_every_size() {
    let Some(device) = gpu() else { return };
    for (dim, modes, rows) in
        [(1, 1, 1), (1, 1, 256), (1, 1, 257), (4, 300, 70), (2000, 3, 20), (17, 33, 200), (300, 12, 33)]
    {
        agree(&mixture(dim, modes), &[rows, rows / 2 + 1], 3, &device);
    }
}

/// The mixture's energies and forces.
#[test]
fn mixtures_have_their_forces() {
    let Some(device) = gpu() else { return };
    for (dim, modes, n) in
        [(1, 1, 1), (50, 2, 1001), (2, 40, 333), (4, 300, 70), (2000, 3, 20), (17, 33, 200), (1, 2, 70_001)]
    {
        let metadata = mixture(dim, modes);
        let (here, there) = (drawn(&metadata, 1, &cpu()), drawn(&metadata, 1, &device));
        let x = normals(&here, n, 7);
        let architecture = here.spec().build().expect("it fits");
        let (energy, grad) = energy_and_grad_by_autodiff(architecture.as_ref(), here.theta(), x.clone());
        let (found, found_grad) = there.energy_and_grad(moved(&x, &device));
        assert!(energy_difference(&found, &energy) <= TOLERANCE, "{n} rows, {metadata}");
        assert!(difference(&found_grad, &grad) <= tolerance(dim), "{n} rows, {metadata}");
        let alone = there.energy(moved(&x, &device));
        assert_eq!(download(alone), download(found), "{n} rows, {metadata}");
    }
}

/// Far from all modes no term overflows or vanishes.
#[test]
fn far_from_all_modes() {
    let Some(device) = gpu() else { return };
    let (here, there) = (drawn(&mixture(3, 4), 1, &cpu()), drawn(&mixture(3, 4), 1, &device));
    let x = normals(&here, 40, 7) * 300.0;
    let (energy, grad) = here.energy_and_grad(x.clone());
    let (found, found_grad) = there.energy_and_grad(moved(&x, &device));
    assert!(energy_difference(&found, &energy) <= TOLERANCE);
    assert!(difference(&found_grad, &grad) <= TOLERANCE);
}

/// A position that is not a number, or infinite, gives an energy that is not finite, and spoils no other row's.
#[test]
fn nothing_hides_a_nan() {
    let Some(device) = gpu() else { return };
    for metadata in [mixture(5, 3), mlp(5, &[20], "silu", 1.0)] {
        let model = drawn(&metadata, 1, &device);
        for bad in [f32::NAN, f32::INFINITY] {
            let x = normals(&model, 300, 1);
            let weights = upload(vec![1.0; 300], &device);
            let clean = model.weighted_param_grads(&[(x.clone(), weights.clone())]).energies.swap_remove(0);
            let mut values = download(x);
            values[7 * 5 + 2] = bad;
            let x = Tensor::<2>::from_data(TensorData::new(values, [300, 5]), &device);
            let found = model.weighted_param_grads(&[(x, weights)]);
            let (energy, clean) = (download(found.energies[0].clone()), download(clean));
            assert!(!energy[7].is_finite(), "{metadata}");
            assert!(energy.iter().zip(&clean).enumerate().all(|(i, (a, b))| i == 7 || a == b));
            assert!(found.grads.into_iter().flat_map(download).any(|v| !v.is_finite()), "{metadata}");
        }
    }
}

/// The comparison sees one row left out, counted twice, or taken with the other sign.
#[test]
fn a_wrong_row_is_seen() {
    let Some(device) = gpu() else { return };
    for metadata in [mixture(5, 3), mlp(5, &[20, 30], "silu", 1.0)] {
        let (here, there) = (drawn(&metadata, 1, &cpu()), drawn(&metadata, 1, &device));
        let weighted = terms(&here, &[301, 99]);
        for factor in [0.0, 2.0, -1.0] {
            let wrong: Terms = weighted
                .iter()
                .map(|(x, w)| {
                    let mut weights = download(w.clone());
                    *weights.last_mut().expect("rows") *= factor;
                    (moved(x, &device), upload(weights, &device))
                })
                .collect();
            let found = there.weighted_param_grads(&wrong);
            let seen = off(&found, &here, &weighted).into_iter().map(|(_, off)| off).fold(0.0, f32::max);
            assert!(seen > 10.0 * TOLERANCE, "{metadata}: {seen:.2e} goes unseen");
        }
    }
}
