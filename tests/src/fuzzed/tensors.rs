//! Safetensors files: header and data.

use std::path::Path;

use ember_train::store::tensor_file::{NamedTensor, TensorFile, Values};

use super::{Target, scratch};

/// The JSON of a header, a line's end, then data; the length of the header is put right unless the text begins with `!`.
pub(super) const SAFETENSORS: Target = Target {
    name: "safetensors",
    run: safetensors,
    seeds,
    words: &[
        "\"dtype\":\"F32\"",
        "\"F16\"",
        "\"BF16\"",
        "\"F64\"",
        "\"I64\"",
        "\"U8\"",
        "\"BOOL\"",
        "\"F8_E4M3\"",
        "\"F4\"",
        "\"shape\":[",
        "\"data_offsets\":[",
        "\"__metadata__\":{",
        "18446744073709551615",
        "4611686018427387904",
        "{\"a\":",
        "null",
        "[]",
        ",0]",
    ],
    most_bytes: 1024,
};

fn safetensors(bytes: &[u8]) {
    let file = match bytes.split_first() {
        Some((b'!', raw)) => raw.to_vec(),
        _ => framed(bytes),
    };
    let path = Path::new("fuzzed.safetensors");
    let read = |bytes: &[u8]| TensorFile::read_from(&mut &bytes[..], bytes.len() as u64, path);
    match read(&file) {
        Err(error) => assert_eq!(error.exit_code(), 2, "{error}"),
        Ok(content) => {
            for tensor in &content.tensors {
                assert_eq!(tensor.shape.iter().product::<usize>(), len(&tensor.values), "{}", tensor.name);
            }
            let again = read(&written(&content)).expect("what was written");
            assert_eq!(sorted(again), sorted(content));
            let _ = read(&file).expect("again").into_host_tensors(path);
        }
    }
}

/// A file whose header is the first line of the text, or all of it.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    let (header, data) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

fn written(content: &TensorFile) -> Vec<u8> {
    scratch::within("safetensors", |folder| {
        let path = folder.join("again.safetensors");
        content.write(&path).expect("written");
        std::fs::read(path).expect("read")
    })
}

fn len(values: &Values) -> usize {
    match values {
        Values::F32(values) => values.len(),
        Values::I64(values) => values.len(),
    }
}

/// Name, shape, and values as whole numbers.
type Comparable = (String, Vec<usize>, Vec<i64>);

/// By name, with floats as bits: a NaN equals itself.
fn sorted(content: TensorFile) -> (Vec<Comparable>, Vec<(String, String)>) {
    let bits = |tensor: NamedTensor| {
        let values = match tensor.values {
            Values::F32(values) => values.into_iter().map(|x| i64::from(x.to_bits())).collect(),
            Values::I64(values) => values,
        };
        (tensor.name, tensor.shape, values)
    };
    let mut tensors: Vec<_> = content.tensors.into_iter().map(bits).collect();
    tensors.sort();
    (tensors, content.metadata.into_iter().collect())
}

fn seeds() -> Vec<Vec<u8>> {
    let text = |header: &str, data: &[u8]| [header.as_bytes(), b"\n", data].concat();
    vec![
        text(r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#, &[0; 8]),
        text(
            r#"{"__metadata__":{"k":"v"},"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[],"data_offsets":[8,10]}}"#,
            &[1; 10],
        ),
        text(
            r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[3],"data_offsets":[8,14]}}"#,
            &[2; 14],
        ),
        text(r#"{"a":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}}"#, &[]),
        [b"!".to_vec(), framed(b"{}")].concat(),
        b"!PK\x03\x04\0\0\0\0".to_vec(),
    ]
}
