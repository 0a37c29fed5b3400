//! `(U, ∇ₓU)` of a tile of walkers, positions and gradients in shared memory.
//!
//! A thread's sums stay in registers from a product to the next one's inputs, so that one buffer of activations does: it is written when all
//! have read it. What the backward pass needs of the forward one are the slopes `a′(z_l)`; a thread writes its own to a scratch buffer, in the order in
//! which it reads them back, and those of the last hidden layer not at all.

// Kernels are translated by a macro that does not know every method of the host language.
#![allow(clippy::assign_op_pattern, clippy::needless_range_loop, clippy::too_many_arguments)]

use cubecl::prelude::*;

use super::form::Form;
use super::math::{Lanes, slopes, values};
use super::slab::{Direction, product};
use crate::energy::activation::Activation;

/// What a network's part of a kernel is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Network {
    /// Coordinates of a sample.
    pub dim: usize,
    /// Hidden widths.
    pub hidden: Vec<usize>,
    pub activation: Activation,
    /// Whether there is a `½ c |x|²`.
    pub confined: bool,
    pub form: Form,
}

impl Network {
    /// Groups of four slopes that a cube keeps in scratch.
    pub fn scratch(&self) -> usize {
        (self.hidden.len() - 1) * self.form.sums() * self.form.threads()
    }

    /// Whether the rows of all weights between hidden layers are whole vectors.
    pub fn is_of_vectors(&self) -> bool {
        self.hidden[..self.hidden.len() - 1].iter().all(|width| width % 4 == 0)
    }

    /// Operations of `(U, ∇ₓU)` at one walker: two products a weight, and about twenty operations an activation and its slope.
    pub fn operations(&self) -> f64 {
        let widths: Vec<usize> = [&[self.dim], &self.hidden[..], &[1]].concat();
        let weights: usize = widths.windows(2).map(|pair| pair[0] * pair[1]).sum();
        (4 * weights + 20 * self.hidden.iter().sum::<usize>()) as f64
    }
}

impl Network {
    /// Rounds of all loops of one step for one tile, at most. Software Vulkan ends a kernel's loops, all together, after 65,535 rounds without a word.
    pub fn rounds(&self) -> usize {
        let form = &self.form;
        let strided = |items: usize| items.div_ceil(form.threads()) + 1;
        let slabs = |inner: usize| inner.div_ceil(super::form::DEPTH) + 1;
        let between = &self.hidden[..self.hidden.len() - 1];
        let products: usize = between.iter().map(|width| slabs(*width)).sum::<usize>()
            + self.hidden[1..].iter().map(|width| slabs(*width)).sum::<usize>();
        let chunks = self.dim.div_ceil(4);
        let gradient = chunks * (1 + strided(4 * form.groups()) * (2 + form.columns));
        let moves = strided(chunks * form.tile) + strided(form.tile) + 4 * strided(self.dim * form.groups());
        products + gradient + moves + form.columns + 3 * self.dim + 16
    }
}

/// This thread's unit number `u` of `4·quads`.
#[cube]
fn unit_of(#[comptime] u: usize, #[comptime] form: Form) -> usize {
    let column = UNIT_POS as usize / comptime!(form.rows());
    4 * column + comptime!(u / 4 * 4 * form.columns + u % 4)
}

/// `W_0 x + b_0` of this thread's units; units beyond the last repeat it.
#[cube]
fn first_layer(
    weights: &[f32],
    bias: &[f32],
    positions: &Shared<[Lanes]>,
    begin: usize,
    sums: &mut Array<Lanes>,
    #[comptime] units: usize,
    #[comptime] dim: usize,
    #[comptime] form: Form,
) {
    let lanes = comptime!(form.lanes);
    let row = UNIT_POS as usize % comptime!(form.rows());
    let mut values = Array::<Lanes>::new(lanes);
    #[unroll]
    for u in 0..comptime!(4 * form.quads) {
        let unit = unit_of(u, form);
        let start = Lanes::new(bias[select(unit < units, unit, comptime!(units - 1))]);
        #[unroll]
        for a in 0..lanes {
            sums[comptime!(u * lanes + a)] = start;
        }
    }
    for i in 0..dim {
        let at = begin + i * comptime!(form.groups()) + row;
        #[unroll]
        for a in 0..lanes {
            values[a] = positions[at + comptime!(a * form.rows())];
        }
        #[unroll]
        for u in 0..comptime!(4 * form.quads) {
            let unit = unit_of(u, form);
            let weight = Lanes::new(weights[select(unit < units, unit, comptime!(units - 1)) * dim + i]);
            #[unroll]
            for a in 0..lanes {
                let at = comptime!(u * lanes + a);
                sums[at] = sums[at] + weight * values[a];
            }
        }
    }
}

