//! What the kernels are compiled for: a layer's geometry, which of its three products, and how the product is cut into tiles.

use super::super::ConvLayer;
use crate::energy::activation::Activation;

/// Numbers that are read, kept and written together.
pub(super) const LANES: usize = 4;
/// A product is cut into the largest tiles that leave at least this many cubes: the multiprocessors of a large card.
const PROCESSORS: usize = 132;
/// Cubes that a weight gradient's inner dimension is split for: two a multiprocessor. A constant, so that sums do not depend on the card.
const SPLIT_CUBES: usize = 2 * PROCESSORS;
/// The least inner steps of a split: what follows costs as much as a few.
const SPLIT_STEPS: usize = 8;
/// The most columns of a narrow product.
const NARROW: usize = 8;

/// One square convolution of `[n, c, h, w]`. Tensors lie as `[n, h, w, c]`, the images as `[n, c, h, w]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Geometry {
    /// `[c, h, w]`.
    pub(super) input: [usize; 3],
    /// `[c, h, w]`.
    pub(super) output: [usize; 3],
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
    /// Whether the input lies as `[n, c, h, w]`.
    pub(super) planes: bool,
}

impl Geometry {
    /// The layers of a network on `image: [c, h, w]`.
    pub(super) fn of(image: [usize; 3], layers: &[ConvLayer]) -> Vec<Self> {
        let mut input = image;
        let geometry = |(i, layer): (usize, &ConvLayer)| {
            let &ConvLayer { out, kernel, stride, padding } = layer;
            let side = |side: usize| (side + 2 * padding - kernel) / stride + 1;
            let output = [out, side(input[1]), side(input[2])];
            let geometry = Self { input, output, kernel, stride, padding, planes: i == 0 };
            input = output;
            geometry
        };
        layers.iter().enumerate().map(geometry).collect()
    }

    pub(super) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    pub(super) fn input_pixels(&self) -> usize {
        self.input[1] * self.input[2]
    }

    pub(super) fn output_pixels(&self) -> usize {
        self.output[1] * self.output[2]
    }

    /// Whether channels of the input are read in vectors.
    pub(super) fn input_vector(&self) -> usize {
        if self.planes || !self.input[0].is_multiple_of(LANES) { 1 } else { LANES }
    }

    /// Whether channels of the output are read in vectors.
    pub(super) fn output_vector(&self) -> usize {
        if self.output[0].is_multiple_of(LANES) { LANES } else { 1 }
    }

    /// Pixels of the input fall into `stride²` classes, each seen by the taps of its own only. Lines and columns of the largest class.
    pub(super) fn class_sides(&self) -> [usize; 2] {
        [self.input[1].div_ceil(self.stride), self.input[2].div_ceil(self.stride)]
    }

    /// Taps along a side that see a pixel of the largest class.
    pub(super) fn class_taps(&self) -> usize {
        self.kernel.div_ceil(self.stride)
    }
}

/// Which product of a layer, as `C[row, column] = Σ_k A[row, k] B[k, column]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Product {
    /// Rows are output pixels, columns output channels, k the taps' input channels.
    Forward,
    /// Rows are input pixels of one class, columns input channels, k the class' taps' output channels.
    Input,
    /// Rows are the taps' input channels, columns output channels, k output pixels.
    Weights,
}

/// A cube makes `rows × columns` of a product, `depth` of its inner dimension at a time; a thread `thread_rows × thread_columns` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) depth: usize,
    pub(super) thread_rows: usize,
    pub(super) thread_columns: usize,
}

const LARGE: Tile = Tile { rows: 128, columns: 128, depth: 16, thread_rows: 8, thread_columns: 8 };
const TALL: Tile = Tile { rows: 128, columns: 64, depth: 16, thread_rows: 8, thread_columns: 8 };
const MEDIUM: Tile = Tile { rows: 64, columns: 64, depth: 16, thread_rows: 8, thread_columns: 4 };
const SLIM: Tile = Tile { rows: 256, columns: 4, depth: 8, thread_rows: 4, thread_columns: 4 };

impl Tile {
    /// For a product of `rows × columns`, `times` over.
    fn of(product: Product, rows: usize, columns: usize, times: usize) -> Self {
        if columns <= NARROW {
            return SLIM;
        }
        let large = if columns > TALL.columns { LARGE } else { TALL };
        let cubes = rows.div_ceil(large.rows) * columns.div_ceil(large.columns) * times;
        let fits = match product {
            Product::Weights => rows >= large.rows,
            Product::Forward | Product::Input => cubes >= PROCESSORS,
        };
        if fits { large } else { MEDIUM }
    }

    /// Threads of a cube.
    pub(super) fn threads(&self) -> usize {
        (self.rows / self.thread_rows) * (self.columns / self.thread_columns)
    }

    /// Vectors of both operands in one of the two buffers.
    pub(super) fn stage(&self) -> usize {
        (self.rows + self.columns) * self.depth / LANES
    }

    /// Squares of 4 × 4 numbers of the left operand.
    pub(super) fn left(&self) -> usize {
        self.rows * self.depth / (LANES * LANES)
    }

    /// Of both.
    pub(super) fn squares(&self) -> usize {
        self.left() + self.columns * self.depth / (LANES * LANES)
    }

