//! The f32 product that CUDA devices need, on the GPU path: against f64, on the tape, and on shapes that are no multiple of a block.
#![cfg(feature = "wgpu")]

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::download;
use ember_model::product::matmul_by_kernel;
use ember_model::random::{Purpose, Stream};
use ember_tests::{cpu, gpu};

fn normals(lane: u32, n: usize, m: usize) -> Vec<f32> {
    Stream::new(3, Purpose::Data).lane(lane).normals(n, m)
}

fn matrix(values: &[f32], n: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [n, values.len() / n]), device)
}

/// The largest difference from f64 as a fraction of the largest sum of `|a||b|`.
fn error(found: &[f32], a: &[f32], b: &[f32], [n, k, m]: [usize; 3]) -> f64 {
    let (mut worst, mut size) = (0.0f64, 0.0f64);
    for i in 0..n {
        for j in 0..m {
            let terms = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * m + j]));
            let (sum, whole) = terms.fold((0.0, 0.0), |(sum, whole), term| (sum + term, whole + term.abs()));
            worst = worst.max((f64::from(found[i * m + j]) - sum).abs());
            size = size.max(whole);
        }
    }
    worst / size
}

/// The rounding of sums of up to 300 terms is some 10⁻⁷ of their size; tf32's is 10⁻⁴.
const ALLOWED: f64 = 1e-6;

#[test]
fn it_is_f32() {
    let Some(device) = gpu() else { return };
    let shapes =
        [[1, 1, 1], [3, 5, 7], [64, 16, 64], [65, 17, 66], [257, 300, 129], [20_001, 2, 3], [2, 300, 1]];
    for shape @ [n, k, m] in shapes {
        let (a, b) = (normals(1, n, k), normals(2, k, m));
        let product = || download(matmul_by_kernel(matrix(&a, n, &device), matrix(&b, k, &device)));
        let found = product();
        assert!(error(&found, &a, &b, shape) <= ALLOWED, "{shape:?}: {:.1e}", error(&found, &a, &b, shape));
        assert_eq!(found, product(), "{shape:?}: twice the same");
        // Factors cut to eleven bits, as tf32 has them, are seen.
        let cut = |values: &[f32]| -> Vec<f32> {
            values.iter().map(|v| f32::from_bits((v.to_bits() + 0x1000) & !0x1fff)).collect()
        };
        let (a_cut, b_cut) = (cut(&a), cut(&b));
        let cut = download(matmul_by_kernel(matrix(&a_cut, n, &device), matrix(&b_cut, k, &device)));
        assert!(error(&cut, &a, &b, shape) > 10.0 * ALLOWED, "{shape:?}: tf32 goes unseen");
    }
}

/// Views are read in their logical order, and an empty sum is zero.
#[test]
fn views_and_empty_sums() {
    let Some(device) = gpu() else { return };
    let (a, b) = (normals(1, 33, 70), normals(2, 33, 40));
    let left = matrix(&a, 33, &device).transpose();
    let found = download(matmul_by_kernel(left, matrix(&b, 33, &device)));
    let expected = download(matrix(&a, 33, &cpu()).transpose().matmul(matrix(&b, 33, &cpu())));
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 2e-5, "{worst}");
}

/// An energy that calls burn's product is tf32 on CUDA.
#[test]
fn no_energy_calls_burns_product() {
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
        {
            match entry.is_dir() {
                true => sources(&entry, found),
                false => found.push(entry),
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/ember-model/src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "the sources are there");
    let calls = |path: &PathBuf| std::fs::read_to_string(path).expect("readable").contains(".matmul(");
    let mut calling: Vec<String> = files
        .iter()
        .filter(|path| calls(path))
        .map(|path| path.strip_prefix(&root).expect("below it").display().to_string())
        .collect();
    calling.sort();
    assert_eq!(calling, ["precision.rs", "product/mod.rs"], "take ember_model::product::matmul");
}

/// Its derivatives are those of burn's product.
#[test]
fn it_can_be_differentiated() {
    let Some(device) = gpu() else { return };
    let [n, k, m] = [37, 50, 19];
    let (a, b, weights) = (normals(1, n, k), normals(2, k, m), normals(3, n, m));
    let gradients = |device: &Device, product: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
        let a = matrix(&a, n, device).autodiff().require_grad();
        let b = matrix(&b, k, device).autodiff().require_grad();
        let sum = (product(a.clone(), b.clone()) * matrix(&weights, n, device).autodiff()).sum();
        let grads = sum.backward();
        [a, b].map(|factor| download(factor.grad(&grads).expect("it was asked for")))
    };
    let (found, expected) = (gradients(&device, matmul_by_kernel), gradients(&cpu(), Tensor::matmul));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 3e-5, "{worst}");
    }
}
