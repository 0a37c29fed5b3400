//! How the house is built, held by its own sources: no file needs one that needs it, and no room reaches where it must not.

use std::path::{Path, PathBuf};

use ember_tests::architecture::Files;

const CRATES: [&str; 3] = ["ember-model", "ember-sampler", "ember-train"];
/// What each folder of the sampler may not need.
const SAMPLER: [(&str, &[&str]); 4] = [
    ("device", &["evidence", "diagnostics", "kernel"]),
    ("kernel", &["evidence", "diagnostics"]),
    ("resampling", &["evidence", "diagnostics", "kernel"]),
    ("diagnostics", &["evidence"]),
];
/// What each room of the program may not need.
const ROOMS: [(&str, &[&str]); 9] = [
    ("training", &["judging", "view", "bench", "commands"]),
    ("judging", &["bench", "commands"]),
    ("store", &["training", "judging", "bench", "commands"]),
    ("view", &["training", "judging", "bench", "commands"]),
    ("bench", &["judging", "view", "commands"]),
    ("config", &["judging", "view", "bench", "commands"]),
    ("dataset", &["training", "judging", "view", "bench", "commands"]),
    ("device", &["training", "judging", "view", "bench", "commands"]),
    ("memory", &["training", "judging", "view", "bench", "commands"]),
];

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(name).join("src")
}

#[test]
fn no_file_needs_one_that_needs_it() {
    for name in CRATES {
        let rings = Files::read(&source(name)).rings();
        assert!(rings.is_empty(), "{name}: {rings:#?}");
    }
}

#[test]
fn rooms_keep_to_themselves() {
    for (name, closed) in [("ember-sampler", &SAMPLER[..]), ("ember-train", &ROOMS[..])] {
        let room = |file: &str| file.split('/').next().unwrap_or(file).trim_end_matches(".rs").to_owned();
        let mut crossings = Vec::new();
        for (file, needs) in &Files::read(&source(name)).needs {
            let Some((_, closed)) = closed.iter().find(|(of, _)| *of == room(file)) else { continue };
            crossings.extend(
                needs
                    .iter()
                    .filter(|need| closed.contains(&room(need).as_str()))
                    .map(|need| (file.clone(), need.clone())),
            );
        }
        assert!(crossings.is_empty(), "{name}: {crossings:#?}");
    }
}

#[test]
fn files_are_short_and_the_hall_is_small() {
    let mut lines = Vec::new();
    for name in CRATES {
        lines.extend(Files::read(&source(name)).files.into_values().map(|file| (file.lines, file.name)));
    }
    lines.sort();
    let (median, longest) = (lines[lines.len() / 2].0, &lines[lines.len() - 1]);
    println!("{} files: median {median} lines, longest {longest:?}", lines.len());
    assert!(median <= 130, "the median file has {median} lines");
    assert!(longest.0 <= 450, "{longest:?}");
    let entries = std::fs::read_dir(source("ember-train")).expect("the program's sources").count();
    assert!(entries <= 16, "ember-train/src has {entries} entries");
}

/// The test of the test: files that need one another, through a folder's front, an alias, a glob and a macro's argument.
#[test]
fn rings_are_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    write("lib.rs", "pub mod a; pub mod b; pub mod c; pub mod d; pub mod e;");
    write("a/mod.rs", "mod inner; pub use inner::Thing; pub struct Shared;");
    write(
        "a/inner.rs",
        "use super::Shared; use crate::b::*; pub struct Thing(Shared); pub fn f() -> Other { Other }",
    );
    write("b.rs", "use crate::a::Thing as T; pub struct Other; pub fn g(_: T) {}");
    write("c.rs", "pub struct C; pub fn h() { println!(\"{}\", crate::d::ONE); }");
    write("d.rs", "pub const ONE: u32 = 1; #[cfg(test)] mod tests { use crate::c::C; }");
    write("e.rs", "pub use crate::c::C; pub use crate::d::ONE;");
    let files = Files::read(folder.path());
    assert_eq!(files.rings(), [vec!["a/inner.rs".to_owned(), "b.rs".to_owned()]]);
    assert_eq!(files.needs["c.rs"].iter().collect::<Vec<_>>(), ["d.rs"]);
    assert!(files.needs["d.rs"].is_empty(), "its tests are not read");
    assert!(files.needs["e.rs"].is_empty(), "what is only passed on is not needed");
}
