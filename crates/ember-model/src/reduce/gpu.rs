//! The reduction on a GPU: every thread adds up every so many-th element, a cube's threads meet in shared memory, halves added to
//! halves. Long vectors take several cubes, whose results one cube of a second launch adds up in the same way.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{Cube, CubeBackend};
use cubecl::prelude::*;

use super::Reduction;

/// Numbers that one launch finds.
const SLOTS: usize = 8;
/// Threads of a cube.
const THREADS: usize = 256;
/// Elements up to which one cube will do.
const ONE_CUBE: usize = 1 << 14;
/// Elements a cube takes of a longer vector, and the most cubes for it: each goes on with more.
const ELEMENTS: usize = 1 << 12;
const CUBES: usize = 512;

/// How elements become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Sum,
    Max,
    Dot,
}

/// One number of each of the vectors.
#[derive(Clone, Debug)]
struct Plan {
    kinds: Vec<Kind>,
    /// What each number is multiplied by in the end.
    scales: Vec<f32>,
}

/// The operation a GPU provides. Call [`all`] instead.
#[backend_extension(Cube: cfg(feature = "wgpu"), Fusion: cfg(feature = "wgpu"))]
trait ReduceOps: Backend {
    /// `[numbers]`. Vectors beyond the plan's are not looked at, nor a second one but of a dot product.
    #[allow(clippy::too_many_arguments)]
    #[fusion(meta = |x0, _x1, _x2, _x3, _x4, _x5, _x6, _x7, _y0, _y1, _y2, _y3, _y4, _y5, _y6, _y7, plan| {
        TensorSpec::new(Shape::from([plan.kinds.len()]), x0.dtype)
    })]
    fn reduce_all(
        x0: FloatTensor<Self>,
        x1: FloatTensor<Self>,
        x2: FloatTensor<Self>,
        x3: FloatTensor<Self>,
        x4: FloatTensor<Self>,
        x5: FloatTensor<Self>,
        x6: FloatTensor<Self>,
        x7: FloatTensor<Self>,
        y0: FloatTensor<Self>,
        y1: FloatTensor<Self>,
        y2: FloatTensor<Self>,
        y3: FloatTensor<Self>,
        y4: FloatTensor<Self>,
        y5: FloatTensor<Self>,
        y6: FloatTensor<Self>,
        y7: FloatTensor<Self>,
        plan: Plan,
    ) -> FloatTensor<Self>;
}

impl ReduceOps for CubeBackend {
    fn reduce_all(
        x0: FloatTensor<Self>,
        x1: FloatTensor<Self>,
        x2: FloatTensor<Self>,
        x3: FloatTensor<Self>,
        x4: FloatTensor<Self>,
        x5: FloatTensor<Self>,
        x6: FloatTensor<Self>,
        x7: FloatTensor<Self>,
        y0: FloatTensor<Self>,
        y1: FloatTensor<Self>,
        y2: FloatTensor<Self>,
        y3: FloatTensor<Self>,
        y4: FloatTensor<Self>,
        y5: FloatTensor<Self>,
        y6: FloatTensor<Self>,
        y7: FloatTensor<Self>,
        plan: Plan,
    ) -> FloatTensor<Self> {
        let count = plan.kinds.len();
        let x = [x0, x1, x2, x3, x4, x5, x6, x7].into_iter().take(count).map(into_contiguous).collect();
        let y = [y0, y1, y2, y3, y4, y5, y6, y7].into_iter().take(count).map(into_contiguous).collect();
        reduce(x, y, plan)
    }
}

/// Elements `start`, `start + stride`, … of one vector, or of two. Four sums at a time, so that loads do not wait for additions.
#[cube]
fn strided(x: &[f32], y: &[f32], start: usize, stride: usize, #[comptime] kind: Kind) -> f32 {
    let n = x.len();
    let mut j = start;
    // A maximum begins with an element: whichever, where the thread has none of its own.
    let own = select(start < n, start, n - 1);
    let mut a = 0.0f32;
    if comptime!(kind == Kind::Max) {
        a = x[own];
    }
    let mut b = a;
    let mut c = a;
    let mut d = a;
    while j + 3 * stride < n {
        match kind {
            Kind::Sum => {
                a += x[j];
                b += x[j + stride];
                c += x[j + 2 * stride];
                d += x[j + 3 * stride];
            }
            Kind::Max => {
                a = larger(a, x[j]);
                b = larger(b, x[j + stride]);
                c = larger(c, x[j + 2 * stride]);
                d = larger(d, x[j + 3 * stride]);
            }
            Kind::Dot => {
                a += x[j] * y[j];
                b += x[j + stride] * y[j + stride];
                c += x[j + 2 * stride] * y[j + 2 * stride];
                d += x[j + 3 * stride] * y[j + 3 * stride];
            }
        }
        j += 4 * stride;
    }
    while j < n {
        match kind {
            Kind::Sum => a += x[j],
            Kind::Max => a = larger(a, x[j]),
            Kind::Dot => a += x[j] * y[j],
        }
        j += stride;
    }
    match kind {
        Kind::Max => larger(larger(a, b), larger(c, d)),
        Kind::Sum | Kind::Dot => (a + b) + (c + d),
    }
}

