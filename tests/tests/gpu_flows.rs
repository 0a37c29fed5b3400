//! `real_nvp` in a few launches on a GPU is the tape on a processor: both directions, energies and every gradient.
#![cfg(feature = "wgpu")]

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::flow::standard_normal;
use ember_model::params::{download, upload};
use ember_model::{Energy, EnergyModel};
use ember_tests::explicit::{difference, energy_difference, gradient_is_the_energies, normals, terms};
use ember_tests::flows::{start, trained};
use ember_tests::{cpu, gpu};

/// Of the largest value of the tensor compared: sums in another order, over up to eight couplings that each stretch by up to e.
const TOLERANCE: f32 = 3e-5;

fn real_nvp(dim: usize, layers: usize, hidden: &[usize], rest: &str) -> String {
    let rest = rest.replace("; ", "\n");
    format!("dim = {dim}\nkind = \"real_nvp\"\nlayers = {layers}\nhidden = {hidden:?}\n{rest}")
}

/// The size of the peers' benchmark.
fn yardstick(rest: &str) -> String {
    real_nvp(32, 8, &[128, 128], rest)
}

fn moved<const D: usize>(tensor: &Tensor<D>, device: &Device) -> Tensor<D> {
    let shape = tensor.dims();
    Tensor::from_data(TensorData::new(download(tensor.clone()), shape), device)
}

/// The same θ on another device.
fn on(model: &EnergyModel, device: &Device) -> EnergyModel {
    let start = EnergyModel::init(model.spec().clone(), 0, device).expect("it fits");
    start.with_theta(model.theta().iter().map(|tensor| moved(tensor, device)).collect())
}

fn largest<const D: usize>(tensor: &Tensor<D>) -> f32 {
    download(tensor.clone()).iter().map(|v| v.abs()).fold(0.0, f32::max)
}

/// What the GPU gives of `there` against the tape of `here`: what, and how far off.
fn differences(here: &EnergyModel, there: &EnergyModel, n: usize) -> Vec<(String, f32)> {
    let (device, home) = (there.device(), cpu());
    let architecture = here.spec().build().expect("it fits");
    let x = normals(here, n, 7);
    let x_there = moved(&x, device);
    let (energy, grad) = energy_and_grad_by_autodiff(architecture.as_ref(), here.theta(), x.clone());
    let (found_energy, found_grad) = there.energy_and_grad(x_there.clone());
    let mut found = vec![
        (
            "energy alone".to_owned(),
            energy_difference(&moved(&there.energy(x_there.clone()), &home), &energy),
        ),
        ("energy".to_owned(), energy_difference(&moved(&found_energy, &home), &energy)),
        ("energy_grad".to_owned(), difference(&moved(&found_grad, &home), &grad)),
    ];

    // Log-determinants are sums of numbers of size ⅓ that may cancel: an absolute error.
    let (flow, flow_there) = (here.flow().expect("a flow"), there.flow().expect("a flow"));
    let taped = || x.clone().autodiff().require_grad();
    let (z, inward) = flow.inverse(here.theta(), taped());
    let (z_there, inward_there) = flow_there.inverse(there.theta(), x_there.clone());
    let (data, out) = flow.forward(here.theta(), taped());
    let (data_there, out_there) = flow_there.forward(there.theta(), x_there.clone());
    let (z, data) = (z.without_autodiff(), data.without_autodiff());
    let apart =
        |there: Tensor<1>, here: Tensor<1>| largest(&(moved(&there, &home) - here.without_autodiff()));
    found.push(("inverse".to_owned(), difference(&moved(&z_there, &home), &z)));
    found.push(("forward".to_owned(), difference(&moved(&data_there, &home), &data)));
    found.push(("inverse's log det".to_owned(), apart(inward_there, inward)));
    found.push(("forward's log det".to_owned(), apart(out_there, out)));
    let (back, _) = flow_there.inverse(there.theta(), data_there);
    found.push(("there and back".to_owned(), difference(&moved(&back, &home), &x)));

    let weighted = terms(here, n);
    let reference = weighted_param_grads_by_autodiff(architecture.as_ref(), here.theta(), &weighted);
    let terms_there: Vec<_> = weighted.iter().map(|(x, w)| (moved(x, device), moved(w, device))).collect();
    let explicit = there.weighted_param_grads(&terms_there);
    for (explicit, reference) in explicit.energies.iter().zip(&reference.energies) {
        found.push(("energies of a term".to_owned(), energy_difference(&moved(explicit, &home), reference)));
    }
    // The size of a gradient is that with |w|: weights of both signs may cancel down to rounding.
    let sizes: Vec<_> = weighted.into_iter().map(|(x, w)| (x, w.abs())).collect();
    let sizes = weighted_param_grads_by_autodiff(architecture.as_ref(), here.theta(), &sizes).grads;
    assert_eq!(explicit.grads.len(), reference.grads.len());
    let pairs = explicit.grads.iter().zip(&reference.grads).zip(&sizes).zip(here.params());
    found.extend(pairs.map(|(((grad, reference), size), spec)| {
        let scale = largest(size).max(largest(reference)).max(f32::MIN_POSITIVE);
        (spec.name, largest(&(moved(grad, &home) - reference.clone())) / scale)
    }));
    found
}

