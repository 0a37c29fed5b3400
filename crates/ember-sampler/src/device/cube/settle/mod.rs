//! A population settled on a GPU: statistics, decision, bank, resampling and weights, in launches that ask the host nothing.
//!
//! | launch | up to [`ONE_CUBE`] walkers, and groups | more |
//! |---|---|---|
//! | 1 | `group_kernel`: a cube a group does all but the gather | `partials_kernel`: sums of chunks |
//! | 2 | `gather_kernel` | `counts_kernel`: the verdict, and masses of chunks |
//! | 3 | | `ends_kernel`: the slot behind each walker's last |
//! | 4 | | `gather_kernel` |
//!
//! Multinomial and residual resampling draw their ancestors as they always did (`cube/resampling.rs`), due or not; the gather then
//! looks at them or does not. The sums are floats, in an order that depends on the number of walkers and coordinates
//! alone; the ancestors are integers throughout and those of a processor.

mod gather;
mod kernels;
mod offspring;
mod sums;

use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::{DType, Slice};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::{CubeDim, calculate_cube_count_elemwise};
use ember_model::random::Stream;

pub(super) use self::gather::lanes;
use self::gather::{Choice, gather_kernel};
use self::kernels::{
    ancestors_kernel, counts_kernel, ends_kernel, group_kernel, partials_kernel, weights_kernel,
};
pub(super) use self::offspring::Position;
use self::sums::{PARTIAL, STATE, THREADS};
use super::launch::empty;
use crate::device::rule::Rule;
use crate::resampling::Scheme;
use ember_model::random::cube::counter;

/// The most walkers that one cube settles alone, which saves two launches and uses one processor of the card.
const ONE_CUBE: usize = 8_192;
/// The most coordinates that it looks at.
const ONE_CUBE_COORDINATES: usize = 1 << 17;
/// Walkers of a thread that finds masses, and of a chunk of the sums' kernels: at least, beyond 2²⁰ in all more.
const WALKERS: usize = 4;
/// Threads that walkers are dealt to before they get more than [`WALKERS`].
const DEALT: usize = 1 << 18;
/// Coordinates that are worth a cube of the sums.
const COORDINATES: usize = 1 << 14;
/// The most cubes of the sums: each later cube adds up all of theirs.
const CUBES: usize = 1_024;

/// Positions of a scheme that fills slot after slot.
fn position(scheme: Scheme) -> Option<Position> {
    match scheme {
        Scheme::Systematic => Some(Position::Common),
        Scheme::Stratified => Some(Position::Own),
        Scheme::Multinomial | Scheme::Residual => None,
    }
}

fn cube_dim() -> CubeDim {
    CubeDim::new_1d(THREADS as u32)
}

fn cubes(count: usize) -> CubeCount {
    CubeCount::new_1d(count as u32)
}

fn like(tensor: &CubeTensor) -> CubeTensor {
    let (client, device) = (tensor.client.clone(), tensor.device.clone());
    empty_device_contiguous_dtype(client, device, tensor.meta.shape().clone(), tensor.dtype)
}

/// Partial sums of chunks, and how many there are.
fn partials(
    log_weights: &CubeTensor,
    energy: &CubeTensor,
    energy_grad: &CubeTensor,
    with_energy: bool,
) -> (CubeTensor, usize) {
    let n = log_weights.meta.num_elements();
    let dim = if with_energy { energy_grad.meta.num_elements() / n } else { 0 };
    let chunk = (WALKERS * THREADS).min(COORDINATES / dim.max(1)).max(1).max(n.div_ceil(CUBES));
    let count = n.div_ceil(chunk);
    let output = empty(log_weights, PARTIAL * count, DType::U32);
    partials_kernel::launch(
        &output.client,
        cubes(count),
        cube_dim(),
        log_weights.clone().into_buffer_arg(),
        energy.clone().into_buffer_arg(),
        energy_grad.clone().into_buffer_arg(),
        output.clone().into_buffer_arg(),
        dim,
        chunk,
        with_energy,
    );
    (output, count)
}

