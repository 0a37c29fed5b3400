//! Trained classifiers on disk: `classifier-<key>.safetensors` in a folder of the user's.
//!
//! The key is the SHA-256 of the data, of what is done to them, and of [`VERSION`]: another data set is another file. A file
//! that is damaged is trained again with a warning; a folder that cannot be written costs a warning and the next training.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ember_model::params::upload;
use sha2::{Digest, Sha256};

use super::network::LeNet;
use super::{Classifier, Held, class_names, train};
use crate::dataset::{Augmentation, Data, fingerprint};
use crate::error::Error;
use crate::store::checksum::hex;
use crate::store::tensor_file::{NamedTensor, TensorFile, Values};

/// Raised with every change of the network or its training.
pub const VERSION: u32 = 1;

const META_VERSION: &str = "ember.classifier";
const META_HELD_OUT: &str = "held_out";
const META_SHA256: &str = "sha256";

/// Where classifiers are kept: `$EMBER_CACHE_DIR`, else `ember` in `$XDG_CACHE_HOME` or `~/.cache`.
pub fn folder() -> Option<PathBuf> {
    let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    path("EMBER_CACHE_DIR").or_else(|| {
        let base = path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|home| home.join(".cache")))?;
        Some(base.join("ember"))
    })
}

/// The classifier of a data set: from `folder`, or trained and put there.
///
/// # Errors
/// As [`train`]. Nothing about the folder is an error.
pub fn cached(data: &Data, augmentation: Augmentation, folder: Option<&Path>) -> Result<Classifier, Error> {
    let path = folder.map(|folder| folder.join(file_name(data, augmentation)));
    if let Some(path) = path.as_ref().filter(|path| path.exists()) {
        match read(path, data) {
            Ok(classifier) => return Ok(classifier),
            Err(error) => tracing::warn!("{error}: a kept classifier that is damaged; training it again"),
        }
    }
    tracing::info!("training the classifier of the data set: a minute or two, once");
    let classifier = train(data, augmentation)?;
    if let Some(path) = &path
        && let Err(error) = write(path, &classifier)
    {
        tracing::warn!("{error}: the classifier is not kept and will be trained again");
    }
    Ok(classifier)
}

/// The name of the file that holds the classifier of these data.
pub fn file_name(data: &Data, augmentation: Augmentation) -> String {
    let names = &data.class_names;
    let key = format!("{VERSION} {augmentation:?} {names:?} {}", fingerprint(data));
    format!("classifier-{}.safetensors", hex(&Sha256::digest(key)))
}

fn write(path: &Path, classifier: &Classifier) -> Result<(), Error> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| Error::unwritable(folder, source))?;
    }
    let params = classifier.network.params();
    let theta = classifier.host_theta();
    let held_out = serde_json::to_string(&classifier.held_out)
        .map_err(|error| Error::failed(format!("the classifier cannot be described: {error}")))?;
    let metadata = BTreeMap::from([
        (META_VERSION.to_owned(), VERSION.to_string()),
        (META_SHA256.to_owned(), checksum(&theta, &held_out)),
        (META_HELD_OUT.to_owned(), held_out),
    ]);
    let tensors = params.into_iter().zip(theta).map(|(spec, values)| NamedTensor {
        name: spec.name,
        shape: spec.shape,
        values: Values::F32(values),
    });
    TensorFile { tensors: tensors.collect(), metadata }.write(path)
}

fn read(path: &Path, data: &Data) -> Result<Classifier, Error> {
    let bad = |message: String| Error::checkpoint(path, message);
    let mut file = TensorFile::read(path)?;
    let meta = |key: &str| file.metadata.get(key).cloned().ok_or_else(|| bad(format!("no metadata `{key}`")));
    let (version, sha256, text) = (meta(META_VERSION)?, meta(META_SHA256)?, meta(META_HELD_OUT)?);
    if version != VERSION.to_string() {
        return Err(bad(format!("version {version} found, {VERSION} expected")));
    }
    let held_out: Held =
        serde_json::from_str(&text).map_err(|error| bad(format!("`{META_HELD_OUT}`: {error}")))?;
    let network = LeNet::new(data.shape, held_out.classes.len())
        .filter(|_| held_out.classes == class_names(data))
        .ok_or_else(|| {
            bad(format!("classes {:?} found, {:?} expected", held_out.classes, class_names(data)))
        })?;
    let mut theta = Vec::new();
    for spec in network.params() {
        match file.take(&spec.name) {
            Some(NamedTensor { shape, values: Values::F32(values), .. }) if shape == spec.shape => {
                theta.push(values)
            }
            _ => return Err(bad(format!("no tensor `{}` of shape {:?}", spec.name, spec.shape))),
        }
    }
    if checksum(&theta, &text) != sha256 {
        return Err(bad("its contents do not have the checksum in its metadata".to_owned()));
    }
    let device = Device::flex();
    let theta = theta.into_iter().map(|values| upload(values, &device)).collect();
    Ok(Classifier { network, theta, held_out, device })
}

/// SHA-256 of the weights and of what is said about them.
fn checksum(theta: &[Vec<f32>], held_out: &str) -> String {
    let mut sha = Sha256::new();
    theta.iter().flatten().for_each(|value| sha.update(value.to_le_bytes()));
    sha.update(held_out);
    hex(&sha.finalize())
}