#[track_caller]
fn agree(table: &str, n: usize, device: &Device) {
    let here = trained(table, &cpu());
    let found = differences(&here, &on(&here, device), n);
    let (_, worst) = found.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("something was compared");
    println!("{worst:.1e} at most ({n} rows, {table:?})");
    for (what, difference) in found {
        assert!(difference <= TOLERANCE, "{what}: off by {difference:.2e} ({n} rows, {table})");
    }
}

/// Two coordinates, an odd number, the benchmark's; parts of different widths; one coupling, and an odd number of them.
#[test]
fn chains_of_every_kind() {
    let Some(device) = gpu() else { return };
    agree(&real_nvp(2, 1, &[5], ""), 1, &device);
    agree(&real_nvp(2, 4, &[16], "act_norm = true"), 37, &device);
    agree(
        &real_nvp(3, 3, &[9, 7], "mask = \"checkerboard\"; act_norm = true; activation = \"tanh\""),
        70,
        &device,
    );
    agree(&real_nvp(7, 5, &[33], "mask = \"checkerboard\"; activation = \"softplus\""), 101, &device);
    agree(
        &real_nvp(8, 2, &[20, 150, 3], "mask = \"checkerboard\"; activation = \"leaky_relu\""),
        65,
        &device,
    );
    agree(&real_nvp(6, 3, &[12], "log_scale_bound = 0.4; act_norm = true"), 50, &device);
}

#[test]
fn the_benchmarks_chain() {
    let Some(device) = gpu() else { return };
    agree(&yardstick("activation = \"relu\""), 300, &device);
    agree(&yardstick("act_norm = true"), 65, &device);
}

/// Tiles of 16 and of 32 rows, a last one that is not full, and more tiles than cubes: each goes on with another.
#[test]
fn many_rows() {
    let Some(device) = gpu() else { return };
    agree(&real_nvp(5, 3, &[9, 7], "mask = \"checkerboard\"; act_norm = true"), 5_001, &device);
    agree(&real_nvp(2, 2, &[5], "act_norm = true"), 40_003, &device);
}

/// More rows than scratch holds: gradients are added up part by part. Sixty couplings magnify rounding too much for a comparison with
/// the tape, so the rows are compared with themselves, in slices that scratch holds, on the same device.
#[test]
fn more_rows_than_scratch_holds() {
    let Some(device) = gpu() else { return };
    let model = trained(&real_nvp(8, 60, &[64], "log_scale_bound = 0.05"), &device);
    let (rows, slice) = (3_001, 500);
    let x = normals(&model, rows, 7);
    let w = download(terms(&model, rows)[0].1.clone());
    let part = |start: usize, end: usize| {
        let weights = upload(w[start..end].to_vec(), &device);
        model.weighted_param_grads(&[(x.clone().narrow(0, start, end - start), weights)])
    };
    let whole = part(0, rows);
    let starts = (0..rows).step_by(slice);
    let slices: Vec<_> = starts.map(|start| part(start, rows.min(start + slice))).collect();
    let energies = slices.iter().flat_map(|slice| download(slice.energies[0].clone())).collect();
    let apart = energy_difference(&whole.energies[0], &upload(energies, &device));
    assert!(apart <= TOLERANCE, "energies: off by {apart:.2e}");
    for (i, spec) in model.params().iter().enumerate() {
        let sum =
            slices[1..].iter().fold(slices[0].grads[i].clone(), |sum, slice| sum + slice.grads[i].clone());
        let size = slices.iter().map(|slice| largest(&slice.grads[i])).fold(f32::MIN_POSITIVE, f32::max);
        let apart = largest(&(whole.grads[i].clone() - sum)) / size;
        assert!(apart <= TOLERANCE, "{}: off by {apart:.2e}", spec.name);
        // A part left out would be seen.
        let without = largest(&(whole.grads[i].clone() - slices[0].grads[i].clone())) / size;
        assert!(without > 100.0 * TOLERANCE, "{}: a part more or less goes unseen", spec.name);
    }
}

