//! RealNVP of the peers' benchmark: the explicit CPU form beside the tape.

use divan::Bencher;
use divan::counter::ItemsCount;
use ember_benches::{REAL_NVP, model, positions};
use ember_model::Energy;
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::upload;

/// Rows of a batch.
const ROWS: usize = 4_096;

fn main() {
    divan::main();
}

/// Items are rows.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn real_nvp_log_prob(bencher: Bencher<'_, '_>) {
    let model = model(REAL_NVP);
    let x = positions(&model, ROWS);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| model.energy(x.clone()));
}

/// With the explicit form, and without. Items are rows.
#[divan::bench(args = [true, false], sample_count = 20, sample_size = 1)]
fn real_nvp_energy_and_grad(bencher: Bencher<'_, '_>, explicit: bool) {
    let model = model(REAL_NVP);
    let architecture = model.spec().build().expect("it fits");
    let x = positions(&model, ROWS);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        if explicit {
            model.energy_and_grad(x.clone())
        } else {
            energy_and_grad_by_autodiff(architecture.as_ref(), model.theta(), x.clone())
        }
    });
}

/// With the explicit form, and without. Items are rows.
#[divan::bench(args = [true, false], sample_count = 20, sample_size = 1)]
fn real_nvp_param_grads(bencher: Bencher<'_, '_>, explicit: bool) {
    let model = model(REAL_NVP);
    let architecture = model.spec().build().expect("it fits");
    let terms = [(positions(&model, ROWS), upload(vec![1.0 / ROWS as f32; ROWS], model.device()))];
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        if explicit {
            model.weighted_param_grads(&terms)
        } else {
            weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &terms)
        }
    });
}
