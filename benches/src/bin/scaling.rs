//! How the cost of a weighted Langevin step grows with walkers, dimension and width.
//!
//! ```text
//! cargo run --release -p ember-benches --bin scaling -- OUT [DEVICE]
//! ```
//!
//! OUT is a folder to make, or one that holds `scaling.csv`; DEVICE is what `ember --device` takes, `flex` unless given. Measures weighted
//! ULA at fixed θ on a SiLU network of random weights, three hidden layers wide, one factor at a time, and writes `scaling.csv` and
//! `walkers.svg`, `dimension.svg`, `width.svg` with logarithmic axes. Rows of another device or number of threads that the file holds stay, and
//! are drawn too; rows of this one are measured again. Cost is `a + b·n`: the legend names the knee n = a/b, below which the fixed part
//! of a step (calls, threads that wait for each other, dispatches) is the larger one.
//!
//! `RAYON_NUM_THREADS` sets the threads; `SECONDS` (1) is how long a point is measured, three times, of which the median is taken;
//! `MAX_WALKERS` (10⁶), `MAX_DIM` (1,024), `MAX_WIDTH` (1,024) end the sweeps earlier.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use ember_benches::log_log::{Figure, Line, Slope};
use ember_sampler::KernelConfig;
use ember_sampler::kernel::Ula;
use ember_train::bench::{Langevin, Source, langevin};
use ember_train::device::{self, Selected};
use serde::{Deserialize, Serialize};

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Factor {
    Walkers,
    Dimension,
    Width,
}

/// One point: a row of `scaling.csv`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Point {
    factor: Factor,
    device: String,
    threads: usize,
    walkers: usize,
    dimension: usize,
    width: usize,
    steps_per_s: f64,
    gflop_per_s: f64,
}

/// Where one factor varies, the other two stay here.
const FIXED: [usize; 3] = [4096, 2, 128];

impl Factor {
    const ALL: [Self; 3] = [Self::Walkers, Self::Dimension, Self::Width];

    /// The values it takes, up to `most`.
    fn values(self, most: usize) -> Vec<usize> {
        let all: Vec<usize> = match self {
            Self::Walkers => {
                vec![100, 316, 1_000, 3_162, 10_000, 31_623, 100_000, 316_228, 1_000_000]
            }
            Self::Dimension => (1..=10).map(|power| 1 << power).collect(),
            Self::Width => (4..=10).map(|power| 1 << power).collect(),
        };
        all.into_iter().filter(|&value| value <= most).collect()
    }

    fn name(self) -> &'static str {
        ["walkers", "dimension", "width"][self as usize]
    }

    fn of(self, point: &Point) -> usize {
        [point.walkers, point.dimension, point.width][self as usize]
    }

    fn draw(self, points: &[Point], folder: &Path) -> Result<(), Box<dyn Error>> {
        let lines = lines(self, points);
        let linear = |name| Slope { slope: -1.0, name };
        let (title, fixed, x, slopes) = match self {
            Self::Walkers => (
                "Weighted Langevin steps by number of walkers",
                "fixed: MLP 2 → 3 × 128 → 1, SiLU, f32",
                "walkers",
                vec![linear("linear cost: ∝ 1 / walkers")],
            ),
            Self::Dimension => (
                "Weighted Langevin steps by dimension",
                "fixed: 4,096 walkers, MLP d → 3 × 128 → 1, SiLU, f32",
                "dimension d, coordinates",
                vec![linear("linear cost: ∝ 1 / d")],
            ),
            Self::Width => (
                "Weighted Langevin steps by width of the network",
                "fixed: 4,096 walkers, MLP 2 → 3 × w → 1, SiLU, f32",
                "width w, units in each hidden layer",
                vec![
                    linear("element-wise work: ∝ 1 / w"),
                    Slope { slope: -2.0, name: "matrix products: ∝ 1 / w²" },
                ],
            ),
        };
        let figure =
            Figure { title, fixed, x, y: "steps of all walkers per second", lines: &lines, slopes: &slopes };
        figure.write(&folder.join(format!("{}.svg", self.name())))
    }
}

