//! Who owns a run folder: `RUN/.lock`, held by the process that trains there.
//!
//! The lock is the system's (`flock`, through [`File::try_lock`]) and not the file, which stays: it ends with the process, however that ends, so
//! a killed run leaves none behind. It is advisory: programs that only read a run need none.
//!
//! On NFS Linux makes it a lock of the server, which processes on other machines see, unless the folder is mounted with `nolock` or
//! `local_lock=flock`: then only processes of the same machine see it. A file system without locks is said so in a warning, and the run goes
//! on. POSIX locks (`fcntl`) would fall as soon as the process closes any other descriptor of the file.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::error::Error;

/// The file's name in a run folder.
pub const LOCK: &str = ".lock";

/// A text of ours is shorter.
const MAX_TEXT: u64 = 1 << 10;

/// The run folder is this process's until this is dropped.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock of a run folder, and writes into it whose it is.
    ///
    /// # Errors
    /// Another process has it, or the file cannot be opened for writing; exit code 2.
    pub fn take(run: &Path) -> Result<Self, Error> {
        let path = run.join(LOCK);
        let unwritable = |source| Error::unwritable(&path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(unwritable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::RunInUse { path: run.to_owned(), owner: owner(&mut file) });
            }
            Err(TryLockError::Error(error)) => tracing::warn!(
                "{}: this file system has no locks ({error}): nothing keeps a second process from writing to this run",
                path.display()
            ),
        }
        write_owner(&mut file).map_err(unwritable)?;
        Ok(Self { _file: file })
    }
}

fn write_owner(file: &mut File) -> io::Result<()> {
    let host = rustix::system::uname();
    let text = format!("pid {} on {}\n", std::process::id(), host.nodename().to_string_lossy());
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())
}

/// What the owner wrote, such as `pid 4711 on node3`.
fn owner(file: &mut File) -> String {
    let mut text = String::new();
    // The owner may not have written yet, and a name is not worth an error of its own.
    let _ = file.take(MAX_TEXT).read_to_string(&mut text);
    match text.trim() {
        "" => "another process".to_owned(),
        text => text.to_owned(),
    }
}
