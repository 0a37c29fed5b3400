//! `ember sweep`: a comparison whose methods are the values of some keys.

use std::path::Path;

use super::plan::{Method, Plan, SEEDS_ARE_ALIKE, sets_seed, slug};
use crate::config::{Config, Overrides};
use crate::error::Error;

/// The most combinations of values: a mistyped list fails at once.
const MOST: usize = 10_000;

/// Every combination of the values that `sets` list, `KEY=A,B,C` each, over a config.
///
/// # Errors
/// A text that is no such thing, a value that the config refuses.
pub fn plan(config: &Path, sets: &[String], seeds: u64) -> Result<Plan, Error> {
    let mut combinations: Vec<Vec<String>> = vec![Vec::new()];
    let mut varied = Vec::new();
    if sets_seed(sets) {
        return Err(Error::usage(format!("--set seed: {SEEDS_ARE_ALIKE}: --seeds N")));
    }
    for text in sets {
        let (key, values) = text.split_once('=').ok_or_else(|| {
            Error::usage(format!(
                "--set {text}: no `=`; expected section.key=A,B,C, such as kernel.step_size=0.05,0.1"
            ))
        })?;
        let values = listed(values);
        if combinations.len().saturating_mul(values.len()) > MOST {
            return Err(Error::usage(format!("--set {text}: more than {MOST} combinations")));
        }
        if values.len() > 1 {
            varied.push(key.trim().to_owned());
        }
        let with = |before: &Vec<String>| {
            values
                .iter()
                .map(|value| [before.as_slice(), &[format!("{key}={value}")]].concat())
                .collect::<Vec<_>>()
        };
        combinations = combinations.iter().flat_map(with).collect();
    }
    // The only key with several values.
    let swept = if let [key] = varied.as_slice() { Some(key.clone()) } else { None };
    let method = |set: Vec<String>| {
        let name = if set.is_empty() { "as it is".to_owned() } else { set.join(", ") };
        let overrides = Overrides { seed: Some(0), steps: None, set: set.clone() };
        let resolved = Config::load(config, &overrides)?.config;
        let swept = swept.as_ref().and_then(|key| {
            set.iter()
                .find_map(|text| text.split_once('=').filter(|(name, _)| name.trim() == key)?.1.parse().ok())
        });
        Ok(Method { slug: slug(&name), name, config: config.to_owned(), set, swept, resolved })
    };
    let methods = combinations.into_iter().map(method).collect::<Result<Vec<Method>, Error>>()?;
    for method in &methods {
        if let Some(why) = methods[0].other_problem(&method.resolved) {
            return Err(Error::usage(format!("--set {}: {why}", method.name)));
        }
    }
    let title = match sets {
        [] => config.display().to_string(),
        sets => format!("{}: {}", config.display(), sets.join("; ")),
    };
    let plan = Plan::checked(title, methods, (0..seeds).collect())?;
    Ok(Plan { swept, ..plan })
}

/// The values between commas that stand in no bracket and no quotes.
fn listed(text: &str) -> Vec<&str> {
    let (mut depth, mut quoted, mut begin, mut values) = (0i32, false, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                values.push(text[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    values.push(text[begin..].trim());
    values
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn values_stand_between_commas() {
        assert_eq!(listed("0.1, 0.2,0.5"), ["0.1", "0.2", "0.5"]);
        assert_eq!(listed("[8, 8],[16]"), ["[8, 8]", "[16]"]);
        let tables = r#"{ kind = "sgd", learning_rate = 0.1 },{ kind = "a,b" }"#;
        assert_eq!(listed(tables), [r#"{ kind = "sgd", learning_rate = 0.1 }"#, r#"{ kind = "a,b" }"#]);
        assert_eq!(listed("one"), ["one"]);
    }
}
