//! Files and folders that are complete or absent: written beside their place, synced, then renamed into it.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::Error;

/// Names of half-written files and folders start with this; a killed process leaves them behind.
pub(crate) const TEMP_PREFIX: &str = ".tmp-";

/// Writes the file `path` through `fill`: afterwards it is complete and on disk, or as it was before.
///
/// # Errors
/// A folder that is not there (exit code 2), or any I/O error (exit code 1).
pub(crate) fn write_file(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<(), Error> {
    let temp = temp_file(path, "")?;
    let mut writer = BufWriter::with_capacity(1 << 20, temp.as_file());
    fill(&mut writer).and_then(|()| writer.flush()).map_err(|source| Error::io(path, source))?;
    drop(writer);
    commit_file(temp, path)
}

/// An empty temporary file in the folder of `path`, gone when dropped.
pub(crate) fn temp_file(path: &Path, suffix: &str) -> Result<tempfile::NamedTempFile, Error> {
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(Error::unwritable(
            path,
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("the folder {} does not exist", folder.display()),
            ),
        ));
    }
    if path.is_dir() {
        return Err(Error::unwritable(
            path,
            io::Error::new(io::ErrorKind::IsADirectory, "it is a folder; the name of a file was expected"),
        ));
    }
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMP_PREFIX).suffix(suffix);
    if let Some(permissions) = permissions(0o666) {
        builder.permissions(permissions);
    }
    builder.tempfile_in(&folder).map_err(|source| Error::io(path, source))
}

/// Syncs a temporary file and renames it to `path`.
pub(crate) fn commit_file(temp: tempfile::NamedTempFile, path: &Path) -> Result<(), Error> {
    let io = |source| Error::io(path, source);
    temp.as_file().sync_all().map_err(io)?;
    temp.persist(path).map_err(|error| io(error.error))?;
    sync_folder(&folder_of(path)).map_err(io)
}

/// An empty temporary folder in `parent`, removed with its contents when dropped.
pub(crate) fn temp_folder(parent: &Path, name: &str) -> Result<TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    let prefix = format!("{TEMP_PREFIX}{name}-");
    builder.prefix(&prefix);
    if let Some(permissions) = permissions(0o777) {
        builder.permissions(permissions);
    }
    builder.tempdir_in(parent).map_err(|source| Error::io(parent, source))
}

/// Renames a temporary folder to `path`; a folder already there is replaced in one step and then removed.
pub(crate) fn commit_folder(temp: TempDir, path: &Path) -> Result<(), Error> {
    let io = |source| Error::io(path, source);
    sync_folder(temp.path()).map_err(io)?;
    if path.symlink_metadata().is_ok() {
        exchange(temp.path(), path).map_err(io)?;
        sync_folder(&folder_of(path)).map_err(io)?;
        // `temp` now names the folder that was replaced.
        temp.close().map_err(io)
    } else {
        fs::rename(temp.path(), path).map_err(io)?;
        // The folder has moved: nothing is left to remove.
        let _ = temp.keep();
        sync_folder(&folder_of(path)).map_err(io)
    }
}

/// Renames a temporary folder to `path`, where nothing is yet.
pub(crate) fn commit_new_folder(temp: TempDir, path: &Path) -> io::Result<()> {
    sync_folder(temp.path())?;
    fs::rename(temp.path(), path)?;
    let _ = temp.keep();
    sync_folder(&folder_of(path))
}

/// Makes a folder and those above it, where they are not there yet, and their names durable.
pub(crate) fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = folder_of(path);
    create_folders(&parent)?;
    match fs::create_dir(path) {
        // Another process made it in between.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    sync_folder(&parent)
}

/// Removes what killed processes left half-written in `folder`.
pub(crate) fn remove_stale(folder: &Path) -> Result<(), Error> {
    let io = |source| Error::io(folder, source);
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX) {
            let path = entry.path();
            tracing::debug!(path = %path.display(), "removing what a killed process left half-written");
            let removed = if entry.file_type().map_err(io)?.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.map_err(|source| Error::io(path, source))?;
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder that `path` lies in.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Swaps two folders in one step.
#[cfg(target_os = "linux")]
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        // A file system without the operation (some network ones).
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            exchange_by_renames(new, old)
        }
        done => Ok(done?),
    }
}

#[cfg(not(target_os = "linux"))]
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    exchange_by_renames(new, old)
}

/// The plain twin of the exchange: between its renames `old` is absent, and has the name of what was set aside: nothing removes that.
fn exchange_by_renames(new: &Path, old: &Path) -> io::Result<()> {
    let aside = free_name(&old.with_extension("aside"));
    fs::rename(old, &aside)?;
    if let Err(error) = fs::rename(new, old) {
        fs::rename(&aside, old)?;
        return Err(error);
    }
    fs::rename(&aside, new)
}

/// `path`, or with the first number that makes it a name not taken.
pub(crate) fn free_name(path: &Path) -> PathBuf {
    let numbered = (2..).map(|n| PathBuf::from(format!("{}-{n}", path.display())));
    let mut names = std::iter::once(path.to_owned()).chain(numbered);
    // There is always a next number.
    names.find(|name| name.symlink_metadata().is_err()).unwrap_or_else(|| path.to_owned())
}

/// `mode` less the umask, where the system has modes: temporary files are private by default, results should not be.
#[cfg(unix)]
fn permissions(mode: u32) -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn permissions(_mode: u32) -> Option<Permissions> {
    None
}
