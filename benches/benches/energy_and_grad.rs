//! One evaluation of `(U, ∇U)`, and the plain twin of the mixture's one-pass form.

use divan::Bencher;
use ember_benches::{MIXTURE, MLP, model, positions};
use ember_model::Energy;
use ember_model::energy::weighted_param_grads_by_autodiff;
use ember_model::params::upload;

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
