//! `state.json` of a checkpoint, its checksum put right.

use std::path::Path;

use ember_train::store::checkpoint::check_state;
use sha2::{Digest, Sha256};

use super::{Target, checkpoints};

/// What the text begins with, up to the digits of the checksum.
const HEAD: &str = "{\n  \"sha256\": \"";
const DIGITS: usize = 64;

/// Keys of the file.
pub(super) const WORDS: &[&str] = &[
    "\"format\": 1",
    "\"step\": ",
    "\"seed\": ",
    "\"environment\": {",
    "\"optimizer_counters\": {",
    "\"walkers\": ",
    "\"audit\": [",
    "\"extra\": ",
    "\"files\": {",
    "\"count\": ",
    "\"dim\": ",
    "\"log_z\": ",
    "\"NaN\"",
    "\"inf\"",
    "\"-inf\"",
    "\"resamplings\": ",
    "\"audit_log_z\": [",
    "\"flushes\": ",
    "\"rollbacks\": ",
    "\"doubts\": [",
    "\"step_size\": ",
    "\"proposal\": {",
    "null",
    "true",
    "\"bytes\": ",
    "18446744073709551615",
    "1e400",
    "{}",
    "[]",
    "\"config\": \"",
    "\"model.safetensors\": ",
];

/// The text of the file after its checksum; all of it where the first byte is `!`.
pub(super) const STATE: Target = Target { name: "state", run: state, seeds, words: WORDS, most_bytes: 2048 };

fn state(bytes: &[u8]) {
    let text = match bytes.split_first() {
        Some((b'!', raw)) => raw.to_vec(),
        _ => signed(bytes),
    };
    if let Err(error) = check_state(text, Path::new("fuzzed/state.json")) {
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}

/// The file with this text after the digits of its checksum.
pub(super) fn signed(rest: &[u8]) -> Vec<u8> {
    let mut text = [HEAD.as_bytes(), &[b'0'; DIGITS], rest].concat();
    let sum: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    text[HEAD.len()..HEAD.len() + DIGITS].copy_from_slice(sum.as_bytes());
    text
}

/// What follows the digits in a file as it is written.
pub(super) fn rest(file: &[u8]) -> &[u8] {
    &file[HEAD.len() + DIGITS..]
}

fn seeds() -> Vec<Vec<u8>> {
    let short = br#"", "format": 1, "step": 3, "seed": 0, "environment": {"ember_version": "0.1.0", "device": "flex", "threads": 2},
"optimizer_counters": {"time": 3}, "walkers": {"count": 4, "dim": 1, "log_z": "NaN", "resamplings": 0}, "audit": [], "extra": null,
"files": {"model.safetensors": {"bytes": 8, "sha256": "00"}}}"#;
    let mut seeds = vec![short.to_vec()];
    seeds.extend(checkpoints::states().into_iter().map(|file| rest(&file).to_vec()));
    seeds.push([b"!".to_vec(), signed(short)].concat());
    seeds
}
