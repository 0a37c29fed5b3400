//! A folder for the files of one input, of its own for each thread.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = folder();
}

/// In memory where the system has such a place; `TMPDIR` wins.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new().prefix("ember-fuzzed-").tempdir_in(memory);
    match std::env::var_os("TMPDIR") {
        None if memory.is_dir() => builder.expect("a scratch folder"),
        _ => tempfile::tempdir().expect("a scratch folder"),
    }
}

/// Runs `work` in the thread's folder of this name, made if it is not there. Files of the input before are still in it.
pub(super) fn within<T>(name: &str, work: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with(|folder| {
        let path = folder.path().join(name);
        if !path.is_dir() {
            fs::create_dir_all(&path).expect("a scratch folder");
        }
        work(&path)
    })
}

/// Writes a file of the folder, with the folders above it.
pub(super) fn write(path: &Path, bytes: &[u8]) {
    if fs::write(path, bytes).is_err() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("a scratch folder");
        fs::write(path, bytes).expect("a scratch file");
    }
}
