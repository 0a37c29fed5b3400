//! Whether the contents of a checkpoint make sense. A checksum says only that they are what was written.

use std::collections::BTreeSet;
use std::path::Path;

use ember_model::HostTensor;

use crate::config::Config;
use crate::error::Error;
use crate::store::checkpoint::{Checkpoint, WalkersRecord};

/// Keys of a run's config that may differ from what its checkpoint was trained with: they say how the run goes on.
const MAY_CHANGE: [&str; 7] =
    ["steps", "dataset.dir", "optimizer.learning_rate", "optimizer.schedule", "output", "watchdog", "audit"];

/// Checks everything that is used as an index, a size or a weight; `origin` names the checkpoint.
///
/// # Errors
/// The first tensor or key that is not as this program writes it.
pub(crate) fn check(checkpoint: &Checkpoint, origin: &Path) -> Result<(), Error> {
    // Of θ and the training walkers no checkpoint is written with other numbers than finite ones.
    for tensor in &checkpoint.theta {
        check_tensor(tensor, origin)?;
    }
    if let Some(walkers) = &checkpoint.walkers {
        check_population(walkers, "walkers", origin)?;
        for (tensor, values) in [
            ("position", &walkers.position),
            ("energy", &walkers.energy),
            ("energy_grad", &walkers.energy_grad),
            ("log_weights", &walkers.log_weights),
        ] {
            finite(&format!("walkers: {tensor}"), values, origin)?;
        }
    }
    finite("own.values", &super::own_numbers(checkpoint), origin)?;
    for (name, &count) in &checkpoint.optimizer_counters {
        if count > u64::from(u32::MAX) {
            let message =
                format!("state.json: optimizer_counters: {name} is {count}, expected at most {}", u32::MAX);
            return Err(Error::checkpoint(origin, message));
        }
    }
    for (i, record) in checkpoint.audit.iter().enumerate() {
        check_population(record, &format!("audit {i}"), origin)?;
    }
    if let Some(record) = checkpoint.audit.first() {
        let repeats = audit_log_z(&checkpoint.extra, origin)?.len();
        if repeats == 0 || record.count % repeats != 0 {
            let message = format!(
                "state.json: audit_log_z has {repeats} entries, expected one for each repeat of {} walkers",
                record.count
            );
            return Err(Error::checkpoint(origin, message));
        }
    }
    Ok(())
}

/// The audit's banked log Z, one for each repeat.
pub(crate) fn audit_log_z(extra: &serde_json::Value, origin: &Path) -> Result<Vec<f64>, Error> {
    serde_json::from_value(extra["audit_log_z"].clone())
        .map_err(|error| Error::checkpoint(origin, format!("state.json: audit_log_z: {error}")))
}

fn check_population(record: &WalkersRecord, name: &str, origin: &Path) -> Result<(), Error> {
    if record.count == 0 || record.dim == 0 {
        let message =
            format!("{name} of shape [{}, {}], expected at least one of each", record.count, record.dim);
        return Err(Error::checkpoint(origin, message));
    }
    let count = record.count as i64;
    match record.ancestor.iter().position(|ancestor| !(0..count).contains(ancestor)) {
        None => Ok(()),
        Some(i) => {
            let found = record.ancestor[i];
            let message = format!("{name}: ancestor[{i}] is {found}, expected 0 to {}", count - 1);
            Err(Error::checkpoint(origin, message))
        }
    }
}

/// Checks a tensor of a weight file.
///
/// # Errors
/// A value that is not finite, with its place.
pub(crate) fn check_tensor(tensor: &HostTensor, origin: &Path) -> Result<(), Error> {
    finite(&tensor.name, &tensor.values, origin)
}

fn finite(name: &str, values: &[f32], origin: &Path) -> Result<(), Error> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(i) => {
            let message = format!("{name}[{i}] is {}, expected a finite number", values[i]);
            Err(Error::checkpoint(origin, message))
        }
    }
}

/// Compares a run's config with that of its checkpoint, and says which keys differ that may.
///
/// # Errors
/// A key that may not: the run would go on as something else than it began.
pub fn check_config(config: &Config, checkpoint: &Checkpoint, path: &Path) -> Result<(), Error> {
    let Some(text) = checkpoint.extra["config"].as_str() else { return Ok(()) };
    // Read and written once more, for the defaults of this version.
    let trained = Config::from_toml(text, "the checkpoint's config")?.to_toml();
    let parse = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
    let (now, then) = (flat(&parse(&config.to_toml())), flat(&parse(&trained)));
    let keys = then.iter().chain(&now).map(|(key, _)| key);
    let different: BTreeSet<&String> = keys.filter(|key| value(&now, key) != value(&then, key)).collect();
    let may_change = |key: &str| {
        MAY_CHANGE
            .iter()
            .any(|free| key.strip_prefix(free).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    for key in different {
        let [now, then] = [&now, &then].map(|table| value(table, key).unwrap_or("nothing"));
        if !may_change(key) {
            let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
            let message = format!(
                "found {now}, the run was trained with {then}. This key cannot change within a run: put it back, or begin another run with \
                 `ember train`"
            );
            return Err(Error::config(path.display(), section, name, message));
        }
        if key != "steps" {
            tracing::info!("{key} is now {now}; until here it was {then}");
        }
    }
    Ok(())
}

/// The first key whose values differ, `section.key`; `None` where the configs are equal.
pub fn first_difference(a: &Config, b: &Config) -> Option<String> {
    let keys = |config: &Config| flat(&config.to_toml().parse().unwrap_or_default());
    let (a, b) = (keys(a), keys(b));
    let all = a.iter().chain(&b).map(|(key, _)| key);
    all.into_iter().find(|key| value(&a, key) != value(&b, key)).cloned()
}

fn value<'a>(table: &'a [(String, String)], key: &str) -> Option<&'a str> {
    table.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// `section.key` and value of every entry.
fn flat(table: &toml::Table) -> Vec<(String, String)> {
    table
        .iter()
        .flat_map(|(key, value)| match value {
            toml::Value::Table(inner) => {
                flat(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)).collect()
            }
            other => vec![(key.clone(), other.to_string())],
        })
        .collect()
}