#[cube]
fn larger(a: f32, b: f32) -> f32 {
    select(a > b, a, b)
}

/// One number of all threads' in the first of them. Every thread of the cube takes part.
#[cube]
fn meet(value: f32, is_max: bool) -> f32 {
    let mut values = Shared::<[f32]>::new_slice(THREADS);
    let thread = UNIT_POS as usize;
    values[thread] = value;
    sync_cube();
    #[unroll]
    for halving in 1..=comptime!(THREADS.ilog2() as usize) {
        let width = comptime!(THREADS >> halving);
        if thread < width {
            let (a, b) = (values[thread], values[thread + width]);
            values[thread] = select(is_max, larger(a, b), a + b);
        }
        sync_cube();
    }
    values[thread]
}

/// A bit for each number that is a maximum.
fn maxima(kinds: &[Kind]) -> u32 {
    kinds.iter().enumerate().map(|(i, kind)| u32::from(*kind == Kind::Max) << i).sum()
}

/// Cubes `(block, number)`; `output: [numbers, blocks]`. `y` holds the second vectors of dot products.
#[cube(launch)]
fn reduce_kernel(
    x: Sequence<Box<[f32]>>,
    y: Sequence<Box<[f32]>>,
    scales: Sequence<f32>,
    output: &mut [f32],
    #[comptime] kinds: Vec<Kind>,
) {
    let number = CUBE_POS_Y;
    let start = CUBE_POS_X as usize * THREADS + UNIT_POS as usize;
    let stride = CUBE_COUNT_X as usize * THREADS;
    let mut value = 0.0f32;
    let mut scale = 1.0f32;
    #[unroll]
    for i in 0..comptime!(kinds.len()) {
        if number == comptime!(i as u32) {
            let kind = comptime!(kinds[i]);
            value = if comptime!(kind == Kind::Dot) {
                let dots = comptime!(kinds[..i].iter().filter(|kind| **kind == Kind::Dot).count());
                strided(&x[i], &y[dots], start, stride, kind)
            } else {
                strided(&x[i], &x[i], start, stride, kind)
            };
            scale = scales[i];
        }
    }
    let is_max = (comptime!(maxima(&kinds)) >> number) & 1 == 1;
    let value = meet(value, is_max);
    if UNIT_POS == 0 {
        output[number as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize] = scale * value;
    }
}

/// The second launch: `partial: [numbers, blocks]`, a cube for each number.
#[cube(launch)]
fn finish_kernel(
    partial: &[f32],
    scales: Sequence<f32>,
    output: &mut [f32],
    blocks: usize,
    #[comptime] kinds: Vec<Kind>,
) {
    let number = CUBE_POS_X;
    let is_max = (comptime!(maxima(&kinds)) >> number) & 1 == 1;
    let begin = number as usize * blocks;
    let mut j = UNIT_POS as usize;
    let first = partial[begin + select(j < blocks, j, 0)];
    let mut value = select(is_max || j < blocks, first, 0.0f32);
    j += THREADS;
    while j < blocks {
        let next = partial[begin + j];
        value = select(is_max, larger(value, next), value + next);
        j += THREADS;
    }
    let value = meet(value, is_max);
    if UNIT_POS == 0 {
        let mut scale = 1.0f32;
        #[unroll]
        for i in 0..comptime!(kinds.len()) {
            if number == comptime!(i as u32) {
                scale = scales[i];
            }
        }
        output[number as usize] = scale * value;
    }
}

fn scalars(values: &[f32]) -> SequenceArg<f32> {
    let mut scalars = SequenceArg::new();
    values.iter().for_each(|&value| scalars.push(value));
    scalars
}

