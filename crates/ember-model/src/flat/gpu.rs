//! Flat buffers on a GPU.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::needless_range_loop)]

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{Cube, CubeBackend};
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use super::{ALIGNMENT, Layout};

/// Tensors that one launch packs.
const SLOTS: usize = 16;
/// Bytes of a number.
const BYTES: usize = size_of::<f32>();

/// The operations a GPU provides. Call the functions of the parent module instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait FlatOps: Backend {
    /// See [`view`](super::view).
    #[fusion(meta = |flat, _begin, len| TensorSpec::new(Shape::from([*len]), flat.dtype))]
    fn flat_view(flat: FloatTensor<Self>, begin: usize, len: usize) -> FloatTensor<Self>;

    /// See [`pack`](super::pack). Tensors beyond the layout's are not looked at.
    #[allow(clippy::too_many_arguments)]
    #[fusion(meta = |p0, _p1, _p2, _p3, _p4, _p5, _p6, _p7, _p8, _p9, _p10, _p11, _p12, _p13, _p14, _p15, layout| {
        TensorSpec::new(Shape::from([layout.total]), p0.dtype)
    })]
    fn flat_pack(
        p0: FloatTensor<Self>,
        p1: FloatTensor<Self>,
        p2: FloatTensor<Self>,
        p3: FloatTensor<Self>,
        p4: FloatTensor<Self>,
        p5: FloatTensor<Self>,
        p6: FloatTensor<Self>,
        p7: FloatTensor<Self>,
        p8: FloatTensor<Self>,
        p9: FloatTensor<Self>,
        p10: FloatTensor<Self>,
        p11: FloatTensor<Self>,
        p12: FloatTensor<Self>,
        p13: FloatTensor<Self>,
        p14: FloatTensor<Self>,
        p15: FloatTensor<Self>,
        layout: Layout,
    ) -> FloatTensor<Self>;
}

impl FlatOps for CubeBackend {
    fn flat_view(flat: FloatTensor<Self>, begin: usize, len: usize) -> FloatTensor<Self> {
        part(&into_contiguous(flat), begin, len)
    }

    fn flat_pack(
        p0: FloatTensor<Self>,
        p1: FloatTensor<Self>,
        p2: FloatTensor<Self>,
        p3: FloatTensor<Self>,
        p4: FloatTensor<Self>,
        p5: FloatTensor<Self>,
        p6: FloatTensor<Self>,
        p7: FloatTensor<Self>,
        p8: FloatTensor<Self>,
        p9: FloatTensor<Self>,
        p10: FloatTensor<Self>,
        p11: FloatTensor<Self>,
        p12: FloatTensor<Self>,
        p13: FloatTensor<Self>,
        p14: FloatTensor<Self>,
        p15: FloatTensor<Self>,
        layout: Layout,
    ) -> FloatTensor<Self> {
        let parts = [p0, p1, p2, p3, p4, p5, p6, p7, p8, p9, p10, p11, p12, p13, p14, p15];
        let parts: Vec<_> = parts.into_iter().take(layout.lens.len()).map(into_contiguous).collect();
        whole(&parts, &layout).unwrap_or_else(|| packed(parts, layout))
    }
}

/// `len` numbers from `begin` on, in the same memory.
fn part(flat: &CubeTensor, begin: usize, len: usize) -> CubeTensor {
    let (begin, end) = ((begin * BYTES) as u64, ((begin + len) * BYTES) as u64);
    let rest = flat.handle.size_in_used() - end;
    let handle = flat.handle.clone().offset_start(begin).offset_end(rest);
    CubeTensor::new_contiguous(
        flat.client.clone(),
        flat.device.clone(),
        Shape::from([len]),
        handle,
        flat.dtype,
    )
}

