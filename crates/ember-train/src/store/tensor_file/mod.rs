//! Weight, walker and sample files: safetensors, read and written as streams of plain host data.
//!
//! Layout: 8 bytes with the header's length (little-endian), the header (JSON: per tensor `dtype`, `shape`, `data_offsets`),
//! the data without gaps. Written bytes are a pure function of the contents: metadata sorted, tensors in the order
//! given with 64-bit ones first. A file is read only as far as its own length allows: no header can make the reader allocate more.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use ember_model::HostTensor;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Serialize;

use crate::error::Error;
use crate::store::checkpoint::atomic;

mod convert;
mod header;

/// Bytes moved at a time.
const CHUNK: usize = 1 << 16;

/// Row-major values of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// Its name, unique in the file.
    pub name: String,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// `shape.product()` values.
    pub values: Values,
}

/// The contents of a safetensors file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorFile {
    /// The tensors, 64-bit ones first once written.
    pub tensors: Vec<NamedTensor>,
    /// Free text under `__metadata__`.
    pub metadata: BTreeMap<String, String>,
}

impl TensorFile {
    /// Writes the file: complete and on disk, or as it was before.
    ///
    /// # Errors
    /// A folder that is not there (exit code 2), or any I/O error (exit code 1).
    ///
    /// # Panics
    /// When two tensors share a name, or a tensor's values do not fill its shape.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let tensors: Vec<_> = self.tensors.iter().map(TensorRef::from).collect();
        atomic::write_file(path, |out| write_tensors(out, &tensors, &self.metadata))
    }

    /// Reads a whole file. F64, F16 and BF16 tensors become f32.
    ///
    /// # Errors
    /// A file that cannot be opened, or is not a safetensors file of floats and 64-bit integers: the message names the byte.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let (file, len) = open(path)?;
        Self::read_from(&mut io::BufReader::with_capacity(CHUNK, file), len, path)
    }

    /// Reads `len` bytes of `input`; `path` is for messages.
    ///
    /// # Errors
    /// As [`TensorFile::read`].
    pub fn read_from(input: &mut impl Read, len: u64, path: &Path) -> Result<Self, Error> {
        let header = header::read(input, len, path)?;
        let mut offset = header.data_start;
        let mut tensors = Vec::with_capacity(header.tensors.len());
        let mut converted = Vec::new();
        for (name, info) in header.tensors {
            if !matches!(info.dtype, Dtype::F32 | Dtype::I64) {
                converted.push(format!("`{name}` ({:?})", info.dtype));
            }
            let values = convert::read_values(input, &name, &info, offset, path)?;
            offset += (info.data_offsets.1 - info.data_offsets.0) as u64;
            tensors.push(NamedTensor { name, shape: info.shape, values });
        }
        if !converted.is_empty() {
            tracing::info!(path = %path.display(), "read as 32-bit floats: {}", converted.join(", "));
        }
        Ok(Self { tensors, metadata: header.metadata })
    }

    /// The tensor of this name, taken out of the file's contents.
    pub fn take(&mut self, name: &str) -> Option<NamedTensor> {
        let found = self.tensors.iter().position(|tensor| tensor.name == name)?;
        Some(self.tensors.remove(found))
    }

    /// The tensors as parameters.
    ///
    /// # Errors
    /// A tensor of integers; `path` is for the message.
    pub fn into_host_tensors(self, path: &Path) -> Result<Vec<HostTensor>, Error> {
        let host = |tensor: NamedTensor| match tensor.values {
            Values::F32(values) => Ok(HostTensor { name: tensor.name, shape: tensor.shape, values }),
            Values::I64(_) => Err(Error::checkpoint(
                path,
                format!("tensor `{}` has dtype I64; F32 was expected", tensor.name),
            )),
        };
        self.tensors.into_iter().map(host).collect()
    }
}

impl From<HostTensor> for NamedTensor {
    fn from(tensor: HostTensor) -> Self {
        Self { name: tensor.name, shape: tensor.shape, values: Values::F32(tensor.values) }
    }
}

/// A tensor to be written, borrowed from whoever has it.
pub(crate) struct TensorRef<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) shape: Cow<'a, [usize]>,
    pub(crate) values: ValuesRef<'a>,
}

