//! Rows of one page copied to where they belong in another.

use burn::tensor::Shape;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::{CubeDim, calculate_cube_count_elemwise};

use super::settle::lanes;
use crate::device::place::Place;

const THREADS: u32 = 256;

/// A thread for every `lanes`-th coordinate of a slot.
#[cube(launch)]
fn gather_page_kernel(
    page: &[f32],
    ancestors: &[u32],
    output: &mut [f32],
    first: usize,
    rows: usize,
    first_slot: usize,
    slots: usize,
    dim: usize,
    #[comptime] lanes: usize,
) {
    let slot = ABSOLUTE_POS / lanes;
    if slot < slots {
        let from = ancestors[first_slot + slot] as usize;
        if from >= first && from < first + rows {
            let mut j = ABSOLUTE_POS % lanes;
            while j < dim {
                output[slot * dim + j] = page[(from - first) * dim + j];
                j += lanes;
            }
        }
    }
}

/// See `PagingOps`.
pub(crate) fn gather(
    into: Option<CubeTensor>,
    page: CubeTensor,
    ancestors: CubeTensor,
    place: Place,
) -> CubeTensor {
    let (page, ancestors) = (into_contiguous(page), into_contiguous(ancestors));
    let [rows, dim] = [page.meta.shape()[0], page.meta.shape()[1]];
    let output = match into.map(into_contiguous) {
        // Nobody else sees it.
        Some(into) if into.can_mut() => into,
        Some(into) => into.copy(),
        None => {
            let shape = Shape::from([place.slots, dim]);
            empty_device_contiguous_dtype(page.client.clone(), page.device.clone(), shape, page.dtype)
        }
    };
    if place.slots * dim == 0 {
        return output;
    }
    let threads = CubeDim::new_1d(THREADS);
    gather_page_kernel::launch(
        &output.client,
        calculate_cube_count_elemwise(&output.client, place.slots * lanes(dim), threads),
        threads,
        page.into_buffer_arg(),
        ancestors.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        place.first,
        rows,
        place.slot,
        place.slots,
        dim,
        lanes(dim),
    );
    output
}