/// The buffer that all parts are views of, where they stand in it as the layout says. Only views of flat buffers, whose padding is
/// zero, stand so: other tensors have memory of their own, or no such gaps between them.
fn whole(parts: &[CubeTensor], layout: &Layout) -> Option<CubeTensor> {
    let memory = |part: &CubeTensor| part.handle.memory.clone().binding().id();
    let begin = |part: &CubeTensor| part.handle.offset_start.unwrap_or(0);
    let first = &parts[0];
    let (start, end) = (begin(first), begin(first) + (layout.total * BYTES) as u64);
    let stands = |(part, place): (&CubeTensor, &usize)| {
        memory(part) == memory(first) && begin(part) == start + (place * BYTES) as u64
    };
    // One part alone may be any tensor: nothing says that zeros follow it.
    let is_whole = parts.len() > 1 || layout.lens[0] == layout.total;
    if !is_whole || end > first.handle.size() || !parts.iter().zip(&layout.begins).all(stands) {
        return None;
    }
    let mut handle = first.handle.clone();
    handle.offset_end = Some(handle.size() - end);
    let (client, device) = (first.client.clone(), first.device.clone());
    Some(CubeTensor::new_contiguous(client, device, Shape::from([layout.total]), handle, first.dtype))
}

#[cube(launch)]
fn pack_kernel(parts: Sequence<Box<[f32]>>, flat: &mut [f32], #[comptime] layout: Layout) {
    let at = ABSOLUTE_POS;
    if at < flat.len() {
        let mut value = 0.0f32;
        #[unroll]
        for i in 0..comptime!(layout.lens.len()) {
            let begin = comptime!(layout.begins[i]);
            let end = comptime!(layout.begins[i] + layout.lens[i]);
            if at >= begin && at < end {
                value = parts[i][at - begin];
            }
        }
        flat[at] = value;
    }
}

/// A new buffer.
fn packed(parts: Vec<CubeTensor>, layout: Layout) -> CubeTensor {
    let first = &parts[0];
    let (client, device, shape) = (first.client.clone(), first.device.clone(), Shape::from([layout.total]));
    let flat = empty_device_contiguous_dtype(client.clone(), device, shape, DType::F32);
    let mut slots = SequenceArg::new();
    for part in parts {
        slots.push(part.into_buffer_arg());
    }
    let threads = CubeDim::new(&client, layout.total);
    pack_kernel::launch(
        &client,
        calculate_cube_count_elemwise(&client, layout.total, threads),
        threads,
        slots,
        flat.clone().into_buffer_arg(),
        layout,
    );
    flat
}

/// Whether the tensor is on a GPU, and off the tape.
fn serves(tensor: &Tensor<1>) -> bool {
    tensor.dtype() == DType::F32 && tensor.clone().try_into_primitive::<Cube>().is_ok()
}

/// The view, where there is a GPU and `begin` is aligned.
pub(super) fn view(flat: &Tensor<1>, begin: usize, len: usize) -> Option<Tensor<1>> {
    if len == 0 || !begin.is_multiple_of(ALIGNMENT) || !serves(flat) {
        return None;
    }
    let flat = flat.clone().into_dispatch();
    Some(Tensor::from_dispatch(<Dispatch as FlatOps>::flat_view(flat, begin, len)))
}

/// The buffer, where there is a GPU and no part is empty.
pub(super) fn pack(parts: &[Tensor<1>], layout: &Layout) -> Option<Tensor<1>> {
    let on_gpu = parts.first()?.clone().try_into_primitive::<Cube>().ok()?;
    // Besides the parts: the buffer, and the launch's own numbers.
    let bindings = on_gpu.client.device().client().properties().hardware.max_bindings as usize;
    drop(on_gpu);
    if bindings < SLOTS + 2 || layout.lens.contains(&0) || !parts.iter().all(serves) {
        return None;
    }
    if parts.len() > SLOTS {
        // Every part ends at a multiple of the alignment, so that buffers may stand one after the other.
        let flats: Vec<_> = parts.chunks(SLOTS).map(super::pack).collect();
        return Some(super::pack(&flats));
    }
    // Slots beyond the last part hold any tensor.
    let slot = |i: usize| parts.get(i).unwrap_or(&parts[0]).clone().into_dispatch();
    Some(Tensor::from_dispatch(<Dispatch as FlatOps>::flat_pack(
        slot(0),
        slot(1),
        slot(2),
        slot(3),
        slot(4),
        slot(5),
        slot(6),
        slot(7),
        slot(8),
        slot(9),
        slot(10),
        slot(11),
        slot(12),
        slot(13),
        slot(14),
        slot(15),
        layout.clone(),
    )))
}
