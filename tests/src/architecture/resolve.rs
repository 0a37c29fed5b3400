//! From a path in a file to the file that defines what it names.

use std::collections::{BTreeMap, BTreeSet};

use super::File;

type Modules = BTreeMap<Vec<String>, File>;

/// The modules whose items the file of `module` names.
pub(super) fn needed(files: &Modules, module: &[String]) -> BTreeSet<Vec<String>> {
    let file = &files[module];
    let named: BTreeSet<&String> = file.paths.iter().map(|path| &path[0]).collect();
    let mut found = BTreeSet::new();
    for taken in &file.uses {
        // What is only passed on, others need.
        let is_named = taken.name.as_ref().is_some_and(|name| named.contains(name));
        if !taken.is_public || is_named {
            found.extend(owner(files, module, &taken.path));
        }
    }
    for path in &file.paths {
        let by_use = file.uses.iter().find(|taken| taken.name.as_ref() == Some(&path[0]));
        let full = by_use.map(|taken| [taken.path.as_slice(), &path[1..]].concat());
        found.extend(owner(files, module, full.as_ref().unwrap_or(path)));
    }
    // A folder's front holds what its files share: they are parts of one module.
    found.retain(|other| !module.starts_with(other));
    found
}

/// The module of this crate that defines what `path` names, as written in `module`; `None` for another crate's, a local or a generic name.
fn owner(files: &Modules, module: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut at = module.to_vec();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            at.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|part| part == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        // A child, or what this file defines; all else comes from elsewhere.
        first if files.contains_key(&child(&at, first)) || files[module].defines.contains(first) => {}
        _ => return None,
    }
    follow(files, at, rest, 0)
}

/// Walks from the module `at` along `rest`, through names that are passed on.
fn follow(files: &Modules, mut at: Vec<String>, rest: &[String], depth: usize) -> Option<Vec<String>> {
    let mut rest = rest;
    while let Some(first) = rest.first() {
        let next = child(&at, first);
        if !files.contains_key(&next) {
            break;
        }
        (at, rest) = (next, &rest[1..]);
    }
    let (file, Some(name)) = (files.get(&at)?, rest.first()) else { return Some(at) };
    if file.defines.contains(name) || depth > 8 {
        return Some(at);
    }
    if let Some(taken) = file.uses.iter().find(|taken| taken.name.as_ref() == Some(name)) {
        let path = [taken.path.as_slice(), &rest[1..]].concat();
        return passed_on(files, &at, &path, depth);
    }
    let globs = file.uses.iter().filter(|taken| taken.name.is_none());
    let through = globs.filter_map(|taken| {
        let module = passed_on(files, &at, &taken.path, depth)?;
        files[&module].defines.contains(name).then_some(module)
    });
    Some(through.into_iter().next().unwrap_or(at))
}

fn passed_on(files: &Modules, at: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..]),
        "self" => (at.to_vec(), &path[1..]),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            (at[..at.len() - ups].to_vec(), &path[ups..])
        }
        first if files.contains_key(&child(at, first)) => (at.to_vec(), path),
        _ => return None,
    };
    follow(files, base, rest, depth + 1)
}

fn child(module: &[String], name: &str) -> Vec<String> {
    [module, &[name.to_owned()]].concat()
}
