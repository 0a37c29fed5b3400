//! Log-weights are carried without drift: after 10⁵ f32 increments of size 1 the compensated sum is the f64 sum to 5·10⁻⁵, where
//! a plain f32 sum is wrong by more than 100 times as much.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_sampler::weights::LogWeights;
use ember_tests::{cpu, gpu};
use proptest::prelude::*;

const WALKERS: usize = 64;

/// `(largest error of hi + lo, largest error of a plain f32 sum)` against f64, after `steps` increments of size ~1 around a
/// drift that takes A to about −0.01·steps.
fn drift(steps: u64, device: &Device) -> (f64, f64) {
    let mut exact = vec![0.0f64; WALKERS];
    let mut plain = vec![0.0f32; WALKERS];
    let mut sum = LogWeights::zeros(&Tensor::zeros([WALKERS], device));
    for step in 0..steps {
        let noise = Stream::new(3, Purpose::Noise).at(step).expect("fits").normals(WALKERS, 1);
        let delta: Vec<f32> = noise.iter().map(|z| z - 0.01).collect();
        for ((exact, plain), &d) in exact.iter_mut().zip(&mut plain).zip(&delta) {
            *exact += f64::from(d);
            *plain += d;
        }
        sum = sum.accumulate(Tensor::from_data(TensorData::new(delta, [WALKERS]), device));
    }
    let (hi, lo) = (download(sum.value()), download(sum.compensation()));
    let parts = hi.iter().zip(&lo).map(|(&hi, &lo)| f64::from(hi) + f64::from(lo));
    let error = parts.zip(&exact).map(|(sum, exact)| (sum - exact).abs()).fold(0.0, f64::max);
    let plain = plain.iter().zip(&exact).map(|(&sum, exact)| (f64::from(sum) - exact).abs());
    (error, plain.fold(0.0, f64::max))
}

#[test]
fn no_drift_after_1e5_steps() {
    let (compensated, plain) = drift(100_000, &cpu());
    println!("after 10⁵ increments: compensated error {compensated:.2e}, plain f32 error {plain:.2e}");
    // Each step rounds delta + lo once: 2⁻²⁴ of a number below 8, 10⁵ times, adding up as a random walk to ~1e-5 at worst.
    assert!(compensated < 5e-5, "{compensated}");
    assert!(plain > 100.0 * compensated, "the plain sum ({plain}) should show the drift");
}

#[test]
fn no_drift_on_the_gpu_path() {
    let Some(device) = gpu() else { return };
    let (compensated, plain) = drift(1_000, &device);
    println!("GPU path, 10³ increments: compensated error {compensated:.2e}, plain f32 error {plain:.2e}");
    assert!(compensated < 5e-6, "{compensated}");
    assert!(plain > 3.0 * compensated, "the plain sum ({plain}) should show the drift");
}

proptest! {
    #[test]
    fn two_sum_is_exact_for_one_addition(a in -1e6f32..1e6, b in -1e3f32..1e3) {
        let device = cpu();
        let start = Tensor::<1>::from_floats([a], &device);
        let sum = LogWeights::from_parts(start.clone(), start.zeros_like()).accumulate(Tensor::from_floats([b], &device));
        let total = f64::from(download(sum.value())[0]) + f64::from(download(sum.compensation())[0]);
        prop_assert_eq!(total, f64::from(a) + f64::from(b));
    }
}

/// One bad walker among many is seen, whatever the device's compiler thinks of NaN.
#[test]
fn a_non_finite_walker_is_seen() {
    use ember_sampler::WeightStats;
    for device in [Some(cpu()), gpu()].into_iter().flatten() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (which, at) in [(0, 0), (1, 1_999), (2, 777)] {
                let vector = |i: usize| {
                    let mut values = vec![0.5f32; 2_000];
                    // A log-weight of −∞ is a walker without weight, not an error.
                    if i == which && !(i == 0 && bad == f32::NEG_INFINITY) {
                        values[at] = bad;
                    } else if i == which {
                        values[at] = f32::NAN;
                    }
                    Tensor::<1>::from_data(TensorData::new(values, [2_000]), &device)
                };
                assert!(!WeightStats::new(vector(0), vector(1), vector(2)).read().finite, "{bad} in {which}");
            }
        }
        let good = Tensor::<1>::ones([2_000], &device);
        let summary = WeightStats::new(good.clone(), good.clone(), good).read();
        assert!(summary.finite && (summary.ess - 2_000.0).abs() < 0.01, "{summary:?}");
    }
}

/// Two-stage reductions against f64 on the host, around every fold size, at a million too.
#[test]
fn reductions_match_the_host() {
    use ember_sampler::reduce;
    for device in [Some(cpu()), gpu()].into_iter().flatten() {
        for n in [1, 2, 1_024, 1_025, 1_600, 70_001, 1_000_000] {
            let mut values = Stream::new(9, Purpose::Data).uniforms(n, 1);
            values[n - 1] = 7.0;
            let exact: f64 = values.iter().map(|&v| f64::from(v)).sum();
            let x = || Tensor::<1>::from_data(TensorData::new(values.clone(), [n]), &device);
            let sum = f64::from(download(reduce::sum(x()))[0]);
            assert!((sum / exact - 1.0).abs() < 1e-5, "n = {n}: {sum} for {exact}");
            let mean = f64::from(download(reduce::mean(x()))[0]);
            assert!((mean * n as f64 / exact - 1.0).abs() < 1e-5, "n = {n}: mean {mean}");
            assert_eq!(download(reduce::max(x()))[0], 7.0, "n = {n}");
        }
    }
}
