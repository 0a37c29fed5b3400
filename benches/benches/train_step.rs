//! One whole update of the shipped 50-dimensional mixture.

use std::path::Path;

use burn::tensor::Device;
use divan::Bencher;
use ember_train::config::{Config, Overrides};
use ember_train::training::trainer::Trainer;

fn main() {
    divan::main();
}

#[divan::bench]
fn mixture50(bencher: Bencher<'_, '_>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/mixture50_jarzynski.toml");
    let config = Config::load(&path, &Overrides::default()).expect("a shipped config").config;
    let mut trainer = Trainer::new(config, &Device::flex()).expect("a trainer");
    bencher.bench_local(|| trainer.update(false).map(|info| info.learning_rate).expect("an update"));
}
