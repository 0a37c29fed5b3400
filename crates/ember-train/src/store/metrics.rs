//! `metrics.jsonl` and `eval.jsonl`: one JSON object a line, each written in one piece.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::checkpoint::atomic;
use ember_sampler::statistics::{Estimate, nan_if_null};

/// The file of metric lines in a run folder.
pub const METRICS: &str = "metrics.jsonl";
/// The file of evaluations in a run folder.
pub const EVAL: &str = "eval.jsonl";

/// What is logged about one update. A number that is not finite is `null` in the file and NaN when read back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricsLine {
    /// Parameter updates done.
    pub step: u64,
    /// Seconds of training, over all resumes.
    #[serde(deserialize_with = "nan_if_null")]
    pub time_s: f64,
    /// Mean energy of the data batch.
    #[serde(deserialize_with = "nan_if_null")]
    pub energy_data: f64,
    /// Weighted mean energy of the walkers.
    #[serde(deserialize_with = "nan_if_null")]
    pub energy_walkers: f64,
    /// The loss, where the objective minimises one of the data alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// log Z as the objective learns it beside the energy: a parameter, not an estimate by sampling; absent of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_z_learned: Option<f64>,
    /// All numbers that the objective trains beside the energy, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_numbers: Option<Vec<f64>>,
    /// Effective sample size over the number of walkers, in (0, 1].
    #[serde(deserialize_with = "nan_if_null")]
    pub ess_fraction: f64,
    /// Resamplings so far.
    pub resamplings: u64,
    /// The running estimate of log Z; NaN where it is withheld.
    #[serde(deserialize_with = "nan_if_null")]
    pub log_z_online: f64,
    /// Starting walkers still represented.
    pub distinct_ancestors: u64,
    /// Accepted proposals; absent when the kernel never rejects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_rate: Option<f64>,
    /// Walkers that a flow's proposal moved; absent for kernels without global moves, and for updates that made none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_accept_rate: Option<f64>,
    /// Walkers whose nearest mode of the data is another after this update's moves, where the modes are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump_rate: Option<f64>,
    /// The kernel's step size, where it adapts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_size: Option<f64>,
    /// Whether the proposal flow is in use; false while it has collapsed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_moves: Option<bool>,
    /// Norm of the gradient over all parameters.
    #[serde(deserialize_with = "nan_if_null")]
    pub grad_norm: f64,
    /// Learning rate of this update.
    #[serde(deserialize_with = "nan_if_null")]
    pub learning_rate: f64,
    /// Walkers times kernel steps per second.
    #[serde(deserialize_with = "nan_if_null")]
    pub walker_steps_per_s: f64,
    /// The fraction of the optimiser's step that was made, where optimizer.max_weight_change limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_scale: Option<f64>,
    /// The audit's estimate, at the updates that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_z_audit: Option<Estimate>,
    /// Passes that brought all walkers to θ, where an update moves a mini-batch of them: one every `walkers.flush_every`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flushes: Option<u64>,
    /// Masses of the modes, where the energy is a mixture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode_weights: Option<Vec<f64>>,
}

/// Appends to a run's `metrics.jsonl`.
#[derive(Debug)]
pub struct MetricsWriter {
    path: PathBuf,
    file: File,
}

impl MetricsWriter {
    /// Starts the file of a new run.
    ///
    /// # Errors
    /// The file exists, or any I/O error.
    pub fn create(run: &Path) -> Result<Self, Error> {
        let path = run.join(METRICS);
        let io = |source| Error::io(&path, source);
        let file = File::create_new(&path).map_err(io)?;
        atomic::sync_folder(run).map_err(io)?;
        Ok(Self { path, file })
    }

    /// Continues after `step`: later lines and a half-written last one are cut, and the rest is left byte for byte. A line that
    /// is none of ours goes to `metrics.jsonl.dropped`.
    ///
    /// # Errors
    /// Any I/O error; the file is then as it was.
    pub fn resume(run: &Path, step: u64) -> Result<Self, Error> {
        let path = run.join(METRICS);
        let io = |source| Error::io(&path, source);
        if !cut(&path, step)? {
            return Self::create(run);
        }
        let file = OpenOptions::new().append(true).open(&path).map_err(io)?;
        Ok(Self { path, file })
    }

