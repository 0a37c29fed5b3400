//! Whether the figures of `RESULTS.md` still hold: each is found again in what its own command prints.

mod number;

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

pub use number::{Number, numbers};

/// `figures.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Commands and their figures.
    pub row: Vec<Row>,
}

/// A command and the figures that it gives.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What the row is called.
    pub name: String,
    /// Run by bash in the folder of the workspace, with `EMBER` and `FIGURES` set.
    pub command: String,
    /// About how many minutes it takes on one core.
    pub minutes: f64,
    /// Environment variables without which it cannot run.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Whether its figures are of the machine that they were measured on: it runs only where it is named.
    #[serde(default)]
    pub is_speed: bool,
    /// What it gives.
    pub figure: Vec<Figure>,
}

/// A figure: where RESULTS.md has it, where the command prints it, and when the two agree.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// What it is.
    pub what: String,
    /// The text of RESULTS.md that says it; its first number is the figure, with its standard error where it has one. Part of a
    /// table's row, so that it occurs once.
    pub written: String,
    /// Which of that text's numbers; the first unless given.
    #[serde(default)]
    pub written_number: usize,
    /// What the lines of output contain that have it.
    pub line: String,
    /// A pointer into the JSON of that line, such as `/kl/value`; else the number is counted in its text.
    pub json: Option<String>,
    /// Which number behind `line`; the first unless given.
    #[serde(default)]
    pub number: usize,
    /// What the command's number times this is what RESULTS.md writes: −1 for a log-likelihood of a cross-entropy, 1e-6 for MB of bytes.
    #[serde(default = "one")]
    pub times: f64,
    /// The standard error of the new value is the number behind it.
    #[serde(default)]
    pub se_follows: bool,
    /// Of many lines, the largest value; else the first line's.
    #[serde(default)]
    pub largest: bool,
    /// What one value may lie from another by chance, where RESULTS.md has no standard error: the scatter of runs.
    pub scatter: Option<f64>,
    /// The new value may be this many times the old, or this part of it.
    pub ratio: Option<f64>,
    /// The new value may be this at most: a target that the text says is met.
    pub at_most: Option<f64>,
    /// The new value must be this at least.
    pub at_least: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// What came of a figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not: what was found, and what may be.
    Differs(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Holds => write!(f, "holds"),
            Self::Differs(what) => write!(f, "{what}"),
        }
    }
}

impl Figure {
    /// The figure as RESULTS.md has it.
    ///
    /// # Errors
    /// A text that is not in `results`, or is there more than once, or has no such number.
    pub fn written(&self, results: &str) -> Result<Number, String> {
        match results.matches(&self.written).count() {
            1 => {}
            0 => return Err(format!("RESULTS.md does not say \"{}\"", self.written)),
            times => return Err(format!("RESULTS.md says \"{}\" {times} times", self.written)),
        }
        let found = numbers(&self.written);
        found
            .get(self.written_number)
            .copied()
            .ok_or_else(|| format!("\"{}\" has {} numbers", self.written, found.len()))
    }

