//! The command line: parsed into typed arguments, nothing is done here.

// The doc comments are the help texts, with a command line's brackets.
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]

mod bench;
mod ladder;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Overrides;
use crate::judging::estimator::Estimator;
pub use bench::{
    BenchArgs, BenchCommand, BenchFlowArgs, BenchKernel, BenchLangevinArgs, BenchResampleArgs, BenchTrainArgs,
};
pub use ladder::LadderArgs;
use values::inside_unit;

/// Trains energy-based models by maximum likelihood, with weighted walkers.
#[derive(Clone, Debug, Parser)]
#[command(name = "ember", version, about, after_help = EXAMPLE)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLE: &str = "\
Example: train the one-dimensional toy, look at it, continue it, draw from it
  ember train configs/toy1d_jarzynski.toml --out runs/toy
  ember eval runs/toy
  ember resume runs/toy --steps 4000
  ember sample runs/toy --count 1000 --out toy.npz

Results go to stdout, everything else to stderr. RUST_LOG sets what is logged, RAYON_NUM_THREADS the threads.
Exit codes: 0 done, 1 the run failed, 2 bad usage, config, data or checkpoint, 129 / 130 / 143 after SIGHUP /
SIGINT / SIGTERM.";

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Train a model from a config.
    Train(TrainArgs),
    /// Continue a run from its newest intact checkpoint, bit for bit.
    Resume(ResumeArgs),
    /// Draw samples from a run, a checkpoint or a weight file.
    Sample(SampleArgs),
    /// Measure a model: cross-entropy, log Z and the masses of the modes, each with its standard error.
    Eval(EvalArgs),
    /// Write the parameters under PyTorch's names and in its layout.
    Export(ExportArgs),
    /// Write one HTML page about a run: curves, pictures, figures, config.
    Report(ReportArgs),
    /// Train several methods on one problem, with several seeds each: a table with standard errors, and one HTML page.
    Compare(CompareArgs),
    /// Train every combination of some keys' values, with several seeds each: the same table and page.
    Sweep(SweepArgs),
    /// Make one model of several trained ones: their product, their mixture, or one without another.
    Compose(ComposeArgs),
    /// Show what a run, a checkpoint or a weight file holds.
    Info(InfoArgs),
    /// List every device this build can use, and the one `auto` would take; check that one computes correctly.
    Devices(DevicesArgs),
    /// Look at data sets.
    #[command(subcommand, after_help = "Example:\n  ember data check datasets/mnist")]
    Data(DataCommand),
    /// Measure speed.
    #[command(
        subcommand,
        after_help = "Example:\n  ember bench train configs/mixture50_jarzynski.toml --updates 200 --json"
    )]
    Bench(BenchCommand),
}

/// `--device`, the same everywhere.
#[derive(Clone, Debug, Args)]
pub struct DeviceArg {
    /// auto (CUDA, else the first discrete GPU, else flex), flex (CPU), ndarray (CPU), wgpu[:N] or cuda[:N], if built in
    #[arg(long, value_name = "D", default_value = "auto")]
    pub device: String,
}

/// `ember train`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  ember train configs/toy1d_jarzynski.toml
  ember train configs/mixture50_jarzynski.toml --out runs/mixture --seed 3 --device wgpu:0
  ember train configs/mlp2d_jarzynski.toml --set kernel.step_size=0.05 --set walkers.count=1000")]
pub struct TrainArgs {
    /// The config
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// The run folder to make; runs/<config name>-seed<seed> unless given
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArg,
    /// Number of parameter updates, instead of the config's `steps`; does not change a learning rate schedule
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// The seed, instead of the config's
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Change one key of the config; the value is TOML or a bare word; can be repeated
    #[arg(long, value_name = "section.key=value")]
    pub set: Vec<String>,
}

impl TrainArgs {
    /// What the arguments change in the config.
    pub fn overrides(&self) -> Overrides {
        Overrides { seed: self.seed, steps: self.steps, set: self.set.clone() }
    }
}

/// `ember resume`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  ember resume runs/toy1d_jarzynski-seed0
  ember resume runs/toy1d_jarzynski-seed0 --steps 4000")]
pub struct ResumeArgs {
    /// The run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Number of parameter updates in all, those already done included
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArg,
}

/// `ember sample`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  ember sample runs/toy1d_jarzynski-seed0 --count 1000 --out samples.npz
  ember sample model.safetensors --count 1000 --steps 100 --out samples.csv
  ember sample runs/mlp2d_jarzynski-seed0 --ladder --count 1000 --out samples.npz   # not from its walkers: by parallel tempering
  ember sample runs/cifar10_jarzynski-seed0 --count 64 --denoise --out samples.png
  ember sample runs/two_modes_diff_clf-seed0 --level 8 --count 1000 --out noisy.npz   # of the energy at the largest noise level

