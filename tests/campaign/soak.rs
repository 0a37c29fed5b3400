//! Small runs of very many updates: memory flat, disk bounded, ess and energies stationary, with no address space to spare.
//!
//! A short run of each kind says how much address space it needs. The long one then has that and a little more, so that whatever grows
//! ends it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::program;
use crate::small::{small, with};

/// A mixture with weights, whose modes overlap: walkers cross by themselves.
const MIXTURE: &str = r#"
seed = 3
dataset.weights = [0.25, 0.75]
dataset.train_size = 10000
dataset.batch_size = 64
energy = { kind = "gaussian_mixture", means = [[-0.5], [0.5]], means_noise = 0.1 }
walkers.count = 64
optimizer.kind = "sgd"
optimizer.learning_rate = 0.01
output = { log_every = 500, checkpoint_every = 5000, keep_checkpoints = 2 }
"#;

/// What makes a network of it.
const MLP: &str = "energy = { kind = \"mlp\", hidden = [16, 16], confinement = 1.0 }\nkernel.kind = \"mala\"\n\
                   optimizer = { kind = \"adam\", learning_rate = 0.0005, ema = 0.99 }\n";

/// What makes a tilted energy of it, whose walkers a flow helps.
const ASSISTED: &str = "energy = { kind = \"tilted\", base = { kind = \"real_nvp\", layers = 2, hidden = [16], act_norm = true }, \
                        tilt = { kind = \"mlp\", hidden = [16] } }\n\
                        pretrain = { steps = 500, learning_rate = 0.002, batch_size = 64 }\n\
                        kernel = { kind = \"flow_mh\", local_steps = 2, step_size = 0.1, target_accept_rate = 0.75 }\n\
                        objective = { kind = \"flow_assisted\", fit = \"cross\" }\n\
                        optimizer = { kind = \"adam\", learning_rate = 0.0005 }\n";

const RUNS: &[(&str, &str)] = &[("mixture", ""), ("mlp", MLP), ("flow-assisted", ASSISTED)];

/// Updates of the run that says what is needed.
const SHORT: u64 = 20_000;
/// Address space beyond the short run's, MB.
const SPARE_MB: f64 = 4.0;
/// What the resident size's lowest and highest may grow by from the second and third tenths of the updates to the last two, MB. The highest
/// is where a picture is drawn, which a look every tenth of a second may miss.
const GROWTH_MB: [f64; 2] = [2.0, 8.0];

/// Updates done, and the resident size, MB.
type Point = (u64, f64);

/// Updates of a run whose first tenth is enough for its memory to settle; of shorter ones it is not judged.
const SETTLED: u64 = 500_000;

/// A run's outcome.
pub struct Soaked {
    /// What it was.
    pub name: &'static str,
    /// The address space that it had, MB.
    pub limit_mb: f64,
    /// The lowest and the highest resident size in each tenth of the updates, MB.
    pub tenths: Vec<[f64; 2]>,
    /// The run's folder without the metric lines, and these, MB.
    pub disk_mb: [f64; 2],
    /// Each figure's mean in the third quarter and in the last, and their difference in standard errors.
    pub quarters: Vec<(&'static str, ([f64; 2], f64))>,
    /// Mean energies of data and of walkers, the same.
    pub energies: [[f64; 2]; 2],
    /// What is not as it should be.
    pub faults: Vec<String>,
}

/// `updates` of each kind of run.
///
/// # Panics
/// If a short run fails, or the scratch folder cannot be written. Linux only: it reads `/proc`.
pub fn campaign(ember: &Path, folder: &Path, updates: u64, mut tell: impl FnMut(&Soaked)) {
    for (name, changes) in RUNS {
        let config = folder.join(format!("{name}.toml"));
        fs::write(&config, with(&small(MIXTURE), changes)).expect("a config");
        let setting = Setting { ember, folder, config: &config };
        let (ended, short) = setting.run(&format!("{name}-short"), SHORT.min(updates), None);
        assert!(ended, "{name}: the short run fails");
        let limit_mb = short.peak_mb + SPARE_MB;
        let out = format!("{name}-long");
        let (ended, watched) = setting.run(&out, updates, Some(limit_mb));
        let mut faults = Vec::new();
        if !ended {
            faults.push(format!("it did not end with 0 in {limit_mb:.0} MB of address space"));
        }
        let curve = watched.curve;
        let tenths = tenths(&curve, updates);
        if updates >= SETTLED
            && let [_, b, c, .., y, z] = tenths.as_slice()
        {
            let grown = [y[0].min(z[0]) - b[0].min(c[0]), y[1].max(z[1]) - b[1].max(c[1])];
            if grown.iter().zip(GROWTH_MB).any(|(&mb, most)| mb > most) {
                faults.push(format!(
                    "the resident size grows by {:.1} MB at its lowest, {:.1} MB at its highest",
                    grown[0], grown[1]
                ));
            }
        }
        let run = folder.join(&out);
        let lines = metrics(&run);
        let of = |key: &'static str| move |line: &Value| line[key].as_f64().unwrap_or(f64::NAN);
        let (data, walkers) = (of("energy_data"), of("energy_walkers"));
        // Energies may move together: nothing fixes the constant in U, and Adam takes whole steps along a gradient that is rounding.
        let quarters = vec![
            ("ess_fraction", late(&lines, of("ess_fraction"))),
            ("energy gap", late(&lines, |line| walkers(line) - data(line))),
        ];
        faults.extend(quarters.iter().filter(|(_, (_, z))| z.is_nan() || z.abs() > 4.0).map(
            |(key, (means, z))| format!("{key} moves from {:.4} to {:.4}, {z:.1} s.e.", means[0], means[1]),
        ));
        let energies = [late(&lines, data).0, late(&lines, walkers).0];
        let log = fs::metadata(run.join("metrics.jsonl")).map_or(0, |file| file.len()) as f64 / 1e6;
        let disk_mb = [size(&run) as f64 / 1e6 - log, log];
        tell(&Soaked { name, limit_mb, tenths, disk_mb, quarters, energies, faults });
    }
}

struct Setting<'a> {
    ember: &'a Path,
    folder: &'a Path,
    config: &'a Path,
}

