//! What the kernels are compiled for, and where numbers lie in shared memory, in scratch and in flat θ.

use cubecl::ir::HardwareProperties;

use super::super::steps::{Coupling, Network, Step};
use crate::energy::activation::Activation;

/// Threads of a cube.
pub(super) const THREADS: usize = 256;
/// Weights in shared memory at a time.
pub(super) const STAGED: usize = 2_048;
/// Rows of a cube, largest first.
const TILES: [usize; 4] = [32, 16, 8, 4];
/// As many cubes as keep a large card busy: with fewer rows tiles are smaller.
const ENOUGH_CUBES: usize = 256;
/// Bytes of four numbers side by side.
pub(super) const LANES_BYTES: usize = 16;
/// Rows and columns of a block of a weight's gradient.
pub(super) const BLOCK: usize = 32;

/// A chain as `couplings.rs` builds it: couplings that take turns in which part they move, with perceptrons of the same hidden
/// widths, each with an act-norm before it or none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    /// Coordinates.
    pub dim: usize,
    /// Coordinates of the first part.
    pub first: usize,
    pub couplings: usize,
    /// Hidden widths of a network.
    pub hidden: Vec<usize>,
    pub activation: Activation,
    /// Whether even indices of data come first.
    pub even_first: bool,
    pub act_norm: bool,
    /// Where the tensors of couplings 0 and 1, an act-norm's before the network's, begin in flat θ.
    pub places: [Vec<usize>; 2],
    /// From the tensors of coupling i to those of coupling i + 2.
    pub period: usize,
    /// Rows of a cube.
    pub tile: usize,
}

/// One kind of tensors that the gradients are computed for: of each coupling, the outer products of some signals with some inputs,
/// and the sums of the signals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    /// The first cube.
    pub begin: usize,
    /// The first feature of the signals.
    pub signals: usize,
    /// The first feature of the inputs.
    pub inputs: usize,
    /// The tensors' numbers within the coupling; of sums alone both are the same.
    pub weight: usize,
    pub bias: usize,
}

impl Plan {
    /// The plan of a chain for tiles of `tile` rows, where the kernels know it; `starts` says where θ's tensors begin in flat θ.
    pub fn new(network: &Network, starts: &[usize], tile: usize) -> Option<Self> {
        let even_first = network.is_even_first();
        let steps = &network.steps[usize::from(even_first)..];
        let act_norm = matches!(steps.first(), Some((_, Step::ActNorm)));
        let stride = 1 + usize::from(act_norm);
        let couplings = steps.len() / stride;
        if couplings == 0 || !steps.len().is_multiple_of(stride) {
            return None;
        }
        let coupling = |i: usize| match &steps[i * stride..(i + 1) * stride] {
            [(_, Step::Coupling(coupling))] if !act_norm => Some(coupling),
            [(_, Step::ActNorm), (_, Step::Coupling(coupling))] => Some(coupling),
            _ => None,
        };
        let one = coupling(0)?;
        let hidden = hidden(one);
        if hidden.is_empty() || one.activation == Activation::Gelu {
            return None;
        }
        let tensors = 2 * (hidden.len() + 1) + if act_norm { 2 } else { 0 };
        let of = |i: usize| starts.get(i * tensors..(i + 1) * tensors).map(<[usize]>::to_vec);
        // Of one coupling the second place is never asked for.
        let places = [of(0)?, of(1).or_else(|| of(0))?];
        let period = starts.get(2 * tensors).map_or(0, |third| third - starts[0]);
        let plan = Self {
            dim: network.dim,
            first: one.parts.widths[0],
            couplings,
            hidden,
            activation: one.activation,
            even_first,
            act_norm,
            places,
            period,
            tile,
        };
        let is_regular = |i: usize| {
            coupling(i).is_some_and(|other| {
                other.parts.widths == one.parts.widths
                    && other.parts.moves_first == (i % 2 == 1)
                    && other.activation == one.activation
                    && other.bound.to_bits() == one.bound.to_bits()
                    && self::hidden(other) == plan.hidden
                    && (0..tensors).all(|k| starts.get(i * tensors + k) == Some(&plan.place(i, k)))
            })
        };
        (0..couplings).all(is_regular).then_some(plan)
    }

    /// The largest tile of those that give enough cubes that fits the adapter's shared memory, or the largest smaller one that does.
    pub fn tile(&self, rows: usize, hardware: &HardwareProperties) -> Option<usize> {
        if (hardware.max_units_per_cube as usize) < THREADS {
            return None;
        }
        let fits = |tile: usize| {
            let bytes = LANES_BYTES * self.at(tile).lanes() + 4 * self.at(tile).staged_len();
            bytes <= hardware.max_shared_memory_size
        };
        // Tiles of 4 leave half of the threads idle: only where no other fits.
        let wanted = TILES.into_iter().find(|tile| rows.div_ceil(*tile) >= ENOUGH_CUBES || *tile == 8);
        let wanted = wanted.unwrap_or(TILES[0]);
        TILES.into_iter().filter(|tile| *tile <= wanted).find(|tile| fits(*tile))
    }

