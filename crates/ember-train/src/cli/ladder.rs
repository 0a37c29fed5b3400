//! `--ladder` and its sizes.

use clap::Args;

use crate::judging::ladder::LadderSizes;

/// `--ladder` and its sizes, the same of `ember eval` and `ember sample`.
#[derive(Clone, Debug, Args)]
pub struct LadderArgs {
    /// Parallel tempering over the checkpoints that the run kept: its chains reach the model through those of the training, so that modes
    /// get the model's own masses. Of `eval`: log Z along the ladder, swap rates and round trips
    #[arg(long)]
    pub ladder: bool,
    /// Independent ladders of --ladder, rounded up to a multiple of 8; 128, for images 32, unless given
    #[arg(long, value_name = "M", requires = "ladder", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub ladder_chains: Option<u32>,
    /// Sweeps of --ladder, after half as many of burn-in; 10 a rung and at least 200 unless given
    #[arg(long, value_name = "N", requires = "ladder", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub ladder_sweeps: Option<u32>,
    /// Kernel steps of each rung in a sweep of --ladder; 5 unless given
    #[arg(long, value_name = "K", requires = "ladder", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub ladder_moves: Option<u32>,
}

impl LadderArgs {
    /// What was asked for, if it was.
    pub fn sizes(&self) -> Option<LadderSizes> {
        let size = |given: Option<u32>| given.map(|given| given as usize);
        self.ladder.then(|| LadderSizes {
            ladders: size(self.ladder_chains),
            sweeps: size(self.ladder_sweeps),
            moves: size(self.ladder_moves),
        })
    }
}