#[derive(Default)]
struct Watched {
    curve: Vec<Point>,
    /// The most address space that was seen in use, MB.
    peak_mb: f64,
}

impl Setting<'_> {
    /// Trains, watching; whether it ended with 0.
    fn run(&self, out: &str, updates: u64, limit_mb: Option<f64>) -> (bool, Watched) {
        let (config, steps) = (self.config.display().to_string(), updates.to_string());
        let args = ["train", &config, "--steps", &steps, "--out", out, "--device", "flex"];
        let mut command = program::ember(self.ember, self.folder, &args);
        if let Some(mb) = limit_mb {
            // The shell's own process becomes the program's.
            let mut limited = Command::new("sh");
            limited.args(["-c", "ulimit -v \"$0\" && exec \"$@\"", &format!("{:.0}", mb * 1e6 / 1024.0)]);
            limited.arg(self.ember).args(args).current_dir(self.folder).stdin(Stdio::null());
            command.get_envs().for_each(|(key, value)| match value {
                Some(value) => drop(limited.env(key, value)),
                None => drop(limited.env_remove(key)),
            });
            command = limited;
        }
        let mut child = command.env("RUST_LOG", "warn").stdout(Stdio::null()).spawn().expect("ember starts");
        let (status, log) = (
            PathBuf::from(format!("/proc/{}/status", child.id())),
            self.folder.join(out).join("metrics.jsonl"),
        );
        let mut watched = Watched::default();
        loop {
            if let Some(ended) = child.try_wait().expect("a child") {
                return (ended.success(), watched);
            }
            if let Ok(text) = fs::read_to_string(&status) {
                watched.peak_mb =
                    watched.peak_mb.max(kilobytes(&text, "VmPeak:").unwrap_or(0.0) / 1e3 * 1.024);
                if let (Some(done), Some(resident)) = (last_step(&log), kilobytes(&text, "VmRSS:")) {
                    watched.curve.push((done, resident / 1e3 * 1.024));
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// The lowest and the highest memory in each tenth of the updates.
fn tenths(curve: &[Point], updates: u64) -> Vec<[f64; 2]> {
    let mut tenths = vec![[f64::MAX, 0.0f64]; 10];
    for (done, mb) in curve {
        let tenth = &mut tenths[((done - 1) * 10 / updates) as usize];
        *tenth = [tenth[0].min(*mb), tenth[1].max(*mb)];
    }
    tenths
}

/// A line of `/proc/PID/status`.
fn kilobytes(status: &str, key: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok())
}

/// The step of the last whole metric line.
fn last_step(path: &Path) -> Option<u64> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(4_096))).ok()?;
    let mut tail = String::new();
    file.read_to_string(&mut tail).ok()?;
    tail.lines().rev().find_map(|line| serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64())
}

fn metrics(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A figure's mean in the third quarter of the lines and in the last, and their difference in standard errors of block means, 20 blocks a
/// quarter, each much longer than what a figure remembers.
fn late(lines: &[Value], figure: impl Fn(&Value) -> f64) -> ([f64; 2], f64) {
    let values: Vec<f64> = lines.iter().map(figure).collect();
    let quarter = values.len() / 4;
    let blocks = |values: &[f64]| -> (f64, f64) {
        let means: Vec<f64> = values
            .chunks_exact((values.len() / 20).max(1))
            .map(|block| block.iter().sum::<f64>() / block.len() as f64)
            .collect();
        ember_tests::mean_se(&means)
    };
    let (third, last) = (blocks(&values[2 * quarter..3 * quarter]), blocks(&values[3 * quarter..]));
    let difference = last.0 - third.0;
    ([third.0, last.0], if difference == 0.0 { 0.0 } else { difference / third.1.hypot(last.1) })
}

/// Bytes of a folder's files.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => size(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}
