//! A sweep of one number: the error against it.

use std::fmt::Write;

use super::{Method, Page};
use crate::view::report::{escape, number};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 272.0;

/// Mass error, or KL where there are no masses, against the number that was swept; nothing where there is no such number.
pub(super) fn chart(page: &Page) -> String {
    let Some(key) = &page.swept else { return String::new() };
    let (what, of): (&str, fn(&Method) -> ember_sampler::statistics::Estimate) =
        match page.data_masses.is_empty() {
            true => ("KL, nats", |method| method.kl),
            false => ("mass error", |method| method.mass_error),
        };
    let mut points: Vec<(f64, f64, f64)> = page
        .methods
        .iter()
        .filter_map(|method| {
            let (value, error) = (method.swept?, of(method));
            let half = if error.standard_error.is_finite() { 2.0 * error.standard_error } else { 0.0 };
            error.value.is_finite().then_some((value, error.value, half))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    if first.0 >= last.0 {
        return String::new();
    }
    // By the logarithm where the numbers span more than a factor of five.
    let log = first.0 > 0.0 && last.0 / first.0 > 5.0;
    let place = |value: f64| if log { value.ln() } else { value };
    let x = |value: f64| {
        LEFT + (place(value) - place(first.0)) / (place(last.0) - place(first.0)) * (WIDTH - LEFT - RIGHT)
    };
    let most = points.iter().map(|(_, error, half)| error + half).fold(f64::MIN_POSITIVE, f64::max);
    let y = |error: f64| BOTTOM - error.max(0.0) / most * (BOTTOM - TOP);
    let mut svg = String::new();
    for tick in 0..=4 {
        let error = f64::from(tick) / 4.0 * most;
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(error) + 4.0,
            number(error),
            at = y(error)
        );
    }
    let mut line = String::new();
    for (i, &(value, error, half)) in points.iter().enumerate() {
        let (cx, cy) = (x(value), y(error));
        let _ = write!(line, "{}{cx:.1} {cy:.1}", if i == 0 { "M" } else { "L" });
        let _ = write!(
            svg,
            "<path class=\"line c0\" d=\"M{cx:.1} {:.1}V{:.1}\"/><circle class=\"dot c0\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\"/>\
             <text class=\"x\" x=\"{cx:.1}\" y=\"{:.1}\">{}</text>",
            y(error - half),
            y(error + half),
            BOTTOM + 18.0,
            number(value)
        );
    }
    format!(
        "<section id=\"swept\"><h2>Error against {key}</h2><p>{what}, mean over the seeds with two standard errors</p>\n<figure class=\"card\">\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{what} against {key}\">{svg}<path class=\"line c0\" d=\"{line}\"/>\
         <text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">{key}</text></svg></figure></section>\n",
        0.5 * (LEFT + WIDTH - RIGHT),
        HEIGHT - 8.0,
        key = escape(key)
    )
}
