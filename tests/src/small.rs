//! The config that most tests change, and how: they say what matters to them, and no more.

/// A small run that most tests change: two modes in the plane, a perceptron, weighted walkers.
const SMALL: &str = r#"
steps = 60
[dataset]
kind = "gaussian_mixture"
dim = 2
means = [[-1.5], [1.5]]
weights = [0.3, 0.7]
train_size = 256
test_size = 100
[energy]
kind = "mlp"
hidden = [16, 16]
confinement = 1.0
[walkers]
count = 128
[kernel]
kind = "ula"
step_size = 0.1
[objective]
kind = "jarzynski"
[optimizer]
kind = "adam"
learning_rate = 0.005
"#;

/// The small run with other values: lines of `key = value`, the key with its tables, such as `kernel.step_size = 0.2`.
///
/// # Panics
/// If a line is no such thing.
pub fn small(changes: &str) -> String {
    with(SMALL, changes)
}

/// `key = value` lines over a config, by their dotted names.
pub fn with(config: &str, changes: &str) -> String {
    let mut table: toml::Table = config.parse().expect("TOML");
    for line in changes.lines().filter(|line| !line.is_empty()) {
        let (key, value) = line.split_once(" = ").expect("key = value");
        let value: toml::Table = format!("value = {value}").parse().expect("TOML");
        let names: Vec<&str> = key.split('.').collect();
        let (last, tables) = names.split_last().expect("a name");
        let place = tables.iter().fold(&mut table, |table, name| {
            let inner = table.entry(*name).or_insert_with(|| toml::Table::new().into());
            inner.as_table_mut().expect("a table")
        });
        place.insert((*last).to_owned(), value["value"].clone());
    }
    table.to_string()
}
