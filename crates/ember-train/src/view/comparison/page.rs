//! The page around densities and charts.

use std::fmt::Write;

use ember_sampler::statistics::Estimate;

use super::{Method, Page, chart, density, swept};
use crate::view::report::{POLICY, STYLE, escape, number};

const OWN_STYLE: &str = "\
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 230px), 1fr)); gap: 14px; margin-top: 12px; }
.truth { fill: none; stroke: var(--ink); stroke-width: 1; }
.map { display: block; width: 100%; height: auto; margin-top: 8px; background: #fff; image-rendering: auto; }
#methods td, #methods th { white-space: nowrap; }
#commands dt { margin-top: 12px; font-weight: 600; } #commands dd { margin: 0; } #commands code { overflow-wrap: anywhere; }
";

/// The HTML of a page.
pub fn page(page: &Page) -> String {
    let title = escape(&page.title);
    let seeds: Vec<String> = page.seeds.iter().map(ToString::to_string).collect();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · ember compare</title>\n\
         <style>\n{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n<main>\n<header><h1>{title}</h1>\n\
         <p class=\"what\">{} methods, seeds {}: <code>{}</code></p></header>\n",
        page.methods.len(),
        seeds.join(", "),
        escape(&page.command)
    );
    html += &density::panels(&page.panels);
    html += &chart::masses(page);
    html += &table(page);
    html += &swept::chart(page);
    html += &chart::cost(page);
    html += &failures(page);
    html += &commands(page);
    html + "</main>\n</body>\n</html>\n"
}

/// A column's head and what it says of a method.
type Column = (&'static str, fn(&Method) -> String);

fn table(page: &Page) -> String {
    let columns: [Column; 6] =
        [
            ("mass error", |method| estimate(&method.mass_error)),
            ("KL, nats", |method| estimate(&method.kl)),
            ("log Z error", |method| estimate(&method.log_z_error)),
            ("ess", |method| {
                if method.ess.value.is_nan() { String::new() } else { format!("{:.2}", method.ess.value) }
            }),
            ("evaluations", |method| format!("{:.1e}", method.evaluations as f64)),
            ("seconds", |method| estimate(&method.seconds)),
        ];
    let filled: Vec<_> =
        columns.iter().filter(|(_, of)| page.methods.iter().any(|method| !of(method).is_empty())).collect();
    let mut html = "<section id=\"methods\"><h2>Methods</h2><p>means over the seeds, ± one standard error; mass error: the largest \
                    distance of a mode's mass from the training data's</p>\n<div class=\"scroll\"><table><tr><th>method</th>"
        .to_owned();
    for (name, _) in &filled {
        let _ = write!(html, "<th>{name}</th>");
    }
    html += "</tr>\n";
    for method in &page.methods {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(&method.name));
        for (_, of) in &filled {
            let _ = write!(html, "<td>{}</td>", escape(&of(method)));
        }
        html += "</tr>\n";
    }
    html += "</table></div>";
    if !page.law_masses.is_empty() {
        let masses = |masses: &[f64]| masses.iter().map(|&mass| number(mass)).collect::<Vec<_>>().join(" · ");
        let _ = write!(
            html,
            "<p>masses of the training data: {}; of the law: {}</p>",
            masses(&page.data_masses),
            masses(&page.law_masses)
        );
    }
    html + "</section>\n"
}

/// A value to the second digit of its standard error.
fn estimate(estimate: &Estimate) -> String {
    let (value, error) = (estimate.value, estimate.standard_error);
    if value.is_nan() {
        return String::new();
    }
    if error.is_nan() || error <= 0.0 {
        return number(value);
    }
    match 1 - error.log10().floor() as i32 {
        decimals @ 0..=7 => {
            let decimals = decimals as usize;
            format!("{value:.decimals$} ± {error:.decimals$}").replace('-', "−")
        }
        _ => format!("{} ± {}", number(value), number(error)),
    }
}

fn failures(page: &Page) -> String {
    let items: String = page
        .methods
        .iter()
        .flat_map(|method| method.failures.iter().map(move |(seed, why)| (method, seed, why)))
        .map(|(method, seed, why)| format!("<li>{}, seed {seed}: {}</li>", escape(&method.name), escape(why)))
        .collect();
    if items.is_empty() {
        return String::new();
    }
    format!("<section id=\"failures\"><h2>Runs that failed</h2><ul>{items}</ul></section>\n")
}

fn commands(page: &Page) -> String {
    let mut html = "<section id=\"commands\"><h2>Commands</h2><p>of the first seed; the figures are those of <code>ember eval RUN</code></p>\n<dl>"
        .to_owned();
    for method in &page.methods {
        let _ = write!(
            html,
            "<dt>{}</dt><dd><code>{}</code></dd>",
            escape(&method.name),
            escape(&method.command)
        );
    }
    html + "</dl></section>\n"
}

#[cfg(test)]
mod tests {
    use ember_sampler::statistics::Estimate;

    #[test]
    fn values_end_where_their_errors_do() {
        let said = |value, standard_error| super::estimate(&Estimate { value, standard_error });
        assert_eq!(said(0.006151, 0.002148), "0.0062 ± 0.0021");
        assert_eq!(said(-12.345, 1.25), "−12.3 ± 1.2");
        assert_eq!(said(0.19274, 1.37e-10), "0.19274 ± 1.37e−10");
        assert_eq!(said(3.0, f64::NAN), "3");
        assert_eq!(said(f64::NAN, f64::NAN), "");
        assert_eq!(said(0.5, 0.0), "0.5");
    }
}
