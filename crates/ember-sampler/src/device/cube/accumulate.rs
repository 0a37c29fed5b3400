//! Compensated addition on GPUs.

use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use ember_model::energy::chain::cube::two_sum;

use super::launch::grid;

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
