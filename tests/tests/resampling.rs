//! Resampling against `f64`, its laws against their expectations, and the processor against the GPU.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_sampler::resampling::{Scheme, distinct, resample};
use ember_tests::{assert_within_se, cpu, gpu};
use proptest::prelude::*;

/// `N W_i` in double precision.
fn expected_offspring(log_weights: &[f32]) -> Vec<f64> {
    let max = log_weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = log_weights.iter().map(|a| (f64::from(*a) - f64::from(max)).exp()).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|w| w * log_weights.len() as f64 / total).collect()
}

fn ancestors(scheme: Scheme, log_weights: &[f32], stream: Stream, device: &Device) -> Vec<usize> {
    let tensor = Tensor::<1>::from_data(TensorData::new(log_weights.to_vec(), [log_weights.len()]), device);
    let ancestors = resample(scheme, tensor, stream);
    ancestors.into_data().iter::<i64>().map(|a| usize::try_from(a).expect("not negative")).collect()
}

fn offspring(ancestors: &[usize]) -> Vec<u32> {
    let mut counts = vec![0; ancestors.len()];
    for ancestor in ancestors {
        counts[*ancestor] += 1;
    }
    counts
}

fn stream(seed: u64) -> Stream {
    Stream::new(seed, Purpose::Resampling)
}

/// The largest distance of the numbers of offspring from `N W_i`.
fn deviation(offspring: &[u32], expected: &[f64]) -> f64 {
    offspring
        .iter()
        .zip(expected)
        .map(|(count, expected)| (f64::from(*count) - expected).abs())
        .fold(0.0, f64::max)
}

/// A million log-weights, by name.
fn million(kind: &str) -> Vec<f32> {
    let n = 1_000_000;
    let normals = stream(11).normals(n, 1);
    match kind {
        "equal" => vec![-3.7; n],
        "normal" => normals,
        "wide" => normals.iter().map(|z| 1000.0 + 4.0 * z).collect(),
        "far" => normals.iter().map(|z| -1.0e5 + 2.0 * z).collect(),
        // one weight holds half of the mass, beside 999,999 equal or nearly equal ones
        "half" => (0..n).map(|i| if i == 123_456 { (n as f32).ln() } else { 0.0 }).collect(),
        "half, uneven" => {
            (0..n).map(|i| if i == 999_999 { (n as f32).ln() } else { 1e-3 * normals[i] }).collect()
        }
        "rising" => (0..n).map(|i| 12.0 * i as f32 / n as f32).collect(),
        "holes" => (0..n).map(|i| if i % 3 == 0 { f32::NEG_INFINITY } else { normals[i] }).collect(),
        _ => unreachable!("unknown kind of weights {kind}"),
    }
}

const MILLIONS: [&str; 8] = ["equal", "normal", "wide", "far", "half", "half, uneven", "rising", "holes"];

#[test]
fn systematic_is_within_one_of_the_expectation_at_a_million() {
    for kind in MILLIONS {
        let log_weights = million(kind);
        let expected = expected_offspring(&log_weights);
        for seed in 0..3 {
            let ancestors = ancestors(Scheme::Systematic, &log_weights, stream(seed), &cpu());
            assert!(ancestors.is_sorted(), "{kind}");
            let counts = offspring(&ancestors);
            let deviation = deviation(&counts, &expected);
            assert!(deviation < 1.0 + 1e-3, "{kind}, seed {seed}: off by {deviation}");
            assert!(counts.iter().zip(&log_weights).all(|(count, a)| *count == 0 || a.is_finite()), "{kind}");
        }
    }
}

/// The test of the test: the textbook algorithm on a prefix sum of `f32` weights breaks the bound.
#[test]
fn a_float_prefix_sum_breaks_the_bound() {
    let log_weights = million("half");
    let n = log_weights.len();
    let max = log_weights.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0f32;
    let cumulative: Vec<f32> = log_weights
        .iter()
        .map(|a| {
            sum += (a - max).exp();
            sum
        })
        .collect();
    let mut counts = vec![0; n];
    let mut walker = 0;
    for slot in 0..n {
        let position = (slot as f32 + 0.5) / n as f32 * sum;
        while cumulative[walker] <= position && walker < n - 1 {
            walker += 1;
        }
        counts[walker] += 1;
    }
    let deviation = deviation(&counts, &expected_offspring(&log_weights));
    assert!(
        deviation > 1.0 + 1e-3,
        "a float prefix sum is off by {deviation} only: these weights test nothing"
    );
}