/// One line for each device and number of threads.
fn lines(factor: Factor, points: &[Point]) -> Vec<Line> {
    let mut keys: Vec<(&str, usize)> = Vec::new();
    for point in points {
        if !keys.contains(&(&point.device, point.threads)) {
            keys.push((&point.device, point.threads));
        }
    }
    keys.sort_unstable();
    let line = |(device, threads): (&str, usize)| {
        let ours = |point: &&Point| {
            (point.factor, point.device.as_str(), point.threads) == (factor, device, threads)
        };
        let points: Vec<_> =
            points.iter().filter(ours).map(|p| (factor.of(p) as f64, p.steps_per_s)).collect();
        let threads = match (device, threads) {
            ("flex", 1) => ", 1 thread".to_owned(),
            ("flex", n) => format!(", {n} threads"),
            _ => String::new(),
        };
        // The cost is not linear in the width.
        let knee = if factor == Factor::Width { None } else { knee(&points) };
        let knee = knee.map_or_else(String::new, |n| format!("; knee at {n:.0}"));
        Line { name: format!("{device}{threads}{knee}"), points }
    };
    keys.into_iter().map(line).collect()
}

/// a/b of the seconds a step `a + b·n` through the first and the last point; `None` where there is no fixed part.
fn knee(points: &[(f64, f64)]) -> Option<f64> {
    let (&(n0, rate0), &(n1, rate1)) = (points.first()?, points.last()?);
    let (t0, t1) = (1.0 / rate0, 1.0 / rate1);
    let slope = (t1 - t0) / (n1 - n0);
    let fixed = t0 - slope * n0;
    (slope > 0.0 && fixed > 0.0).then(|| fixed / slope)
}

/// Steps per second at one point: the median of three.
fn measure(
    [walkers, dimension, width]: [usize; 3],
    seconds: f64,
    on: &Selected,
) -> Result<Point, Box<dyn Error>> {
    let energy = format!(
        "{{ kind = \"mlp\", dim = {dimension}, hidden = [{width}, {width}, {width}], confinement = 1.0 }}"
    );
    let run = |steps: u64| -> Result<f64, Box<dyn Error>> {
        let bench = Langevin {
            source: Source::Random { energy: &energy, walkers },
            kernel: KernelConfig::Ula(Ula::new(0.01)),
            steps,
            weighted: true,
        };
        let result = langevin(&bench, &on.device, &on.label)?;
        result["steps_per_s"].as_f64().ok_or_else(|| format!("no rate in {result}").into())
    };
    let steps = (run(2)? * seconds).clamp(2.0, 1e5) as u64;
    let mut rates = [run(steps)?, run(steps)?, run(steps)?];
    rates.sort_unstable_by(f64::total_cmp);
    // Forward and back, two operations a multiply-add.
    let flop = 4.0 * (walkers * (dimension * width + 2 * width * width + width)) as f64;
    Ok(Point {
        factor: Factor::Walkers,
        device: on.label.clone(),
        threads: rayon::current_num_threads(),
        walkers,
        dimension,
        width,
        steps_per_s: rates[1],
        gflop_per_s: rates[1] * flop / 1e9,
    })
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> Result<T, Box<dyn Error>> {
    match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}={text}: expected a number").into()),
        Err(_) => Ok(default),
    }
}

fn run(folder: &Path, spec: &str) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let table = folder.join("scaling.csv");
    let on = device::select(spec)?;
    let seconds: f64 = setting("SECONDS", 1.0)?;
    let most = [setting("MAX_WALKERS", 1_000_000)?, setting("MAX_DIM", 1024)?, setting("MAX_WIDTH", 1024)?];
    let mut points: Vec<Point> = Vec::new();
    if table.exists() {
        points = csv::Reader::from_path(&table)?.deserialize().collect::<Result<_, _>>()?;
        points.retain(|point| {
            (point.device.as_str(), point.threads) != (&on.label, rayon::current_num_threads())
        });
    }
    for factor in Factor::ALL {
        for value in factor.values(most[factor as usize]) {
            let mut size = FIXED;
            size[factor as usize] = value;
            let point = Point { factor, ..measure(size, seconds, &on)? };
            println!(
                "{:<10} {value:>8} {:>12.2} steps/s {:>9.2} GFLOP/s",
                factor.name(),
                point.steps_per_s,
                point.gflop_per_s
            );
            points.push(point);
        }
    }
    let mut writer = csv::Writer::from_path(&table)?;
    points.iter().try_for_each(|point| writer.serialize(point))?;
    writer.flush()?;
    Factor::ALL.iter().try_for_each(|factor| factor.draw(&points, folder))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (folder, device) = match args.as_slice() {
        [folder] if !folder.starts_with('-') => (folder, "flex"),
        [folder, device] => (folder, device.as_str()),
        _ => {
            eprintln!(
                "usage: scaling OUT [DEVICE]    (OUT: a folder for scaling.csv and three figures; DEVICE: as ember --device)"
            );
            return ExitCode::from(2);
        }
    };
    match run(Path::new(folder), device) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