    /// Writes one line.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn append(&mut self, line: &MetricsLine) -> Result<(), Error> {
        write_line(&mut self.file, line).map_err(|source| Error::io(&self.path, source))
    }

    /// Makes the lines durable: call before a checkpoint is saved, whose resume counts on them.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(|source| Error::io(&self.path, source))
    }
}

/// Cuts from `eval.jsonl` what was found at updates beyond `step`, whose trajectory is given up.
///
/// # Errors
/// Any I/O error; the file is then as it was.
pub(crate) fn cut_evaluations(run: &Path, step: u64) -> Result<(), Error> {
    let path = run.join(EVAL);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        text => text.map_err(|source| Error::read(&path, source))?,
    };
    // The file is replaced only where it has to be: somebody may be appending to it.
    match text
        .split_inclusive(|&byte| byte == b'\n')
        .any(|line| step_of(line).is_ok_and(|found| found > step))
    {
        true => cut(&path, step).map(drop),
        false => Ok(()),
    }
}

/// Replaces a file of lines by its complete lines up to `step`; false where there is no such file. Lines that are none of ours are
/// appended to `….dropped` beside it.
fn cut(path: &Path, step: u64) -> Result<bool, Error> {
    let old = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        old => old.map_err(|source| Error::read(path, source))?,
    };
    let aside = path.with_extension("jsonl.dropped");
    atomic::write_file(path, |out| {
        let dropped = copy_until(&mut BufReader::new(old), out, step)?;
        if dropped.is_empty() {
            return Ok(());
        }
        tracing::warn!("{}: damaged lines are moved to {}", path.display(), aside.display());
        let mut file = OpenOptions::new().append(true).create(true).open(&aside)?;
        file.write_all(&dropped)?;
        file.sync_all()
    })?;
    Ok(true)
}

/// The update of a line.
fn step_of(line: &[u8]) -> serde_json::Result<u64> {
    #[derive(Deserialize)]
    struct Step {
        step: u64,
    }
    serde_json::from_slice::<Step>(line).map(|found| found.step)
}

/// Copies complete lines up to `step`, one line in memory at a time, and returns those that are none of ours.
fn copy_until(old: &mut impl BufRead, out: &mut impl Write, step: u64) -> io::Result<Vec<u8>> {
    let (mut line, mut dropped) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        if old.read_until(b'\n', &mut line)? == 0 {
            return Ok(dropped);
        }
        let complete = line.ends_with(b"\n");
        match step_of(&line) {
            Ok(found) if found > step => {}
            Ok(_) => {
                out.write_all(&line)?;
                if !complete {
                    // Only the end of the line is missing.
                    out.write_all(b"\n")?;
                }
            }
            // What a crash cut short; by its place the last line.
            Err(_) if !complete => {}
            Err(_) => dropped.extend_from_slice(&line),
        }
    }
}

/// The lines of a run's `metrics.jsonl`; a last line still being written is left out.
///
/// # Errors
/// No such file, or a line that is no metric line: the message names the line.
pub fn read(run: &Path) -> Result<Vec<MetricsLine>, Error> {
    let path = run.join(METRICS);
    let read = |source| Error::read(&path, source);
    let mut input = BufReader::new(File::open(&path).map_err(read)?);
    let mut lines = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if input.read_until(b'\n', &mut line).map_err(read)? == 0 {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(parsed) => lines.push(parsed),
            Err(_) if !line.ends_with(b"\n") => break,
            Err(error) => {
                return Err(Error::checkpoint(
                    &path,
                    format!("line {number}: {error}; a metric line was expected"),
                ));
            }
        }
    }
    Ok(lines)
}

/// Appends to a run's `eval.jsonl`.
#[derive(Clone, Copy, Debug)]
pub struct EvalWriter;

impl EvalWriter {
    /// Writes one object as a line of its own, durable when this returns.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn append(run: &Path, result: &serde_json::Value) -> Result<(), Error> {
        let path = run.join(EVAL);
        append_line(&path, result)
    }
}

/// Appends one object as a line of its own, durable when this returns.
///
/// # Errors
/// Any I/O error.
pub(crate) fn append_line(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    try_append_line(path, value).map_err(|source| Error::io(path, source))
}

fn try_append_line(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            // A line was cut short: end it, so that it spoils no other.
            file.write_all(b"\n")?;
        }
    }
    write_line(&mut file, value)?;
    file.sync_all()?;
    // The file may be new.
    atomic::sync_folder(&atomic::folder_of(path))
}

/// One line in one write.
fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    out.write_all(&text)?;
    out.flush()
}
