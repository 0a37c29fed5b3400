//! `--seed`, `--steps` and `--set section.key=value`.

use toml::{Table, Value};

use super::document::Document;
use crate::error::Error;

/// What the command line changes in a config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Replaces `seed`; wins over `set`.
    pub seed: Option<u64>,
    /// Replaces `steps`; wins over `set`.
    pub steps: Option<u64>,
    /// `section.key=value` texts, applied in order.
    pub set: Vec<String>,
}

impl Overrides {
    pub(super) fn apply(&self, document: &mut Document) -> Result<(), Error> {
        for text in &self.set {
            let source = format!("--set {text}");
            let (path, value) =
                parse(text).map_err(|message| Error::usage(format!("{source}: {message}")))?;
            document.set(&path, value, &source)?;
        }
        for (key, value) in [("seed", self.seed), ("steps", self.steps)] {
            let Some(value) = value else { continue };
            let source = format!("--{key} {value}");
            let value = i64::try_from(value)
                .map_err(|_| Error::usage(format!("{source}: expected at most {}", i64::MAX)))?;
            document.set(&[key.to_owned()], Value::Integer(value), &source)?;
        }
        Ok(())
    }
}

/// `section.key=value` → the path and the value: TOML, or a bare word as a string.
fn parse(text: &str) -> Result<(Vec<String>, Value), String> {
    let expected = "expected section.key=value, such as kernel.step_size=0.05";
    let (path, value) = text.split_once('=').ok_or_else(|| format!("no `=`; {expected}"))?;
    let path: Vec<String> = path.trim().split('.').map(|key| key.trim().to_owned()).collect();
    let is_key = |key: &String| {
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    if !path.iter().all(is_key) {
        return Err(format!("`{}` is not a key; {expected}", path.join(".")));
    }
    let value = value.trim();
    let table = format!("value = {value}\n").parse::<Table>();
    match table {
        // More than one key: the value went on to further lines.
        Ok(mut table) if table.len() == 1 => Ok((path, table.remove("value").ok_or(expected)?)),
        Err(_) if is_bare_word(value) => Ok((path, Value::String(value.to_owned()))),
        Ok(_) => Err("the value has more than one line".to_owned()),
        Err(error) => Err(format!("`{value}` is neither a TOML value nor a bare word: {}", error.message())),
    }
}

/// A word or a path: it starts with a letter, `.`, `/` or `~`, or with a digit and has letters enough to be no mistyped number, such
/// as `8gaussians`. It needs no quotes.
fn is_bare_word(text: &str) -> bool {
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let starts = |c: char| {
        c.is_alphabetic() || matches!(c, '.' | '/' | '~' | '_') || (c.is_ascii_digit() && letters >= 3)
    };
    let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '.' | '/' | '~' | '_' | '-' | '+' | ' ');
    text.starts_with(starts) && text.chars().all(goes_on)
}
