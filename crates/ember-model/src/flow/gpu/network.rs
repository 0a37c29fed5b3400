//! A coupling's network for a tile of rows, forward and back: activations and signals are in shared memory.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop)]

use cubecl::prelude::*;

use super::plan::Plan;
use super::products::{Sharing, Weights, products};
use crate::energy::fused::math::{Lanes, slopes, values};

/// How the threads of a plan share units.
pub(super) fn sharing(plan: &Plan) -> Sharing {
    Sharing { groups: plan.groups(), slots: plan.slots(), each: plan.each(), depth: plan.depth() }
}

/// A coupling's parts: where each begins among the coordinates, and how wide it is.
#[derive(CubeType)]
pub(super) struct Cut {
    pub stays_at: usize,
    pub stays: usize,
    pub moves_at: usize,
    pub moves: usize,
}

/// The parts of coupling i: the second one moves where i is even.
#[cube]
pub(super) fn cut(i: usize, #[comptime] plan: Plan) -> Cut {
    let first = comptime!(plan.first);
    let second = comptime!(plan.dim - plan.first);
    let odd = i % 2 == 1;
    Cut {
        stays_at: select(odd, first, 0usize),
        stays: select(odd, second, first),
        moves_at: select(odd, 0usize, first),
        moves: select(odd, first, second),
    }
}

/// Where tensor k of coupling i begins in flat θ.
#[cube]
pub(super) fn place(i: usize, #[comptime] k: usize, #[comptime] plan: Plan) -> usize {
    let even = comptime!(plan.places[0][k]);
    let odd = comptime!(plan.places[1][k]);
    let period = comptime!(plan.period);
    i / 2 * period + select(i % 2 == 1, odd, even)
}

/// `a(W in + b)` of a hidden layer; `z` goes to scratch where it is to be kept.
#[cube]
fn hidden_layer(
    theta: &[f32],
    weights: &Weights,
    biases: usize,
    memory: &mut Shared<[Lanes]>,
    input: usize,
    output: usize,
    staged: &mut Shared<[f32]>,
    scratch: &mut [Lanes],
    kept: usize,
    slot: usize,
    #[comptime] l: usize,
    #[comptime] plan: Plan,
    #[comptime] keep: bool,
) {
    let sharing = comptime!(sharing(&plan));
    let groups = comptime!(plan.groups());
    let slots = comptime!(plan.slots());
    let each = comptime!(plan.each());
    let covered = comptime!(plan.covered());
    let units = comptime!(plan.hidden[l]);
    let activation = comptime!(plan.activation);
    let mut sums = Array::<Lanes>::new(each);
    let mut first = 0usize;
    while first < units {
        products(theta, weights, memory, input, staged, &mut sums, first, slot, sharing, false);
        #[unroll]
        for k in 0..each {
            let unit = first + slot + k * slots;
            if unit < units {
                let z = sums[k] + Lanes::new(theta[biases + unit]);
                if comptime!(keep) {
                    scratch[kept + unit * groups] = z;
                }
                memory[output + unit * groups] = values(z, activation);
            }
        }
        first += covered;
    }
}

/// The buffer of activations that layer l reads, and l − 1 writes.
#[cube]
fn buffer(group: usize, #[comptime] l: usize, #[comptime] plan: Plan) -> usize {
    let begin = comptime!((l % 2) * plan.half());
    group + begin
}

/// Where the network's output begins.
#[cube]
pub(super) fn output_begin(group: usize, #[comptime] plan: Plan) -> usize {
    let end = comptime!(plan.hidden.len() + 1);
    buffer(group, end, plan)
}

