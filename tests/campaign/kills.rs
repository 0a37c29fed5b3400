//! Runs killed at random moments, against the same runs never killed.
//!
//! A run is started, killed with SIGKILL after a random wait, resumed, killed again, and so on; at the end it must hold what the run
//! never killed holds: every metric line but its times, every event, every byte of the last checkpoint's tensors.

use crate::small::{small, with};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program;

/// A run of each kind of state that a checkpoint carries: its name, and its config, or what it changes in [`NETWORK`].
pub const RUNS: &[(&str, &str)] = &[
    ("weights, audit, batches that end epochs", MIXTURE),
    ("mini-batches of walkers, moving average", PARTIAL),
    ("adaptive step size", ADAPTIVE),
    ("rollbacks", ROLLBACKS),
    ("flow-assisted, pretraining", ASSISTED),
    ("a flow by maximum likelihood", FLOW),
];

/// A mixture with weights and an audit.
pub const MIXTURE: &str = r#"
seed = 3
steps = 1500
dataset.dim = 3
dataset.means = [[-2.0], [2.0]]
dataset.weights = [0.25, 0.75]
dataset.train_size = 400
dataset.test_size = 200
dataset.batch_size = 150
energy = { kind = "gaussian_mixture", means = [[-0.5], [0.5]], means_noise = 0.1 }
walkers.count = 200
resampling = { ess_threshold = 0.9 }
optimizer.learning_rate = 0.02
audit = { walkers = 50, repeats = 3, every = 20 }
output = { log_every = 10, checkpoint_every = 40, keep_checkpoints = 2 }
"#;

const NETWORK: &str = r#"
seed = 5
steps = 400
dataset.std = 0.5
dataset.batch_size = 100
kernel.kind = "mala"
output = { log_every = 5, checkpoint_every = 20, keep_checkpoints = 3 }
"#;

const PARTIAL: &str = "walkers.moved_per_update = 48\noptimizer.ema = 0.99\n";
const ADAPTIVE: &str = "kernel.target_accept_rate = 0.7\n";
const ROLLBACKS: &str = "steps = 200\noptimizer.learning_rate = 0.5\noutput.checkpoint_every = 4\nwatchdog.max_rollbacks = 8\n\
                         watchdog.learning_rate_factor = 0.1\nwatchdog.max_energy_gap = 3.0\n";

const ASSISTED: &str = r#"
seed = 2
steps = 150
[dataset]
kind = "toy2d"
name = "two_modes"
train_size = 1000
test_size = 200
batch_size = 100
[energy]
kind = "tilted"
base = { kind = "real_nvp", layers = 2, hidden = [16], act_norm = true }
tilt = { kind = "mlp", hidden = [16] }
[pretrain]
steps = 100
learning_rate = 0.002
batch_size = 64
[walkers]
count = 100
[kernel]
kind = "flow_mh"
local_steps = 2
step_size = 0.1
target_accept_rate = 0.75
[objective]
kind = "flow_assisted"
weights = false
fit = "cross"
[optimizer]
kind = "adam"
learning_rate = 0.002
[output]
log_every = 5
checkpoint_every = 15
"#;

const FLOW: &str = r#"
seed = 4
steps = 600
[dataset]
kind = "gaussian_mixture"
dim = 2
means = [[-1.5], [1.5]]
weights = [0.3, 0.7]
std = 0.5
train_size = 256
test_size = 100
[energy]
kind = "real_nvp"
layers = 4
hidden = [16]
act_norm = true
[walkers]
count = 50
[objective]
kind = "maximum_likelihood"
[optimizer]
kind = "adam"
learning_rate = 0.005
ema = 0.9
[output]
log_every = 5
checkpoint_every = 25
"#;

/// What to do.
pub struct Options {
    /// The program.
    pub ember: PathBuf,
    /// Kills in all.
    pub kills: usize,
    /// Of the moments.
    pub seed: u64,
    /// Scratch, for the caller to delete.
    pub folder: PathBuf,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Kills that hit a running process.
    pub kills: usize,
    /// Of these, before the run's first checkpoint.
    pub before_first: usize,
    /// Of these, while something was being written: a temporary file was left that was not there before.
    pub while_writing: usize,
    /// Runs that were killed and came to their end.
    pub runs: usize,
    /// What differs from the run never killed, or did not go on.
    pub lost: Vec<String>,
}

