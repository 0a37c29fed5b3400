//! The launches before the gather.

use cubecl::prelude::*;
use ember_model::random::cube::{Counter, further};

use super::offspring::{
    Position, mass_before, mass_of, mass_of_all, prefix_masses, total_mass, walker_of, write_ends,
};
use super::sums::{STATE, Sums, THREADS, Verdict, bank, sums_of_partials, sums_of_range, verdict, weight};
use crate::device::cube::masses::{Constants, TABLE, bits_of, constants_of, fill_table};
use crate::device::cube::words::{Wider, accumulate};

#[cube]
fn write_statistics(verdict: &Verdict, stats: &mut [f32], r: usize, groups: usize, #[comptime] all: bool) {
    stats[r] = f32::reinterpret(verdict.ess);
    stats[groups + r] = f32::reinterpret(verdict.log_mean_exp);
    if all {
        stats[2 * groups + r] = f32::reinterpret(verdict.energy);
        stats[3 * groups + r] = f32::reinterpret(verdict.health);
    }
}

#[cube]
fn write_state(verdict: &Verdict, sums: &Sums, state: &mut [u32], r: usize) {
    let own = STATE * r;
    state[own] = select(verdict.due, 1u32, 0u32);
    state[own + 1] = sums.max;
    state[own + 2] = u32::reinterpret(sums.sum);
    state[own + 3] = verdict.log_mean_exp;
}

/// A cube for every chunk of walkers.
#[cube(launch)]
pub(super) fn partials_kernel(
    log_weights: &[f32],
    energy: &[f32],
    energy_grad: &[f32],
    partials: &mut [u32],
    dim: usize,
    chunk: usize,
    #[comptime] with_energy: bool,
) {
    let mut words = Shared::<[u32]>::new_slice(THREADS);
    let mut floats = Shared::<[f32]>::new_slice(comptime!(3 * THREADS));
    let n = log_weights.len();
    let begin = CUBE_POS * chunk;
    let end = select(begin + chunk < n, begin + chunk, n);
    let sums = sums_of_range(
        log_weights,
        energy,
        energy_grad,
        begin,
        end,
        dim,
        &mut words,
        &mut floats,
        with_energy,
    );
    if UNIT_POS == 0 {
        partials[CUBE_POS] = sums.max;
        partials[CUBE_COUNT + CUBE_POS] = u32::reinterpret(sums.sum);
        partials[2 * CUBE_COUNT + CUBE_POS] = u32::reinterpret(sums.square);
        partials[3 * CUBE_COUNT + CUBE_POS] = u32::reinterpret(sums.energy);
        partials[4 * CUBE_COUNT + CUBE_POS] = sums.bad;
    }
}

/// Statistics from the first cube, weights from all.
#[cube(launch)]
pub(super) fn weights_kernel(
    log_weights: &[f32],
    partials: &[u32],
    stats: &mut [f32],
    weights: &mut [f32],
    log_count: f32,
    chunk: usize,
    cubes: usize,
) {
    let mut words = Shared::<[u32]>::new_slice(THREADS);
    let mut floats = Shared::<[f32]>::new_slice(comptime!(3 * THREADS));
    let sums = sums_of_partials(partials, cubes, &mut words, &mut floats);
    if CUBE_POS == 0 && UNIT_POS == 0 {
        write_statistics(&verdict(&sums, log_count, 0.0f32), stats, 0usize, 1usize, true);
    }
    let n = log_weights.len();
    let end = select((CUBE_POS + 1) * chunk < n, (CUBE_POS + 1) * chunk, n);
    let max = f32::reinterpret(bits_of(sums.max));
    let mut i = CUBE_POS * chunk + UNIT_POS as usize;
    while i < end {
        weights[i] = weight(log_weights[i], max) / sums.sum;
        i += THREADS;
    }
}

/// The verdict, and the masses of every cube's walkers where they are due. `always` takes the decision for taken.
#[cube(launch)]
pub(super) fn counts_kernel(
    log_weights: &[f32],
    partials: &[u32],
    log_z: &[f32],
    stats: &mut [f32],
    banked: &mut [f32],
    state: &mut [u32],
    chunks: &mut [u32],
    log_count: f32,
    limit: f32,
    cubes: usize,
    per_thread: usize,
    zero: u32,
    #[comptime] within: bool,
    #[comptime] with_masses: bool,
    #[comptime] always: bool,
) {
    let mut words = Shared::<[u32]>::new_slice(comptime!(3 * THREADS));
    let mut floats = Shared::<[f32]>::new_slice(comptime!(3 * THREADS));
    let sums = sums_of_partials(partials, cubes, &mut words, &mut floats);
    let verdict = verdict(&sums, log_count, limit);
    let mut due = verdict.due;
    if comptime!(always) {
        due = true;
    }
    if CUBE_POS == 0 && UNIT_POS == 0 {
        if comptime!(!always) {
            write_statistics(&verdict, stats, 0usize, 1usize, true);
            bank(log_z, banked, 0usize, 1usize, &verdict, zero, within);
        }
        write_state(&verdict, &sums, state, 0usize);
        if comptime!(always) {
            state[0] = 1u32;
        }
    }
    if with_masses {
        let mut table = Shared::<[u32]>::new_slice(TABLE);
        fill_table(&mut table);
        let n = log_weights.len();
        let thread = CUBE_POS * THREADS + UNIT_POS as usize;
        let begin = select(thread * per_thread < n, thread * per_thread, n);
        let end = select(begin + per_thread < n, begin + per_thread, n);
        let end = select(due, end, begin);
        let own = mass_of(log_weights, begin, end, bits_of(sums.max), &table);
        let sum = total_mass(&own, &mut words);
        if UNIT_POS == 0 {
            chunks[CUBE_POS] = sum.low;
            chunks[CUBE_COUNT + CUBE_POS] = sum.middle;
            chunks[2 * CUBE_COUNT + CUBE_POS] = sum.high;
        }
    }
}