/// Adds the bias of this thread's units.
#[cube]
fn add_bias(bias: &[f32], sums: &mut Array<Lanes>, #[comptime] units: usize, #[comptime] form: Form) {
    let lanes = comptime!(form.lanes);
    #[unroll]
    for u in 0..comptime!(4 * form.quads) {
        let unit = unit_of(u, form);
        let bias = Lanes::new(bias[select(unit < units, unit, comptime!(units - 1))]);
        #[unroll]
        for a in 0..lanes {
            let at = comptime!(u * lanes + a);
            sums[at] = sums[at] + bias;
        }
    }
}

/// The sums to where the next product reads them.
#[cube]
fn publish(sums: &Array<Lanes>, buffer: &mut Shared<[Lanes]>, #[comptime] form: Form) {
    let lanes = comptime!(form.lanes);
    let row = UNIT_POS as usize % comptime!(form.rows());
    #[unroll]
    for u in 0..comptime!(4 * form.quads) {
        let unit = unit_of(u, form);
        #[unroll]
        for a in 0..lanes {
            buffer[unit * comptime!(form.groups()) + row + comptime!(a * form.rows())] =
                sums[comptime!(u * lanes + a)];
        }
    }
}

/// Where this thread's slope `at` of hidden layer `layer` is in scratch.
#[cube]
fn slope_place(#[comptime] layer: usize, #[comptime] at: usize, #[comptime] network: Network) -> usize {
    let threads = comptime!(network.form.threads());
    CUBE_POS * comptime!(network.scratch())
        + comptime!((layer * network.form.sums() + at) * threads)
        + UNIT_POS as usize
}

