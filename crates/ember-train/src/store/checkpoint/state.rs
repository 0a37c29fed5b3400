//! `state.json`: counters, log Z, and what every other file must be, under a checksum of its own.
//!
//! The first entry of the text is the SHA-256 of the text with that entry's digits set to zero. f64 values are JSON numbers with
//! all their digits; those JSON has no number for are the strings `"NaN"`, `"inf"`, `"-inf"`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::hashing::{Fingerprint, sha256_hex};
use super::{Checkpoint, Environment, WalkersRecord};
use crate::error::Error;

/// Raised when an older program could not read what this one writes.
const FORMAT: u64 = 1;
/// What the text starts with, up to the digits of the checksum.
const HEAD: &str = "{\n  \"sha256\": \"";
const DIGITS: usize = 64;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    sha256: String,
    format: u64,
    pub(super) step: u64,
    pub(super) seed: u64,
    pub(super) environment: Environment,
    pub(super) optimizer_counters: BTreeMap<String, u64>,
    pub(super) walkers: Option<Population>,
    pub(super) audit: Vec<Population>,
    pub(super) extra: serde_json::Value,
    pub(super) files: BTreeMap<String, Fingerprint>,
}

/// The scalars of a [`WalkersRecord`].
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Population {
    pub(super) count: usize,
    pub(super) dim: usize,
    #[serde(with = "exact")]
    pub(super) log_z: f64,
    pub(super) resamplings: u64,
}

impl From<&WalkersRecord> for Population {
    fn from(record: &WalkersRecord) -> Self {
        Self { count: record.count, dim: record.dim, log_z: record.log_z, resamplings: record.resamplings }
    }
}

impl State {
    pub(super) fn new(checkpoint: &Checkpoint, files: BTreeMap<String, Fingerprint>) -> Self {
        Self {
            sha256: "0".repeat(DIGITS),
            format: FORMAT,
            step: checkpoint.step,
            seed: checkpoint.seed,
            environment: checkpoint.environment.clone(),
            optimizer_counters: checkpoint.optimizer_counters.clone(),
            walkers: checkpoint.walkers.as_ref().map(Population::from),
            audit: checkpoint.audit.iter().map(Population::from).collect(),
            extra: checkpoint.extra.clone(),
            files,
        }
    }

    /// The text of `state.json`.
    pub(super) fn to_text(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        debug_assert!(text.starts_with(HEAD));
        let sum = sha256_hex(text.as_bytes());
        text.replace_range(HEAD.len()..HEAD.len() + DIGITS, &sum);
        Ok(text)
    }

    /// Reads and checks the text; `path` is for messages.
    pub(super) fn from_text(bytes: Vec<u8>, path: &Path) -> Result<Self, Error> {
        let bad = |message: String| Error::checkpoint(path, message);
        let damaged = |message: String| Err(Error::damaged(path, message));
        let mut zeroed = bytes;
        let digits = HEAD.len()..HEAD.len() + DIGITS;
        if !zeroed.starts_with(HEAD.as_bytes()) || zeroed.len() < digits.end {
            return damaged(format!(
                "damaged or not a checkpoint's: {} bytes found that do not start with a checksum",
                zeroed.len()
            ));
        }
        let stated = String::from_utf8_lossy(&zeroed[digits.clone()]).into_owned();
        zeroed[digits].fill(b'0');
        let found = sha256_hex(&zeroed);
        if found != stated {
            return damaged(format!("damaged: its SHA-256 is {found}; {stated} was expected"));
        }
        #[derive(Deserialize)]
        struct Version {
            format: u64,
        }
        let json = |error: serde_json::Error| bad(format!("not a checkpoint's state: {error}"));
        let Version { format } = serde_json::from_slice(&zeroed).map_err(json)?;
        if format != FORMAT {
            return Err(bad(format!(
                "checkpoint format {format} found; this program, version {}, reads {FORMAT}: take the version that wrote it",
                env!("CARGO_PKG_VERSION")
            )));
        }
        serde_json::from_slice(&zeroed).map_err(json)
    }
}

/// f64 as a JSON number, or as a string where JSON has no number for it.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            serializer.serialize_f64(*value)
        } else {
            // NaN, inf, -inf
            serializer.serialize_str(&value.to_string())
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text.parse().ok(),
            number => number.as_f64(),
        }
        .ok_or_else(|| D::Error::custom("a number was expected"))
    }
}
