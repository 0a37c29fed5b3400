//! Figures of an evaluation or of a metric line as rows of a table.

use serde_json::{Map, Value};

use super::number;

/// Entries of an array that are shown.
const MOST_ENTRIES: usize = 32;

/// What comes first; the rest follows by name.
const FIRST: [&str; 8] =
    ["step", "time_s", "cross_entropy", "bits_per_dim", "log_z", "kl", "energy_data", "energy_walkers"];
/// What comes first of what is said about an estimate.
const FIRST_REMARKS: [&str; 3] = ["method", "repeats", "interval_95"];

/// What is said about one figure.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) value: String,
    /// The estimator used.
    pub(super) remark: String,
}

/// The rows of an object; nested ones under names with the outer one's.
pub(super) fn rows(object: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    collect(object, "", &mut rows);
    rows
}

fn collect(object: &Value, outer: &str, rows: &mut Vec<Row>) {
    for (key, value) in ordered(object.as_object(), &FIRST) {
        let name = format!("{outer}{}", named(key));
        match value {
            Value::Object(map) if map.contains_key("value") => {
                rows.push(Row { name, value: with_error(map), remark: remark(map) });
            }
            Value::Object(_) => collect(value, &format!("{name}: "), rows),
            Value::Null => {}
            value => rows.push(Row { name, value: text(value), remark: String::new() }),
        }
    }
}

/// The entries, those of `first` in its order before the others.
fn ordered<'a>(map: Option<&'a Map<String, Value>>, first: &[&str]) -> Vec<(&'a String, &'a Value)> {
    let mut entries: Vec<_> = map.into_iter().flatten().collect();
    let rank = |key: &str| first.iter().position(|&name| name == key).unwrap_or(first.len());
    entries.sort_by_key(|(key, _)| rank(key));
    entries
}

/// A key as words.
fn named(key: &str) -> String {
    key.replace('_', " ").replace("log z", "log Z")
}

/// `value ± standard_error`; an exact value has none.
fn with_error(map: &Map<String, Value>) -> String {
    let value = text(&map["value"]);
    match (&map["value"], map.get("standard_error")) {
        (Value::Array(values), Some(Value::Array(errors))) if values.len() <= MOST_ENTRIES => {
            let pairs = values.iter().zip(errors);
            pairs
                .map(|(value, error)| format!("{} ± {}", text(value), text(error)))
                .collect::<Vec<_>>()
                .join(", ")
        }
        (_, Some(Value::Number(error))) if error.as_f64() != Some(0.0) => {
            format!("{value} ± {}", text(&Value::Number(error.clone())))
        }
        _ => value,
    }
}

/// The rest of an estimate.
fn remark(map: &Map<String, Value>) -> String {
    let rest = ordered(Some(map), &FIRST_REMARKS)
        .into_iter()
        .filter(|(key, _)| !["value", "standard_error"].contains(&key.as_str()));
    let said = rest.map(|(key, value)| match (key.as_str(), value) {
        ("method" | "caveat", value) => text(value),
        ("interval_95", Value::Array(ends)) if ends.len() == 2 => {
            format!("95 % interval {} to {}", text(&ends[0]), text(&ends[1]))
        }
        ("repeats", value) => format!("{} repeats", text(value)),
        (key, value) => format!("{} {}", named(key), text(value)),
    });
    said.collect::<Vec<_>>().join("; ")
}

/// A value in one line.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "—".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(n) => n.as_f64().map_or_else(|| n.to_string(), number),
        Value::Object(map) if map.contains_key("value") => with_error(map),
        Value::Array(entries) => {
            let shown = entries.iter().take(MOST_ENTRIES).map(text).collect::<Vec<_>>().join("  ");
            if entries.len() > MOST_ENTRIES {
                format!("{shown} … ({} in all)", entries.len())
            } else {
                shown
            }
        }
        other => other.to_string(),
    }
}
