//! Composed energies from models in memory.

use ember_model::{EnergyModel, EnergySpec};
use toml::{Table, Value};

use crate::cpu;

/// The model of `keys` (`kind = …` and so on) whose parts are these, at their parameters.
///
/// # Panics
/// If they make none.
pub fn composed(keys: &str, parts: &[EnergyModel]) -> EnergyModel {
    let mut table: Table = keys.parse().expect("TOML");
    let tables = parts.iter().map(|part| Value::try_from(&part.spec().energy).expect("a table"));
    table.insert("parts".to_owned(), Value::Array(tables.collect()));
    table.insert("dim".to_owned(), Value::Integer(parts[0].spec().shape.dim() as i64));
    let spec = EnergySpec::from_metadata(&table.to_string()).expect("a composed energy");
    let model = EnergyModel::init(spec, 0, &cpu()).expect("it fits");
    model.with_theta(parts.iter().flat_map(|part| part.theta().to_vec()).collect())
}
