//! The `ember` program: parse, run, exit with the contract's code.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use ember_train::cli::Cli;
use ember_train::device::panics;
use ember_train::training::faults;
use ember_train::{commands, logging};

// Tensors come and go by the megabyte: an allocator that keeps its pages spares the system a fault for each of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let start = Instant::now();
    let cli = Cli::parse();
    let result = panics::caught(|| commands::run(&cli, start));
    match result.unwrap_or_else(|panic| Err(faults::of_command(&panic))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::note(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}
