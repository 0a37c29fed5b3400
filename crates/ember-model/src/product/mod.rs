//! Matrix products in f32, whatever the device would rather do.
//!
//! burn's `matmul` of f32 tensors takes tensor cores at tf32, unasked, where a device has them: CUDA devices do, and an energy is
//! then off by 10⁻³ of itself, which is not rounding for a log-weight. So products on a CUDA device go through a kernel of our own
//! (`kernel.rs`), on the tape too; everywhere else they are burn's, which are f32 there: no device that wgpu reaches has tf32.

#[cfg(feature = "wgpu")]
mod kernel;

use burn::tensor::Tensor;

/// `a b` in f32. `a: [n, k]`, `b: [k, m]` → `[n, m]`.
pub fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "wgpu")]
    if cfg!(feature = "cuda") && kernel::is_on_cuda(&a) {
        return matmul_by_kernel(a, b);
    }
    a.matmul(b)
}

/// [`matmul`] by our own kernel, on any GPU; sums run over `k` in its order, so that every run has the same bits.
///
/// # Panics
/// If the tensors are on no GPU, not f32, or their shapes do not fit.
#[cfg(feature = "wgpu")]
pub fn matmul_by_kernel(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    kernel::matmul(a, b)
}