/// The network of coupling i at the part that stays; its output `[r | t]` is where [`output_begin`] says. What was written to
/// `memory` before is seen; what this writes, after the next barrier. `own` is where the coupling's features begin in scratch.
#[cube]
pub(super) fn forward(
    theta: &[f32],
    memory: &mut Shared<[Lanes]>,
    staged: &mut Shared<[f32]>,
    scratch: &mut [Lanes],
    i: usize,
    cut: &Cut,
    own: usize,
    group: usize,
    slot: usize,
    #[comptime] plan: Plan,
    #[comptime] keep: bool,
) {
    let groups = comptime!(plan.groups());
    let slots = comptime!(plan.slots());
    let each = comptime!(plan.each());
    let covered = comptime!(plan.covered());
    let layers = comptime!(plan.hidden.len());
    let skipped = comptime!(plan.skipped());
    let sharing = comptime!(sharing(&plan));
    let coordinates = comptime!(2 * plan.half());

    #[unroll]
    for l in 0..layers {
        let begin = place(i, comptime!(skipped + 2 * l), comptime!(plan.clone()));
        let biases = place(i, comptime!(skipped + 2 * l + 1), comptime!(plan.clone()));
        let units = comptime!(plan.hidden[l]);
        let output = buffer(group, comptime!(l + 1), comptime!(plan.clone()));
        let features = comptime!(plan.values_at(l) * groups);
        if comptime!(l == 0) {
            let input = group + coordinates + cut.stays_at * groups;
            let weights = Weights { begin, units: units.runtime(), count: cut.stays };
            hidden_layer(
                theta,
                &weights,
                biases,
                memory,
                input,
                output,
                staged,
                scratch,
                own + features,
                slot,
                l,
                comptime!(plan.clone()),
                keep,
            );
        } else {
            let input = buffer(group, l, comptime!(plan.clone()));
            let count = comptime!(plan.hidden[l - 1]);
            let weights = Weights { begin, units: units.runtime(), count: count.runtime() };
            hidden_layer(
                theta,
                &weights,
                biases,
                memory,
                input,
                output,
                staged,
                scratch,
                own + features,
                slot,
                l,
                comptime!(plan.clone()),
                keep,
            );
        }
    }

    let begin = place(i, comptime!(skipped + 2 * layers), comptime!(plan.clone()));
    let biases = place(i, comptime!(skipped + 2 * layers + 1), comptime!(plan.clone()));
    let input = buffer(group, layers, comptime!(plan.clone()));
    let output = output_begin(group, comptime!(plan.clone()));
    let count = comptime!(plan.hidden[layers - 1]);
    let units = 2 * cut.moves;
    let weights = Weights { begin, units, count: count.runtime() };
    let mut sums = Array::<Lanes>::new(each);
    let mut first = 0usize;
    while first < units {
        products(theta, &weights, memory, input, staged, &mut sums, first, slot, sharing, false);
        #[unroll]
        for k in 0..each {
            let unit = first + slot + k * slots;
            if unit < units {
                memory[output + unit * groups] = sums[k] + Lanes::new(theta[biases + unit]);
            }
        }
        first += covered;
    }
}

/// Back from the signals of the output, `[∂r | ∂t]`, which are where [`output_begin`] says; the gradient of the part that stays is
/// added to its place. With `with_params` the activations and signals go to scratch. Barriers as in [`forward`].
#[cube]
pub(super) fn backward(
    theta: &[f32],
    memory: &mut Shared<[Lanes]>,
    staged: &mut Shared<[f32]>,
    scratch: &mut [Lanes],
    i: usize,
    cut: &Cut,
    own: usize,
    group: usize,
    slot: usize,
    #[comptime] plan: Plan,
    #[comptime] with_params: bool,
) {
    let groups = comptime!(plan.groups());
    let slots = comptime!(plan.slots());
    let each = comptime!(plan.each());
    let covered = comptime!(plan.covered());
    let layers = comptime!(plan.hidden.len());
    let skipped = comptime!(plan.skipped());
    let sharing = comptime!(sharing(&plan));
    let activation = comptime!(plan.activation);
    let coordinates = comptime!(2 * plan.half());
    let mut sums = Array::<Lanes>::new(each);

    // δ_{l−1} = (Wᵀ_l δ_l) ∘ a′(z_{l−1})
    #[unroll]
    for step in 0..layers {
        let l = comptime!(layers - step);
        let begin = place(i, comptime!(skipped + 2 * l), comptime!(plan.clone()));
        let units = comptime!(plan.hidden[l - 1]);
        let mut count = 2 * cut.moves;
        if comptime!(step > 0) {
            count = comptime!(plan.hidden[l]).runtime();
        }
        let weights = Weights { begin, units: units.runtime(), count };
        let input = buffer(group, comptime!(l + 1), comptime!(plan.clone()));
        let output = buffer(group, l, comptime!(plan.clone()));
        let kept = own + comptime!(plan.values_at(l - 1) * groups);
        let signals = own + comptime!(plan.signals_at(l - 1) * groups);
        let mut first = 0usize;
        while first < units {
            products(theta, &weights, memory, input, staged, &mut sums, first, slot, sharing, true);
            #[unroll]
            for k in 0..each {
                let unit = first + slot + k * slots;
                if unit < units {
                    let z = scratch[kept + unit * groups];
                    let signal = sums[k] * slopes(z, activation);
                    memory[output + unit * groups] = signal;
                    if comptime!(with_params) {
                        scratch[kept + unit * groups] = values(z, activation);
                        scratch[signals + unit * groups] = signal;
                    }
                }
            }
            first += covered;
        }
    }

    // ∂x += Wᵀ_0 δ_0
    let begin = place(i, skipped, comptime!(plan.clone()));
    let count = comptime!(plan.hidden[0]);
    let weights = Weights { begin, units: cut.stays, count: count.runtime() };
    let input = buffer(group, 1usize, comptime!(plan.clone()));
    let output = group + coordinates + cut.stays_at * groups;
    let mut first = 0usize;
    while first < cut.stays {
        products(theta, &weights, memory, input, staged, &mut sums, first, slot, sharing, true);
        #[unroll]
        for k in 0..each {
            let unit = first + slot + k * slots;
            if unit < cut.stays {
                let at = output + unit * groups;
                memory[at] = memory[at] + sums[k];
            }
        }
        first += covered;
    }
}
