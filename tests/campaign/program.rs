//! `ember` as the tests start it.

use std::path::Path;
use std::process::{Command, Stdio};

/// The program in a folder of its own: one thread, its cache in the folder, nothing on stdin.
pub fn ember(program: impl AsRef<Path>, folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program.as_ref());
    command.current_dir(folder).args(args).stdin(Stdio::null());
    command.env("RAYON_NUM_THREADS", "1").env("EMBER_CACHE_DIR", folder.join("cache")).env_remove("RUST_LOG");
    command
}