fn reduce(x: Vec<CubeTensor>, y: Vec<CubeTensor>, plan: Plan) -> CubeTensor {
    let numbers = plan.kinds.len();
    let (client, device) = (x[0].client.clone(), x[0].device.clone());
    let longest = x.iter().map(|x| x.meta.num_elements()).max().unwrap_or(0);
    let blocks = if longest <= ONE_CUBE { 1 } else { longest.div_ceil(ELEMENTS).min(CUBES) };
    let empty = |len: usize| {
        empty_device_contiguous_dtype(client.clone(), device.clone(), Shape::from([len]), DType::F32)
    };
    let output = empty(numbers);
    let first = if blocks == 1 { output.clone() } else { empty(numbers * blocks) };
    let ones = vec![1.0; numbers];
    let (mut vectors, mut seconds) = (SequenceArg::new(), SequenceArg::new());
    x.into_iter().for_each(|x| vectors.push(x.into_buffer_arg()));
    for (y, kind) in y.into_iter().zip(&plan.kinds) {
        if *kind == Kind::Dot {
            seconds.push(y.into_buffer_arg());
        }
    }
    let threads = CubeDim::new_1d(THREADS as u32);
    reduce_kernel::launch(
        &client,
        CubeCount::new_2d(blocks as u32, numbers as u32),
        threads,
        vectors,
        seconds,
        scalars(if blocks == 1 { &plan.scales } else { &ones }),
        first.clone().into_buffer_arg(),
        plan.kinds.clone(),
    );
    if blocks > 1 {
        finish_kernel::launch(
            &client,
            CubeCount::new_1d(numbers as u32),
            threads,
            first.into_buffer_arg(),
            scalars(&plan.scales),
            output.clone().into_buffer_arg(),
            blocks,
            plan.kinds,
        );
    }
    output
}

/// A number's kind, its vectors (the second is the first again where there is one only) and its scale.
fn parts(reduction: &Reduction) -> (Kind, [&Tensor<1>; 2], f32) {
    match reduction {
        Reduction::Sum(x) => (Kind::Sum, [x, x], 1.0),
        Reduction::Mean(x) => (Kind::Sum, [x, x], (1.0 / x.dims()[0] as f64) as f32),
        Reduction::Max(x) => (Kind::Max, [x, x], 1.0),
        Reduction::Dot(x, y) => (Kind::Dot, [x, y], 1.0),
    }
}

/// The numbers; `None` where a tensor is on no GPU, on the tape, or empty.
pub(super) fn all(reductions: &[Reduction]) -> Option<Tensor<1>> {
    let serves = |x: &Tensor<1>| {
        x.dtype() == DType::F32 && x.dims() != [0] && x.clone().try_into_primitive::<Cube>().is_ok()
    };
    if !reductions.iter().all(|reduction| parts(reduction).1.into_iter().all(serves)) {
        return None;
    }
    let hardware = {
        let on_gpu = parts(reductions.first()?).1[0].clone().try_into_primitive::<Cube>().ok()?;
        on_gpu.client.device().client().properties().hardware.clone()
    };
    // Besides the vectors: the output, and the launch's own numbers.
    if (hardware.max_bindings as usize) < 2 * SLOTS + 2 || (hardware.max_units_per_cube as usize) < THREADS {
        return None;
    }
    if reductions.len() > SLOTS {
        return Some(Tensor::cat(reductions.chunks(SLOTS).map(super::all).collect(), 0));
    }
    let plan = Plan {
        kinds: reductions.iter().map(|reduction| parts(reduction).0).collect(),
        scales: reductions.iter().map(|reduction| parts(reduction).2).collect(),
    };
    // Slots beyond the last number hold any vector.
    let slot = |i: usize, which: usize| {
        parts(reductions.get(i).unwrap_or(&reductions[0])).1[which].clone().into_dispatch()
    };
    Some(Tensor::from_dispatch(<Dispatch as ReduceOps>::reduce_all(
        slot(0, 0),
        slot(1, 0),
        slot(2, 0),
        slot(3, 0),
        slot(4, 0),
        slot(5, 0),
        slot(6, 0),
        slot(7, 0),
        slot(0, 1),
        slot(1, 1),
        slot(2, 1),
        slot(3, 1),
        slot(4, 1),
        slot(5, 1),
        slot(6, 1),
        slot(7, 1),
        plan,
    )))
}
