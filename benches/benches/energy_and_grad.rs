//! One evaluation of `(U, ∇U)`, and the plain twin of the mixture's one-pass form.

use divan::Bencher;
use divan::counter::ItemsCount;
use ember_benches::{CIFAR, FORWARD_FLOP, MIXTURE, MLP, MNIST, RESNET, model, positions};
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::upload;
use ember_model::{Energy, EnergyModel};

fn main() {
    divan::main();
}

#[divan::bench(args = [("mixture", 10_000), ("mlp", 4_096)])]
fn energy_and_grad(bencher: Bencher<'_, '_>, (name, walkers): (&str, usize)) {
    let model = model(if name == "mlp" { MLP } else { MIXTURE });
    let x = positions(&model, walkers);
    bencher.bench_local(|| model.energy_and_grad(x.clone()));
}

#[divan::bench(args = [true, false])]
fn mixture_param_grads(bencher: Bencher<'_, '_>, one_pass: bool) {
    let model = model(MIXTURE);
    let architecture = model.spec().build().expect("it fits");
    let terms = [(positions(&model, 10_000), upload(vec![1e-4; 10_000], model.device()))];
    bencher.bench_local(|| {
        if one_pass {
            model.weighted_param_grads(&terms)
        } else {
            weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &terms)
        }
    });
}

/// Network, walkers, and whether it is the explicit form or the tape.
const CONV: [(&str, usize, bool); 10] = [
    ("mnist", 64, true),
    ("mnist", 64, false),
    ("mnist", 256, true),
    ("mnist", 256, false),
    ("cifar", 64, true),
    ("cifar", 64, false),
    ("cifar", 256, true),
    ("cifar", 256, false),
    ("resnet", 64, true),
    ("resnet", 64, false),
];

fn conv(name: &str) -> (EnergyModel, f64) {
    match name {
        "mnist" => (model(MNIST), FORWARD_FLOP[0]),
        "cifar" => (model(CIFAR), FORWARD_FLOP[1]),
        _ => (model(RESNET), FORWARD_FLOP[2]),
    }
}

/// Coordinates, width of the three hidden layers, walkers, and whether it is the program's own form or the tape.
const PERCEPTRONS: [(usize, usize, usize, bool); 8] = [
    (2, 128, 4_096, true),
    (2, 128, 4_096, false),
    (2, 128, 65_536, true),
    (2, 128, 65_536, false),
    (64, 256, 4_096, true),
    (64, 256, 4_096, false),
    (2, 64, 4_096, true),
    (2, 64, 4_096, false),
];

/// The model, and the floating-point operations of its forward pass for one walker.
fn perceptron(dim: usize, width: usize) -> (EnergyModel, f64) {
    let metadata =
        format!("kind = \"mlp\"\ndim = {dim}\nhidden = [{width}, {width}, {width}]\nconfinement = 1.0\n");
    (model(&metadata), 2.0 * (dim * width + 2 * width * width + width) as f64)
}

/// Items are floating-point operations: forward and the gradient in x.
#[divan::bench(args = PERCEPTRONS, sample_count = 10, sample_size = 1)]
fn mlp_energy_and_grad(
    bencher: Bencher<'_, '_>,
    (dim, width, walkers, explicit): (usize, usize, usize, bool),
) {
    let (model, flop) = perceptron(dim, width);
    energy_and_grad_of(bencher, &model, flop, walkers, explicit);
}

/// Items are floating-point operations: forward, the gradient in the activations and that in θ.
#[divan::bench(args = PERCEPTRONS, sample_count = 10, sample_size = 1)]
fn mlp_param_grads(bencher: Bencher<'_, '_>, (dim, width, walkers, explicit): (usize, usize, usize, bool)) {
    let (model, flop) = perceptron(dim, width);
    param_grads_of(bencher, &model, flop, walkers, explicit);
}

/// Items are floating-point operations: forward and the gradient in x.
#[divan::bench(args = CONV, sample_count = 10, sample_size = 1)]
fn conv_energy_and_grad(bencher: Bencher<'_, '_>, (name, walkers, explicit): (&str, usize, bool)) {
    let (model, flop) = conv(name);
    energy_and_grad_of(bencher, &model, flop, walkers, explicit);
}

/// Items are floating-point operations: forward, the gradient in the activations and that in θ.
#[divan::bench(args = CONV, sample_count = 10, sample_size = 1)]
fn conv_param_grads(bencher: Bencher<'_, '_>, (name, walkers, explicit): (&str, usize, bool)) {
    let (model, flop) = conv(name);
    param_grads_of(bencher, &model, flop, walkers, explicit);
}

/// `(U, ∇U)` by the model's own form, or by the tape.
fn energy_and_grad_of(
    bencher: Bencher<'_, '_>,
    model: &EnergyModel,
    forward_flop: f64,
    walkers: usize,
    explicit: bool,
) {
    let architecture = model.spec().build().expect("it fits");
    let x = positions(model, walkers);
    let flop = 2.0 * forward_flop * walkers as f64;
    bencher.counter(ItemsCount::new(flop as usize)).bench_local(|| {
        if explicit {
            model.energy_and_grad(x.clone())
        } else {
            energy_and_grad_by_autodiff(architecture.as_ref(), model.theta(), x.clone())
        }
    });
}

/// Weighted gradients in θ by the model's own form, or by the tape.
fn param_grads_of(
    bencher: Bencher<'_, '_>,
    model: &EnergyModel,
    forward_flop: f64,
    walkers: usize,
    explicit: bool,
) {
    let architecture = model.spec().build().expect("it fits");
    let terms = [(positions(model, walkers), upload(vec![1.0 / walkers as f32; walkers], model.device()))];
    let flop = 3.0 * forward_flop * walkers as f64;
    bencher.counter(ItemsCount::new(flop as usize)).bench_local(|| {
        if explicit {
            model.weighted_param_grads(&terms)
        } else {
            weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &terms)
        }
    });
}
