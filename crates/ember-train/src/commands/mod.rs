//! One file per command: parsed arguments in, results on stdout, everything else on stderr.

mod bench;
mod compare;
mod compose;
mod data;
mod devices;
mod eval;
mod export;
mod features;
mod info;
mod kept;
pub mod picture;
mod report;
mod resume;
mod sample;
mod summary;
mod train;

use std::path::Path;
use std::time::Instant;

use crate::cli::{Cli, Command};
use crate::error::Error;

/// Runs a command. `start` is when the program began.
///
/// # Errors
/// Whatever the command ends with; [`Error::exit_code`] is the program's.
pub fn run(cli: &Cli, start: Instant) -> Result<(), Error> {
    match &cli.command {
        Command::Train(args) => train::run(args),
        Command::Resume(args) => resume::run(args),
        Command::Sample(args) => sample::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Export(args) => export::run(args),
        Command::Report(args) => report::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Sweep(args) => compare::sweep(args),
        Command::Compose(args) => compose::run(args),
        Command::Info(args) => info::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Data(args) => data::run(args),
        Command::Bench(args) => bench::run(args, start),
    }
}

/// Writes results to stdout; a reader that went away (`ember … | head`) is no error.
fn print(text: &str) -> Result<(), Error> {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::io(Path::new("stdout"), error))
        }
        _ => Ok(()),
    }
}

/// `1 temperature`, `2 temperatures`.
fn counted(count: u64, of: &str) -> String {
    format!("{count} {of}{}", if count == 1 { "" } else { "s" })
}
