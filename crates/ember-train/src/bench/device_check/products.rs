//! Matrix products, at each precision that the device has.
//!
//! Of 256 products of normals, as a fraction of the largest element: f32 is off by some 3·10⁻⁷, tf32 (11 bits) by 3·10⁻⁴, bf16
//! (8 bits) by 3·10⁻³. What is allowed of each lies a factor of ten above it and below the next.

use ember_model::Precision;
use ember_model::params::download;
use ember_model::precision::product;
use ember_model::random::{Purpose, Stream};

use super::energies::matrix;
use super::{Check, Expected};

const SIDE: usize = 256;

pub(super) fn rows(check: &mut Check<'_>) {
    let device = check.device();
    let [a, b] = [1, 2].map(|lane| Stream::new(11, Purpose::Data).lane(lane).normals(SIDE, SIDE));
    let exact = exact(&a, &b);
    for precision in check.selected.precisions() {
        let allowed = match precision {
            Precision::F32 => 3e-6,
            Precision::Tf32 => 3e-3,
            Precision::Bf16 => 3e-2,
        };
        let expected = [Expected::relative(exact.iter().copied(), 0.0)];
        check.row(
            format!("{precision} product, {SIDE} × {SIDE} × {SIDE}"),
            "f64",
            allowed,
            &expected,
            || Ok(vec![download(product(matrix(&a, SIDE, &device), matrix(&b, SIDE, &device), precision))]),
        );
    }
}

/// `a b` in f64.
fn exact(a: &[f32], b: &[f32]) -> Vec<f64> {
    let mut product = vec![0.0; SIDE * SIDE];
    for (row, a) in product.chunks_exact_mut(SIDE).zip(a.chunks_exact(SIDE)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(SIDE)) {
            row.iter_mut().zip(b).for_each(|(sum, &b)| *sum += f64::from(a) * f64::from(b));
        }
    }
    product
}
