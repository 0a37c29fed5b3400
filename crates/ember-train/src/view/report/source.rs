//! What a report is made from: the files of a run folder, as far as they are there.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::Error;
use crate::store::checkpoint;
use crate::store::folder::EVENTS;
use crate::store::metrics::{self, MetricsLine};

/// Pictures of a page at most; of more, the newest and others at equal distances.
const MOST_PICTURES: usize = 12;
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The contents of a run folder.
pub(super) struct Source {
    /// The folder's own name.
    pub(super) name: String,
    /// `config.toml` as it is.
    pub(super) config_text: String,
    /// At least one line.
    pub(super) metrics: Vec<MetricsLine>,
    /// The newest evaluation of the model; those of other noise levels are not the run's figures.
    pub(super) eval: Option<Value>,
    pub(super) events: Vec<Value>,
    /// Oldest first.
    pub(super) pictures: Vec<Picture>,
    /// `state.json` of the newest checkpoint; null where there is none.
    pub(super) state: Value,
    config: toml::Table,
}

/// A picture of the run.
pub(super) struct Picture {
    pub(super) step: u64,
    pub(super) png: Vec<u8>,
}

impl Picture {
    /// Width and height, from the file's head.
    pub(super) fn size(&self) -> (u32, u32) {
        let side = |at: usize| {
            let bytes = self.png.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(1, u32::from_be_bytes).max(1)
        };
        (side(16), side(20))
    }
}

impl Source {
    /// A key of the config, `""` for the top level's; quotes are taken away.
    pub(super) fn config(&self, section: &str, key: &str) -> Option<String> {
        let table = if section.is_empty() { &self.config } else { self.config.get(section)?.as_table()? };
        match table.get(key)? {
            toml::Value::String(text) => Some(text.clone()),
            value => Some(value.to_string()),
        }
    }

    /// The newest metric line.
    pub(super) fn last(&self) -> &MetricsLine {
        &self.metrics[self.metrics.len() - 1]
    }

    /// Updates done, as far as the files tell.
    pub(super) fn step(&self) -> u64 {
        self.last().step.max(self.state["step"].as_u64().unwrap_or(0))
    }
}

/// Reads a run folder. Nothing in it is changed.
///
/// # Errors
/// No run folder, no metric line, or a damaged one.
pub(super) fn read(run: &Path) -> Result<Source, Error> {
    let about = std::fs::metadata(run).map_err(|source| Error::read(run, source))?;
    let config_path = run.join("config.toml");
    if !about.is_dir() || !config_path.is_file() {
        let message = "no config.toml in it: this is no run folder (`ember train` makes one)";
        return Err(Error::checkpoint(run, message));
    }
    let config = std::fs::read(&config_path).map_err(|source| Error::read(&config_path, source))?;
    let config_text = String::from_utf8_lossy(&config).into_owned();
    if !run.join(metrics::METRICS).is_file() {
        return Err(Error::checkpoint(run, "no metrics.jsonl in it: the run has not logged anything yet"));
    }
    let metrics = metrics::read(run)?;
    if metrics.is_empty() {
        let message = "no metric line in it yet; one comes every `output.log_every` updates";
        return Err(Error::checkpoint(run.join(metrics::METRICS), message));
    }
    Ok(Source {
        name: name(run),
        config: config_text.parse().unwrap_or_default(),
        config_text,
        metrics,
        eval: objects(&run.join(metrics::EVAL)).into_iter().rfind(|eval| eval.get("level").is_none()),
        events: objects(&run.join(EVENTS)),
        pictures: pictures(&run.join("samples")),
        state: state(run).unwrap_or_default(),
    })
}

/// The folder's own name, also for `.` and `..`.
fn name(run: &Path) -> String {
    let absolute = run.canonicalize().unwrap_or_else(|_| run.to_owned());
    absolute.file_name().unwrap_or(absolute.as_os_str()).to_string_lossy().into_owned()
}

/// The objects of a file, one a line; no file has none, and lines that are no objects are left out.
fn objects(path: &Path) -> Vec<Value> {
    let text = std::fs::read(path).unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.filter_map(|line| serde_json::from_slice(line).ok()).filter(Value::is_object).collect()
}

fn state(run: &Path) -> Option<Value> {
    let dir = checkpoint::newest_dir(run).ok()?;
    serde_json::from_slice(&std::fs::read(dir.join("state.json")).ok()?).ok()
}

/// At most [`MOST_PICTURES`] of the folder's `step_00001000.png`.
fn pictures(folder: &Path) -> Vec<Picture> {
    let mut found: Vec<(u64, PathBuf)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let step = name.to_str()?.strip_prefix("step_")?.strip_suffix(".png")?.parse().ok()?;
            Some((step, entry.path()))
        })
        .collect();
    found.sort();
    let picked = evenly(found.len(), MOST_PICTURES);
    let read = |i: usize| {
        let (step, path) = &found[i];
        let png = std::fs::read(path).ok().filter(|bytes| bytes.starts_with(PNG))?;
        Some(Picture { step: *step, png })
    };
    picked.into_iter().filter_map(read).collect()
}

/// At most `most` of `0 .. count`, the first and the last among them, at distances that differ by at most 1.
fn evenly(count: usize, most: usize) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    (0..most).map(|i| i * (count - 1) / (most - 1)).collect()
}