Of an image model, .png is a grid, and .npz and .safetensors hold `samples` as bytes [n, h, w, c] beside `position` [n, d].")]
pub struct SampleArgs {
    /// A run folder, a checkpoint folder or an exported weight file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// How many samples
    #[arg(long, value_name = "N")]
    pub count: usize,
    /// The file to write: .npz, .safetensors, .csv or .png
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Write denoised samples: x − σ²∇U(x), the mean of the clean sample, where the run added noise to its data
    #[arg(long)]
    pub denoise: bool,
    /// Sample the energy at its noise level K (energy.levels), 1 for the smallest σ, which is the model. The run's walkers are of that one:
    /// above it, tempered SMC from the model's start
    #[arg(long, value_name = "K", conflicts_with_all = ["ladder", "denoise"])]
    pub level: Option<usize>,
    /// Parallel tempering over the run's own checkpoints.
    #[command(flatten)]
    pub ladder: LadderArgs,
    /// Kernel steps after the draw, at fixed parameters (not parameter updates)
    #[arg(long, value_name = "K", default_value_t = 0, conflicts_with = "ladder")]
    pub steps: u64,
    /// The seed of the draw
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Sample the moving average of the parameters (optimizer.ema); the walkers are reweighted to it first
    #[arg(long)]
    pub ema: bool,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArg,
}

/// `ember eval`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  ember eval runs/mixture50_jarzynski-seed0
  ember eval runs/mixture50_jarzynski-seed0 --json | jq .kl
  ember eval runs/two_modes_flow_assisted-seed0 --estimators all      # log Z by every estimator available
  ember eval runs/mlp2d_jarzynski-seed0 --mixing 1000                 # does the kernel carry walkers between the modes?
  ember eval runs/mnist236_jarzynski-seed0 --against data/kmnist      # AUROC beside a Gaussian's
  ember eval runs/mnist236_jarzynski-seed0 --smc-moves 16 --smc-ess 0.98  # a slower, better tempered SMC
  ember eval runs/mnist236_jarzynski-seed0 --ais --temperatures 2000  # log Z and bits/dim from both sides
  ember eval runs/mnist236_jarzynski-seed0 --ladder                   # log Z and masses by parallel tempering over its checkpoints
  ember eval runs/two_modes_diff_clf-seed0 --level 8                  # the energy at the largest noise level
  ember eval runs/cifar10_jarzynski-seed0 --features inception.safetensors")]
pub struct EvalArgs {
    /// A run folder, a checkpoint folder or an exported weight file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Evaluate the moving average of the parameters (optimizer.ema) instead of the parameters
    #[arg(long)]
    pub ema: bool,
    /// Evaluate the energy at its noise level K (energy.levels), 1 for the smallest σ, which is the model. Above it the data get Gaussian noise
    /// of the level's σ, and what the run knows of level 1 alone (walkers, audit, classes) is left out
    #[arg(long, value_name = "K", conflicts_with_all = ["ladder", "features"])]
    pub level: Option<usize>,
    /// Independent repeats of an estimate of log Z
    #[arg(long, value_name = "R", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=65_535))]
    pub repeats: u32,
    /// Walkers of each repeat of a tempered SMC; 2,000, for images 256, unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    pub smc_walkers: Option<u32>,
    /// MALA moves of a tempered SMC at each temperature; 4 unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub smc_moves: Option<u32>,
    /// Smallest ess fraction kept at each temperature of a tempered SMC; higher takes more steps; 0.9 unless given
    #[arg(long, value_name = "C", value_parser = inside_unit)]
    pub smc_ess: Option<f64>,
    /// Also estimate log Z by these, to see whether they agree: audit, smc, enumeration (of an rbm with at most 20 units of a kind),
    /// importance, bridge (these two need a flow), or all that are available. Without it: audit if there is one, importance and bridge if there is a flow, smc if nothing else gives log Z
    #[arg(long, value_name = "E,…", value_delimiter = ',', value_enum, hide_possible_values = true)]
    pub estimators: Vec<Estimator>,
    /// Run the run's kernel STEPS steps at fixed parameters, from up to 128 of its walkers: R-hat, autocorrelation times, acceptance and
    /// jumps between modes. A weight file names no kernel; MALA is used then
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u32).range(4..=100_000))]
    pub mixing: Option<u32>,
    /// Tell held-out data from the data set in DIR by energy: out-of-distribution AUROC
    #[arg(long, value_name = "DIR")]
    pub against: Option<PathBuf>,
    /// Parallel tempering over the run's own checkpoints.
    #[command(flatten)]
    pub ladder: LadderArgs,
    /// Estimate log Z from both ends of an annealed path: costs chains × temperatures gradients a side
    #[arg(long)]
    pub ais: bool,
    /// Temperatures of --ais; chosen by a trial run unless given
    #[arg(long, value_name = "N", requires = "ais", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub temperatures: Option<u32>,
    /// Chains of --ais on each side
    #[arg(long, value_name = "N", requires = "ais", default_value_t = 64, value_parser = clap::value_parser!(u32).range(2..))]
    pub chains: u32,
    /// Images: FID and KID against the training data, in the features of this Inception-v3 (parameters as pytorch-fid has them)
    #[arg(long, value_name = "F.safetensors")]
    pub features: Option<PathBuf>,
    /// Samples and training images behind FID and KID at most; as many as there are walkers, up to 10,000, unless given
    #[arg(long, value_name = "N", requires = "features", value_parser = clap::value_parser!(u32).range(4..))]
    pub feature_samples: Option<u32>,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArg,
}

