//! Checksums as text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::Digest;

use crate::error::Error;

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The checksum `D` of a file's contents in hexadecimal, a piece in memory at a time.
///
/// # Errors
/// A file that cannot be read; exit code 2.
pub fn of_file<D: Digest>(path: &Path) -> Result<String, Error> {
    let read = |source| Error::read(path, source);
    let mut file = File::open(path).map_err(read)?;
    let (mut digest, mut buffer) = (D::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(read)? {
            0 => return Ok(hex(&digest.finalize())),
            count => digest.update(&buffer[..count]),
        }
    }
}
