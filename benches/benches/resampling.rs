//! Each resampling scheme at 10⁴ and 10⁶ walkers.

use burn::tensor::{Device, Tensor, TensorData};
use divan::Bencher;
use ember_model::random::{Purpose, Stream};
use ember_sampler::{Scheme, resample};

fn main() {
    divan::main();
}

#[divan::bench(args = Scheme::ALL, consts = [10_000, 1_000_000])]
fn scheme<const N: usize>(bencher: Bencher<'_, '_>, scheme: &Scheme) {
    let log_weights = Stream::new(0, Purpose::Start).normals(N, 1);
    let log_weights = Tensor::<1>::from_data(TensorData::new(log_weights, [N]), &Device::flex());
    let stream = Stream::new(0, Purpose::Resampling);
    bencher.bench_local(|| resample(*scheme, log_weights.clone(), stream));
}
