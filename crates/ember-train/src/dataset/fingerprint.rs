//! A checksum of a data set as training sees it: what was derived from the set, such as a classifier, can be kept under it.

use sha2::{Digest, Sha256};

use super::{Data, Rows};
use crate::store::checksum::hex;

/// SHA-256, in hexadecimal, of the shape, the samples and the labels of both splits. Class names are not part of it.
pub fn fingerprint(data: &Data) -> String {
    let mut sha = Sha256::new();
    sha.update(data.shape.to_string().as_bytes());
    for (rows, labels) in [(&data.train, &data.train_labels), (&data.test, &data.test_labels)] {
        // The kind and the length of each part, so that no two sets run together into the same bytes.
        sha.update([u8::from(matches!(rows, Rows::U8(_)))]);
        sha.update((rows.len() as u64).to_le_bytes());
        match rows {
            Rows::F32(values) => values.iter().for_each(|value| sha.update(value.to_le_bytes())),
            Rows::U8(bytes) => sha.update(bytes),
        }
        sha.update((labels.len() as u64).to_le_bytes());
        labels.iter().for_each(|label| sha.update(label.to_le_bytes()));
    }
    hex(&sha.finalize())
}
