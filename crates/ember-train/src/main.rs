//! The `ember` program: parse, run, exit with the contract's code.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ember_train::{cli::Cli, commands};

fn main() -> ExitCode {
    let start = Instant::now();
    let cli = Cli::parse();
    match commands::run(&cli, start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