/// The slot behind each walker's last, by as many cubes as there are chunks.
#[cube(launch)]
pub(super) fn ends_kernel(
    log_weights: &[f32],
    state: &[u32],
    chunks: &[u32],
    ends: &mut [u32],
    counter: &Counter,
    per_thread: usize,
    #[comptime] position: Position,
) {
    let mut words = Shared::<[u32]>::new_slice(comptime!(3 * THREADS));
    let mut table = Shared::<[u32]>::new_slice(TABLE);
    let mut shared_constants = Shared::<[u32]>::new_slice(3usize);
    fill_table(&mut table);
    let due = state[0] == 1u32;
    let max_bits = bits_of(state[1]);
    // Masses of the chunks before this one, and of all.
    let mut own_before = Wider { low: 0u32, middle: 0u32, high: 0u32 };
    let mut own_total = Wider { low: 0u32, middle: 0u32, high: 0u32 };
    let mut chunk = UNIT_POS as usize;
    while chunk < CUBE_COUNT {
        let mass = Wider {
            low: chunks[chunk],
            middle: chunks[CUBE_COUNT + chunk],
            high: chunks[2 * CUBE_COUNT + chunk],
        };
        accumulate(&mut own_total, &mass);
        if chunk < CUBE_POS {
            accumulate(&mut own_before, &mass);
        }
        chunk += THREADS;
    }
    let total = total_mass(&own_total, &mut words);
    let mut before = total_mass(&own_before, &mut words);
    let n = log_weights.len();
    if UNIT_POS == 0 && due {
        let found = constants_of(&total, n);
        shared_constants[0] = found.shift;
        shared_constants[1] = found.low;
        shared_constants[2] = found.high;
    }
    let thread = CUBE_POS * THREADS + UNIT_POS as usize;
    let begin = select(thread * per_thread < n, thread * per_thread, n);
    let end = select(begin + per_thread < n, begin + per_thread, n);
    let end = select(due, end, begin);
    let own = mass_of(log_weights, begin, end, max_bits, &table);
    prefix_masses(&own, &mut words);
    accumulate(&mut before, &mass_before(&mut words));
    let constants =
        Constants { shift: shared_constants[0], low: shared_constants[1], high: shared_constants[2] };
    write_ends(log_weights, ends, begin, end, &before, &constants, n, max_bits, &table, counter, position);
}

/// A cube for each group: its statistics, verdict, bank and the slot behind each walker's last.
#[cube(launch)]
pub(super) fn group_kernel(
    log_weights: &[f32],
    energy: &[f32],
    energy_grad: &[f32],
    log_z: &[f32],
    stats: &mut [f32],
    banked: &mut [f32],
    state: &mut [u32],
    ends: &mut [u32],
    first_counter: &Counter,
    size: usize,
    dim: usize,
    log_count: f32,
    limit: f32,
    zero: u32,
    #[comptime] within: bool,
    #[comptime] with_energy: bool,
    #[comptime] with_masses: bool,
    #[comptime] position: Position,
) {
    let mut words = Shared::<[u32]>::new_slice(comptime!(3 * THREADS));
    let mut floats = Shared::<[f32]>::new_slice(comptime!(3 * THREADS));
    let first = CUBE_POS * size;
    let last = first + size;
    let sums = sums_of_range(
        log_weights,
        energy,
        energy_grad,
        first,
        last,
        dim,
        &mut words,
        &mut floats,
        with_energy,
    );
    let verdict = verdict(&sums, log_count, limit);
    if UNIT_POS == 0 {
        write_statistics(&verdict, stats, CUBE_POS, CUBE_COUNT, with_energy);
        bank(log_z, banked, CUBE_POS, CUBE_COUNT, &verdict, zero, within);
        write_state(&verdict, &sums, state, CUBE_POS);
    }
    if with_masses {
        let mut table = Shared::<[u32]>::new_slice(TABLE);
        let mut shared_constants = Shared::<[u32]>::new_slice(3usize);
        fill_table(&mut table);
        let per_thread = (size + (THREADS - 1)) / THREADS;
        let max_bits = bits_of(sums.max);
        let begin = first + UNIT_POS as usize * per_thread;
        let begin = select(begin < last, begin, last);
        let end = select(begin + per_thread < last, begin + per_thread, last);
        let end = select(verdict.due, end, begin);
        let own = mass_of(log_weights, begin, end, max_bits, &table);
        prefix_masses(&own, &mut words);
        if UNIT_POS == 0 && verdict.due {
            let found = constants_of(&mass_of_all(&mut words), size);
            shared_constants[0] = found.shift;
            shared_constants[1] = found.low;
            shared_constants[2] = found.high;
        }
        sync_cube();
        let constants =
            Constants { shift: shared_constants[0], low: shared_constants[1], high: shared_constants[2] };
        // Groups differ in their lane.
        let counter = further(first_counter, CUBE_POS as u32);
        write_ends(
            log_weights,
            ends,
            begin,
            end,
            &mass_before(&mut words),
            &constants,
            size,
            max_bits,
            &table,
            &counter,
            position,
        );
    }
}

/// The walker of every slot.
#[cube(launch)]
pub(super) fn ancestors_kernel(ends: &[u32], ancestors: &mut [u32]) {
    let n = ancestors.len();
    if ABSOLUTE_POS < n {
        ancestors[ABSOLUTE_POS] = walker_of(ends, 0usize, n, ABSOLUTE_POS as u32) as u32;
    }
}
