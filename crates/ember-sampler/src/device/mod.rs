//! Operations that run where the tensors are: one fused pass on the processor, one kernel on a GPU.
//!
//! | operation | processor | GPU | plain twin |
//! |---|---|---|---|
//! | [`langevin_proposal`] | `normals.rs` | `cube/noise.rs` | [`langevin_proposal_reference`] |
//! | [`standard_normal`], [`uniform`] | `normals.rs` | `cube/noise.rs` | [`Stream::normals`], [`Stream::uniforms`] |
//! | [`open_uniform`] | `uniform`, moved and capped | the same | [`Stream::open_uniforms`] |
//! | [`ula_log_weight_increment`] | `increment.rs` | `cube/increment.rs` | [`ula_log_weight_increment_reference`] |
//! | [`accumulate`] | `two_sum.rs` | `cube/accumulate.rs` | `f64` in `tests/tests/weights.rs` |
//! | [`accumulate_ula`] | the two above | `cube/increment.rs` | the two above |
//! | [`Walkers::settled`](crate::Walkers::settled) | `settled.rs`, the host decides | `cube/settle/` | the processor's |
//! | [`Pages::select`](crate::Pages::select) | tensor operations | `cube/paging.rs` | `Pages::select_reference` |
//! | [`resample`](crate::resampling::resample) | `masses.rs`, `resampling/` | `cube/` | `f64` in `tests/tests/resampling.rs` |
//!
//! Tensors given to these functions are off the autodiff tape.

#[cfg(feature = "wgpu")]
pub(crate) mod cube;
mod flex;
mod increment;
pub(crate) mod masses;
#[cfg(feature = "ndarray")]
mod ndarray;
pub(crate) mod normals;
#[cfg(feature = "wgpu")]
pub(crate) mod paging;
#[cfg(feature = "wgpu")]
pub(crate) mod place;
#[cfg(feature = "wgpu")]
pub(crate) mod rule;
#[cfg(feature = "wgpu")]
pub(crate) mod settle;
mod two_sum;

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Int, Tensor, TensorData, assert_shape};
use ember_model::random::{HALF_CELL, LARGEST_OPEN, Stream};

use crate::resampling::Scheme;

/// The operations a backend provides. Call the functions of this module instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Flex, NdArray: cfg(feature = "ndarray"), Fusion: cfg(feature = "wgpu"))]
pub trait DeviceOps: Backend {
    /// See [`langevin_proposal`].
    #[fusion(dtype = x, shape = x)]
    fn langevin_proposal(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        step_size: f32,
        noise_scale: f32,
        stream: Stream,
    ) -> FloatTensor<Self>;

    /// See [`uniform`]; the shape, the device and the precision are those of `like`.
    #[fusion(dtype = like, shape = like)]
    fn uniform(like: FloatTensor<Self>, stream: Stream) -> FloatTensor<Self>;

    /// See [`ula_log_weight_increment`].
    #[fusion(dtype = ux, shape = ux)]
    fn ula_log_weight_increment(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        ux: FloatTensor<Self>,
        gx: FloatTensor<Self>,
        uy: FloatTensor<Self>,
        gy: FloatTensor<Self>,
        step_size: f32,
    ) -> FloatTensor<Self>;

