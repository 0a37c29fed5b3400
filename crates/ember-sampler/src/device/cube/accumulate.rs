//! Compensated addition on GPUs.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::grid;

/// The same number, by a way no shader compiler looks through: `zero` is known at run time only. Drivers simplify
/// `(a + b) − a` to `b`, which is the very error the compensation must see (Mesa does, with WGSL's blessing).
#[cube]
pub(super) fn opaque(value: f32, zero: u32) -> f32 {
    f32::reinterpret(u32::reinterpret(value) ^ zero)
}

/// An unevaluated sum of two numbers.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Pair {
    pub(super) hi: f32,
    pub(super) lo: f32,
}

/// `hi + lo + delta`, Knuth's two-sum of `hi` and `delta + lo`.
#[cube]
pub(super) fn two_sum(hi: f32, lo: f32, delta: f32, zero: u32) -> Pair {
    let b = opaque(delta + lo, zero);
    let sum = opaque(hi + b, zero);
    let b_seen = opaque(sum - hi, zero);
    let a_seen = opaque(sum - b_seen, zero);
    Pair { hi: sum, lo: opaque(hi - a_seen, zero) + opaque(b - b_seen, zero) }
}

#[cube(launch)]
fn accumulate_kernel(
    hi: &[f32],
    lo: &[f32],
    delta: &[f32],
    sum_hi: &mut [f32],
    sum_lo: &mut [f32],
    zero: u32,
) {
    if ABSOLUTE_POS < sum_hi.len() {
        let sum = two_sum(hi[ABSOLUTE_POS], lo[ABSOLUTE_POS], delta[ABSOLUTE_POS], zero);
        sum_hi[ABSOLUTE_POS] = sum.hi;
        sum_lo[ABSOLUTE_POS] = sum.lo;
    }
}

/// See `DeviceOps::accumulate`.
pub(super) fn accumulate(hi: CubeTensor, lo: CubeTensor, delta: CubeTensor) -> (CubeTensor, CubeTensor) {
    let (hi, lo, delta) = (into_contiguous(hi), into_contiguous(lo), into_contiguous(delta));
    let shape = hi.meta.shape().clone();
    let output =
        || empty_device_contiguous_dtype(hi.client.clone(), hi.device.clone(), shape.clone(), hi.dtype);
    let (sum_hi, sum_lo) = (output(), output());
    let elements = shape.num_elements();
    if elements == 0 {
        return (sum_hi, sum_lo);
    }
    let (count, threads) = grid(&sum_hi.client, elements);
    accumulate_kernel::launch(
        &sum_hi.client,
        count,
        threads,
        hi.into_buffer_arg(),
        lo.into_buffer_arg(),
        delta.into_buffer_arg(),
        sum_hi.clone().into_buffer_arg(),
        sum_lo.clone().into_buffer_arg(),
        0u32,
    );
    (sum_hi, sum_lo)
}
