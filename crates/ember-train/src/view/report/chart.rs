//! A chart as inline SVG: colours and fonts are the page's style.

use std::fmt::Write;

use super::curves::{Curve, Line};
use super::scale::Scale;
use super::series::Point;
use super::{escape, number};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 236.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;
/// Half the width of a digit at the largest size the page's style has for labels, 15 px.
const HALF_DIGIT: f64 = 4.5;

/// The chart of `curve` as a `<figure>`; `events` are updates to mark, `last` is the run's newest update.
pub(super) fn figure(curve: &Curve, events: &[f64], last: f64) -> String {
    let shown = |line: &Line| line.points.iter().filter(|p| p.y.is_finite()).map(|p| p.y).collect::<Vec<_>>();
    let y = Scale::of(curve.axis, curve.lines.iter().flat_map(shown).collect());
    let frame = Frame { x: Scale::updates(last), y };
    let mut svg = frame.axes();
    if let Some(level) = curve.level.filter(|&level| y.holds(level)) {
        let at = frame.y(level);
        let _ = write!(svg, r#"<path class="level" d="M{LEFT} {at:.1}H{:.1}"/>"#, WIDTH - RIGHT);
    }
    for &event in events.iter().filter(|&&event| frame.x.holds(event)) {
        let at = frame.x(event);
        let _ = write!(svg, r#"<path class="event" d="M{at:.1} {TOP}V{:.1}"/>"#, HEIGHT - BOTTOM);
    }
    let _ = write!(svg, r#"<g clip-path="url(#plot)">"#);
    for (i, line) in curve.lines.iter().enumerate() {
        let class = if line.means.is_empty() { "line" } else { "line noisy" };
        svg += &frame.line(&line.points, class, i);
        svg += &frame.line(&line.means, "line", i);
    }
    svg += "</g>";
    let outside = curve.lines.iter().flat_map(shown).filter(|&value| !y.holds(value)).count();
    let mut note = curve.note.clone();
    if outside > 0 {
        let plural = if outside == 1 { "point lies" } else { "points lie" };
        let _ = write!(note, "{}{outside} {plural} outside", if note.is_empty() { "" } else { "; " });
    }
    let title = escape(curve.title);
    let id = curve.id;
    format!(
        "<figure class=\"card\" id=\"curve-{id}\"><figcaption><h3>{title}</h3>{}<p>{}</p></figcaption>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title} by update\">{svg}</svg></figure>\n",
        legend(&curve.lines),
        escape(&note)
    )
}

fn legend(lines: &[Line]) -> String {
    let mut html = "<ul class=\"legend\">".to_owned();
    for (i, line) in lines.iter().enumerate() {
        let last = line.last.map_or_else(String::new, |(value, half)| {
            if half > 0.0 { format!("{} ± {}", number(value), number(half)) } else { number(value) }
        });
        let _ = write!(html, "<li><i class=\"c{i}\"></i>{} <b>{last}</b></li>", escape(&line.name));
    }
    html + "</ul>"
}

/// The clipping path all charts share, once in a page.
pub(super) fn definitions() -> String {
    // Room for half a dot at the ends.
    let (left, width, height) = (LEFT - 4.0, WIDTH - LEFT - RIGHT + 8.0, HEIGHT - TOP - BOTTOM);
    format!(
        "<svg class=\"hidden\" aria-hidden=\"true\"><clipPath id=\"plot\">\
         <rect x=\"{left}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\"/></clipPath></svg>\n"
    )
}

struct Frame {
    x: Scale,
    y: Scale,
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        LEFT + self.x.at(value) * (WIDTH - LEFT - RIGHT)
    }

    /// Kept near the picture: no browser likes coordinates of 10³⁰.
    fn y(&self, value: f64) -> f64 {
        let at = HEIGHT - BOTTOM - self.y.at(value) * (HEIGHT - TOP - BOTTOM);
        at.clamp(-HEIGHT, 2.0 * HEIGHT)
    }

    fn axes(&self) -> String {
        let mut svg = String::new();
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in self.y.ticks(5) {
            let at = self.y(value);
            let _ = write!(
                svg,
                r#"<path class="grid" d="M{LEFT} {at:.1}H{right}"/><text class="y" x="{:.1}" y="{:.1}">{label}</text>"#,
                LEFT - 7.0,
                at + 4.0
            );
        }
        for (value, label) in self.x.ticks(6).into_iter().filter(|(value, _)| value.fract() == 0.0) {
            let at = self.x(value);
            // Under its tick, but for the last one, whose end would lie outside.
            let middle = at.min(WIDTH - HALF_DIGIT * label.chars().count() as f64);
            let _ = write!(
                svg,
                r#"<path class="axis" d="M{at:.1} {bottom}v4"/><text class="x" x="{middle:.1}" y="{:.1}">{label}</text>"#,
                bottom + 18.0
            );
        }
        let _ = write!(svg, r#"<path class="axis" d="M{LEFT} {bottom}H{right}"/>"#);
        svg
    }

    /// Its band, then the line in pieces between values that are not finite; a lonely point is a dot.
    fn line(&self, points: &[Point], class: &str, color: usize) -> String {
        let mut svg = String::new();
        for piece in points.split(|point| !point.y.is_finite()).filter(|piece| !piece.is_empty()) {
            if piece.iter().any(|point| point.half > 0.0) {
                let at = |point: &Point, sign: f64| {
                    format!("{:.1},{:.1} ", self.x(point.x), self.y(point.y + sign * point.half))
                };
                let upper = piece.iter().map(|point| at(point, 1.0));
                let band: String = upper.chain(piece.iter().rev().map(|point| at(point, -1.0))).collect();
                let _ = write!(svg, r#"<polygon class="band c{color}" points="{}"/>"#, band.trim_end());
            }
            if let [point] = piece {
                let (x, y) = (self.x(point.x), self.y(point.y));
                let _ = write!(svg, r#"<circle class="dot c{color}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#);
                continue;
            }
            let points: Vec<String> =
                piece.iter().map(|p| format!("{:.1},{:.1}", self.x(p.x), self.y(p.y))).collect();
            let _ = write!(svg, r#"<polyline class="{class} c{color}" points="{}"/>"#, points.join(" "));
        }
        svg
    }
}