    /// See [`accumulate`].
    #[fusion(meta = |hi, _lo, _delta| (hi.clone(), hi.clone()))]
    fn accumulate(
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        delta: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// See [`accumulate_ula`].
    // An operation takes tensors, nothing that holds them.
    #[allow(clippy::too_many_arguments)]
    #[fusion(meta = |hi, _lo, _x, _y, _ux, _gx, _uy, _gy, _step_size| (hi.clone(), hi.clone()))]
    fn accumulate_ula(
        hi: FloatTensor<Self>,
        lo: FloatTensor<Self>,
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        ux: FloatTensor<Self>,
        gx: FloatTensor<Self>,
        uy: FloatTensor<Self>,
        gy: FloatTensor<Self>,
        step_size: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        Self::accumulate(hi, lo, Self::ula_log_weight_increment(x, y, ux, gx, uy, gy, step_size))
    }

    /// See [`resample`](crate::resampling::resample).
    #[fusion(dtype = burn::tensor::DType::I32, shape = log_weights)]
    fn resample(log_weights: FloatTensor<Self>, scheme: Scheme, stream: Stream) -> IntTensor<Self>;

    /// See [`distinct`](crate::resampling::distinct).
    #[fusion(dtype = ancestors, shape = burn::tensor::Shape::from([1]))]
    fn distinct(ancestors: IntTensor<Self>, n: usize) -> IntTensor<Self>;
}

/// A Langevin proposal, `x − h·∇U + s·ξ`, in one pass; `ξ` is what [`Stream::normals`] says.
///
/// # Shapes
/// * `x`, `grad` and output: `[walkers, dim]`.
///
/// # Panics
/// If the shapes differ.
pub fn langevin_proposal(
    x: Tensor<2>,
    grad: Tensor<2>,
    step_size: f32,
    noise_scale: f32,
    stream: Stream,
) -> Tensor<2> {
    let [walkers, dim] = x.dims();
    assert_shape!(grad, [walkers, dim]);
    assert!(u32::try_from(walkers).is_ok(), "{walkers} walkers do not fit a 32-bit counter word");
    Tensor::from_dispatch(<Dispatch as DeviceOps>::langevin_proposal(
        x.into_dispatch(),
        grad.into_dispatch(),
        step_size,
        noise_scale,
        stream,
    ))
}

/// The plain twin of [`langevin_proposal`]: noise from the host, then tensor operations.
pub fn langevin_proposal_reference(
    x: Tensor<2>,
    grad: Tensor<2>,
    step_size: f32,
    noise_scale: f32,
    stream: Stream,
) -> Tensor<2> {
    let [walkers, dim] = x.dims();
    let noise = Tensor::from_data(TensorData::new(stream.normals(walkers, dim), [walkers, dim]), &x.device());
    x - grad.mul_scalar(step_size) + noise.mul_scalar(noise_scale)
}

/// Standard normals `[walkers, dim]`, those of [`Stream::normals`].
pub fn standard_normal([walkers, dim]: [usize; 2], stream: Stream, device: &Device) -> Tensor<2> {
    let zeros = Tensor::zeros([walkers, dim], device);
    langevin_proposal(zeros.clone(), zeros, 0.0, 1.0, stream)
}

/// A uniform number in `[0, 1)` for each walker, `[walkers]`: column 0 of [`Stream::uniforms`], equal bits.
pub fn uniform(walkers: usize, stream: Stream, device: &Device) -> Tensor<1> {
    assert!(u32::try_from(walkers).is_ok(), "{walkers} walkers do not fit a 32-bit counter word");
    let like = Tensor::<1>::empty([walkers], device);
    Tensor::from_dispatch(<Dispatch as DeviceOps>::uniform(like.into_dispatch(), stream))
}

/// A uniform number inside `(0, 1)` for each walker, `[walkers]`, of which a logarithm may be taken: column 0 of
/// [`Stream::open_uniforms`], equal bits.
pub fn open_uniform(walkers: usize, stream: Stream, device: &Device) -> Tensor<1> {
    uniform(walkers, stream, device).add_scalar(HALF_CELL).clamp_max(LARGEST_OPEN)
}

/// What an unadjusted Langevin step from `x` to `y` adds to the log-weights,
/// `α_k(x, y) − α_{k+1}(y, x)` with `α_θ(a, b) = U_θ(a) + ½ (b − a)·∇U_θ(a) + (h/4) |∇U_θ(a)|²`
/// (Carbone et al. 2023, Algorithm 1).
///
/// Summed as `U(x) − U(y) + ½ Σ (∇U(x) + ∇U(y))·(y − x + (h/2)(∇U(x) − ∇U(y)))`, which cancels less.
///
/// # Shapes
/// * `x`, `y` and the gradients `gx` (under the old energy) and `gy` (under the new one): `[walkers, dim]`.
/// * the energies `ux`, `uy` and output: `[walkers]`.
///
/// # Panics
/// If the shapes do not fit.
pub fn ula_log_weight_increment(
    x: Tensor<2>,
    y: Tensor<2>,
    ux: Tensor<1>,
    gx: Tensor<2>,
    uy: Tensor<1>,
    gy: Tensor<2>,
    step_size: f32,
) -> Tensor<1> {
    let [walkers, dim] = x.dims();
    assert_shape!(y, [walkers, dim]);
    assert_shape!(gx, [walkers, dim]);
    assert_shape!(gy, [walkers, dim]);
    assert_shape!(ux, [walkers]);
    assert_shape!(uy, [walkers]);
    Tensor::from_dispatch(<Dispatch as DeviceOps>::ula_log_weight_increment(
        x.into_dispatch(),
        y.into_dispatch(),
        ux.into_dispatch(),
        gx.into_dispatch(),
        uy.into_dispatch(),
        gy.into_dispatch(),
        step_size,
    ))
}

/// The plain twin of [`ula_log_weight_increment`]: the two `α` as the paper writes them.
pub fn ula_log_weight_increment_reference(
    x: Tensor<2>,
    y: Tensor<2>,
    ux: Tensor<1>,
    gx: Tensor<2>,
    uy: Tensor<1>,
    gy: Tensor<2>,
    step_size: f32,
) -> Tensor<1> {
    // α(a, b) = U(a) + ½ (b − a)·∇U(a) + (h/4) |∇U(a)|²
    let alpha = |a: &Tensor<2>, b: &Tensor<2>, u: Tensor<1>, g: Tensor<2>| {
        let drift = ((b.clone() - a.clone()) * g.clone()).sum_dim(1).squeeze_dim::<1>(1);
        let square = (g.clone() * g).sum_dim(1).squeeze_dim::<1>(1);
        u + drift.mul_scalar(0.5) + square.mul_scalar(0.25 * step_size)
    };
    // A += α_k(x, y) − α_{k+1}(y, x)
    alpha(&x, &y, ux, gx) - alpha(&y, &x, uy, gy)
}

/// `hi + lo + delta` as an unevaluated sum of two floats (Knuth's two-sum of `hi` and `delta + lo`): nothing but the
/// rounding of `delta + lo` is lost. All `[walkers]`; → the new `(hi, lo)`.
///
/// An operation of its own because shader compilers simplify the plain tensor form away.
pub fn accumulate(hi: Tensor<1>, lo: Tensor<1>, delta: Tensor<1>) -> (Tensor<1>, Tensor<1>) {
    let [walkers] = hi.dims();
    assert_shape!(lo, [walkers]);
    assert_shape!(delta, [walkers]);
    let (hi, lo) =
        <Dispatch as DeviceOps>::accumulate(hi.into_dispatch(), lo.into_dispatch(), delta.into_dispatch());
    (Tensor::from_dispatch(hi), Tensor::from_dispatch(lo))
}

/// [`accumulate`] of [`ula_log_weight_increment`], in one launch on a GPU: what a step adds to the pair `(hi, lo)`. `from` and `to`
/// are positions, energies and gradients.
pub fn accumulate_ula(
    (hi, lo): (Tensor<1>, Tensor<1>),
    (x, ux, gx): (Tensor<2>, Tensor<1>, Tensor<2>),
    (y, uy, gy): (Tensor<2>, Tensor<1>, Tensor<2>),
    step_size: f32,
) -> (Tensor<1>, Tensor<1>) {
    let [walkers, dim] = x.dims();
    assert_shape!(y, [walkers, dim]);
    assert_shape!(gx, [walkers, dim]);
    assert_shape!(gy, [walkers, dim]);
    assert_shape!(ux, [walkers]);
    assert_shape!(uy, [walkers]);
    assert_shape!(hi, [walkers]);
    assert_shape!(lo, [walkers]);
    let (hi, lo) = <Dispatch as DeviceOps>::accumulate_ula(
        hi.into_dispatch(),
        lo.into_dispatch(),
        x.into_dispatch(),
        y.into_dispatch(),
        ux.into_dispatch(),
        gx.into_dispatch(),
        uy.into_dispatch(),
        gy.into_dispatch(),
        step_size,
    );
    (Tensor::from_dispatch(hi), Tensor::from_dispatch(lo))
}

pub(crate) fn resample(scheme: Scheme, log_weights: Tensor<1>, stream: Stream) -> Tensor<1, Int> {
    let [n] = log_weights.dims();
    assert!(i32::try_from(n).is_ok(), "{n} walkers do not fit 32-bit ancestors");
    if n == 0 {
        return Tensor::empty([0], &log_weights.device());
    }
    Tensor::from_dispatch(<Dispatch as DeviceOps>::resample(log_weights.into_dispatch(), scheme, stream))
}

pub(crate) fn distinct(ancestors: Tensor<1, Int>, n: usize) -> Tensor<1, Int> {
    Tensor::from_dispatch(<Dispatch as DeviceOps>::distinct(ancestors.into_dispatch(), n))
}

/// Whether `device` runs the kernels of `cube/`.
pub(crate) fn is_gpu(device: &Device) -> bool {
    #[cfg(feature = "wgpu")]
    let found =
        matches!(device.clone().without_autodiff().as_dispatch(), burn::backend::DispatchDevice::Cube(_));
    #[cfg(not(feature = "wgpu"))]
    let found = {
        let _ = device;
        false
    };
    found
}

/// A word as a number in `[0, 1)` with 24 bits.
fn unit_uniform(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// How many of `0 .. n` occur.
fn count_distinct(values: impl Iterator<Item = i64>, n: usize) -> i64 {
    let mut seen = vec![false; n];
    for value in values {
        seen[value as usize] = true;
    }
    seen.into_iter().map(i64::from).sum()
}
