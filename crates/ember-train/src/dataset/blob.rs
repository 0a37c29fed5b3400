//! The bytes of a data file, unpacked where it is a gzip, with errors that name the file and the byte.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// The first bytes of a gzip stream (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// The most bytes a packed file may unpack to: twice the largest set in these forms (EMNIST, 547 MB).
const MAX_UNPACKED: u64 = 1 << 30;

/// The most bytes that a byte of a deflate stream stands for.
const MAX_RATIO: u64 = 1032;

/// A file in memory.
pub(super) struct Blob {
    path: PathBuf,
    /// What the offsets count in, where that is not the file itself: ` of the unpacked file`.
    inside: String,
    pub(super) bytes: Vec<u8>,
}

impl Blob {
    /// Reads a file; a gzip, known by its first bytes, is unpacked.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let raw = std::fs::read(path).map_err(|source| Error::read(path, source))?;
        let is_gz = path.extension().is_some_and(|extension| extension == "gz");
        let blob = Self { path: path.to_owned(), inside: String::new(), bytes: raw };
        if !blob.bytes.starts_with(&GZIP) {
            if is_gz {
                let start = &blob.bytes[..blob.bytes.len().min(2)];
                return Err(
                    blob.fail(0, format!("found {start:02x?}, expected [1f, 8b], the start of a gzip file"))
                );
            }
            return Ok(blob);
        }
        let bytes = blob.unpack()?;
        Ok(Self { inside: " of the unpacked file".to_owned(), bytes, ..blob })
    }

    /// A part of this file, such as a member of an archive.
    pub(super) fn part(&self, name: &str, bytes: Vec<u8>) -> Self {
        Self { path: self.path.clone(), inside: format!(" of {name} in it"), bytes }
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// `FILE: at byte N: message`.
    pub(super) fn fail(&self, offset: usize, message: impl std::fmt::Display) -> Error {
        Error::data(&self.path, format!("at byte {offset}{}: {message}", self.inside))
    }

    fn unpack(&self) -> Result<Vec<u8>, Error> {
        use std::io::Read;
        let mut decoder = flate2::bufread::MultiGzDecoder::new(self.bytes.as_slice());
        // The stream's last word is its unpacked length, modulo 2³²: taken at once, nothing is copied as it grows. A wrong one asks for no
        // more than so many bytes can unpack to.
        let stated = self.bytes.last_chunk().map_or(0, |&word| u64::from(u32::from_le_bytes(word)));
        let most = MAX_UNPACKED.min(MAX_RATIO * self.bytes.len() as u64);
        let mut unpacked = Vec::with_capacity(stated.min(most) as usize + 1);
        let result = decoder.by_ref().take(MAX_UNPACKED + 1).read_to_end(&mut unpacked);
        // What the decoder has not taken yet tells how far it came.
        let offset = self.bytes.len() - decoder.get_ref().len();
        match result {
            Err(error) => Err(self.fail(
                offset,
                format!(
                    "corrupt gzip ({error}) after {} unpacked bytes, expected a whole gzip stream",
                    unpacked.len()
                ),
            )),
            Ok(_) if unpacked.len() as u64 > MAX_UNPACKED => Err(self.fail(
                offset,
                format!("unpacks to more than {MAX_UNPACKED} bytes, twice as much as any known set"),
            )),
            Ok(_) => Ok(unpacked),
        }
    }
}
