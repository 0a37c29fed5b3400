//! Prefix sums in integers, of any length, in `O(N)`: each thread adds up a chunk, the sums of the chunks are scanned in turn, and a
//! second pass adds what came before. Exact, so independent of the order.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{empty, grid};
use super::words::{Wider, accumulate};

/// Elements a thread adds up.
const CHUNK: usize = 32;

/// How 32-bit words are combined.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) enum Combine {
    Sum,
    Maximum,
}

#[cube]
fn combine(a: u32, b: u32, #[comptime] how: Combine) -> u32 {
    match how {
        Combine::Sum => a + b,
        Combine::Maximum => select(a > b, a, b),
    }
}

#[cube(launch)]
fn fold_chunks(input: &[u32], output: &mut [u32], #[comptime] how: Combine) {
    if ABSOLUTE_POS < output.len() {
        let begin = ABSOLUTE_POS * CHUNK;
        let end = select(begin + CHUNK < input.len(), begin + CHUNK, input.len());
        let mut sum = 0u32;
        for i in begin..end {
            sum = combine(sum, input[i], how);
        }
        output[ABSOLUTE_POS] = sum;
    }
}

#[cube(launch)]
fn scan_chunks(input: &[u32], before: &[u32], output: &mut [u32], #[comptime] how: Combine) {
    let begin = ABSOLUTE_POS * CHUNK;
    if begin < output.len() {
        let end = select(begin + CHUNK < input.len(), begin + CHUNK, input.len());
        let mut sum = 0u32;
        if ABSOLUTE_POS > 0 {
            sum = before[ABSOLUTE_POS - 1];
        }
        for i in begin..end {
            sum = combine(sum, input[i], how);
            output[i] = sum;
        }
    }
}

/// Inclusive prefix sums or running maxima of 32-bit words.
pub(super) fn scan(input: CubeTensor, how: Combine) -> CubeTensor {
    let n = input.meta.num_elements();
    let chunks = n.div_ceil(CHUNK);
    let output = empty(&input, n, input.dtype);
    let before = if chunks > 1 { scan(fold(input.clone(), how), how) } else { input.clone() };
    let (count, dim) = grid(&input.client, chunks);
    scan_chunks::launch(
        &output.client,
        count,
        dim,
        input.into_buffer_arg(),
        before.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        how,
    );
    output
}

/// One word for each chunk.
fn fold(input: CubeTensor, how: Combine) -> CubeTensor {
    let chunks = input.meta.num_elements().div_ceil(CHUNK);
    let output = empty(&input, chunks, input.dtype);
    let (count, dim) = grid(&input.client, chunks);
    fold_chunks::launch(
        &output.client,
        count,
        dim,
        input.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        how,
    );
    output
}

/// All words in one, `[1]`.
pub(super) fn fold_all(mut input: CubeTensor, how: Combine) -> CubeTensor {
    loop {
        input = fold(input, how);
        if input.meta.num_elements() == 1 {
            return input;
        }
    }
}

/// Number `i` of `n` in planes of low, middle and high words; with two planes the high word is 0.
#[cube]
pub(super) fn load(words: &[u32], i: usize, n: usize, #[comptime] planes: u32) -> Wider {
    let mut high = 0u32;
    if planes > 2 {
        high = words[2 * n + i];
    }
    Wider { low: words[i], middle: words[n + i], high }
}

#[cube]
fn store(words: &mut [u32], i: usize, n: usize, value: &Wider) {
    words[i] = value.low;
    words[n + i] = value.middle;
    words[2 * n + i] = value.high;
}

#[cube(launch)]
fn fold_chunks_wide(input: &[u32], output: &mut [u32], n: usize, chunks: usize, #[comptime] planes: u32) {
    if ABSOLUTE_POS < chunks {
        let begin = ABSOLUTE_POS * CHUNK;
        let end = select(begin + CHUNK < n, begin + CHUNK, n);
        let mut sum = Wider { low: 0u32, middle: 0u32, high: 0u32 };
        for i in begin..end {
            accumulate(&mut sum, &load(input, i, n, planes));
        }
        store(output, ABSOLUTE_POS, chunks, &sum);
    }
}

#[cube(launch)]
fn scan_chunks_wide(
    input: &[u32],
    before: &[u32],
    output: &mut [u32],
    n: usize,
    chunks: usize,
    #[comptime] planes: u32,
) {
    if ABSOLUTE_POS < chunks {
        let begin = ABSOLUTE_POS * CHUNK;
        let end = select(begin + CHUNK < n, begin + CHUNK, n);
        let mut sum = Wider { low: 0u32, middle: 0u32, high: 0u32 };
        if ABSOLUTE_POS > 0 {
            accumulate(&mut sum, &load(before, ABSOLUTE_POS - 1, chunks, 3u32));
        }
        for i in begin..end {
            accumulate(&mut sum, &load(input, i, n, planes));
            store(output, i, n, &sum);
        }
    }
}

/// Inclusive prefix sums, in three planes of words, of `n` numbers in `planes` planes.
pub(super) fn scan_wide(input: CubeTensor, n: usize, planes: u32) -> CubeTensor {
    let chunks = n.div_ceil(CHUNK);
    let output = empty(&input, 3 * n, input.dtype);
    let (count, dim) = grid(&input.client, chunks);
    let before = if chunks > 1 {
        let sums = empty(&input, 3 * chunks, input.dtype);
        fold_chunks_wide::launch(
            &output.client,
            count.clone(),
            dim,
            input.clone().into_buffer_arg(),
            sums.clone().into_buffer_arg(),
            n,
            chunks,
            planes,
        );
        scan_wide(sums, chunks, 3)
    } else {
        input.clone()
    };
    scan_chunks_wide::launch(
        &output.client,
        count,
        dim,
        input.into_buffer_arg(),
        before.into_buffer_arg(),
        output.clone().into_buffer_arg(),
        n,
        chunks,
        planes,
    );
    output
}