/// See `SettleOps::weigh`.
pub(crate) fn weigh(
    log_weights: CubeTensor,
    energy: CubeTensor,
    energy_grad: CubeTensor,
) -> (CubeTensor, CubeTensor) {
    let [log_weights, energy, energy_grad] = [log_weights, energy, energy_grad].map(into_contiguous);
    let n = log_weights.meta.num_elements();
    let (stats, weights) = (empty(&log_weights, 4, DType::F32), like(&log_weights));
    if n == 0 {
        return (stats, weights);
    }
    let (partials, count) = partials(&log_weights, &energy, &energy_grad, true);
    let chunk = (WALKERS * THREADS).max(n.div_ceil(CUBES));
    weights_kernel::launch(
        &stats.client,
        cubes(n.div_ceil(chunk)),
        cube_dim(),
        log_weights.into_buffer_arg(),
        partials.into_buffer_arg(),
        stats.clone().into_buffer_arg(),
        weights.clone().into_buffer_arg(),
        (n as f64).ln() as f32,
        chunk,
        count,
    );
    (stats, weights)
}

/// Walkers of a thread that finds masses.
fn per_thread(n: usize) -> usize {
    WALKERS.max(n.div_ceil(DEALT))
}

/// The slot behind each walker's last, from the chunks' masses and the state.
fn ends(
    log_weights: &CubeTensor,
    state: &CubeTensor,
    chunks: CubeTensor,
    stream: Stream,
    position: Position,
) -> CubeTensor {
    let n = log_weights.meta.num_elements();
    let output = empty(log_weights, n, DType::U32);
    ends_kernel::launch(
        &output.client,
        cubes(n.div_ceil(per_thread(n) * THREADS)),
        cube_dim(),
        log_weights.clone().into_buffer_arg(),
        state.clone().into_buffer_arg(),
        chunks.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        counter(stream),
        per_thread(n),
        position,
    );
    output
}

/// Ancestors, ascending, of one population: four launches.
pub(super) fn ancestors(log_weights: CubeTensor, stream: Stream, position: Position) -> CubeTensor {
    let log_weights = into_contiguous(log_weights);
    let n = log_weights.meta.num_elements();
    let (partials, count) = partials(&log_weights, &log_weights, &log_weights, false);
    let chunk_count = n.div_ceil(per_thread(n) * THREADS);
    let state = empty(&log_weights, STATE, DType::U32);
    let chunks = empty(&log_weights, 3 * chunk_count, DType::U32);
    let unused = || empty(&log_weights, 4, DType::F32);
    counts_kernel::launch(
        &state.client,
        cubes(chunk_count),
        cube_dim(),
        log_weights.clone().into_buffer_arg(),
        partials.into_buffer_arg(),
        unused().into_buffer_arg(),
        unused().into_buffer_arg(),
        unused().into_buffer_arg(),
        state.clone().into_buffer_arg(),
        chunks.clone().into_buffer_arg(),
        0.0,
        0.0,
        count,
        per_thread(n),
        0u32,
        false,
        true,
        true,
    );
    let ends = ends(&log_weights, &state, chunks, stream, position);
    let output = empty(&log_weights, n, DType::I32);
    ancestors_kernel::launch(
        &output.client,
        calculate_cube_count_elemwise(&output.client, n, cube_dim()),
        cube_dim(),
        ends.into_buffer_arg(),
        output.clone().into_buffer_arg(),
    );
    output
}

