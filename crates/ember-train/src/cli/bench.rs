//! `ember bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use ember_sampler::Scheme;

use super::DeviceArg;
use super::values::{at_least_one, even, positive, scheme};

/// `ember bench`.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Langevin steps of all walkers at fixed parameters.
    Langevin(BenchLangevinArgs),
    /// Parameter updates of a config.
    Train(BenchTrainArgs),
    /// Resampling.
    Resample(BenchResampleArgs),
    /// A RealNVP flow: log-densities, draws and training.
    Flow(BenchFlowArgs),
}

/// What every benchmark takes.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Print one JSON line
    #[arg(long)]
    pub json: bool,
    /// The device.
    #[command(flatten)]
    pub device: DeviceArg,
    /// CPU threads; RAYON_NUM_THREADS or all cores unless given
    #[arg(long, value_name = "T", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// `--kernel` of `ember bench langevin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchKernel {
    /// Unadjusted Langevin.
    Ula,
    /// Metropolis-adjusted Langevin.
    Mala,
}

/// `ember bench langevin`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  ember bench langevin --model model.safetensors --positions start.safetensors --kernel ula --step-size 0.01 --steps 1000 --json
  ember bench langevin --energy '{ kind = \"mlp\", dim = 2, hidden = [128, 128, 128], confinement = 1.0 }' --walkers 4096 \\
    --kernel ula --step-size 0.01 --steps 1000 --weighted --json

start.safetensors holds `position` [N, d]. The energy's table is that of a config, with `dim = d`, or `shape = [c, h, w]` for images.")]
pub struct BenchLangevinArgs {
    /// The weight file
    #[arg(
        long,
        value_name = "F.safetensors",
        required_unless_present = "energy",
        requires = "positions",
        conflicts_with = "energy"
    )]
    pub model: Option<PathBuf>,
    /// The file with the starting positions, `position` [N, d]
    #[arg(long, value_name = "P.safetensors", requires = "model")]
    pub positions: Option<PathBuf>,
    /// Without files: a network with random parameters, of this energy, started at standard normal points
    #[arg(long, value_name = "{ TOML }", requires = "walkers")]
    pub energy: Option<String>,
    /// How many start points, with --energy
    #[arg(long, value_name = "N", requires = "energy", value_parser = clap::value_parser!(u32).range(1..))]
    pub walkers: Option<u32>,
    /// The transition
    #[arg(long, value_enum)]
    pub kernel: BenchKernel,
    /// h in x − h∇U + √(2h) ξ
    #[arg(long, value_name = "H", value_parser = positive)]
    pub step_size: f64,
    /// Timed steps
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// Compute the log-weights, too
    #[arg(long)]
    pub weighted: bool,
    /// What every benchmark takes.
    #[command(flatten)]
    pub bench: BenchArgs,
}

/// `ember bench train`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  ember bench train configs/mixture50_jarzynski.toml --updates 200 --json")]
pub struct BenchTrainArgs {
    /// The config
    #[arg(value_name = "CONFIG.toml")]
    pub config: PathBuf,
    /// Timed parameter updates
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u64).range(1..))]
    pub updates: u64,
    /// Change one key of the config, as `ember train` does
    #[arg(long, value_name = "section.key=value")]
    pub set: Vec<String>,
    /// What every benchmark takes.
    #[command(flatten)]
    pub bench: BenchArgs,
}

/// `ember bench resample`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  ember bench resample --count 1000000 --scheme systematic --json")]
pub struct BenchResampleArgs {
    /// Walkers
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// systematic, stratified, multinomial or residual
    #[arg(long, value_name = "S", value_parser = scheme)]
    pub scheme: Scheme,
    /// Also gather positions of DIM coordinates by the ancestors: bytes moved per second beside the device's copy rate
    #[arg(long, value_name = "DIM", value_parser = at_least_one)]
    pub gather: Option<usize>,
    /// Keep those positions in buffers of at most BYTES [default: the largest that the device binds]
    #[arg(long, value_name = "BYTES", requires = "gather", value_parser = clap::value_parser!(u64).range(1..))]
    pub page_bytes: Option<u64>,
    /// What every benchmark takes.
    #[command(flatten)]
    pub bench: BenchArgs,
}

/// `ember bench flow`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Example:
  ember bench flow --dim 32 --layers 8 --hidden 128 --batch 4096 --json

Affine couplings by halves, each with a ReLU network of two hidden layers. Training is by maximum likelihood with Adam, one step a batch.")]
pub struct BenchFlowArgs {
    /// Coordinates, an even number
    #[arg(long, value_name = "D", value_parser = even)]
    pub dim: usize,
    /// Couplings
    #[arg(long, value_name = "L", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub layers: u16,
    /// Width of both hidden layers of each coupling's network
    #[arg(long, value_name = "H", value_parser = clap::value_parser!(u16).range(1..))]
    pub hidden: u16,
    /// Rows of a batch
    #[arg(long, value_name = "B", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch: u32,
    /// What every benchmark takes.
    #[command(flatten)]
    pub bench: BenchArgs,
}
