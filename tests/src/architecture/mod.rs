//! Which file of a crate needs which, read from its sources: so that no two need one another, and no room reaches where it must not.
//!
//! A file needs another where its code names something that the other defines. A name that is only passed on (`pub use`) counts for whoever
//! takes it from there, not for the file that passes it on. Tests inside a file (`#[cfg(test)] mod`) are not read. Methods and fields are
//! not seen; the types and traits that they belong to are.

mod file;
mod resolve;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

pub use file::File;

/// The files of a crate, by module path, and which each needs.
pub struct Files {
    /// By module path, such as `["training", "ema"]`.
    pub files: BTreeMap<Vec<String>, File>,
    /// By path below `src`: the files it needs.
    pub needs: BTreeMap<String, BTreeSet<String>>,
}

impl Files {
    /// Reads every file below `src` but `main.rs`.
    ///
    /// # Panics
    /// If one cannot be read or parsed.
    pub fn read(src: &Path) -> Self {
        let files = file::read_all(src);
        let needs = files.iter().map(|(module, file)| {
            let found = resolve::needed(&files, module);
            (file.name.clone(), found.iter().map(|module| files[module].name.clone()).collect())
        });
        Self { needs: needs.collect(), files }
    }

    /// Groups of files that need one another in a ring, each sorted; empty where there is none.
    pub fn rings(&self) -> Vec<Vec<String>> {
        let reach: BTreeMap<&str, BTreeSet<&str>> =
            self.needs.keys().map(|name| (name.as_str(), self.reached_from(name))).collect();
        let mut rings: Vec<Vec<String>> = Vec::new();
        for (name, reached) in &reach {
            if !reached.contains(name) || rings.iter().flatten().any(|other| other == name) {
                continue;
            }
            let ring = reached.iter().filter(|other| reach[**other].contains(name));
            rings.push(ring.map(ToString::to_string).collect());
        }
        rings
    }

    fn reached_from(&self, name: &str) -> BTreeSet<&str> {
        let (mut reached, mut open) = (BTreeSet::new(), vec![name]);
        while let Some(next) = open.pop() {
            for needed in &self.needs[next] {
                if reached.insert(needed.as_str()) {
                    open.push(needed);
                }
            }
        }
        reached
    }
}
