//! What is in a folder of data sets, and everything that is wrong with it: the work of `ember data check`.

use std::path::{Path, PathBuf};

use super::cifar10::Source;
use super::detect::{Found, first_shape};
use super::idx::{self, Pair};
use super::image_folder::{Layout, entries};
use super::images::{Split, check_splits};
use super::{checksums, cifar10, picture_file};
use crate::error::Error;

/// How many folders deep data sets are looked for.
const DEPTH: usize = 2;

/// One data set and its state.
#[derive(Debug, Default)]
pub struct Inventory {
    /// Where it is.
    pub dir: PathBuf,
    /// The `kind` that reads it.
    pub kind: &'static str,
    /// Channels, rows, columns; zeros where no file could be read.
    pub shape: [usize; 3],
    /// The names of the classes.
    pub class_names: Vec<String>,
    /// Images of each class, training and held-out. Parts that are wrong are not counted.
    pub counts: [Vec<usize>; 2],
    /// The files by name, with their MD5 and what they are known as; a folder of images lists none.
    pub files: Vec<(PathBuf, String, Option<&'static str>)>,
    /// What is not counted and not wrong, in a sentence.
    pub note: Option<String>,
    /// What is wrong, each with file and offset.
    pub problems: Vec<Error>,
}

/// The data sets in `dir`, which may be one itself or hold some up to two folders down.
///
/// # Errors
/// A folder that cannot be read. What is wrong with a data set is in its [`Inventory::problems`].
pub fn inspect(dir: &Path) -> Result<Vec<Inventory>, Error> {
    if !dir.exists() {
        return Err(Error::data(dir, "there is no such folder, expected one with data sets"));
    }
    let mut found = Vec::new();
    search(dir, DEPTH, &mut found)?;
    Ok(found)
}

fn search(dir: &Path, depth: usize, found: &mut Vec<Inventory>) -> Result<(), Error> {
    match Found::find(dir) {
        Err(error) => {
            found.push(Inventory { dir: dir.to_owned(), problems: vec![error], ..Inventory::default() })
        }
        Ok(Some(Found::Idx(pairs))) => found.push(of_idx(dir, &pairs).complete()),
        Ok(Some(Found::Cifar(source))) => found.push(of_cifar(dir, &source).complete()),
        Ok(Some(Found::Folder(layout))) => found.push(of_folder(dir, &layout).complete()),
        Ok(None) if depth > 0 && dir.is_dir() => {
            for path in entries(dir)?.iter().filter(|path| path.is_dir()) {
                search(path, depth - 1, found)?;
            }
        }
        Ok(None) => {}
    }
    Ok(())
}

impl Inventory {
    fn new(dir: &Path, kind: &'static str, shape: [usize; 3], class_names: Vec<String>) -> Self {
        let counts = [vec![0; class_names.len()], vec![0; class_names.len()]];
        Self { dir: dir.to_owned(), kind, shape, class_names, counts, ..Self::default() }
    }

    /// With a split missing, where nothing else is wrong. Held-out images alone are no fault: a run can be judged against them.
    fn complete(mut self) -> Self {
        let counts: [usize; 2] = self.counts.each_ref().map(|counts| counts.iter().sum());
        if counts[0] == 0 && counts[1] > 0 {
            let lacking = "no training images: it serves `ember eval --against`, and cannot be trained on";
            self.note = Some(self.note.map_or(lacking.to_owned(), |note| format!("{lacking}. {note}")));
            return self;
        }
        if self.problems.is_empty()
            && let Err(error) = check_splits(counts, &self.dir)
        {
            self.problems.push(error);
        }
        self
    }

    fn count(&mut self, held_out: bool, labels: &[u32]) {
        for &label in labels {
            self.counts[usize::from(held_out)][label as usize] += 1;
        }
    }

    fn add(&mut self, held_out: bool, part: Result<Split, Error>) {
        match part {
            Ok(split) => self.count(held_out, &split.labels),
            Err(error) => self.problems.push(error),
        }
    }

    fn identify(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        for path in files {
            match checksums::identify(&path) {
                Ok((sum, known)) => self.files.push((path, sum, known)),
                Err(error) => self.problems.push(error),
            }
        }
    }
}

fn of_idx(dir: &Path, pairs: &[Option<Pair>; 2]) -> Inventory {
    let names = (0..idx::CLASSES).map(|class| class.to_string()).collect();
    let mut inventory = Inventory::new(dir, "mnist", [0; 3], names);
    for (held_out, pair) in pairs.iter().enumerate() {
        let Some(pair) = pair else { continue };
        inventory.identify([pair.images.clone(), pair.labels.clone()]);
        // One split at a time: a broken one does not hide the other. Sizes that differ show when both are read.
        let part = idx::read_split(pair, idx::Labels::Digits).map(|(side, split)| {
            inventory.shape = [1, side[0], side[1]];
            split
        });
        inventory.add(held_out == 1, part);
    }
    if inventory.problems.is_empty()
        && let Err(error) = idx::read(pairs, idx::Labels::Digits)
    {
        inventory.problems.push(error);
    }
    inventory
}

fn of_cifar(dir: &Path, source: &Source) -> Inventory {
    let mut inventory = Inventory::new(dir, "cifar10", [3, 32, 32], cifar10::class_names());
    inventory.identify(source.files());
    for (held_out, part) in source.parts() {
        inventory.add(held_out, part);
    }
    inventory
}

fn of_folder(dir: &Path, layout: &Layout) -> Inventory {
    let mut inventory = Inventory::new(dir, "image_folder", [0; 3], layout.classes.clone());
    inventory.note = layout.note();
    match first_shape(layout) {
        Ok(shape) => inventory.shape = shape,
        Err(_) => inventory.shape = [3, 0, 0],
    }
    for (held_out, files) in layout.splits.iter().enumerate() {
        for (path, label) in files {
            // With the first file broken there is no size to compare with.
            let shape = inventory.shape;
            let known = shape[1] > 0;
            let decoded = match known {
                true => picture_file::read(path, shape, false).map(drop),
                false => picture_file::check_pixels(path),
            };
            match decoded {
                Ok(()) => inventory.count(held_out == 1, &[*label]),
                Err(error) => inventory.problems.push(error),
            }
        }
    }
    inventory
}
