//! A config's text as a table that remembers where each key came from, taken apart section by section.

use std::collections::{HashMap, HashSet};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::explain;
use crate::error::Error;

/// Every key of the top level.
const TOP_LEVEL: &[&str] = &[
    "seed",
    "steps",
    "precision",
    "dataset",
    "energy",
    "pretrain",
    "walkers",
    "kernel",
    "resampling",
    "objective",
    "optimizer",
    "audit",
    "watchdog",
    "output",
];

/// A parsed config that is being read.
pub(super) struct Document {
    origin: String,
    table: Table,
    /// Line of each `section.key`, from 1.
    lines: HashMap<String, usize>,
    /// The `--set` text of each `section.key` that was overridden.
    overridden: HashMap<String, String>,
}

impl Document {
    /// Parses the text; nothing is interpreted yet.
    pub(super) fn parse(text: &str, origin: &str) -> Result<Self, Error> {
        let syntax = |error: toml::de::Error| {
            let offset = error.span().map_or(0, |span| span.start.min(text.len()));
            let (line, column) = position(text, offset);
            let message = error.message().trim_end().replace('\n', ", ");
            Error::Syntax { origin: origin.to_owned(), line, column, message }
        };
        let spanned = DeTable::parse(text).map_err(syntax)?;
        let mut lines = HashMap::new();
        collect_lines(text, "", spanned.get_ref(), &mut lines);
        let table: Table = text.parse().map_err(syntax)?;
        Ok(Self { origin: origin.to_owned(), table, lines, overridden: HashMap::new() })
    }

    /// Puts `value` at `path`, making the tables on the way; `source` is the text to blame for it.
    pub(super) fn set(&mut self, path: &[String], value: Value, source: &str) -> Result<(), Error> {
        let Some((key, parents)) = path.split_last() else {
            return Err(Error::usage(format!("{source}: no key")));
        };
        let mut table = &mut self.table;
        for (depth, parent) in parents.iter().enumerate() {
            let entry = table.entry(parent.clone()).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(next) = entry else {
                let at = path[..=depth].join(".");
                return Err(Error::usage(format!(
                    "{source}: `{at}` is a value, not a table: it has no keys"
                )));
            };
            table = next;
        }
        table.insert(key.clone(), value);
        self.overridden.insert(path.join("."), source.to_owned());
        Ok(())
    }

    /// A flow in a section of this kind, where it is given as a path.
    pub(super) fn path_of_flow(&self, section: &str, kind: &str, key: &str) -> Option<String> {
        let table = self.table.get(section)?.as_table()?;
        if table.get("kind")?.as_str()? != kind {
            return None;
        }
        table.get(key)?.as_str().map(str::to_owned)
    }

    /// Puts a table in the place of that path, and the path beside it.
    pub(super) fn set_flow(&mut self, section: &str, key: &str, flow: Value, path: String) {
        if let Some(Value::Table(table)) = self.table.get_mut(section) {
            table.insert(key.to_owned(), flow);
            table.insert(format!("{key}_from"), Value::String(path));
        }
    }

    /// The table of the energy.
    pub(super) fn energy_table(&mut self) -> Option<&mut Table> {
        self.table.get_mut("energy")?.as_table_mut()
    }

    /// The first key of the top level beside `name`.
    pub(super) fn key_beside(&self, name: &str) -> Option<String> {
        self.table.keys().find(|key| *key != name).cloned()
    }

    /// Takes the value of a top-level key.
    pub(super) fn value<T: DeserializeOwned>(&mut self, key: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.table.remove(key) else { return Ok(None) };
        value
            .try_into()
            .map(Some)
            .map_err(|error: toml::de::Error| self.error("", key, explain::mismatch(error.message())))
    }

    /// Takes a table that must be there.
    pub(super) fn section<T: DeserializeOwned>(&mut self, name: &str) -> Result<T, Error> {
        let found = self.optional_section(name)?;
        found.ok_or_else(|| {
            // A misspelt table is the likelier mistake, and the one to name.
            self.unknown_at_top()
                .unwrap_or_else(|| self.error(name, "", format!("the table [{name}] is missing")))
        })
    }

    /// Takes a table that may be left out.
    pub(super) fn optional_section<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Error> {
        let table = match self.table.remove(name) {
            None => return Ok(None),
            Some(Value::Table(table)) => table,
            Some(other) => {
                let found = other.type_str();
                return Err(self.error("", name, format!("found {found}, expected a table [{name}]")));
            }
        };
        let parse = |table: Table| T::deserialize(table).map_err(|error| error.message().to_owned());
        match parse(table.clone()) {
            Ok(value) => Ok(Some(value)),
            Err(message) => {
                let fails = |table: Table| parse(table).err();
                let (key, message) = explain::section(name, &table, &message, fails);
                Err(self.error(name, &key, message))
            }
        }
    }

    /// Checks that nothing is left over.
    pub(super) fn finish(&self) -> Result<(), Error> {
        self.unknown_at_top().map_or(Ok(()), Err)
    }

    fn unknown_at_top(&self) -> Option<Error> {
        let known: HashSet<&str> = TOP_LEVEL.iter().copied().collect();
        let key = self.table.keys().find(|key| !known.contains(key.as_str()))?;
        Some(self.error("", key, explain::unknown_key(key, TOP_LEVEL)))
    }

    /// An error at `section.key`, with its line or the override it came from.
    pub(super) fn error(&self, section: &str, key: &str, message: impl Into<String>) -> Error {
        self.locate(Error::config("", section, key, message))
    }

    /// Adds to a config error where its key came from.
    pub(super) fn locate(&self, error: Error) -> Error {
        let Error::Config { section, key, message, .. } = error else { return error };
        let path = join(&section, &key);
        // The section stands in for a key that is not written, and for the inside of one that is.
        let ancestors = || std::iter::successors(Some(path.as_str()), |path| Some(path.rsplit_once('.')?.0));
        let set = ancestors().find_map(|path| self.overridden.get(path));
        let line = ancestors().find_map(|path| self.lines.get(path)).copied();
        let (origin, line) = match set {
            Some(source) => (source.clone(), None),
            None => (self.origin.clone(), line),
        };
        Error::Config { origin, line, section, key, message }
    }
}

fn join(section: &str, key: &str) -> String {
    match (section, key) {
        ("", key) => key.to_owned(),
        (section, "") => section.to_owned(),
        (section, key) => format!("{section}.{key}"),
    }
}

fn collect_lines(text: &str, prefix: &str, table: &DeTable<'_>, lines: &mut HashMap<String, usize>) {
    for (key, value) in table {
        let path = join(prefix, key.get_ref());
        lines.insert(path.clone(), position(text, key.span().start).0);
        if let DeValue::Table(inner) = value.get_ref() {
            collect_lines(text, &path, inner, lines);
        }
    }
}

/// Line and column of a byte offset, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    (line, column)
}
