//! One step of each kernel, and the Langevin proposal beside its plain twin.

use divan::Bencher;
use ember_benches::{MIXTURE, MLP, model, positions};
use ember_model::random::{Purpose, Stream};
use ember_sampler::device::{langevin_proposal, langevin_proposal_reference};
use ember_sampler::kernel::{Mala, Ula};
use ember_sampler::{Kernel, Noise, Walkers};

fn main() {
    divan::main();
}

fn step(bencher: Bencher<'_, '_>, kernel: &dyn Kernel, name: &str) {
    let (metadata, count) = if name == "mlp" { (MLP, 4_096) } else { (MIXTURE, 10_000) };
    let model = model(metadata);
    let walkers = Walkers::new(&model, positions(&model, count), 0.0);
    let noise = Noise { seed: 0, lane: 0, step: 0 };
    bencher.bench_local(|| kernel.step(&model, walkers.clone(), &noise));
}

#[divan::bench(args = ["mixture", "mlp"])]
fn ula(bencher: Bencher<'_, '_>, name: &str) {
    step(bencher, &Ula::new(0.01), name);
}

#[divan::bench(args = ["mixture", "mlp"])]
fn mala(bencher: Bencher<'_, '_>, name: &str) {
    step(bencher, &Mala::new(0.01), name);
}

#[divan::bench(args = [true, false])]
fn proposal(bencher: Bencher<'_, '_>, fused: bool) {
    let model = model(MIXTURE);
    let x = positions(&model, 10_000);
    let stream = Stream::new(0, Purpose::Noise);
    let propose = if fused { langevin_proposal } else { langevin_proposal_reference };
    bencher.bench_local(|| propose(x.clone(), x.clone(), 0.1, 0.4, stream));
}