    /// The same plan with another tile.
    pub fn at(&self, tile: usize) -> Self {
        Self { tile, ..self.clone() }
    }

    /// Where tensor k of coupling i begins in flat θ.
    fn place(&self, i: usize, k: usize) -> usize {
        self.places[i % 2][k] + i / 2 * self.period
    }

    /// Coordinates of the wider part.
    pub fn wider(&self) -> usize {
        self.first.max(self.dim - self.first)
    }

    /// Vectors of four rows.
    pub fn groups(&self) -> usize {
        self.tile / 4
    }

    /// Threads of one group.
    pub fn slots(&self) -> usize {
        THREADS / self.groups()
    }

    /// Units of a layer that a thread computes at a time.
    pub fn each(&self) -> usize {
        (self.tile / 8).max(1)
    }

    /// Units of a layer that a cube computes at a time.
    pub fn covered(&self) -> usize {
        self.slots() * self.each()
    }

    /// Inputs whose weights are in shared memory at a time.
    pub fn depth(&self) -> usize {
        STAGED / self.covered()
    }

    /// Numbers of weights in shared memory: one more in a row, so that a column's are in different banks.
    pub fn staged_len(&self) -> usize {
        self.depth() * (self.covered() + 1)
    }

    /// Vectors of each of the two buffers of activations.
    pub fn half(&self) -> usize {
        let widest = self.hidden.iter().copied().max().unwrap_or(0).max(2 * self.wider());
        (widest * self.groups()).max(THREADS)
    }

    /// Vectors in shared memory: two buffers, and the coordinates.
    pub fn lanes(&self) -> usize {
        2 * self.half() + self.dim * self.groups()
    }

    fn all_hidden(&self) -> usize {
        self.hidden.iter().sum()
    }

    /// The first feature in scratch of hidden layer l: `z_l`, in the end `a(z_l)`. Before them are the coordinates after the
    /// coupling, then what the network gave.
    pub fn values_at(&self, l: usize) -> usize {
        self.dim + 2 * self.wider() + self.hidden[..l].iter().sum::<usize>()
    }

    /// The first feature of the network's output: `tanh′` and `e^{−s}`, in the end its signals.
    pub fn output_at(&self) -> usize {
        self.dim
    }

    /// The first feature of hidden layer l's signals.
    pub fn signals_at(&self, l: usize) -> usize {
        self.values_at(0) + self.all_hidden() + self.hidden[..l].iter().sum::<usize>()
    }

    /// The first feature of the act-norm before the coupling: signals of its shift, then z, in the end those of its log-scale.
    pub fn normed_at(&self) -> usize {
        self.values_at(0) + 2 * self.all_hidden()
    }

    /// Numbers that a pass keeps of a row and a coupling.
    pub fn features(&self, with_signals: bool) -> usize {
        match (with_signals, self.act_norm) {
            (false, _) => self.values_at(0) + self.all_hidden(),
            (true, false) => self.normed_at(),
            (true, true) => self.normed_at() + 2 * self.dim,
        }
    }

    /// The tensors before a network's.
    pub fn skipped(&self) -> usize {
        if self.act_norm { 2 } else { 0 }
    }

    /// `[out, in]` of layer l where they are widest.
    fn widest_shape(&self, l: usize) -> [usize; 2] {
        let input = if l == 0 { self.wider() } else { self.hidden[l - 1] };
        let output = if l == self.hidden.len() { 2 * self.wider() } else { self.hidden[l] };
        [output, input]
    }

    /// What a coupling's parameter gradients are made of: one job a layer, then the act-norm's shift and log-scale.
    pub fn jobs(&self) -> Vec<Job> {
        let (mut jobs, mut begin) = (Vec::new(), 0);
        for l in 0..=self.hidden.len() {
            let signals = if l == self.hidden.len() { self.output_at() } else { self.signals_at(l) };
            let inputs = if l == 0 { 0 } else { self.values_at(l - 1) };
            let weight = self.skipped() + 2 * l;
            jobs.push(Job { begin, signals, inputs, weight, bias: weight + 1 });
            let [output, input] = self.widest_shape(l).map(|width| width.div_ceil(BLOCK));
            begin += output * input + output;
        }
        for k in 0..self.skipped() {
            jobs.push(Job { begin, signals: self.normed_at() + k * self.dim, inputs: 0, weight: k, bias: k });
            begin += self.dim.div_ceil(BLOCK);
        }
        jobs
    }

    /// Cubes for the parameter gradients of a coupling.
    pub fn cubes(&self) -> usize {
        let layers = (0..=self.hidden.len()).map(|l| {
            let [output, input] = self.widest_shape(l).map(|width| width.div_ceil(BLOCK));
            output * input + output
        });
        layers.sum::<usize>() + self.skipped() * self.dim.div_ceil(BLOCK)
    }
}

/// The hidden widths of a coupling's network.
fn hidden(coupling: &Coupling) -> Vec<usize> {
    let (_, hidden) = coupling.shapes.split_last().expect("a network has layers");
    hidden.iter().map(|shape| shape[0]).collect()
}
