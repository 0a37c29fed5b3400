//! Mutations with fixed seeds, for the ordinary suite: what libFuzzer does, without its feedback.

use super::Target;

/// Numbers at the edges of what readers compare with.
const EDGES: [&str; 8] =
    ["0", "-1", "1e999", "4294967295", "2147483648", "18446744073709551615", "9223372036854775807", "nan"];

/// A stream of inputs.
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// A number below `bound`, which is not 0 (xorshift64*: Vigna 2016).
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    /// One to four changes of a seed of the target.
    pub fn next(&mut self, target: &Target, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..1 + self.below(4) {
            self.change(&mut bytes, target, seeds);
        }
        bytes.truncate(target.most_bytes);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, target: &Target, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let length = self.below(16).min(bytes.len() - at);
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let copied = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copied);
            }
            4 => self.number(bytes, at),
            5 if !target.words.is_empty() => {
                let word = target.words[self.below(target.words.len())];
                bytes.splice(at..at + length, super::word_bytes(word));
            }
            6 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[from..]);
            }
            _ => bytes.truncate(at),
        }
    }

    /// Puts an edge in the place of the next number after `at`, in text, or of four bytes.
    fn number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let digit = |byte: &u8| byte.is_ascii_digit();
        let Some(start) = bytes[at..].iter().position(digit).map(|offset| at + offset) else {
            let edge = [0u32, 1, u32::MAX, 1 << 31][self.below(4)].to_be_bytes();
            let end = bytes.len().min(at + 4);
            bytes.splice(at..end, edge);
            return;
        };
        let end = bytes[start..].iter().position(|byte| !digit(byte)).map_or(bytes.len(), |n| start + n);
        let edge = EDGES[self.below(EDGES.len())];
        bytes.splice(start..end, edge.bytes());
    }
}
