//! Offspring on a processor: what the schemes share.

use ember_model::random::Stream;

use crate::device::masses::{ToSlots, masses};
use crate::device::normals::fill_blocks;

/// Blocks of four random words that are made at a time.
const CHUNK: usize = 1024;

/// One ancestor a slot: the first `i` with `S_i > j + thresholds(j)·2⁻³²`, where `S` are the slots filled up to walker `i`.
///
/// `thresholds` is asked for slot `N` too (where nothing depends on the answer).
pub(super) fn one_a_slot(log_weights: &[f32], thresholds: impl Fn(usize) -> u32) -> Vec<i32> {
    let n = log_weights.len();
    let (masses, total) = masses(log_weights);
    if total == 0 {
        return vec![0; n];
    }
    let slots = ToSlots::new(total, n);
    let mut sum = 0;
    let cumulative = masses.iter().map(|mass| {
        sum += u128::from(*mass);
        slots.slots(sum)
    });
    expand(n, cumulative.map(|filled| end_slot(filled, &thresholds)))
}

/// Slots whose position lies below `S`: all before slot `⌊S⌋`, and that one where its threshold is below the fraction of `S`.
fn end_slot(filled: u64, thresholds: impl Fn(usize) -> u32) -> usize {
    let slot = (filled >> 32) as usize;
    slot + usize::from(filled as u32 > thresholds(slot))
}

/// Ancestors, ascending, from the slot behind each walker's last: walker `i` fills `ends[i − 1] .. ends[i]`.
fn expand(n: usize, ends: impl Iterator<Item = usize>) -> Vec<i32> {
    // Without branches: each walker writes its name where it begins, a later one without offspring in between overwrites
    // an earlier one, and a running maximum fills the gaps.
    let mut ancestors = vec![0i32; n + 1];
    let mut begin = 0;
    for (walker, end) in ends.enumerate() {
        ancestors[begin] = walker as i32;
        begin = end;
    }
    ancestors.truncate(n);
    let mut latest = 0;
    for ancestor in &mut ancestors {
        latest = latest.max(*ancestor);
        *ancestor = latest;
    }
    ancestors
}

/// Ancestors, ascending, of walkers with these numbers of offspring.
pub(super) fn repeat(offspring: &[u32]) -> Vec<i32> {
    let mut end = 0;
    expand(
        offspring.len(),
        offspring.iter().map(|count| {
            end += *count as usize;
            end
        }),
    )
}

/// Adds `draws` independent draws with probabilities `masses / total` to `offspring`.
///
/// Inverse distribution function with the guide table of Chen and Asau (1974): expected constant time a draw.
pub(super) fn draw(offspring: &mut [u32], masses: &[u64], total: u128, draws: usize, stream: Stream) {
    let n = masses.len();
    let to_slots = ToSlots::new(total, n);
    let mut sum = 0;
    let filled: Vec<u64> = masses
        .iter()
        .map(|mass| {
            sum += u128::from(*mass);
            to_slots.slots(sum)
        })
        .collect();
    // guide[b]: the first walker with S > b
    let guide = expand(n, filled.iter().map(|filled| end_slot(*filled, |_| 0)));
    let mut words = [[0; 4]; CHUNK];
    for first in (0..draws).step_by(2 * CHUNK) {
        let left = draws - first;
        fill_blocks(&mut words, (first / 2) as u32, stream);
        for [low, high] in words.as_flattened().as_chunks().0.iter().take(left) {
            // position = U·N with 32 fractional bits
            let uniform = u64::from(*high) << 32 | u64::from(*low);
            let position = ((u128::from(uniform) * ((n as u128) << 32)) >> 64) as u64;
            let bucket = (position >> 32) as usize;
            let begin = guide[bucket] as usize;
            let end = guide.get(bucket + 1).map_or(n - 1, |end| *end as usize);
            let walker = begin + filled[begin..end].partition_point(|filled| *filled <= position);
            offspring[walker] += 1;
        }
    }
}