/// Widths that no tile of software Vulkan's shared memory holds, and an activation without a kernel: the tensor form serves.
#[test]
fn beyond_the_limits() {
    let Some(device) = gpu() else { return };
    agree(&real_nvp(2, 2, &[900], ""), 33, &device);
    gradient_is_the_energies(&trained(&real_nvp(4, 2, &[20, 10], "activation = \"gelu\""), &device));
}

/// The comparison sees a log-determinant of the wrong sign, and every tensor of θ off by 5 %.
#[test]
fn what_is_wrong_is_seen() {
    let Some(device) = gpu() else { return };
    let model = trained(&real_nvp(7, 3, &[16, 9], "mask = \"checkerboard\"; act_norm = true"), &device);
    let x = normals(&model, 40, 7);
    let (energy, grad) = model.energy_and_grad(x.clone());
    let (z, log_det) = model.flow().expect("a flow").inverse(model.theta(), x.clone());
    let base = standard_normal(z).neg();
    let right = energy_difference(&(base.clone() - log_det.clone()), &energy);
    let wrong = energy_difference(&(base + log_det), &energy);
    assert!(right <= TOLERANCE && wrong > 100.0 * TOLERANCE, "{right:.1e} and {wrong:.1e}");
    for i in 0..model.theta().len() {
        let mut theta = model.theta().to_vec();
        theta[i] = theta[i].clone() * 1.05;
        let (other_energy, other_grad) = model.with_theta(theta).energy_and_grad(x.clone());
        let seen = difference(&other_energy, &energy).max(difference(&other_grad, &grad));
        assert!(seen > TOLERANCE, "{}: {seen:.2e} goes unseen", model.params()[i].name);
    }
}

/// The gradients of the starting model, whose networks' last layers are zero, and of weights that are all zero.
#[test]
fn zeros_stay_zeros() {
    let Some(device) = gpu() else { return };
    let model = start(&real_nvp(6, 4, &[10], ""), &device);
    let x = normals(&model, 33, 1);
    let (z, log_det) = model.flow().expect("a flow").inverse(model.theta(), x.clone());
    assert_eq!(download(z), download(x.clone()), "the start is the identity");
    assert!(download(log_det).iter().all(|v| *v == 0.0));
    let found = trained(&real_nvp(6, 4, &[10], ""), &device)
        .weighted_param_grads(&[(x, Tensor::zeros([33], &device))])
        .grads;
    assert!(found.into_iter().flat_map(download).all(|v| v == 0.0));
}

/// The same bits in every run.
#[test]
fn the_same_bits_again() {
    let Some(device) = gpu() else { return };
    let model = trained(&real_nvp(6, 4, &[40, 24], "act_norm = true"), &device);
    let weighted = terms(&model, 500);
    let everything = || {
        let (energy, grad) = model.energy_and_grad(weighted[0].0.clone());
        let found = model.weighted_param_grads(&weighted);
        let mut all = vec![download(energy), download(grad)];
        all.extend(found.grads.into_iter().chain(found.energies).map(download));
        all
    };
    let first = everything();
    for _ in 0..3 {
        assert!(everything() == first, "a second run differs");
    }
}

/// A number that is not finite comes out as one, in its row alone, and the layers are asked where it began.
#[test]
fn nothing_hides_a_nan() {
    let Some(device) = gpu() else { return };
    let model = trained(&real_nvp(8, 4, &[16, 16], "act_norm = true"), &device);
    let mut rows = download(normals(&model, 3, 5));
    rows[9] = f32::NAN;
    let x = upload(rows, &device).reshape([3, 8]);
    let (energy, grad) = model.energy_and_grad(x.clone());
    let energy = download(energy);
    assert!(energy[1].is_nan() && energy[0].is_finite() && energy[2].is_finite(), "{energy:?}");
    let grad = download(grad);
    assert!(grad[8..16].iter().any(|g| g.is_nan()));
    assert!(grad[..8].iter().chain(&grad[16..]).all(|g| g.is_finite()));
    let grads = model.weighted_param_grads(&[(x.clone(), Tensor::ones([3], &device))]).grads;
    assert!(grads.into_iter().flat_map(download).any(|g| g.is_nan()));
    assert_eq!(model.first_non_finite_layer(x).map(|found| found.name), Some("input".to_owned()));
    let mut theta = model.theta().to_vec();
    theta[8] = theta[8].clone().mul_scalar(f32::INFINITY);
    let broken = model.with_theta(theta);
    let found = broken.first_non_finite_layer(normals(&model, 3, 5)).expect("a layer");
    assert_eq!(found.layer, Some(2), "{found:?}");
    assert!(download(broken.energy(normals(&model, 3, 5))).iter().all(|u| !u.is_finite()));
}
