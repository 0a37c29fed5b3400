//! The launches.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::kernel::{Task, chain_kernel};
use super::plan::{LANES_BYTES, Plan, THREADS};
use super::sums::sums_kernel;

/// The most cubes of a pass: each goes on with another tile, so that scratch stays small where a tile's is done with.
const CUBES: usize = 1_024;
/// The most rows whose parameter gradients are made at a time: a card's loops are not made for more.
const MOST_ROWS: usize = 1 << 17;
/// Bytes of scratch for these at most.
const SCRATCH: usize = 96 << 20;

fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    let (client, device) = (like.client.clone(), like.device.clone());
    empty_device_contiguous_dtype(client, device, Shape::from(shape), DType::F32)
}

/// Some tiles of x, from row `begin` on.
struct Rows {
    begin: usize,
    tiles: usize,
}

#[allow(clippy::too_many_arguments)]
fn launch(
    x: &CubeTensor,
    theta: &CubeTensor,
    weights: &CubeTensor,
    per_row: &CubeTensor,
    positions: &CubeTensor,
    scratch: &CubeTensor,
    rows: Rows,
    bound: f32,
    plan: &Plan,
    task: Task,
) {
    let constant = 0.5 * plan.dim as f64 * (2.0 * std::f64::consts::PI).ln();
    chain_kernel::launch(
        &x.client,
        CubeCount::new_1d(rows.tiles.min(CUBES) as u32),
        CubeDim::new_1d(THREADS as u32),
        x.clone().into_buffer_arg(),
        theta.clone().into_buffer_arg(),
        weights.clone().into_buffer_arg(),
        per_row.clone().into_buffer_arg(),
        positions.clone().into_buffer_arg(),
        scratch.clone().into_buffer_arg(),
        rows.begin,
        x.meta.shape()[0],
        rows.tiles,
        bound,
        constant as f32,
        plan.clone(),
        task,
    );
}

/// What a task gives of each row, `[rows]`, and of its coordinates, `[rows, dim]`; of [`Task::Energy`] the latter has no numbers.
pub(super) fn rows(
    x: CubeTensor,
    theta: CubeTensor,
    plan: &Plan,
    bound: f32,
    task: Task,
) -> (CubeTensor, CubeTensor) {
    let (x, theta) = (into_contiguous(x), into_contiguous(theta));
    let count = x.meta.shape()[0];
    let tiles = count.div_ceil(plan.tile);
    let per_row = empty(&x, [count]);
    let positions = if task == Task::Energy { empty(&x, [1, 1]) } else { empty(&x, [count, plan.dim]) };
    let kept = if task.goes_back() { tiles.min(CUBES) * plan.couplings * plan.features(false) } else { 1 };
    let scratch = empty(&x, [kept * plan.tile]);
    let none = empty(&x, [1]);
    launch(&x, &theta, &none, &per_row, &positions, &scratch, Rows { begin: 0, tiles }, bound, plan, task);
    (per_row, positions)
}

/// `U`, `[rows]`, and `Σ_b w_b ∂_θU(x_b)`, flat as θ is. Two launches; where scratch does not hold all rows, two for every part.
pub(super) fn param_grads(
    x: CubeTensor,
    weights: CubeTensor,
    theta: CubeTensor,
    plan: &Plan,
    bound: f32,
) -> (CubeTensor, CubeTensor) {
    let (x, weights, theta) = (into_contiguous(x), into_contiguous(weights), into_contiguous(theta));
    let count = x.meta.shape()[0];
    let (energy, none) = (empty(&x, [count]), empty(&x, [1]));
    let grads = empty(&theta, [theta.meta.num_elements()]);
    let kept = plan.couplings * plan.features(true);
    let most = SCRATCH.min(x.client.properties().memory.max_page_size as usize) / (kept * LANES_BYTES / 4);
    let part = (most.min(MOST_ROWS) / plan.tile).max(1) * plan.tile;
    let tiles = part.min(count).div_ceil(plan.tile);
    let scratch = empty(&x, [tiles * plan.tile * kept]);
    for begin in (0..count).step_by(part) {
        let tiles = (count - begin).min(part).div_ceil(plan.tile);
        let rows = Rows { begin, tiles };
        launch(&x, &theta, &weights, &energy, &none, &scratch, rows, bound, plan, Task::Params);
        sums_kernel::launch(
            &x.client,
            CubeCount::new_2d(plan.cubes() as u32, plan.couplings as u32),
            CubeDim::new_1d(THREADS as u32),
            scratch.clone().into_buffer_arg(),
            grads.clone().into_buffer_arg(),
            tiles * plan.groups(),
            plan.clone(),
            begin > 0,
        );
    }
    (energy, grads)
}
