//! Sums, means and maxima of long vectors in two stages of about √n each.
//!
//! A GPU backend reduces a whole vector with one thread, or with float atomics whose order changes from run to run; software
//! Vulkan even cuts a loop after 65,535 rounds without a word. Here no stage is longer than √n + 1, the order is fixed, and
//! the result is the same in every run.

use burn::tensor::Tensor;

/// Below this many elements one stage will do.
const ONE_STAGE: usize = 1_024;

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

/// `Σ x`. `[n]` → `[1]`.
pub fn sum(x: Tensor<1>) -> Tensor<1> {
    let rows = folded(x, 0.0).sum_dim(1);
    match rows.dims() {
        [1, _] => rows.reshape([1]),
        [n, _] => rows.reshape([1, n]).sum_dim(1).reshape([1]),
    }
}

/// `(1/n) Σ x`. `[n]` → `[1]`.
pub fn mean(x: Tensor<1>) -> Tensor<1> {
    let [n] = x.dims();
    sum(x).div_scalar(n as f64)
}

/// `max x`. `[n]` → `[1]`.
pub fn max(x: Tensor<1>) -> Tensor<1> {
    let rows = folded(x, f32::NEG_INFINITY).max_dim(1);
    match rows.dims() {
        [1, _] => rows.reshape([1]),
        [n, _] => rows.reshape([1, n]).max_dim(1).reshape([1]),
    }
}