/// `ember export`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  ember export runs/mlp2d_jarzynski-seed0 --out model.safetensors
  ember export runs/mlp2d_jarzynski-seed0 --out model.safetensors --walkers")]
pub struct ExportArgs {
    /// A run folder, a checkpoint folder or an exported weight file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// The file to write
    #[arg(long, value_name = "model.safetensors")]
    pub out: PathBuf,
    /// Also write the walkers: the masses of a network are in them
    #[arg(long)]
    pub walkers: bool,
    /// Export the moving average of the parameters (optimizer.ema) instead of the parameters
    #[arg(long)]
    pub ema: bool,
}

/// `ember report`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  ember report runs/mixture50_jarzynski-seed0
  ember report runs/mixture50_jarzynski-seed0 --out mixture.html

The page is one file that needs no network. It can be written while the run is still training.")]
pub struct ReportArgs {
    /// The run folder
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// The file to write; RUN/report.html unless given
    #[arg(long, value_name = "FILE.html")]
    pub out: Option<PathBuf>,
}

/// `ember compare`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  ember compare compare/toy1d.toml
  ember compare compare/two_modes.toml --jobs 4 --out runs/two_modes

A run that is there is not run again, and one that was interrupted goes on: repeat the command after Ctrl-C. The folder holds
runs/, evaluations/, logs/, results.json and compare.html. Exit code 1 if a run failed: the others are compared all the same.")]
pub struct CompareArgs {
    /// The problem, the methods and the seeds
    #[arg(value_name = "COMPARE.toml")]
    pub file: PathBuf,
    /// The folder of all runs and results; runs/compare-<name> unless given
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How it is done.
    #[command(flatten)]
    pub how: CompareHow,
}

/// `ember sweep`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  ember sweep configs/toy1d_jarzynski.toml --set kernel.step_size=0.05,0.1,0.2 --set walkers.count=1000,10000 --seeds 5

Values stand between commas; a list or a table has its brackets. Folder and exit codes are those of `ember compare`.")]
pub struct SweepArgs {
    /// The config
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// A key and its values; repeated, every combination is run
    #[arg(long, value_name = "section.key=A,B,C", required = true)]
    pub set: Vec<String>,
    /// Seeds of each combination, from 0
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub seeds: u64,
    /// The folder of all runs and results; runs/sweep-<name> unless given
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// How it is done.
    #[command(flatten)]
    pub how: CompareHow,
}

/// What `ember compare` and `ember sweep` share.
#[derive(Clone, Debug, Args)]
pub struct CompareHow {
    /// Runs at a time; processor threads are divided among them
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub jobs: u32,
    /// Print one JSON object in place of the table
    #[arg(long)]
    pub json: bool,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArg,
}

/// `ember compose`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example, where product.toml holds
  [energy]
  kind = \"sum\"                       # also \"mixture\", \"negation\"
  parts = [\"runs/ring\", \"bar.safetensors\"]
then
  ember compose product.toml --out product.safetensors
  ember eval product.safetensors       # its log Z
  ember sample product.safetensors --count 1000 --steps 100 --out product.npz

The file holds the parameters of all parts: their runs are not needed afterwards. The same [energy] in a config trains them on.")]
pub struct ComposeArgs {
    /// The table [energy] of the composed model; its parts are run folders, checkpoints or weight files
    #[arg(value_name = "COMPOSE.toml")]
    pub file: PathBuf,
    /// The weight file to write
    #[arg(long, value_name = "MODEL.safetensors")]
    pub out: PathBuf,
}

/// `ember info`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  ember info runs/toy1d_jarzynski-seed0")]
pub struct InfoArgs {
    /// A run folder, a checkpoint folder or an exported weight file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
}

/// `ember devices`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  ember devices
  ember devices --check             # the device that `auto` takes
  ember devices --check wgpu:0      # the first thing to run on a new card

--check compares random numbers, energies and gradients, updates, resampling, Langevin steps and products with the processor and with
f64. Most of its time goes into compiling kernels: seconds on a GPU, minutes on a software renderer. Exit code 1 if a row is off.")]
pub struct DevicesArgs {
    /// Compare a device with flex and f64: a table of errors and times
    #[arg(long, value_name = "DEVICE", num_args = 0..=1, default_missing_value = "auto")]
    pub check: Option<String>,
    /// Print the table as one JSON line
    #[arg(long, requires = "check")]
    pub json: bool,
}

/// `ember data`.
#[derive(Clone, Debug, Subcommand)]
pub enum DataCommand {
    /// Say which data sets are in a folder, count them, compare checksums, and name whatever is wrong.
    Check(DataCheckArgs),
}

/// `ember data check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  ember data check datasets/mnist

DIR is a data set or holds some, up to two folders down. Exit code 2 if anything is wrong, or if there is none.")]
pub struct DataCheckArgs {
    /// The folder
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}
