//! The report of a run: one HTML page with its curves, pictures, figures and config, complete in itself.
//!
//! No script and nothing from a network: the style is inline, curves are inline SVG with decimals (a bitmap's whole pixels make steps
//! of slow curves) and colours of the page's style, so that they turn with light and dark; pictures are data URIs. A curve has at
//! most [`MOST_POINTS`] points whatever the length of the run. All text from files is escaped.

use std::path::Path;

use crate::error::Error;
use crate::store::checkpoint::atomic;

mod chart;
mod curves;
mod figures;
mod page;
mod scale;
mod series;
mod source;

pub(in crate::view) use page::{POLICY, STYLE};
pub use series::{MOST_POINTS, Point, thin};

/// Reads the run folder `run` and writes the page to `out`: complete, or as it was before.
///
/// # Errors
/// No run folder, no metric line in it, damaged metrics (exit code 2), or an output that cannot be written.
pub fn write(run: &Path, out: &Path) -> Result<(), Error> {
    let source = source::read(run)?;
    let html = page::html(&source);
    atomic::write_file(out, |file| std::io::Write::write_all(file, html.as_bytes()))
}

/// Text as HTML shows it, also inside an attribute.
pub(in crate::view) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// A number for people: five digits, an exponent where it is far from 1.
pub(in crate::view) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "—".to_owned();
    }
    let size = value.abs();
    let text = if value == 0.0 || (value.fract() == 0.0 && size < 1e7) {
        format!("{value:.0}")
    } else if (1e-3..1e6).contains(&size) {
        let decimals = (4.0 - size.log10().floor()).clamp(0.0, 6.0) as usize;
        let text = format!("{value:.decimals$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{value:.2e}")
    };
    text.replace('-', "−")
}
