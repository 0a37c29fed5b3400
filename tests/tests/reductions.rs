//! Sums, means, maxima and dot products of vectors of any length: near those in double precision, and the same bits in every run.

use burn::tensor::{Device, Tensor};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::reduce::{Reduction, all, max, mean, sum};
use ember_tests::{cpu, gpu};

const LENS: [usize; 11] = [1, 2, 3, 255, 256, 257, 1024, 16_384, 16_385, 70_001, (1 << 20) + 3];

fn devices() -> impl Iterator<Item = Device> {
    [Some(cpu()), gpu()].into_iter().flatten()
}

/// Normals off zero, so that sums do not cancel.
fn numbers(n: usize, seed: u64) -> Vec<f32> {
    Stream::new(seed, Purpose::Noise).normals(1, n).into_iter().map(|z| z - 0.5).collect()
}

struct Exact {
    sum: f64,
    max: f64,
    dot: f64,
    /// Sums of absolute values: what rounding is relative to.
    size: f64,
    dot_size: f64,
}

fn exact(x: &[f32], y: &[f32]) -> Exact {
    let pairs = || x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y));
    Exact {
        sum: x.iter().map(|&x| f64::from(x)).sum(),
        max: x.iter().fold(f64::NEG_INFINITY, |max, &x| max.max(f64::from(x))),
        dot: pairs().sum(),
        size: x.iter().map(|&x| f64::from(x.abs())).sum(),
        dot_size: pairs().map(f64::abs).sum(),
    }
}

/// Rounding of a few hundred additions one after the other.
const TOLERANCE: f64 = 2e-6;

#[test]
fn any_length() {
    for device in devices() {
        for n in LENS {
            let (x, y) = (numbers(n, 1), numbers(n, 2));
            let exact = exact(&x, &y);
            let (x, y) = (upload(x, &device), upload(y, &device));
            let number = |found: Tensor<1>| f64::from(download(found)[0]);
            let near = |what: &str, found: f64, expected: f64, size: f64| {
                let off = (found - expected).abs() / size;
                assert!(off <= TOLERANCE, "{what} of {n} on {device:?}: {found}, not {expected} ({off:.1e})");
            };
            near("sum", number(sum(x.clone())), exact.sum, exact.size);
            near("mean", number(mean(x.clone())), exact.sum / n as f64, exact.size / n as f64);
            assert_eq!(number(max(x.clone())), exact.max, "max of {n} on {device:?}");
            near("dot", number(all(&[Reduction::Dot(x.clone(), y.clone())])), exact.dot, exact.dot_size);
            // Together and in any order they are what they are alone, but for the cubes that a longer neighbour brings.
            let several = [
                Reduction::Max(x.clone()),
                Reduction::Dot(x.clone(), y.clone()),
                Reduction::Sum(y.clone()),
                Reduction::Max(x.clone().neg()),
                Reduction::Mean(x.clone()),
            ];
            let together = download(all(&several));
            let alone: Vec<f32> =
                several.iter().flat_map(|one| download(all(std::slice::from_ref(one)))).collect();
            assert_eq!(together, alone, "{n} on {device:?}");
        }
    }
}

/// More numbers than one launch finds, of vectors of different lengths.
#[test]
fn many_vectors() {
    for device in devices() {
        let vectors: Vec<Vec<f32>> = (0..11).map(|i| numbers(1 + 2000 * i, i as u64)).collect();
        let reductions: Vec<_> =
            vectors.iter().map(|vector| Reduction::Sum(upload(vector.clone(), &device))).collect();
        for (found, vector) in download(all(&reductions)).into_iter().zip(&vectors) {
            let exact = exact(vector, vector);
            assert!((f64::from(found) - exact.sum).abs() <= TOLERANCE * exact.size, "{device:?}");
        }
    }
}

#[test]
fn every_run_gives_the_same_bits() {
    for device in devices() {
        for n in [1_000, 70_001, 1 << 20] {
            let x = upload(numbers(n, 3), &device);
            let run = || download(all(&[Reduction::Sum(x.clone()), Reduction::Dot(x.clone(), x.clone())]));
            let first = run();
            assert!((0..5).all(|_| run() == first), "{n} on {device:?}");
        }
    }
}

/// A maximum of numbers that are all very small, or no numbers at all but −∞.
#[test]
fn maxima_have_no_lower_bound() {
    for device in devices() {
        for n in [1, 300, 20_000] {
            let at = |value: f32| download(max(upload(vec![value; n], &device)))[0];
            assert_eq!(at(-3.2e38), -3.2e38);
            assert_eq!(at(f32::NEG_INFINITY), f32::NEG_INFINITY);
        }
    }
}

/// One element that is not counted is seen.
#[test]
fn a_missing_element_is_seen() {
    for device in devices() {
        for n in [257, 16_385, 70_001] {
            for missing in [0, n / 2, n - 1] {
                let mut values = vec![1.0; n];
                values[missing] = 1.0 + n as f32;
                let found = f64::from(download(sum(upload(values, &device)))[0]);
                assert!((found - 2.0 * n as f64).abs() < 0.3, "{found}, not {} ({device:?})", 2 * n);
            }
        }
    }
}