#[test]
fn equal_weights_give_every_walker_itself() {
    for n in [1, 2, 3, 7, 1000, 4097, 1_000_000] {
        let identity: Vec<usize> = (0..n).collect();
        for scheme in [Scheme::Systematic, Scheme::Stratified, Scheme::Residual] {
            for a in [0.0, -1e9, 37.25] {
                assert_eq!(
                    ancestors(scheme, &vec![a; n], stream(n as u64), &cpu()),
                    identity,
                    "{scheme:?} {n} {a}"
                );
            }
        }
    }
}

#[test]
fn one_weight_takes_everything() {
    let mut log_weights = vec![-200.0; 1000];
    log_weights[321] = 5.0;
    for scheme in Scheme::ALL {
        assert_eq!(ancestors(*scheme, &log_weights, stream(1), &cpu()), vec![321; 1000], "{scheme:?}");
    }
}

#[test]
fn no_positive_weight_stays_in_range() {
    for device in [Some(cpu()), gpu()].into_iter().flatten() {
        for scheme in Scheme::ALL {
            let ancestors = ancestors(*scheme, &[f32::NEG_INFINITY; 40], stream(1), &device);
            assert!(ancestors.iter().all(|a| *a < 40), "{scheme:?}: {ancestors:?}");
        }
    }
}

#[test]
fn every_scheme_is_unbiased() {
    const RUNS: u64 = 4000;
    let log_weights = [0.0, 1.3, -0.4, f32::NEG_INFINITY, 2.2, -5.0, 0.7, 0.7, 1.0, -1.5, 0.2];
    let expected = expected_offspring(&log_weights);
    for scheme in Scheme::ALL {
        let (mut sums, mut squares) = (vec![0.0; log_weights.len()], vec![0.0; log_weights.len()]);
        for seed in 0..RUNS {
            let counts = offspring(&ancestors(*scheme, &log_weights, stream(seed), &cpu()));
            for (walker, count) in counts.into_iter().map(f64::from).enumerate() {
                sums[walker] += count;
                squares[walker] += count * count;
            }
        }
        let runs = RUNS as f64;
        for (walker, expected) in expected.iter().enumerate() {
            let mean = sums[walker] / runs;
            // at least the variance of one count in all runs
            let variance = (squares[walker] / runs - mean * mean).max(1.0 / runs);
            assert_within_se(mean, *expected, (variance / runs).sqrt(), 4.0);
            if *scheme == Scheme::Multinomial {
                // variance N W (1 − W), to 10 %, six standard errors here
                let n = log_weights.len() as f64;
                let exact = expected * (1.0 - expected / n);
                assert!(
                    (variance - exact).abs() <= 0.15 * exact + 0.02,
                    "walker {walker}: {variance} against {exact}"
                );
            }
        }
    }
}

/// Slots and successive streams are independent: pairs of draws of two equal walkers agree half of the time.
#[test]
fn multinomial_draws_are_independent_of_each_other() {
    const RUNS: u64 = 3000;
    let log_weights = [0.0f32; 20];
    // the sum over walkers of the squared number of offspring has mean N + N(N − 1)/N
    let squares: Vec<f64> = (0..RUNS)
        .map(|seed| {
            let counts = offspring(&ancestors(Scheme::Multinomial, &log_weights, stream(seed), &cpu()));
            counts.into_iter().map(|count| f64::from(count).powi(2)).sum()
        })
        .collect();
    let mean = squares.iter().sum::<f64>() / RUNS as f64;
    let variance = squares.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / RUNS as f64;
    assert_within_se(mean, 39.0, (variance / RUNS as f64).sqrt(), 4.0);
}

#[test]
fn distinct_counts_values() {
    for device in [Some(cpu()), gpu()].into_iter().flatten() {
        for (n, step) in [(1, 1), (10, 3), (5000, 7), (100_000, 1)] {
            let values: Vec<i32> = (0..n).map(|i| (i / step * 7919) % n).collect();
            let mut sorted = values.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let tensor = Tensor::from_data(TensorData::new(values, [n as usize]), &device);
            let count = distinct(tensor, n as usize);
            assert_eq!(count.dims(), [1]);
            assert_eq!(count.into_data().iter::<i64>().next(), Some(sorted.len() as i64));
        }
    }
}

