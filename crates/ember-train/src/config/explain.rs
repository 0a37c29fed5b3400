//! From serde's messages to what a user can act on: the key, what was found, what was expected, the nearest name.
//!
//! The energies, kernels and data sets derive their own `Deserialize`, tagged by `kind`, and serde buffers tagged enums, which
//! loses the key of a mistake. It is found again by reading ever longer beginnings of the table.

use toml::{Table, Value};

use super::tables::KernelTable;

/// Kinds of later versions.
const LATER_KINDS: &[(&str, &str)] = &[("optimizer", "adamw")];

const LATER: &str = "not available in this version of ember";

/// The key at fault in a section and what to say about it. `fails` deserialises a table and gives the message.
pub(super) fn section(
    name: &str,
    table: &Table,
    message: &str,
    fails: impl Fn(Table) -> Option<String>,
) -> (String, String) {
    let names = quoted(message);
    if let (Some(missing), true) = (names.first(), message.starts_with("missing field")) {
        if is_missing_at_top(table, missing, message, &fails) {
            return (missing.clone(), missing_key(name, missing));
        }
        let key = culprit(table, message, &fails);
        return (key, format!("the key `{missing}` is missing in it"));
    }
    let key = culprit(table, message, &fails);
    if message.starts_with("unknown field") {
        let Some((found, valid)) = names.split_first() else { return (key, message.to_owned()) };
        let mut valid: Vec<&str> = valid.iter().map(String::as_str).collect();
        if key != *found {
            // Inside the value of `key`, such as a layer or a schedule.
            return (format!("{key}.{found}"), unknown_key(found, &valid));
        }
        if matches!(name, "dataset" | "energy" | "kernel" | "objective" | "optimizer") {
            valid.insert(0, "kind");
        }
        if name == "kernel" {
            valid.extend(KernelTable::OWN_KEYS);
        }
        return (key, unknown_key(found, &valid));
    }
    if message.starts_with("unknown variant") {
        let Some((found, valid)) = names.split_first() else { return (key, message.to_owned()) };
        let valid: Vec<&str> = valid.iter().map(String::as_str).collect();
        let nested = if key == "schedule" { "schedule.kind".to_owned() } else { key };
        return (nested.clone(), unknown_name(name, &nested, found, &valid));
    }
    (key, mismatch(message))
}

/// An unknown key: the nearest valid one and all of them.
pub(super) fn unknown_key(found: &str, valid: &[&str]) -> String {
    format!("unknown key{}; valid here: {}", did_you_mean(found, valid), list(valid))
}

pub(super) fn unknown_name(section: &str, key: &str, found: &str, valid: &[&str]) -> String {
    if key == "kind" && LATER_KINDS.contains(&(section, found)) {
        return format!("\"{found}\" is {LATER}; there is {}", list(valid));
    }
    format!("unknown name \"{found}\"{}; there is {}", did_you_mean(found, valid), list(valid))
}

fn missing_key(section: &str, key: &str) -> String {
    if key != "kind" {
        return "missing, and it has no default".to_owned();
    }
    let kinds: Vec<&str> = match section {
        "dataset" => crate::dataset::DatasetConfig::KINDS.to_vec(),
        "energy" => ember_model::EnergyConfig::KINDS.to_vec(),
        "kernel" => ember_sampler::KernelConfig::KINDS.to_vec(),
        "objective" => crate::training::objective::ObjectiveConfig::KINDS.to_vec(),
        _ => vec!["sgd", "adam"],
    };
    format!("missing; there is {}", list(&kinds))
}

/// `found …, expected …` in the words of a config.
pub(super) fn mismatch(message: &str) -> String {
    let body = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .or_else(|| message.strip_prefix("invalid length: "));
    let Some((found, expected)) = body.and_then(|body| body.split_once(", expected ")) else {
        return message.to_owned();
    };
    let found = match found {
        "map" => "a table",
        "sequence" => "a list",
        other => other,
    };
    let expected = match expected {
        "f64" => "a number",
        "u64" | "usize" | "u32" => "a whole number ≥ 0",
        "a boolean" | "bool" => "true or false",
        "a sequence" => "a list `[...]`",
        "a string" => "a string",
        other if other.starts_with("struct") || other == "a map" => "a table",
        other => other,
    };
    format!("found {found}, expected {expected}")
}

/// The key whose value brings the message about: the last one of the shortest beginning of the table that fails so.
fn culprit(table: &Table, message: &str, fails: impl Fn(Table) -> Option<String>) -> String {
    let mut beginning = Table::new();
    // The kind decides what the other keys mean.
    let kind = table.get_key_value("kind").into_iter();
    for (key, value) in kind.chain(table.iter().filter(|(key, _)| *key != "kind")) {
        beginning.insert(key.clone(), value.clone());
        if fails(beginning.clone()).as_deref() == Some(message) {
            return key.clone();
        }
    }
    String::new()
}

/// Whether `missing` belongs to the section itself: giving it there changes the message.
fn is_missing_at_top(
    table: &Table,
    missing: &str,
    message: &str,
    fails: impl Fn(Table) -> Option<String>,
) -> bool {
    let mut with = table.clone();
    with.insert(missing.to_owned(), Value::Boolean(false));
    fails(with).as_deref() != Some(message)
}

/// The names between backticks.
fn quoted(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn did_you_mean(found: &str, valid: &[&str]) -> String {
    let distance = |name: &&&str| strsim::osa_distance(&found.to_lowercase(), name);
    let nearest = valid.iter().min_by_key(distance);
    let near = |name: &&&str| distance(name) <= 2.max(found.chars().count() / 2);
    nearest.filter(near).map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

fn list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
