//! The page around curves, pictures and figures.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::curves::curves;
use super::figures::{rows, text};
use super::source::{Picture, Source};
use super::{chart, escape, number};

pub(in crate::view) const STYLE: &str = include_str!("page.css");
/// Nothing is loaded from anywhere.
pub(in crate::view) const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

pub(super) fn html(source: &Source) -> String {
    let title = escape(&source.name);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · ember report</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    html += &header(source);
    html += &doubts(source);
    html += &newest_picture(source);
    html += &figures(source);
    html += &charts(source);
    html += &older_pictures(source);
    html += &events(source);
    let _ = write!(
        html,
        "<section id=\"config\"><h2>Config</h2><pre>{}</pre></section>\n</main>\n</body>\n</html>\n",
        escape(&source.config_text)
    );
    html
}

fn header(source: &Source) -> String {
    let kind = |section: &str| source.config(section, "kind");
    let what: Vec<String> = [
        kind("objective"),
        kind("energy").map(|kind| format!("energy {kind}")),
        kind("dataset").map(|kind| format!("data {kind}")),
        kind("kernel").map(|kind| format!("kernel {kind}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let steps = source.config("", "steps").and_then(|steps| steps.parse::<u64>().ok());
    let step = source.step();
    let update = match steps {
        Some(steps) if step >= steps => format!("{step} of {steps}, done"),
        Some(steps) => format!("{step} of {steps} ({:.0} %)", 100.0 * step as f64 / steps as f64),
        None => step.to_string(),
    };
    let environment = &source.state["environment"];
    let said = |key: &str| environment[key].as_str().map(ToOwned::to_owned);
    let facts = [
        ("update", Some(update)),
        ("training time", Some(duration(source.last().time_s))),
        ("device", said("device")),
        ("threads", environment["threads"].as_u64().map(|threads| threads.to_string())),
        ("walkers", source.config("walkers", "count")),
        ("seed", source.config("", "seed")),
        ("ember", said("ember_version")),
    ];
    let mut html = format!(
        "<header>\n<h1>{}</h1>\n<p class=\"what\">{}</p>\n<dl class=\"facts\">",
        escape(&source.name),
        escape(&what.join(" · "))
    );
    for (name, value) in facts {
        if let Some(value) = value {
            let _ = write!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
        }
    }
    html + "</dl>\n</header>\n"
}

/// Why the run's end is doubtful, as its newest checkpoint has it.
fn doubts(source: &Source) -> String {
    let found = source.state["extra"]["doubts"].as_array().filter(|doubts| !doubts.is_empty());
    let Some(found) = found else { return String::new() };
    let items: String = found.iter().map(|doubt| format!("<li>{}</li>", escape(&text(doubt)))).collect();
    format!("<section id=\"doubts\"><h2>Doubtful</h2><ul>{items}</ul></section>\n")
}

fn figures(source: &Source) -> String {
    let last = || serde_json::to_value(source.last()).unwrap_or_default();
    let (title, note, object) = match &source.eval {
        Some(eval) => {
            let step = eval["step"].as_u64();
            let note = match step {
                Some(step) if step < source.step() => {
                    format!("<code>ember eval</code> at update {step}; the run is at {}", source.step())
                }
                Some(step) => format!("<code>ember eval</code> at update {step}"),
                None => "<code>ember eval</code>".to_owned(),
            };
            ("Figures", note, eval.clone())
        }
        None => (
            "Last metrics",
            "nothing is in eval.jsonl yet: <code>ember eval</code> measures more".to_owned(),
            last(),
        ),
    };
    let mut html =
        format!("<section id=\"figures\"><h2>{title}</h2><p>{note}</p>\n<div class=\"scroll\"><table>");
    for row in rows(&object) {
        let remark = if row.remark.is_empty() {
            String::new()
        } else {
            format!("<small>{}</small>", escape(&row.remark))
        };
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}{remark}</td></tr>",
            escape(&row.name),
            escape(&row.value)
        );
    }
    html + "</table></div></section>\n"
}

fn charts(source: &Source) -> String {
    let last = source.last().step as f64;
    let events: Vec<f64> = source.events.iter().filter_map(|event| event["step"].as_f64()).collect();
    let count = match source.metrics.len() {
        1 => "1 metric line".to_owned(),
        count => format!("{count} metric lines"),
    };
    let mut html = format!("<section id=\"curves\"><h2>Curves</h2><p>by update, {count}");
    if !events.is_empty() {
        html += "; dashed upright lines: events, listed below";
    }
    html += "</p>\n";
    html += &chart::definitions();
    html += "<div class=\"charts\">\n";
    for curve in curves(&source.metrics) {
        html += &chart::figure(&curve, &events, last);
    }
    html + "</div></section>\n"
}

fn newest_picture(source: &Source) -> String {
    let Some(newest) = source.pictures.last() else { return String::new() };
    format!("<section id=\"picture\"><h2>Newest picture</h2>\n{}</section>\n", picture(newest, "newest"))
}

fn older_pictures(source: &Source) -> String {
    let Some((_, older)) = source.pictures.split_last().filter(|(_, older)| !older.is_empty()) else {
        return String::new();
    };
    // Grids of images need the room of a row each.
    let wide = older.iter().any(is_wide);
    let mut html = format!(
        "<section id=\"pictures\"><h2>Pictures over time</h2>\n<div class=\"pictures{}\">",
        if wide { " rows" } else { "" }
    );
    for old in older {
        html += &picture(old, "older");
    }
    html + "</div></section>\n"
}

fn is_wide(picture: &Picture) -> bool {
    let (width, height) = picture.size();
    f64::from(width) > 1.9 * f64::from(height)
}

fn picture(picture: &Picture, class: &str) -> String {
    let (width, height) = picture.size();
    let wide = if is_wide(picture) { " wide" } else { "" };
    format!(
        "<figure class=\"picture {class}{wide}\"><div class=\"scroll\"><img alt=\"samples at update {step}\" width=\"{width}\" \
         height=\"{height}\" src=\"data:image/png;base64,{}\"></div><figcaption>update {step}</figcaption></figure>\n",
        STANDARD.encode(&picture.png),
        step = picture.step,
    )
}

fn events(source: &Source) -> String {
    if source.events.is_empty() {
        return String::new();
    }
    let mut html = "<section id=\"events\"><h2>Events</h2>\n<div class=\"scroll\"><table>\
                    <tr><th>update</th><th>event</th><th>details</th></tr>"
        .to_owned();
    for event in &source.events {
        let entries = event.as_object().into_iter().flatten();
        let details: Vec<String> = entries
            .filter(|(key, _)| !["step", "event"].contains(&key.as_str()))
            .map(|(key, value)| format!("{}: {}", key.replace('_', " "), text(value)))
            .collect();
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            escape(&text(&event["step"])),
            escape(&text(&event["event"])),
            escape(&details.join("; "))
        );
    }
    html + "</table></div></section>\n"
}

/// `1 h 03 min`, `3 min 12 s`, `12.3 s`.
fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return number(f64::NAN);
    }
    let whole = seconds.round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{} s", number((seconds * 10.0).round() / 10.0)),
        (0, minutes) => format!("{minutes} min {rest:02} s"),
        (hours, minutes) => format!("{hours} h {minutes:02} min"),
    }
}
