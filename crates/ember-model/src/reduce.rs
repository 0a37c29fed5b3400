//! Sums, means, maxima and dot products of long vectors in a fixed order: the same bits in every run.
//!
//! On a GPU by one cube-wide reduction of our own (`gpu.rs`), [`all`] for several vectors in one launch. A GPU backend's own reduces
//! a whole vector with one thread, or with float atomics whose order changes from run to run; software Vulkan even cuts a loop after
//! 65,535 rounds without a word. Elsewhere, and on the tape, in two stages of about √n each.

#[cfg(feature = "wgpu")]
mod gpu;

use burn::tensor::Tensor;

/// Below this many elements one stage will do.
const ONE_STAGE: usize = 1_024;

/// One number of a vector, or of two of one length.
// Handles of tensors, of which there are a few.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
pub enum Reduction {
    /// `Σ x`.
    Sum(Tensor<1>),
    /// `(1/n) Σ x`.
    Mean(Tensor<1>),
    /// `max x`, of one element or more.
    Max(Tensor<1>),
    /// `Σ x y`.
    Dot(Tensor<1>, Tensor<1>),
}

/// All of these numbers, `[reductions]`, of which there is one or more: on a GPU one launch for up to eight vectors of up to 16,384
/// elements, two where one is longer.
///
/// # Panics
/// If the two vectors of a dot product differ in length.
pub fn all(reductions: &[Reduction]) -> Tensor<1> {
    for reduction in reductions {
        if let Reduction::Dot(x, y) = reduction {
            assert_eq!(x.dims(), y.dims(), "a dot product of vectors of one length");
        }
    }
    #[cfg(feature = "wgpu")]
    if let Some(found) = gpu::all(reductions) {
        return found;
    }
    let mut found: Vec<_> = reductions.iter().map(by_tensors).collect();
    match found.len() {
        1 => found.swap_remove(0),
        _ => Tensor::cat(found, 0),
    }
}

/// `Σ x`. `[n]` → `[1]`.
pub fn sum(x: Tensor<1>) -> Tensor<1> {
    all(&[Reduction::Sum(x)])
}

/// `(1/n) Σ x`. `[n]` → `[1]`.
pub fn mean(x: Tensor<1>) -> Tensor<1> {
    all(&[Reduction::Mean(x)])
}

/// `max x`. `[n]` → `[1]`.
pub fn max(x: Tensor<1>) -> Tensor<1> {
    all(&[Reduction::Max(x)])
}

/// The plain form.
fn by_tensors(reduction: &Reduction) -> Tensor<1> {
    match reduction.clone() {
        Reduction::Sum(x) => sum_by_tensors(x),
        Reduction::Mean(x) => {
            let [n] = x.dims();
            sum_by_tensors(x).div_scalar(n as f64)
        }
        Reduction::Max(x) => max_by_tensors(x),
        Reduction::Dot(x, y) => sum_by_tensors(x * y),
    }
}

fn sum_by_tensors(x: Tensor<1>) -> Tensor<1> {
    let rows = folded(x, 0.0).sum_dim(1);
    match rows.dims() {
        [1, _] => rows.reshape([1]),
        [n, _] => rows.reshape([1, n]).sum_dim(1).reshape([1]),
    }
}

fn max_by_tensors(x: Tensor<1>) -> Tensor<1> {
    let rows = folded(x, f32::NEG_INFINITY).max_dim(1);
    match rows.dims() {
        [1, _] => rows.reshape([1]),
        [n, _] => rows.reshape([1, n]).max_dim(1).reshape([1]),
    }
}

/// `x` `[n]` as `[rows, columns]`, both about √n, filled up with `fill`.
fn folded(x: Tensor<1>, fill: f32) -> Tensor<2> {
    let [n] = x.dims();
    if n <= ONE_STAGE {
        return x.reshape([1, n]);
    }
    let columns = (n as f64).sqrt().ceil() as usize;
    let rows = n.div_ceil(columns);
    let missing = rows * columns - n;
    if missing == 0 {
        return x.reshape([rows, columns]);
    }
    let rest = Tensor::full([missing], fill, &x.device());
    Tensor::cat(vec![x, rest], 0).reshape([rows, columns])
}