    /// The figure in what its command printed: the value, and its standard error where it has one.
    ///
    /// # Errors
    /// No such line, or no such number in it.
    pub fn found(&self, output: &str) -> Result<(f64, Option<f64>), String> {
        let all: Vec<_> = output
            .lines()
            .filter_map(|line| line.split_once(&self.line).map(|(_, rest)| (line, rest)))
            .filter_map(|(line, rest)| self.in_line(line, rest))
            .collect();
        let all: Vec<_> = all
            .into_iter()
            .map(|(value, se)| (value * self.times, se.map(|se| se * self.times.abs())))
            .collect();
        let largest = || all.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0));
        let found = if self.largest { largest() } else { all.first().copied() };
        found.ok_or_else(|| {
            format!("the command printed no such figure: no line has it behind \"{}\"", self.line)
        })
    }

    fn in_line(&self, line: &str, rest: &str) -> Option<(f64, Option<f64>)> {
        if let Some(pointer) = &self.json {
            let json: Value = serde_json::from_str(line.get(line.find('{')?..)?).ok()?;
            let beside = pointer.strip_suffix("/value").map(|of| format!("{of}/standard_error"));
            let error = beside.and_then(|pointer| json.pointer(&pointer)?.as_f64()).filter(|&se| se > 0.0);
            return Some((json.pointer(pointer)?.as_f64()?, error));
        }
        let found = numbers(rest);
        let number = found.get(self.number)?;
        let behind = || found.get(self.number + 1).filter(|_| self.se_follows).map(|number| number.value);
        Some((number.value, number.standard_error.or_else(behind)))
    }

    /// Whether a new value agrees with what is written: within four standard errors of the difference, a ratio, a bound, or else one of the
    /// last digit.
    pub fn verdict(&self, written: Number, (value, error): (f64, Option<f64>)) -> Verdict {
        let bounds = [
            self.at_most.filter(|&most| value > most).map(|most| format!("at most {most}")),
            self.at_least.filter(|&least| value < least).map(|least| format!("at least {least}")),
        ];
        if let Some(bound) = bounds.into_iter().flatten().next() {
            return Verdict::Differs(format!("found {value}, expected {bound}"));
        }
        let is_bounded = self.at_most.is_some() || self.at_least.is_some();
        let own = written.standard_error.or(self.scatter);
        let (low, high) = match (self.ratio, own) {
            (Some(ratio), _) => (written.value / ratio, written.value * ratio),
            (None, Some(own)) => {
                let se = 4.0 * own.hypot(error.unwrap_or(own));
                (written.value - se, written.value + se)
            }
            (None, None) if is_bounded => return Verdict::Holds,
            (None, None) => {
                (written.value - 1.01 * written.last_digit, written.value + 1.01 * written.last_digit)
            }
        };
        match (low.min(high)..=low.max(high)).contains(&value) {
            true => Verdict::Holds,
            false => Verdict::Differs(format!(
                "found {}, expected {} to {}",
                digits(value),
                digits(low.min(high)),
                digits(low.max(high))
            )),
        }
    }
}

/// Five decimals, or of small numbers as many digits.
fn digits(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.3e}") } else { format!("{value:.5}") }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Figures, Verdict};

    fn figure(table: &str) -> Figure {
        toml::from_str(&format!("what = \"a figure\"\n{table}")).expect("a figure")
    }

    #[test]
    fn what_holds_holds_and_what_does_not_is_said() {
        let figure = figure("written = '| 0.33 ± 0.01 |'\nline = 'run-0'\njson = '/kl/value'");
        let written = figure.written("a | 0.33 ± 0.01 | b").expect("written");
        let found = |value: f64| {
            let output = format!("other 3\nrun-0 {{\"kl\":{{\"value\":{value},\"standard_error\":0.01}}}}");
            figure.verdict(written, figure.found(&output).expect("found"))
        };
        assert_eq!(found(0.33), Verdict::Holds);
        assert_eq!(found(0.38), Verdict::Holds);
        assert!(matches!(found(0.39), Verdict::Differs(what) if what.contains("0.39")));
        assert!(figure.found("run-1 {}").is_err());
        assert!(figure.written("0.33 ± 0.02").is_err());
    }

    #[test]
    fn ratios_bounds_and_digits() {
        let check = |table: &str, written: &str, output: &str| {
            let figure = figure(&format!("written = '{written}'\nline = 'x'\n{table}"));
            figure.verdict(figure.written(written).expect("written"), figure.found(output).expect("found"))
        };
        assert_eq!(check("ratio = 1.5", "20 MB", "x 29"), Verdict::Holds);
        assert!(matches!(check("ratio = 1.5", "20 MB", "x 31"), Verdict::Differs(_)));
        assert_eq!(check("at_most = 1e-4\nlargest = true", "3e-6", "x 1e-6\nx 9e-5"), Verdict::Holds);
        assert!(matches!(
            check("at_most = 1e-4\nlargest = true", "3e-6", "x 1e-6\nx 2e-4"),
            Verdict::Differs(_)
        ));
        assert_eq!(check("", "1.27", "x 1.28"), Verdict::Holds);
        assert!(matches!(check("", "1.27", "x 1.29"), Verdict::Differs(_)));
    }

    /// The two files are edited together, or this fails.
    #[test]
    fn every_figure_is_in_the_results() {
        let read = |name: &str| {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            std::fs::read_to_string(path).expect("a file of this folder")
        };
        let figures: Figures = toml::from_str(&read("figures.toml")).expect("rows and figures");
        let results = read("RESULTS.md");
        let wrong: Vec<String> = figures
            .row
            .iter()
            .flat_map(|row| row.figure.iter().map(move |figure| (row, figure)))
            .filter_map(|(row, figure)| {
                figure.written(&results).err().map(|error| format!("{}, {}: {error}", row.name, figure.what))
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
