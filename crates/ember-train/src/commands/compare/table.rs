//! The table on stdout.

use std::fmt::Write;

use ember_sampler::statistics::Estimate;

use super::results::{Results, Summary};

/// Modes whose masses have columns of their own: of more, the error says enough.
const MOST_MODES: usize = 3;

/// One line a method, means with standard errors over the seeds.
pub fn table(results: &Results) -> String {
    let modes = results.data_masses.len();
    let shown = if modes <= MOST_MODES { modes } else { 0 };
    let mut head = vec!["method".to_owned()];
    head.extend((0..shown).map(|k| format!("mass {}", k + 1)));
    head.extend(
        ["mass error", "KL", "log Z error", "ess", "evaluations", "seconds", ""].map(ToOwned::to_owned),
    );
    let mut rows = vec![head];
    if shown > 0 {
        let mut data = vec!["(the training data)".to_owned()];
        data.extend(results.data_masses.iter().map(|mass| format!("{mass:.4}")));
        rows.push(data);
    }
    rows.extend(results.methods.iter().map(|method| row(method, shown)));
    // A column that nobody fills is left out.
    let columns = rows[0].len();
    let filled: Vec<bool> = (0..columns)
        .map(|c| c == 0 || rows.iter().skip(1).any(|row| row.get(c).is_some_and(|cell| !cell.is_empty())))
        .collect();
    let width = |c: usize| {
        rows.iter().filter_map(|row| row.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text =
        format!("{}\n{} seeds; ± is one standard error over them\n\n", results.title, results.seeds.len());
    for row in &rows {
        let mut line = String::new();
        for c in (0..columns).filter(|&c| filled[c]) {
            let cell = row.get(c).map_or("", String::as_str);
            let _ = match c {
                0 => write!(line, "{cell:<0$}", width(c)),
                _ => write!(line, "  {cell:>0$}", width(c)),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn row(method: &Summary, shown: usize) -> Vec<String> {
    let mut row = vec![method.name.clone()];
    row.extend((0..shown).map(|k| method.masses.get(k).map_or_else(String::new, decimals)));
    row.extend([
        decimals(&method.mass_error),
        decimals(&method.kl),
        decimals(&method.log_z_error),
        if method.ess.value.is_nan() { String::new() } else { format!("{:.2}", method.ess.value) },
        format!("{:.1e}", method.evaluations as f64),
        if method.seconds.value.is_nan() { String::new() } else { format!("{:.1}", method.seconds.value) },
    ]);
    row.push(match method.failed {
        0 => String::new(),
        failed => format!("{failed} of {} failed", method.runs.len()),
    });
    row
}

/// Four decimals and the standard error, where there are two seeds or more.
fn decimals(estimate: &Estimate) -> String {
    match (estimate.value.is_nan(), estimate.standard_error.is_nan()) {
        (true, _) => String::new(),
        (false, true) => format!("{:.4}", estimate.value),
        (false, false) => format!("{:.4} ± {:.4}", estimate.value, estimate.standard_error),
    }
}