/// Kills until there were `kills` kills, run after run; `tell` hears of each run that came to its end.
///
/// # Panics
/// If a run that nobody kills fails, or the scratch folder cannot be written.
pub fn campaign(options: &Options, mut tell: impl FnMut(&str, &Outcome)) -> Outcome {
    let references: Vec<Reference> =
        RUNS.iter().map(|(name, config)| Reference::new(options, name, config)).collect();
    let mut outcome = Outcome::default();
    let mut random = Random(options.seed);
    while outcome.kills < options.kills {
        let reference = &references[outcome.runs % references.len()];
        let name = format!("killed-{}", outcome.runs);
        if let Err(what) = one_run(options, reference, &name, &mut random, &mut outcome) {
            outcome.lost.push(format!("{} ({}, seed {}): {what}", reference.name, name, options.seed));
        } else {
            fs::remove_dir_all(options.folder.join(&name)).expect("a scratch folder can be removed");
        }
        outcome.runs += 1;
        tell(reference.name, &outcome);
    }
    outcome
}

/// Whether a run holds what another does, or where it first differs.
///
/// # Errors
/// What differs, or cannot be read.
pub fn compare(expected: &Path, found: &Path) -> Result<(), String> {
    Content::of(expected)?.differs_from(&Content::of(found)?)
}

/// A run never killed.
struct Reference {
    name: &'static str,
    config: String,
    whole: PathBuf,
    took: Duration,
}

impl Reference {
    fn new(options: &Options, name: &'static str, config: &str) -> Self {
        let config = match config {
            whole if whole.contains("[dataset]") => whole.to_owned(),
            MIXTURE | NETWORK => small(config),
            changes => with(&small(NETWORK), changes),
        };
        let place = options.folder.join(name.split([' ', ',']).next().expect("a word"));
        fs::create_dir_all(&place).expect("a scratch folder");
        let path = place.join("config.toml");
        fs::write(&path, &config).expect("a config");
        let start = Instant::now();
        let path = path.display().to_string();
        let out = place.join("whole");
        let status = ember(options, &["train", &path, "--out", &out.display().to_string()]).status();
        assert!(status.expect("ember starts").success(), "{name}: the run that nobody kills fails");
        Self { name, config: path, whole: out, took: start.elapsed() }
    }
}

fn ember(options: &Options, args: &[&str]) -> Command {
    let mut command = program::ember(&options.ember, &options.folder, args);
    command.args(["--device", "flex"]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A run killed up to eight times, then left alone.
fn one_run(
    options: &Options,
    reference: &Reference,
    name: &str,
    random: &mut Random,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let run = options.folder.join(name);
    let out = run.display().to_string();
    let start = ["train", &reference.config, "--out", &out];
    let resume = ["resume", &out];
    for _ in 0..8 {
        let args: &[&str] = if run.exists() { &resume } else { &start };
        let before = temporaries(&run);
        let mut child = ember(options, args).spawn().expect("ember starts");
        // Short waits are as likely as long ones: starts and first writes are hit, too.
        std::thread::sleep(reference.took.mul_f64(0.6 * random.uniform() * random.uniform()));
        let ended = child.try_wait().expect("a child");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        if let Some(status) = ended {
            // Nothing to resume: killed before the first checkpoint, it says so with 2.
            if status.success() {
                break;
            }
            if args[0] == "resume" && has_checkpoint(&run) {
                return Err(format!("resume ended with {status} after {} kills in all", outcome.kills));
            }
            fs::remove_dir_all(&run).map_err(|error| error.to_string())?;
            continue;
        }
        outcome.kills += 1;
        outcome.before_first += usize::from(!has_checkpoint(&run));
        outcome.while_writing += usize::from(!temporaries(&run).is_subset(&before));
    }
    let mut args: &[&str] = if run.exists() { &resume } else { &start };
    if run.exists() && !has_checkpoint(&run) {
        fs::remove_dir_all(&run).map_err(|error| error.to_string())?;
        args = &start;
    }
    let status = ember(options, args).status().expect("ember starts");
    if !status.success() {
        return Err(format!("the last {} ended with {status}", args[0]));
    }
    compare(&reference.whole, &run)
}

/// Whether a checkpoint has its name, whatever `latest` says.
pub fn has_checkpoint(run: &Path) -> bool {
    let Ok(mut entries) = fs::read_dir(run.join("checkpoints")) else { return false };
    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("step_")))
}

