//! The kernel: a cube of 256 threads makes a block of 64 × 64 sums, a thread 4 × 4 of them in registers; slices of both factors, 16
//! deep, stand in shared memory (8 KiB). Edges read zeros. Its derivative is two products of the same kind.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, binary};
use burn::backend::autodiff::{Autodiff, NodeId};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, DispatchDevice, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use cubecl::prelude::*;

/// Rows and columns of a block.
const BLOCK: usize = 64;
/// Depth of a slice.
const DEPTH: usize = 16;
/// Threads of a cube.
const THREADS: usize = 256;
/// The most blocks of rows of a launch; cubes go on with the next.
const MOST_CUBES: usize = 65_535;

/// Four numbers side by side.
type Lanes = Vector<f32, Const<4>>;

/// The operation a GPU provides. Call [`matmul`] instead.
#[backend_extension(Autodiff: cfg(feature = "wgpu"), Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait ProductOps: Backend {
    /// `a b`: `[n, k]`, `[k, m]` → `[n, m]`.
    #[fusion(meta = |a, b| TensorSpec::new(Shape::from([a.shape[0], b.shape[1]]), a.dtype))]
    fn f32_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cube(launch)]
fn product_kernel(a: &[f32], b: &[f32], out: &mut [f32], rows: usize, depth: usize, columns: usize) {
    let unit = UNIT_POS as usize;
    // The thread's 4 × 4 sums, and what it loads: four rows of `a` in one column, four columns of `b` in one row.
    let (own_rows, own_columns) = (unit / 16, unit % 16);
    let mut left = Shared::<[Lanes]>::new_slice(comptime!(DEPTH * BLOCK / 4));
    let mut right = Shared::<[Lanes]>::new_slice(comptime!(DEPTH * BLOCK / 4));
    let first_column = CUBE_POS_Y as usize * BLOCK;
    let blocks = (rows + comptime!(BLOCK - 1)) / BLOCK;
    let mut block = CUBE_POS_X as usize;
    while block < blocks {
        let first_row = block * BLOCK;
        let mut sums_0 = Lanes::new(0.0f32);
        let mut sums_1 = Lanes::new(0.0f32);
        let mut sums_2 = Lanes::new(0.0f32);
        let mut sums_3 = Lanes::new(0.0f32);
        let mut begin = 0usize;
        while begin < depth {
            let a_column = begin + unit % DEPTH;
            let b_row = begin + unit / DEPTH;
            let mut a_lanes = Lanes::new(0.0f32);
            let mut b_lanes = Lanes::new(0.0f32);
            #[unroll]
            for lane in 0..4usize {
                let row = first_row + 4 * (unit / DEPTH) + lane;
                let column = first_column + 4 * (unit % DEPTH) + lane;
                if row < rows && a_column < depth {
                    a_lanes.insert(lane, a[row * depth + a_column]);
                }
                if column < columns && b_row < depth {
                    b_lanes.insert(lane, b[b_row * columns + column]);
                }
            }
            left[unit % DEPTH * comptime!(BLOCK / 4) + unit / DEPTH] = a_lanes;
            right[unit / DEPTH * comptime!(BLOCK / 4) + unit % DEPTH] = b_lanes;
            sync_cube();
            for k in 0..DEPTH {
                let of_a = left[k * comptime!(BLOCK / 4) + own_rows];
                let of_b = right[k * comptime!(BLOCK / 4) + own_columns];
                sums_0 += Lanes::new(of_a.extract(0usize)) * of_b;
                sums_1 += Lanes::new(of_a.extract(1usize)) * of_b;
                sums_2 += Lanes::new(of_a.extract(2usize)) * of_b;
                sums_3 += Lanes::new(of_a.extract(3usize)) * of_b;
            }
            sync_cube();
            begin += DEPTH;
        }
        let row = first_row + 4 * own_rows;
        let column = first_column + 4 * own_columns;
        store(out, sums_0, row, column, rows, columns);
        store(out, sums_1, row + 1, column, rows, columns);
        store(out, sums_2, row + 2, column, rows, columns);
        store(out, sums_3, row + 3, column, rows, columns);
        block += CUBE_COUNT_X as usize;
    }
}

/// Four columns of a row, as far as they are there.
#[cube]
fn store(out: &mut [f32], sums: Lanes, row: usize, column: usize, rows: usize, columns: usize) {
    #[unroll]
    for lane in 0..4usize {
        if row < rows && column + lane < columns {
            out[row * columns + column + lane] = sums.extract(lane);
        }
    }
}

impl ProductOps for CubeBackend {
    fn f32_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let (a, b) = (into_contiguous(a), into_contiguous(b));
        let (rows, depth, columns) = (a.meta.shape()[0], a.meta.shape()[1], b.meta.shape()[1]);
        let shape = Shape::from([rows, columns]);
        let out = empty_device_contiguous_dtype(a.client.clone(), a.device.clone(), shape, DType::F32);
        if rows * columns > 0 {
            product_kernel::launch(
                &out.client,
                CubeCount::Static(
                    rows.div_ceil(BLOCK).min(MOST_CUBES) as u32,
                    columns.div_ceil(BLOCK) as u32,
                    1,
                ),
                CubeDim::new_1d(THREADS as u32),
                a.into_buffer_arg(),
                b.into_buffer_arg(),
                out.clone().into_buffer_arg(),
                rows,
                depth,
                columns,
            );
        }
        out
    }
}

/// `∂(a b) = g bᵀ` and `aᵀ g`.
#[derive(Debug)]
struct Product;

impl<B: ProductOps> Backward<B, 2> for Product {
    type State = (Option<NodeId>, Option<NodeId>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let (a, b) = ops.state;
        let a: Option<FloatTensor<B>> = a.map(|a| checkpointer.retrieve_node_output(a));
        let b: Option<FloatTensor<B>> = b.map(|b| checkpointer.retrieve_node_output(b));
        binary::<B, _, _>(
            ops.parents,
            ops.node,
            grads,
            |grad| B::f32_product(grad, B::float_transpose(b.expect("kept, since a is tracked"))),
            |grad| B::f32_product(B::float_transpose(a.expect("kept, since b is tracked")), grad),
        );
    }
}

impl<B: ProductOps, C: CheckpointStrategy> ProductOps for Autodiff<B, C> {
    fn f32_product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let (a_tracked, b_tracked) = (a.is_tracked(), b.is_tracked());
        match Product.prepare::<C>([a.node(), b.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let a_state = b_tracked.then(|| prep.checkpoint(&a));
                let b_state = a_tracked.then(|| prep.checkpoint(&b));
                prep.finish((a_state, b_state), B::f32_product(a.into_primitive(), b.into_primitive()))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::f32_product(a.into_primitive(), b.into_primitive())),
        }
    }
}

/// Whether the tensor's device is CUDA's, which takes tf32 for f32.
pub(super) fn is_on_cuda(tensor: &Tensor<2>) -> bool {
    let device = tensor.device().without_autodiff();
    matches!(device.as_dispatch(), DispatchDevice::Cube(cubecl::Device::Cuda(_)))
}

/// See [`super::matmul_by_kernel`].
pub(super) fn matmul(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    assert_eq!(a.dims()[1], b.dims()[0], "the product of {:?} and {:?}", a.dims(), b.dims());
    assert!(a.dtype() == DType::F32 && b.dtype() == DType::F32, "f32 is expected");
    Tensor::from_dispatch(<Dispatch as ProductOps>::f32_product(a.into_dispatch(), b.into_dispatch()))
}
