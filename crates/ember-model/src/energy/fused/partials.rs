//! Sums over cubes: each cube writes what it has added up into a row of its own, and a second launch adds the rows up, in a fixed order.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern)]

use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::calculate_cube_count_elemwise;
use cubecl::prelude::*;

use crate::energy::WeightedGrads;
use crate::flat::{Layout, pack};

/// Numbers that a cube adds up at a time, and the threads that share a number's rows.
const NUMBERS: usize = 16;
const SLICES: usize = 16;
/// Rows that one thread adds up: twice the loads that a thread of more rows makes.
const FEW: usize = 32;
/// The most cubes: each goes on with more numbers.
const CUBES: usize = 4096;
/// The most cubes of a first launch: two for each processor of a large GPU. A constant, so that sums have one order everywhere.
pub(in crate::energy) const ROWS: usize = 264;
/// Numbers that rows may take in all, where the adapter's buffers are larger: 256 MiB.
const ROOM: usize = 1 << 26;
/// Rows with which a large GPU is busy: with room for fewer, other forms serve better.
const BUSY: usize = 132;

/// Rounds of all loops of a thread in one launch: software Vulkan ends them after 65,535 without a word. As good as no limit to a card.
pub(in crate::energy) const ROUNDS: usize = 60_000;

/// Rows for `work` pieces of work, each `total` numbers long; `None` where so few fit the adapter that it would wait.
pub(in crate::energy) fn rows(client: &Client, work: usize, total: usize) -> Option<usize> {
    let room = (client.properties().memory.max_page_size as usize / size_of::<f32>()).min(ROOM) / total;
    (room >= work.min(BUSY)).then(|| work.min(ROWS).min(room))
}

/// Adds to a number of the cube's row, or begins it.
#[cube]
pub(in crate::energy) fn add(rows: &mut [f32], at: usize, value: f32, adds: bool) {
    if adds {
        rows[at] = rows[at] + value;
    } else {
        rows[at] = value;
    }
}

#[cube(launch)]
fn sum_kernel(rows: &[f32], sums: &mut [f32], count: usize) {
    let mut parts = Shared::<[f32]>::new_slice(NUMBERS * SLICES);
    let thread = UNIT_POS as usize;
    let number = thread % NUMBERS;
    let slice = thread / NUMBERS;
    let total = sums.len();
    let mut block = CUBE_POS;
    while block * NUMBERS < total {
        // The total is a multiple of what a cube takes.
        let at = block * NUMBERS + number;
        let mut a = 0.0f32;
        let mut b = 0.0f32;
        let mut row = slice;
        while row + SLICES < count {
            a += rows[row * total + at];
            b += rows[(row + SLICES) * total + at];
            row += 2 * SLICES;
        }
        if row < count {
            a += rows[row * total + at];
        }
        parts[thread] = a + b;
        sync_cube();
        if slice == 0 {
            let mut sum = parts[number];
            for other in 1..SLICES {
                sum += parts[other * NUMBERS + number];
            }
            sums[at] = sum;
        }
        sync_cube();
        block += CUBE_COUNT;
    }
}

/// The same of a few rows: a thread adds up a number's, so that no cube waits for its threads.
#[cube(launch)]
fn few_kernel(rows: &[f32], sums: &mut [f32], count: usize) {
    let total = sums.len();
    if ABSOLUTE_POS < total {
        let mut sum = rows[ABSOLUTE_POS];
        for row in 1..count {
            sum += rows[row * total + ABSOLUTE_POS];
        }
        sums[ABSOLUTE_POS] = sum;
    }
}

/// `rows: [count, total]` → `[total]`, a launch where there is more than one row. `total` is a multiple of 16.
pub(in crate::energy) fn sum(rows: CubeTensor, count: usize) -> CubeTensor {
    if count == 1 {
        return rows;
    }
    let total = rows.meta.num_elements() / count;
    let client = rows.client.clone();
    let (shape, device) = (Shape::from([total]), rows.device.clone());
    let sums = empty_device_contiguous_dtype(client.clone(), device, shape, DType::F32);
    if count <= FEW {
        let threads = CubeDim::new_1d((NUMBERS * SLICES) as u32);
        few_kernel::launch(
            &client,
            calculate_cube_count_elemwise(&client, total, threads),
            threads,
            rows.into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            count,
        );
        return sums;
    }
    sum_kernel::launch(
        &client,
        CubeCount::new_1d((total / NUMBERS).min(CUBES) as u32),
        CubeDim::new_1d((NUMBERS * SLICES) as u32),
        rows.into_buffer_arg(),
        sums.clone().into_buffer_arg(),
        count,
    );
    sums
}

/// The gradient of terms of more walkers than one launch takes, `most`: of so many at a time, one piece after the other.
pub(in crate::energy) fn in_pieces(
    terms: &[(Tensor<2>, Tensor<1>)],
    most: usize,
    layout: &Layout,
    run: impl Fn(&[(Tensor<2>, Tensor<1>)]) -> WeightedGrads,
) -> WeightedGrads {
    if terms.iter().map(|(x, _)| x.dims()[0]).sum::<usize>() <= most {
        return run(terms);
    }
    let mut flat: Option<Tensor<1>> = None;
    let mut energies = Vec::with_capacity(terms.len());
    for (x, weights) in terms {
        let rows = x.dims()[0];
        let mut parts = Vec::new();
        for begin in (0..rows).step_by(most) {
            let count = most.min(rows - begin);
            let piece = (x.clone().narrow(0, begin, count), weights.clone().narrow(0, begin, count));
            let found = run(&[piece]);
            let own = pack(&found.grads);
            flat = Some(match flat {
                Some(flat) => flat + own,
                None => own,
            });
            parts.extend(found.energies);
        }
        energies.push(Tensor::cat(parts, 0));
    }
    let grads = flat.map_or_else(Vec::new, |flat| layout.views(&flat));
    WeightedGrads { grads, energies }
}