/// Files and folders with a temporary's name, at any depth.
fn temporaries(folder: &Path) -> BTreeSet<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return BTreeSet::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths
        .flat_map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match name.starts_with(".tmp-") {
                true => BTreeSet::from([path]),
                false => temporaries(&path),
            }
        })
        .collect()
}

/// What a run holds that does not depend on the clock.
struct Content {
    metrics: Vec<Value>,
    events: Vec<Value>,
    /// The last checkpoint's files; JSON without its times.
    files: BTreeMap<String, Vec<u8>>,
}

impl Content {
    fn of(run: &Path) -> Result<Self, String> {
        let said = |path: &Path| {
            let path = path.to_owned();
            move |error: std::io::Error| format!("{}: {error}", path.display())
        };
        let lines = |name: &str| -> Result<Vec<Value>, String> {
            let path = run.join(name);
            if !path.exists() {
                return Ok(Vec::new());
            }
            let text = fs::read_to_string(&path).map_err(said(&path))?;
            text.lines()
                .map(|line| {
                    serde_json::from_str(line)
                        .map(timeless)
                        .map_err(|error| format!("{}: {error}: {line}", path.display()))
                })
                .collect()
        };
        let latest = run.join("checkpoints/latest");
        let name = fs::read_to_string(&latest).map_err(said(&latest))?;
        let folder = run.join("checkpoints").join(name.trim());
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(said(&folder))? {
            let path = entry.map_err(said(&folder))?.path();
            let mut bytes = fs::read(&path).map_err(said(&path))?;
            if path.extension().is_some_and(|extension| extension == "json") {
                let value: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
                bytes = timeless(value).to_string().into_bytes();
            }
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            files.insert(format!("{}/{name}", folder.file_name().expect("a name").to_string_lossy()), bytes);
        }
        Ok(Self { metrics: lines("metrics.jsonl")?, events: lines("events.jsonl")?, files })
    }

    fn differs_from(&self, other: &Self) -> Result<(), String> {
        if let Some(line) = self.metrics.iter().zip(&other.metrics).position(|(a, b)| a != b) {
            return Err(format!(
                "metric line {line} is {} and should be {}",
                other.metrics[line], self.metrics[line]
            ));
        }
        if self.metrics.len() != other.metrics.len() {
            return Err(format!("{} metric lines, {} expected", other.metrics.len(), self.metrics.len()));
        }
        if self.events != other.events {
            return Err(format!("events {:?}, expected {:?}", other.events, self.events));
        }
        if !self.files.keys().eq(other.files.keys()) {
            return Err(format!("files {:?}, expected {:?}", other.files.keys(), self.files.keys()));
        }
        match self.files.iter().find(|(name, bytes)| other.files[*name] != **bytes) {
            Some((name, _)) => Err(format!("{name} differs")),
            None => Ok(()),
        }
    }
}

/// Without what depends on the clock, at any depth.
fn timeless(value: Value) -> Value {
    const CLOCK: &[&str] = &["time_s", "walker_steps_per_s", "created", "created_at", "sha256", "checksums"];
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(key, _)| !CLOCK.contains(&key.as_str()));
            Value::Object(kept.map(|(key, value)| (key, timeless(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(timeless).collect()),
        other => other,
    }
}

/// Moments.
struct Random(u64);

impl Random {
    /// In [0, 1).
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }
}
