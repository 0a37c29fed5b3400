//! Bytes of any kind, given to the program's readers: an error or a result, never a panic.
//!
//! [`TARGETS`] lists the kinds of input, one function each. `tests/tests/fuzzed.rs` runs them in the ordinary suite, on seeds, on every
//! input that once failed (`tests/fuzz/crashes/TARGET/`) and on mutations with fixed seeds. `tests/fuzz/run.sh` runs them under libFuzzer
//! with address sanitizer. Checksums are put right before a reader sees the bytes, so that its checks of contents are reached.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

mod checkpoints;
mod configs;
mod data;
mod mutation;
mod pictures;
mod populations;
mod report;
mod samples;
mod scratch;
mod state;
mod tensors;
mod weights;

pub use mutation::Mutator;

/// The longest time an input may take.
pub const MOST_TIME: Duration = Duration::from_secs(1);
/// The most memory an input may take, in bytes, beyond what the process had before.
pub const MOST_MEMORY: usize = 256 << 20;

/// A kind of input.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, also that of the libFuzzer binary.
    pub name: &'static str,
    /// Reads the bytes as the program does. Panics where something is wrong with the program.
    pub run: fn(&[u8]),
    /// Small valid inputs to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that readers look for; a character is a byte.
    pub words: &'static [&'static str],
    /// The longest input that is tried, in bytes.
    pub most_bytes: usize,
}

/// Every kind of input.
pub const TARGETS: &[Target] = &[
    configs::CONFIG,
    configs::SET,
    data::IDX,
    data::CIFAR,
    data::TAR,
    pictures::IMAGES,
    samples::NPZ,
    tensors::SAFETENSORS,
    weights::WEIGHTS,
    state::STATE,
    checkpoints::CHECKPOINT,
    populations::POPULATIONS,
    report::REPORT,
];

/// The target of this name.
///
/// # Panics
/// If there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    *found.unwrap_or_else(|| panic!("no target `{name}`"))
}

/// Takes what a process takes once: the first product of a thread reserves 600 MiB of address space (faer's kernels, AVX-512), which it
/// never touches but in part. Bounds of memory are for what comes after it.
pub fn warm_up() {
    let products = || (weights::WEIGHTS.seeds)().iter().for_each(|seed| (weights::WEIGHTS.run)(seed));
    products();
    rayon::broadcast(|_| products());
}

impl Target {
    /// Runs an input and tells how long it took.
    ///
    /// # Errors
    /// What it panicked with.
    pub fn check(&self, bytes: &[u8]) -> Result<Duration, String> {
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (self.run)(bytes)));
        result.map(|()| start.elapsed()).map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            text.or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("a panic without words")
                .to_owned()
        })
    }

    /// The inputs of this target that once failed, by the names of their files.
    ///
    /// # Panics
    /// If a file cannot be read.
    pub fn crashes(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/crashes").join(self.name);
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        let read = |path: PathBuf| {
            let bytes = std::fs::read(&path).expect("a stored input");
            (path, bytes)
        };
        paths.into_iter().map(read).collect()
    }

    /// How a fuzzer begins: [`warm_up`], and where `EMBER_FUZZ_SEEDS` names a folder, writes seeds and stored inputs to its `TARGET/`, and beside that libFuzzer's dictionary
    /// `TARGET.dict` and options `TARGET.options`.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn begin(&self) {
        warm_up();
        let Some(parent) = std::env::var_os("EMBER_FUZZ_SEEDS").map(PathBuf::from) else { return };
        let folder = parent.join(self.name);
        std::fs::create_dir_all(&folder).expect("the folder of seeds");
        let hex = |byte: u8| format!("\\x{byte:02x}");
        let words = self.words.iter().map(|word| word_bytes(word).map(hex).collect::<String>());
        let dictionary: String = words.map(|word| format!("\"{word}\"\n")).collect();
        std::fs::write(parent.join(format!("{}.dict", self.name)), dictionary).expect("a dictionary");
        let options = format!("-max_len={}", self.most_bytes);
        std::fs::write(parent.join(format!("{}.options", self.name)), options).expect("options");
        let stored = self.crashes().into_iter().map(|(_, bytes)| bytes);
        for (i, bytes) in (self.seeds)().into_iter().chain(stored).enumerate() {
            std::fs::write(folder.join(format!("seed_{i}")), bytes).expect("a seed");
        }
    }
}

/// The bytes of a word of [`Target::words`].
fn word_bytes(word: &str) -> impl Iterator<Item = u8> {
    word.chars().map(|c| c as u8)
}
