//! Charts as inline SVG: a mass of each method beside the truth's line, and error against cost.

use std::fmt::Write;

use ember_sampler::statistics::Estimate;

use super::axis::{Axis, bar};
use super::{Method, Page};
use crate::view::report::{escape, number};

const WIDTH: f64 = 720.0;
const LEFT: f64 = 190.0;
const RIGHT: f64 = 90.0;
const ROW: f64 = 26.0;
/// Of more modes the table's error says enough.
const MOST_MODES: usize = 9;

/// One chart a mode; of two modes the second alone, for the first is the rest.
pub(super) fn masses(page: &Page) -> String {
    let modes = page.data_masses.len();
    if modes == 0 || modes > MOST_MODES {
        return String::new();
    }
    let mut html = "<section id=\"masses\"><h2>Masses of the modes</h2><p>of the model, mean over the seeds with two standard errors; \
                    dashed: the training data's; the axis is the same for all modes and need not begin at 0</p>\n<div class=\"charts\">"
        .to_owned();
    let shown = if modes == 2 { 1..2 } else { 0..modes };
    let masses = page.methods.iter().flat_map(|method| shown.clone().filter_map(|k| method.masses.get(k)));
    let axis = Axis::of(masses.copied(), &page.data_masses[shown.clone()]);
    for k in shown {
        let of = |method: &Method| method.masses.get(k).copied();
        let _ = write!(
            html,
            "<figure class=\"card\"><figcaption><h3>mode {}</h3></figcaption>{}</figure>",
            k + 1,
            dots(&page.methods, &of, page.data_masses[k], axis)
        );
    }
    html + "</div></section>\n"
}

/// A dot with its bar for each method, and an upright line at `truth`.
fn dots(methods: &[Method], of: &dyn Fn(&Method) -> Option<Estimate>, truth: f64, axis: Axis) -> String {
    let height = ROW * methods.len() as f64 + 30.0;
    let x = |value: f64| LEFT + axis.at(value) * (WIDTH - LEFT - RIGHT);
    let bottom = height - 24.0;
    let mut svg = String::new();
    for tick in axis.ticks() {
        let at = x(tick);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} 0V{bottom}\"/><text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{}</text>",
            height - 8.0,
            number(tick)
        );
    }
    let _ = write!(svg, "<path class=\"level\" d=\"M{at:.1} 0V{bottom}\"/>", at = x(truth));
    for (i, method) in methods.iter().enumerate() {
        let y = ROW * (i as f64 + 0.5);
        let _ = write!(svg, "<text x=\"0\" y=\"{:.1}\">{}</text>", y + 4.0, escape(&short(&method.name)));
        let Some(mass) = of(method) else { continue };
        let Some([low, high]) = bar(&mass) else { continue };
        let _ = write!(
            svg,
            "<path class=\"line c0\" d=\"M{:.1} {y}H{:.1}\"/><circle class=\"dot c0\" cx=\"{:.1}\" cy=\"{y}\" r=\"4\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x(low),
            x(high),
            x(mass.value),
            WIDTH - RIGHT + 14.0,
            y + 4.0,
            number(mass.value)
        );
    }
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"masses\">{svg}</svg>")
}

/// Names that a chart has room for.
fn short(name: &str) -> String {
    const MOST: usize = 28;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    name.chars().take(MOST - 1).chain(['…']).collect()
}

/// Mass error, or KL where there are no masses, against evaluations: both by the logarithm.
pub(super) fn cost(page: &Page) -> String {
    let (what, of): (&str, fn(&Method) -> f64) = match page.data_masses.is_empty() {
        true => ("KL, nats", |method| method.kl.value),
        false => ("mass error", |method| method.mass_error.value),
    };
    let shown: Vec<(usize, &Method, f64)> = page
        .methods
        .iter()
        .enumerate()
        .map(|(i, method)| (i, method, of(method)))
        .filter(|(_, method, error)| error.is_finite() && *error > 0.0 && method.evaluations > 0)
        .collect();
    if shown.is_empty() {
        return String::new();
    }
    let range = |values: Vec<f64>| {
        let (low, high) = values.iter().fold((f64::INFINITY, 0.0_f64), |(l, h), &v| (l.min(v), h.max(v)));
        // Whole decades, at least one.
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        (low, if high > low { high } else { low + 1.0 })
    };
    let xs = range(shown.iter().map(|(_, method, _)| method.evaluations as f64).collect());
    let ys = range(shown.iter().map(|(_, _, error)| *error).collect());
    let (left, right, top, bottom, height) = (64.0, 200.0, 12.0, 300.0, 336.0);
    let x = |value: f64| left + (value.log10() - xs.0) / (xs.1 - xs.0) * (WIDTH - left - right);
    let y = |value: f64| bottom - (value.log10() - ys.0) / (ys.1 - ys.0) * (bottom - top);
    let mut svg = String::new();
    for exponent in xs.0 as i32..=xs.1 as i32 {
        let at = x(10f64.powi(exponent));
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {top}V{bottom}\"/><text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">1e{exponent}</text>",
            bottom + 18.0
        );
    }
    for exponent in ys.0 as i32..=ys.1 as i32 {
        let at = y(10f64.powi(exponent));
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{left} {at:.1}H{:.1}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">1e{exponent}</text>",
            WIDTH - right,
            left - 8.0,
            at + 4.0
        );
    }
    // Labels that would cover one another stand lower.
    let mut labels: Vec<f64> = Vec::new();
    for (i, method, error) in shown {
        let (cx, cy) = (x(method.evaluations as f64), y(error));
        let mut label = cy + 4.0;
        while labels.iter().any(|other| (other - label).abs() < 13.0) && label < height {
            label += 13.0;
        }
        labels.push(label);
        let _ = write!(
            svg,
            "<circle class=\"dot c{c}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"5\"/><path class=\"grid\" d=\"M{:.1} {cy:.1}L{:.1} {:.1}\"/>\
             <text x=\"{:.1}\" y=\"{label:.1}\">{}</text>",
            cx + 6.0,
            WIDTH - right + 6.0,
            label - 4.0,
            WIDTH - right + 10.0,
            escape(&short(&method.name)),
            c = i % 8,
        );
    }
    format!(
        "<section id=\"cost\"><h2>Error against cost</h2><p>{what} against the energies with gradients of single samples that one training \
         took</p>\n<figure class=\"card\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{what} against evaluations\">{svg}\
         <text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">evaluations</text></svg></figure></section>\n",
        0.5 * (left + WIDTH - right),
        height - 2.0
    )
}