/// `U`, for the first of the cube's threads: thread t has that of group t of the tile's walkers; and `∇ₓU` to `gradients`. Positions and gradients are
/// `[coordinate, group]`, from `begin` and `grad_begin` on. Positions are complete when it is called, gradients when it returns.
#[cube]
pub(super) fn evaluate<N: Size>(
    positions: &Shared<[Lanes]>,
    begin: usize,
    gradients: &mut Shared<[Lanes]>,
    grad_begin: usize,
    buffer: &mut Shared<[Lanes]>,
    slabs: &mut Shared<[Lanes]>,
    first_weights: &[f32],
    weights: &Sequence<Box<[Vector<f32, N>]>>,
    last_weights: &[f32],
    biases: &Sequence<Box<[f32]>>,
    scratch: &mut [Lanes],
    confinement: f32,
    #[comptime] network: Network,
) -> Lanes {
    let form = comptime!(network.form);
    let hidden = comptime!(network.hidden.len());
    let dim = comptime!(network.dim);
    let activation = comptime!(network.activation);
    let confined = comptime!(network.confined);
    let lanes = comptime!(form.lanes);
    let groups = comptime!(form.groups());
    let threads = comptime!(form.threads());
    let thread = UNIT_POS as usize;
    let row = thread % comptime!(form.rows());
    let column = thread / comptime!(form.rows());
    let mut sums = Array::<Lanes>::new(comptime!(form.sums()));

    // z_0 = W_0 x + b_0
    first_layer(
        first_weights,
        &biases[0usize],
        positions,
        begin,
        &mut sums,
        comptime!(network.hidden[0]),
        dim,
        form,
    );
    // a_{l−1} = a(z_{l−1}), z_l = W_l a_{l−1} + b_l
    #[unroll]
    for l in 1..hidden {
        #[unroll]
        for at in 0..comptime!(form.sums()) {
            scratch[slope_place(comptime!(l - 1), at, comptime!(network.clone()))] =
                slopes(sums[at], activation);
            sums[at] = values(sums[at], activation);
        }
        publish(&sums, buffer, form);
        sync_cube();
        product(
            &weights[comptime!(l - 1)],
            buffer,
            slabs,
            &mut sums,
            Direction::Forward,
            comptime!(network.hidden[l]),
            comptime!(network.hidden[l - 1]),
            form,
        );
        add_bias(&biases[l], &mut sums, comptime!(network.hidden[l]), form);
    }

    // U = w_L·a(z_{L−1}) + b_L + ½ c |x|², δ_{L−1} = w_L ∘ a′(z_{L−1})
    let last = comptime!(network.hidden[hidden - 1]);
    let mut parts = Array::<Lanes>::new(lanes);
    #[unroll]
    for a in 0..lanes {
        parts[a] = Lanes::new(0.0f32);
    }
    #[unroll]
    for u in 0..comptime!(4 * form.quads) {
        let unit = unit_of(u, form);
        let mut weight = 0.0f32;
        if unit < last {
            weight = last_weights[unit];
        }
        #[unroll]
        for a in 0..lanes {
            let at = comptime!(u * lanes + a);
            parts[a] = parts[a] + Lanes::new(weight) * values(sums[at], activation);
            sums[at] = Lanes::new(weight) * slopes(sums[at], activation);
        }
    }
    #[unroll]
    for a in 0..lanes {
        slabs[column * groups + row + comptime!(a * form.rows())] = parts[a];
    }
    if comptime!(hidden > 1) {
        publish(&sums, buffer, form);
    }
    sync_cube();
    let mut energy = Lanes::new(0.0f32);
    if thread < groups {
        energy = Lanes::new(biases[hidden][0]);
        for part in 0..comptime!(form.columns) {
            energy += slabs[part * groups + thread];
        }
        if confined {
            for i in 0..dim {
                let x = positions[begin + i * groups + thread];
                energy += Lanes::new(0.5f32 * confinement) * x * x;
            }
        }
    }
    sync_cube();

    // δ_{l−1} = (δ_l W_l) ∘ a′(z_{l−1})
    #[unroll]
    for step in 1..hidden {
        let l = comptime!(hidden - step);
        product(
            &weights[comptime!(l - 1)],
            buffer,
            slabs,
            &mut sums,
            Direction::Backward,
            comptime!(network.hidden[l]),
            comptime!(network.hidden[l - 1]),
            form,
        );
        #[unroll]
        for at in 0..comptime!(form.sums()) {
            sums[at] = sums[at] * scratch[slope_place(comptime!(l - 1), at, comptime!(network.clone()))];
        }
        if comptime!(l > 1) {
            publish(&sums, buffer, form);
            sync_cube();
        }
    }

    // ∇ₓU = δ_0 W_0 + c x: a thread's units first, then over threads, four coordinates at a time.
    let first = comptime!(network.hidden[0]);
    let wide = comptime!(if dim < 4 { dim } else { 4 });
    let mut coordinates = Array::<Lanes>::new(comptime!(wide * lanes));
    for chunk in 0..comptime!(dim.div_ceil(4)) {
        #[unroll]
        for at in 0..comptime!(wide * lanes) {
            coordinates[at] = Lanes::new(0.0f32);
        }
        #[unroll]
        for u in 0..comptime!(4 * form.quads) {
            let unit = unit_of(u, form);
            let from = select(unit < first, unit, comptime!(first - 1)) * dim;
            #[unroll]
            for c in 0..wide {
                let i = 4 * chunk + c;
                let weight = Lanes::new(first_weights[from + select(i < dim, i, comptime!(dim - 1))]);
                #[unroll]
                for a in 0..lanes {
                    let at = comptime!(c * lanes + a);
                    coordinates[at] = coordinates[at] + weight * sums[comptime!(u * lanes + a)];
                }
            }
        }
        #[unroll]
        for c in 0..wide {
            #[unroll]
            for a in 0..lanes {
                buffer[(column * wide + c) * groups + row + comptime!(a * form.rows())] =
                    coordinates[comptime!(c * lanes + a)];
            }
        }
        sync_cube();
        let mut item = thread;
        while item < comptime!(wide * groups) {
            let c = item / groups;
            let group = item % groups;
            let i = 4 * chunk + c;
            if i < dim {
                let mut sum = Lanes::new(0.0f32);
                for part in 0..comptime!(form.columns) {
                    sum += buffer[(part * wide + c) * groups + group];
                }
                if confined {
                    sum += Lanes::new(confinement) * positions[begin + i * groups + group];
                }
                gradients[grad_begin + i * groups + group] = sum;
            }
            item += threads;
        }
        sync_cube();
    }
    energy
}