/// Borrowed [`Values`].
#[derive(Clone, Copy)]
pub(crate) enum ValuesRef<'a> {
    F32(&'a [f32]),
    I64(&'a [i64]),
    /// Written only: sample files hold images as bytes.
    U8(&'a [u8]),
}

impl<'a> TensorRef<'a> {
    /// `values` under `name` with a shape made on the spot.
    pub(crate) fn new(name: impl Into<Cow<'a, str>>, shape: &[usize], values: ValuesRef<'a>) -> Self {
        Self { name: name.into(), shape: Cow::Owned(shape.to_vec()), values }
    }
}

impl<'a> From<&'a NamedTensor> for TensorRef<'a> {
    fn from(tensor: &'a NamedTensor) -> Self {
        Self {
            name: Cow::Borrowed(&tensor.name),
            shape: Cow::Borrowed(&tensor.shape),
            values: match &tensor.values {
                Values::F32(values) => ValuesRef::F32(values),
                Values::I64(values) => ValuesRef::I64(values),
            },
        }
    }
}

impl<'a> From<&'a HostTensor> for TensorRef<'a> {
    fn from(tensor: &'a HostTensor) -> Self {
        Self {
            name: Cow::Borrowed(&tensor.name),
            shape: Cow::Borrowed(&tensor.shape),
            values: ValuesRef::F32(&tensor.values),
        }
    }
}

impl ValuesRef<'_> {
    fn dtype(self) -> Dtype {
        match self {
            Self::F32(_) => Dtype::F32,
            Self::I64(_) => Dtype::I64,
            Self::U8(_) => Dtype::U8,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::F32(values) => size_of_val(values),
            Self::I64(values) => size_of_val(values),
            Self::U8(values) => values.len(),
        }
    }

    fn write(self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::F32(values) => write_le(out, values, |value| value.to_le_bytes()),
            Self::I64(values) => write_le(out, values, |value| value.to_le_bytes()),
            Self::U8(values) => out.write_all(values),
        }
    }
}

/// Writes a file's bytes. The crate's own writer takes its metadata from a `HashMap`, whose order changes from run to run.
pub(crate) fn write_tensors(
    out: &mut impl Write,
    tensors: &[TensorRef<'_>],
    metadata: &BTreeMap<String, String>,
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Header<'a> {
        #[serde(rename = "__metadata__", skip_serializing_if = "BTreeMap::is_empty")]
        metadata: &'a BTreeMap<String, String>,
        #[serde(flatten)]
        tensors: Metadata,
    }

    let mut order: Vec<&TensorRef<'_>> = tensors.iter().collect();
    // Wide types first keeps every tensor aligned; the sort is stable.
    order.sort_by_key(|tensor| std::cmp::Reverse(tensor.values.dtype()));
    let mut end = 0;
    let mut infos = Vec::with_capacity(order.len());
    for tensor in &order {
        assert_eq!(
            tensor.shape.iter().product::<usize>(),
            tensor.values.len(),
            "tensor `{}`: the values do not fill the shape {:?}",
            tensor.name,
            tensor.shape
        );
        assert!(
            tensor.name != "__metadata__" && infos.iter().all(|(name, _)| *name != tensor.name),
            "tensor `{}`: the name is taken",
            tensor.name
        );
        let start = end;
        end += tensor.values.bytes();
        infos.push((
            tensor.name.to_string(),
            TensorInfo {
                dtype: tensor.values.dtype(),
                shape: tensor.shape.to_vec(),
                data_offsets: (start, end),
            },
        ));
    }
    let tensors = Metadata::new(None, infos).map_err(io::Error::other)?;
    let mut header = serde_json::to_vec(&Header { metadata, tensors })?;
    header.resize(header.len().next_multiple_of(8), b' ');
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    order.iter().try_for_each(|tensor| tensor.values.write(out))
}

fn write_le<T: Copy, const N: usize>(
    out: &mut impl Write,
    values: &[T],
    to_bytes: impl Fn(T) -> [u8; N],
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK);
    for chunk in values.chunks(CHUNK / N) {
        buffer.clear();
        chunk.iter().for_each(|&value| buffer.extend_from_slice(&to_bytes(value)));
        out.write_all(&buffer)?;
    }
    Ok(())
}

/// Opens a regular file with its length.
pub(crate) fn open(path: &Path) -> Result<(File, u64), Error> {
    let file = File::open(path).map_err(|source| Error::read(path, source))?;
    let about = file.metadata().map_err(|source| Error::read(path, source))?;
    if !about.is_file() {
        return Err(Error::checkpoint(path, "not a regular file; a .safetensors file was expected"));
    }
    Ok((file, about.len()))
}
