//! Which data set a folder holds, known by its files.

use std::path::Path;

use ember_model::SampleShape;

use super::cifar10::Source;
use super::idx::{self, Pair};
use super::image_folder::Layout;
use super::{Data, picture_file};
use crate::error::Error;

/// What a folder holds.
pub(super) enum Found {
    /// idx files: training and held-out.
    Idx([Option<Pair>; 2]),
    /// CIFAR-10 records.
    Cifar(Source),
    /// Class folders of PNG or JPEG files.
    Folder(Layout),
}

impl Found {
    /// The set in `dir`, if any.
    ///
    /// # Errors
    /// A set with a part missing, a folder that cannot be read.
    pub(super) fn find(dir: &Path) -> Result<Option<Self>, Error> {
        let pairs = idx::find(dir)?;
        if pairs.iter().any(Option::is_some) {
            return Ok(Some(Self::Idx(pairs)));
        }
        if let Some(source) = Source::find(dir) {
            return Ok(Some(Self::Cifar(source)));
        }
        if !dir.is_dir() {
            return Ok(None);
        }
        Ok(Layout::find(dir)?.map(Self::Folder))
    }
}

/// Reads whatever data set a folder holds: idx files, CIFAR-10 records, or folders of images. One split may be missing: its
/// rows are then empty. With `like = [channels, rows, columns]`, a folder of images is brought to that shape, and files that
/// hold another one are an error; without it a folder of images has the shape of its first image. Labels of idx files may be any: EMNIST's
/// letters are classes 1 to 26.
///
/// # Errors
/// Nothing known in the folder, and whatever is wrong with the files.
pub fn load_any(dir: &Path, like: Option<[usize; 3]>) -> Result<Data, Error> {
    if !dir.exists() {
        return Err(Error::data(dir, "there is no such folder, expected one with a data set"));
    }
    let images = match Found::find(dir)? {
        None => return Err(nothing(dir)),
        Some(Found::Idx(pairs)) => idx::read(&pairs, idx::Labels::Any)?,
        Some(Found::Cifar(source)) => source.read()?,
        Some(Found::Folder(layout)) => {
            let shape = like.map_or_else(|| first_shape(&layout), Ok)?;
            layout.read(shape, like.is_some())?
        }
    };
    if let Some(like) = like.filter(|like| *like != images.shape) {
        let (found, expected) = (SampleShape::Image(images.shape), SampleShape::Image(like));
        return Err(Error::data(dir, format!("images of shape {found}, expected {expected}")));
    }
    Ok(images.into_data())
}

/// There is no data set in a folder.
pub(crate) fn nothing(dir: &Path) -> Error {
    Error::data(
        dir,
        "no data set found, expected idx files (train-images-idx3-ubyte[.gz], …), CIFAR-10 records (data_batch_1.bin, … or \
         cifar-10-binary.tar.gz), or folders of PNG or JPEG files (train/<class>/* with test/<class>/* or val/<class>/*, or <class>/*)",
    )
}

/// Channels, rows and columns of a picture as its header says; no pixel is decoded. For tests.
///
/// # Errors
/// A file that is no PNG or JPEG, or damaged.
#[doc(hidden)]
pub fn shape_of_picture(path: &Path) -> Result<[usize; 3], Error> {
    picture_file::header(path).map(|header| header.shape())
}

/// The shape of the first image of a folder.
pub(super) fn first_shape(layout: &Layout) -> Result<[usize; 3], Error> {
    match layout.files().next() {
        Some(path) => Ok(picture_file::header(path)?.shape()),
        None => Ok([3, 0, 0]),
    }
}