    /// Squares that a thread fetches.
    pub(super) fn fetches(&self) -> usize {
        self.squares().div_ceil(self.threads())
    }

    /// Of those, the ones that may be of the left operand.
    pub(super) fn left_fetches(&self) -> usize {
        self.left().div_ceil(self.threads())
    }

    /// Bytes of shared memory.
    const fn bytes(&self) -> usize {
        2 * 4 * (self.rows + self.columns) * self.depth
    }
}

/// Shared memory and threads that the largest tile takes.
pub(super) const SHARED_BYTES: usize = LARGE.bytes();
/// See [`SHARED_BYTES`].
pub(super) const MOST_THREADS: usize = 256;

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub(super) geometry: Geometry,
    pub(super) product: Product,
    /// Whether the signal is 1 everywhere: a last layer's.
    pub(super) ones: bool,
    pub(super) tile: Tile,
    /// The non-linearity between the layer and the other one of its hidden tensor.
    pub(super) activation: Activation,
}

impl Plan {
    /// For `n` images.
    pub(super) fn new(geometry: Geometry, product: Product, activation: Activation, n: usize) -> Self {
        let tile = Tile { rows: 0, columns: 0, depth: 0, thread_rows: 0, thread_columns: 0 };
        let mut plan = Self { geometry, product, ones: false, tile, activation };
        plan.tile = Tile::of(product, plan.rows(n), plan.columns(), plan.times());
        plan
    }

    /// Rows of the product for `n` images.
    pub(super) fn rows(&self, n: usize) -> usize {
        match self.product {
            Product::Forward => n * self.geometry.output_pixels(),
            Product::Input => n * self.geometry.class_sides().iter().product::<usize>(),
            Product::Weights => self.geometry.taps() * self.geometry.input[0],
        }
    }

    /// Columns of the product.
    pub(super) fn columns(&self) -> usize {
        match self.product {
            Product::Input => self.geometry.input[0],
            Product::Forward | Product::Weights => self.geometry.output[0],
        }
    }

    /// The inner dimension for `n` images.
    pub(super) fn inner(&self, n: usize) -> usize {
        match self.product {
            Product::Forward => self.geometry.taps() * self.geometry.input[0],
            Product::Input => self.geometry.class_taps().pow(2) * self.geometry.output[0],
            Product::Weights => n * self.geometry.output_pixels(),
        }
    }

    /// How many products there are.
    fn times(&self) -> usize {
        match self.product {
            Product::Input => self.geometry.stride.pow(2),
            Product::Forward | Product::Weights => 1,
        }
    }

    /// Cubes side by side.
    pub(super) fn column_cubes(&self) -> usize {
        self.columns().div_ceil(self.tile.columns)
    }

    /// Cubes below each other.
    pub(super) fn row_cubes(&self, n: usize) -> usize {
        self.rows(n).div_ceil(self.tile.rows)
    }

    /// Cubes that share a tile's inner dimension, and how much of it each takes.
    pub(super) fn splits(&self, n: usize) -> [usize; 2] {
        let (inner, depth) = (self.inner(n), self.tile.depth);
        let wanted = SPLIT_CUBES.div_ceil(self.column_cubes() * self.row_cubes(n));
        let most = inner.div_ceil(SPLIT_STEPS * depth).max(1);
        let each = inner.div_ceil(wanted.min(most)).next_multiple_of(depth);
        [inner.div_ceil(each), each]
    }

    /// Launches side by side: classes of pixels, or splits.
    pub(super) fn across(&self, n: usize) -> usize {
        match self.product {
            Product::Weights => self.splits(n)[0],
            Product::Forward | Product::Input => self.times(),
        }
    }

    /// Whether a slope is not a function of the activation, so that the forward pass keeps it.
    pub(super) fn keeps_slopes(&self) -> bool {
        keeps_slopes(self.activation)
    }
}

/// See [`Plan::keeps_slopes`].
pub(super) fn keeps_slopes(activation: Activation) -> bool {
    matches!(activation, Activation::Silu | Activation::Softplus)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread's sums are whole vectors, every thread has a place, and buffers fit.
    #[test]
    fn tiles_are_whole() {
        for tile in [LARGE, TALL, MEDIUM, SLIM] {
            assert!(tile.threads() <= MOST_THREADS && tile.bytes() <= SHARED_BYTES, "{tile:?}");
            assert_eq!(tile.thread_rows % LANES + tile.thread_columns % LANES + tile.depth % LANES, 0);
            assert!(tile.columns / LANES <= tile.threads());
        }
    }

    /// Splits cover the inner dimension, each some of it.
    #[test]
    fn splits_cover_everything() {
        let layers = [
            ConvLayer { out: 64, kernel: 3, stride: 1, padding: 1 },
            ConvLayer { out: 1, kernel: 32, stride: 1, padding: 0 },
        ];
        for geometry in Geometry::of([3, 32, 32], &layers) {
            for n in [1, 2, 7, 64, 4096] {
                let plan = Plan::new(geometry, Product::Weights, Activation::Relu, n);
                let ([splits, each], inner) = (plan.splits(n), plan.inner(n));
                assert!(splits * each >= inner && (splits - 1) * each < inner, "{n}: {splits} of {each}");
            }
        }
    }
}
