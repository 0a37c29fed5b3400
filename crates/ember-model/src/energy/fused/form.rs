//! How a launch is cut up: walkers into tiles, a tile's sums over threads.
//!
//! A thread owns `4·quads` units of a layer for `4·lanes` walkers. Eight of each are 64 sums for 4 vectors read from shared memory a step of the
//! inner dimension, which is what keeps a large card's multipliers busy; few walkers are cut finer, so that every processor has some.

use std::cell::Cell;

use cubecl::client::Client;

/// Tiles wanted at least: two for each processor of a card of 132. Fewer, and the next smaller tile is taken.
pub(super) const TILES: usize = 264;
/// Walkers of a tile, largest first.
pub(super) const SIZES: [usize; 5] = [128, 64, 32, 16, 8];
/// Threads of a cube: at most, and so many that smaller blocks of sums are not worth it.
const THREADS: [usize; 2] = [256, 128];
/// Steps of the inner dimension whose weights are in shared memory at a time.
pub(super) const DEPTH: usize = 8;
/// Bytes of four numbers.
const LANES_BYTES: usize = 16;

thread_local! {
    /// The tile to take, where someone said.
    static FIXED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Runs `f` with tiles of so many walkers (8, 16, 32, 64 or 128) wherever they fit the adapter, whatever the number of walkers; 0 is no tile: the
/// evaluation that serves wide networks. For tests and measurements of every form; of this thread only.
pub fn with_tile<R>(tile: usize, f: impl FnOnce() -> R) -> R {
    let before = FIXED.replace(Some(tile));
    let result = f();
    FIXED.set(before);
    result
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Form {
    /// Walkers of a tile, a multiple of 8.
    pub tile: usize,
    /// Groups of four walkers that a thread owns: 1 or 2.
    pub lanes: usize,
    /// Groups of four units that a thread owns: 1 or 2.
    pub quads: usize,
    /// Threads side by side over units.
    pub columns: usize,
}

impl Form {
    /// The form of a tile for layers up to `widest` units: the largest blocks of sums that leave enough threads.
    fn new(tile: usize, widest: usize, most: usize) -> Option<Self> {
        let all = [(2, 2), (2, 1), (1, 1)];
        let forms =
            all.map(|(lanes, quads)| Self { tile, lanes, quads, columns: widest.div_ceil(4 * quads) });
        let fitting = || forms.iter().filter(|form| form.threads() <= most.min(THREADS[0])).copied();
        let busy = fitting().find(|form| form.threads() >= THREADS[1]);
        busy.or_else(|| fitting().last())
    }

    /// Groups of four walkers of a tile.
    pub fn groups(&self) -> usize {
        self.tile / 4
    }

    /// Threads side by side over walkers.
    pub fn rows(&self) -> usize {
        self.groups() / self.lanes
    }

    /// Threads of a cube.
    pub fn threads(&self) -> usize {
        self.rows() * self.columns
    }

    /// Groups of four units that the threads cover.
    pub fn all_quads(&self) -> usize {
        self.columns * self.quads
    }

    /// From one row of weights in shared memory to the next, in groups of four: odd, so that rows start in different banks.
    pub fn stride(&self) -> usize {
        self.all_quads() | 1
    }

    /// Groups of four of one slab of weights.
    pub fn slab(&self) -> usize {
        DEPTH * self.stride()
    }

    /// Groups of four in shared memory for two slabs, or for each thread's part of the energies.
    pub fn slabs(&self) -> usize {
        (2 * self.slab()).max(self.columns * self.groups())
    }

    /// Sums of a thread, in groups of four walkers.
    pub fn sums(&self) -> usize {
        4 * self.quads * self.lanes
    }

    /// Rows of the activations in shared memory: one a unit, and to the end of the last slab.
    pub fn units(&self) -> usize {
        (4 * self.all_quads()).next_multiple_of(DEPTH)
    }

    /// Shared memory of a chain on `dim` coordinates, in bytes: activations, two slabs, two positions and two gradients, noise, uniforms,
    /// which walkers moved, and counts.
    pub fn bytes(&self, dim: usize) -> usize {
        let lanes = self.units() * self.groups() + self.slabs() + 4 * dim * self.groups() + self.groups();
        lanes * LANES_BYTES + 4 * (self.tile * (dim.next_multiple_of(4) + 1) + 2 * self.groups())
    }

    /// The form for so many walkers on an adapter, or `None` where none fits.
    pub fn choose(client: &Client, dim: usize, widest: usize, walkers: usize) -> Option<Self> {
        let hardware = &client.properties().hardware;
        let most = hardware.max_units_per_cube as usize;
        let forms: Vec<Self> = SIZES
            .into_iter()
            .filter_map(|size| Self::new(size, widest, most))
            .filter(|form| form.bytes(dim) <= hardware.max_shared_memory_size)
            .collect();
        if FIXED.get() == Some(0) {
            return None;
        }
        let fixed = FIXED.get().and_then(|tile| forms.iter().find(|form| form.tile == tile));
        let full = forms.iter().find(|form| walkers.div_ceil(form.tile) >= TILES);
        fixed.or(full).or(forms.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(tile: usize, widest: usize) -> Form {
        Form::new(tile, widest, 1024).expect("it fits")
    }

    /// The shapes that the forms were made for: 8 × 8 sums on 128 threads, smaller blocks for smaller tiles.
    #[test]
    fn the_benchmarks_forms() {
        let large = form(64, 128);
        assert_eq!((large.lanes, large.quads, large.threads()), (2, 2, 128));
        assert!(large.bytes(2) <= 49_152, "{} bytes", large.bytes(2));
        let small = form(8, 128);
        assert_eq!((small.lanes, small.quads, small.threads()), (1, 1, 64));
        let wide = form(8, 1024);
        assert_eq!((wide.lanes, wide.quads, wide.threads()), (2, 2, 128));
        assert_eq!(Form::new(128, 1024, 1024), None);
    }

    /// Every unit and every walker of a tile has exactly one thread, whatever the width.
    #[test]
    fn threads_cover_a_tile() {
        for tile in SIZES {
            for widest in 1..300 {
                let Some(form) = Form::new(tile, widest, 1024) else { continue };
                assert!(4 * form.all_quads() >= widest && form.threads() <= 256, "{form:?}");
                assert!(form.threads() >= form.groups(), "a thread for each group: {form:?}");
                assert_eq!(form.rows() * form.lanes * 4, tile, "{form:?}");
                assert!(4 * form.columns * form.groups() <= form.units() * form.groups(), "{form:?}");
            }
        }
    }
}