/// The same ancestors, bit for bit, for identical log-weights.
#[test]
fn the_gpu_finds_the_same_ancestors() {
    let Some(gpu) = gpu() else { return };
    let sizes = [1usize, 2, 31, 32, 33, 1000, 1024, 1025, 40_000];
    for n in sizes {
        let normals = stream(n as u64).normals(n, 1);
        let kinds: [Vec<f32>; 7] = [
            normals.clone(),
            normals.iter().map(|z| 8.0 * z - 300.0).collect(),
            normals.iter().map(|z| 1.0e-3 * z).collect(),
            normals
                .iter()
                .enumerate()
                .map(|(i, z)| if i % 2 == 1 { f32::NEG_INFINITY } else { *z })
                .collect(),
            normals.iter().map(|z| 3.0e7 + 10.0 * z).collect(),
            normals.iter().map(|z| 1.0e12 * z).collect(),
            vec![0.25; n],
        ];
        for (kind, log_weights) in kinds.iter().enumerate() {
            for scheme in Scheme::ALL {
                let stream = stream(7).at(kind as u64).expect("small");
                let expected = ancestors(*scheme, log_weights, stream, &cpu());
                let found = ancestors(*scheme, log_weights, stream, &gpu);
                let differ = expected.iter().zip(&found).filter(|(a, b)| a != b).count();
                assert_eq!(differ, 0, "{scheme:?}, {n} walkers, weights {kind}");
            }
        }
    }
}

#[test]
fn the_gpu_is_exact_at_a_million() {
    let Some(gpu) = gpu() else { return };
    for kind in ["half, uneven", "holes"] {
        let log_weights = million(kind);
        for scheme in Scheme::ALL {
            let expected = ancestors(*scheme, &log_weights, stream(5), &cpu());
            assert!(expected == ancestors(*scheme, &log_weights, stream(5), &gpu), "{kind} {scheme:?}");
        }
    }
}

/// One thread alone cannot look for it: lavapipe ends loops after 65,535 rounds, here also where it reads four words a round.
#[test]
fn the_gpu_finds_the_largest_weight_anywhere() {
    let Some(gpu) = gpu() else { return };
    for n in [65_537usize, 262_400] {
        let normals = stream(n as u64).normals(n, 1);
        for place in [0, 65_530, n / 2, n - 1] {
            for (offset, rise) in [(0.0, 12.0), (-900.0, 12.0), (-2.5e9, 2e9)] {
                let mut log_weights: Vec<f32> = normals.iter().map(|z| z + offset).collect();
                log_weights[place] += rise;
                // without weight, of either sign
                log_weights[(place + 7) % n] = f32::NAN;
                log_weights[(place + 8) % n] = -f32::NAN;
                let expected = ancestors(Scheme::Systematic, &log_weights, stream(2), &cpu());
                let found = ancestors(Scheme::Systematic, &log_weights, stream(2), &gpu);
                assert!(expected == found, "{n} walkers, the largest at {place} under {offset}");
            }
        }
    }
}

/// Log-weights with holes, ties, wide ranges and offsets.
fn log_weights() -> impl Strategy<Value = Vec<f32>> {
    let weight = prop_oneof![
        6 => -4.0f32..4.0,
        2 => -60.0f32..0.0,
        1 => Just(0.0f32),
        1 => Just(f32::NEG_INFINITY),
    ];
    (prop::collection::vec(weight, 0..200), -1.0e4f32..1.0e4).prop_map(|(mut weights, offset)| {
        weights.push(1.0);
        weights.iter().map(|a| a + offset).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laws_of_the_schemes(log_weights in log_weights(), seed in any::<u64>()) {
        let n = log_weights.len();
        let expected = expected_offspring(&log_weights);
        for scheme in Scheme::ALL {
            let ancestors = ancestors(*scheme, &log_weights, stream(seed), &cpu());
            prop_assert!(ancestors.is_sorted());
            let counts = offspring(&ancestors);
            prop_assert_eq!(counts.iter().sum::<u32>() as usize, n);
            for ((count, expected), a) in counts.iter().zip(&expected).zip(&log_weights) {
                let count = f64::from(*count);
                prop_assert!(*a > f32::NEG_INFINITY || count == 0.0);
                match scheme {
                    Scheme::Systematic => prop_assert!((count - expected).abs() < 1.0 + 1e-6),
                    Scheme::Stratified => prop_assert!((count - expected).abs() < 2.0 + 1e-6),
                    Scheme::Residual => prop_assert!(count >= (expected - 1e-6).floor()),
                    Scheme::Multinomial => {}
                }
            }
        }
    }

    #[test]
    fn ancestors_do_not_depend_on_the_offset(quarters in prop::collection::vec(-40i32..0, 1..100), seed in any::<u64>()) {
        // multiples of ¼ keep their differences exactly
        let at = |offset: f32| -> Vec<f32> { quarters.iter().map(|q| *q as f32 * 0.25 + offset).collect() };
        for scheme in Scheme::ALL {
            let expected = ancestors(*scheme, &at(0.0), stream(seed), &cpu());
            prop_assert_eq!(&expected, &ancestors(*scheme, &at(-3.0e6), stream(seed), &cpu()));
            prop_assert_eq!(&expected, &ancestors(*scheme, &at(12_345.75), stream(seed), &cpu()));
        }
    }
}