/// See `SettleOps::settle`, whose tensors these are.
pub(crate) fn settle(inputs: [CubeTensor; 8], rule: Rule) -> [CubeTensor; 11] {
    let [x, energy, energy_grad, hi, lo, ancestor, log_z, count] = inputs.map(into_contiguous);
    let n = hi.meta.num_elements();
    let (size, dim) = (n / rule.groups, x.meta.shape()[1]);
    let to = [&x, &energy, &energy_grad, &hi, &lo, &ancestor, &hi, &hi].map(like);
    let stats = empty(&hi, if rule.with_energy { 4 } else { 2 } * rule.groups, DType::F32);
    let (banked, counted) = (like(&log_z), like(&count));
    let client = hi.client.clone();
    let state = empty(&hi, STATE * rule.groups, DType::U32);
    let log_count = (size as f64).ln() as f32;
    let place = position(rule.scheme);
    let slots = if n == 0 {
        None
    } else if rule.groups > 1
        || (size <= ONE_CUBE && (!rule.with_energy || size * dim <= ONE_CUBE_COORDINATES))
    {
        let ends = empty(&hi, n, DType::U32);
        group_kernel::launch(
            &client,
            cubes(rule.groups),
            cube_dim(),
            hi.clone().into_buffer_arg(),
            energy.clone().into_buffer_arg(),
            energy_grad.clone().into_buffer_arg(),
            log_z.into_buffer_arg(),
            stats.clone().into_buffer_arg(),
            banked.clone().into_buffer_arg(),
            state.clone().into_buffer_arg(),
            ends.clone().into_buffer_arg(),
            counter(rule.stream),
            size,
            dim,
            log_count,
            rule.limit,
            0u32,
            rule.within,
            rule.with_energy,
            place.is_some(),
            place.unwrap_or(Position::Common),
        );
        place.map(|_| ends)
    } else {
        let (partials, partial_count) = partials(&hi, &energy, &energy_grad, rule.with_energy);
        let chunk_count = if place.is_some() { n.div_ceil(per_thread(n) * THREADS) } else { 1 };
        let chunks = empty(&hi, 3 * chunk_count, DType::U32);
        counts_kernel::launch(
            &client,
            cubes(chunk_count),
            cube_dim(),
            hi.clone().into_buffer_arg(),
            partials.into_buffer_arg(),
            log_z.into_buffer_arg(),
            stats.clone().into_buffer_arg(),
            banked.clone().into_buffer_arg(),
            state.clone().into_buffer_arg(),
            chunks.clone().into_buffer_arg(),
            log_count,
            rule.limit,
            partial_count,
            per_thread(n),
            0u32,
            rule.within,
            place.is_some(),
            false,
        );
        place.map(|place| ends(&hi, &state, chunks, rule.stream, place))
    };
    let [to_position, to_energy, to_grad, to_hi, to_lo, to_ancestor, weights, before] = to;
    if n > 0 {
        let how = if slots.is_some() { Choice::Ends } else { Choice::Ancestors };
        let choice = slots.unwrap_or_else(|| drawn(&hi, size, rule));
        gather_kernel::launch(
            &client,
            calculate_cube_count_elemwise(&client, n * lanes(dim), cube_dim()),
            cube_dim(),
            x.into_buffer_arg(),
            energy.into_buffer_arg(),
            energy_grad.into_buffer_arg(),
            hi.into_buffer_arg(),
            lo.into_buffer_arg(),
            ancestor.into_buffer_arg(),
            choice.into_buffer_arg(),
            state.into_buffer_arg(),
            count.into_buffer_arg(),
            to_position.clone().into_buffer_arg(),
            to_energy.clone().into_buffer_arg(),
            to_grad.clone().into_buffer_arg(),
            to_hi.clone().into_buffer_arg(),
            to_lo.clone().into_buffer_arg(),
            to_ancestor.clone().into_buffer_arg(),
            weights.clone().into_buffer_arg(),
            before.clone().into_buffer_arg(),
            counted.clone().into_buffer_arg(),
            size,
            dim,
            rule.groups,
            lanes(dim),
            how,
            rule.within,
        );
    }
    [to_position, to_energy, to_grad, to_hi, to_lo, to_ancestor, weights, before, stats, banked, counted]
}

/// Ancestors by a scheme of independent draws, group after group, each counted within its group: whether they are used or not.
fn drawn(log_weights: &CubeTensor, size: usize, rule: Rule) -> CubeTensor {
    if rule.groups == 1 {
        return rule.scheme.ancestors_on_gpu(log_weights.clone(), rule.stream);
    }
    let [_, purpose] = rule.stream.counter_tail();
    let groups = (0..rule.groups).map(|r| {
        let slice = Slice::from(r * size..(r + 1) * size);
        let group = CubeBackend::float_slice(log_weights.clone(), &[slice]);
        rule.scheme.ancestors_on_gpu(into_contiguous(group), rule.stream.lane((purpose >> 8) + r as u32))
    });
    into_contiguous(CubeBackend::int_cat(groups.collect(), 0))
}
