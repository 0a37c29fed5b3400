//! The header of a safetensors file, checked before anything is allocated from it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorInfo};
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};

use crate::error::Error;

/// Longest header the format allows.
const MAX_HEADER: u64 = 100_000_000;

/// A checked header: the tensors lie one after the other and fill the file.
pub(super) struct Header {
    /// In the order of their data.
    pub(super) tensors: Vec<(String, TensorInfo)>,
    pub(super) metadata: BTreeMap<String, String>,
    /// Offset of the first byte of data in the file.
    pub(super) data_start: u64,
}

/// Reads the header of a file of `len` bytes.
pub(super) fn read(input: &mut impl Read, len: u64, path: &Path) -> Result<Header, Error> {
    let bad = |offset: u64, message: String| Error::checkpoint_at(path, offset, message);
    if len < 8 {
        return Err(bad(0, format!("the file has {len} bytes; a safetensors file has at least 8")));
    }
    let mut length = [0; 8];
    input.read_exact(&mut length).map_err(|error| bad(0, format!("the header's length: {error}")))?;
    if let Some(kind) = pickle(&length) {
        return Err(bad(
            0,
            format!(
                "{kind}, not a safetensors file. In Python: safetensors.torch.save_file(state_dict, \"model.safetensors\", metadata={{\"ember.config\": …}})"
            ),
        ));
    }
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER || length > len - 8 {
        let most = MAX_HEADER.min(len - 8);
        return Err(bad(
            0,
            format!(
                "not a safetensors file, or a truncated one: the header is said to have {length} bytes; \
                 at most {most} can be there (the file has {len})"
            ),
        ));
    }
    let mut text = vec![0; length as usize];
    input.read_exact(&mut text).map_err(|error| bad(8, format!("the header of {length} bytes: {error}")))?;
    let text = std::str::from_utf8(&text).map_err(|error| {
        let at = error.valid_up_to();
        bad(
            8 + at as u64,
            format!("the header is not UTF-8: byte 0x{:02x} found; JSON text was expected", text[at]),
        )
    })?;
    let (mut tensors, metadata) = parse(text, path)?;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let data_start = 8 + length;
    check(&tensors, data_start, len, path)?;
    Ok(Header { tensors, metadata, data_start })
}

/// What PyTorch's own files begin with: a zip archive, or a pickle. No safetensors header is as long as these bytes would say.
fn pickle(start: &[u8; 8]) -> Option<&'static str> {
    match start {
        [b'P', b'K', 3, 4, ..] => Some("a zip archive, such as a PyTorch .pt file"),
        [0x80, 2..=5, b'c' | b'}' | b'\x8a' | b'\x95' | b'(', ..] => {
            Some("a Python pickle, such as an old PyTorch .pt file")
        }
        _ => None,
    }
}

/// Every tensor starts where the one before ends, is as long as its shape says, and the last one ends with the file.
fn check(tensors: &[(String, TensorInfo)], data_start: u64, len: u64, path: &Path) -> Result<(), Error> {
    let data_len = len - data_start;
    let mut end = 0;
    for (name, info) in tensors {
        let at = data_start.saturating_add(end);
        let bad =
            |message: String| Error::checkpoint_at(path, at.min(len), format!("tensor `{name}`: {message}"));
        let (from, to) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        if from != end || to < from {
            return Err(bad(format!(
                "data_offsets [{from}, {to}] found; they overlap or leave a gap: a start of {end} was expected"
            )));
        }
        let bytes = info
            .shape
            .iter()
            .try_fold(1_u64, |product, &side| product.checked_mul(side as u64))
            .and_then(|count| count.checked_mul(info.dtype.bitsize() as u64))
            .map(|bits| bits.div_ceil(8));
        if bytes != Some(to - from) {
            let expected = bytes.map_or_else(|| "more than 2^64".to_owned(), |bytes| bytes.to_string());
            return Err(bad(format!(
                "{} bytes of data found; shape {:?} of {:?} needs {expected}",
                to - from,
                info.shape,
                info.dtype
            )));
        }
        if to > data_len {
            return Err(bad(format!(
                "the data is said to end at byte {}; the file has {len} bytes, so it is truncated",
                data_start.saturating_add(to)
            )));
        }
        if !matches!(info.dtype, Dtype::F32 | Dtype::I64 | Dtype::F64 | Dtype::F16 | Dtype::BF16) {
            return Err(bad(format!(
                "dtype {:?} found; F32 was expected (F64, F16, BF16 are converted, I64 is kept)",
                info.dtype
            )));
        }
        end = to;
    }
    if end != data_len {
        return Err(Error::checkpoint_at(
            path,
            data_start + end,
            format!("{} bytes follow the last tensor; the end of the file was expected", data_len - end),
        ));
    }
    Ok(())
}

type Parsed = (Vec<(String, TensorInfo)>, BTreeMap<String, String>);

fn parse(text: &str, path: &Path) -> Result<Parsed, Error> {
    let mut key = None;
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed =
        json.deserialize_map(HeaderVisitor { key: &mut key }).and_then(|parsed| json.end().map(|()| parsed));
    parsed.map_err(|error| {
        let line_start: usize =
            text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let offset = 8 + line_start + error.column().saturating_sub(1);
        let place = key.map(|key| format!(" in `{key}`")).unwrap_or_default();
        Error::checkpoint_at(
            path,
            offset as u64,
            format!("the header is not that of a safetensors file: {error}{place}"),
        )
    })
}

/// Reads the map straight into its types, keeping the last key for messages: no tree of values is built.
struct HeaderVisitor<'a> {
    key: &'a mut Option<String>,
}

impl<'de> Visitor<'de> for HeaderVisitor<'_> {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to `dtype`, `shape` and `data_offsets`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parsed, A::Error> {
        let mut tensors = Vec::new();
        let mut metadata = None;
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            *self.key = Some(key.clone());
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom("the name occurs twice"));
            }
            if key == "__metadata__" {
                metadata = map.next_value::<Option<BTreeMap<String, String>>>()?;
            } else {
                tensors.push((key, map.next_value::<TensorInfo>()?));
            }
            *self.key = None;
        }
        Ok((tensors, metadata.unwrap_or_default()))
    }
}
