//! Densities side by side: curves on one axis, maps by one scale of colours, which ends at the truth's peak.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use super::{Panel, Shown};
use crate::view::plot::{Density2d, Grid2d, SPAN, Scale};
use crate::view::report::escape;

const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 150.0;
const BASE: f64 = 128.0;

/// Every panel, the first one being what the others are held against.
pub(super) fn panels(panels: &[Panel]) -> String {
    if panels.is_empty() {
        return String::new();
    }
    let peak = panels.iter().filter_map(|panel| match &panel.shown {
        Shown::Curve { y, .. } => y.iter().copied().filter(|y| y.is_finite()).reduce(f64::max),
        Shown::Map(_) => None,
    });
    let peak = peak.fold(0.0, f64::max);
    let scale = panels.iter().find_map(|panel| match &panel.shown {
        Shown::Map(grid) => Some(Scale::of(&Density2d::new(grid))),
        Shown::Curve { .. } => None,
    });
    let first = &panels[0].shown;
    let note = match first {
        Shown::Curve { .. } => {
            "the density of the first coordinate, all on one scale; the line is the data's law".to_owned()
        }
        Shown::Map(_) => {
            format!("by the logarithm, {SPAN:.0} nats from the darkest colour to white, all on one scale")
        }
    };
    let mut html = format!(
        "<section id=\"densities\"><h2>Densities</h2><p>{note}; first seed</p>\n<div class=\"panels\">"
    );
    for panel in panels {
        let drawn = match (&panel.shown, scale) {
            (Shown::Curve { x, y }, _) => curve(x, y, first, peak),
            (Shown::Map(grid), Some(scale)) => map(grid, scale, &panel.name),
            (Shown::Map(_), None) => String::new(),
        };
        let _ = write!(
            html,
            "<figure class=\"card\"><figcaption><h3>{}</h3></figcaption>{drawn}</figure>",
            escape(&panel.name)
        );
    }
    html + "</div></section>\n"
}

fn curve(x: &[f64], y: &[f64], truth: &Shown, peak: f64) -> String {
    let (low, high) = (x[0], x[x.len() - 1]);
    let at = |x: f64, y: f64| {
        let height = if y.is_finite() { (y / peak).clamp(0.0, 1.0) } else { 0.0 };
        format!("{:.1},{:.1}", WIDTH * (x - low) / (high - low), BASE - height * (BASE - 8.0))
    };
    let points = |y: &[f64]| x.iter().zip(y).map(|(&x, &y)| at(x, y)).collect::<Vec<_>>().join(" ");
    let line = match truth {
        Shown::Curve { y, .. } => format!("<polyline class=\"truth\" points=\"{}\"/>", points(y)),
        Shown::Map(_) => String::new(),
    };
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"density\"><polygon class=\"band c0\" points=\"0,{BASE} {} {WIDTH},{BASE}\"/>\
         {line}<path class=\"axis\" d=\"M0 {BASE}H{WIDTH}\"/><text x=\"0\" y=\"{y}\">{low:.1}</text>\
         <text class=\"y\" x=\"{WIDTH}\" y=\"{y}\">{high:.1}</text></svg>",
        points(y),
        y = BASE + 16.0,
    )
}

fn map(grid: &Grid2d, scale: Scale, name: &str) -> String {
    let density = Density2d::new(grid);
    let (nx, ny) = (grid.nx, grid.ny);
    let place = |(from, to): (f64, f64), i: usize, n: usize| from + (to - from) * i as f64 / (n - 1) as f64;
    let mut pixels = Vec::with_capacity(3 * nx * ny);
    for j in (0..ny).rev() {
        for i in 0..nx {
            let (x, y) = (place(grid.x_range, i, nx), place(grid.y_range, j, ny));
            pixels.extend(scale.colour(&density, x, y));
        }
    }
    let mut png = Vec::new();
    let encoded =
        PngEncoder::new(&mut png).write_image(&pixels, nx as u32, ny as u32, ExtendedColorType::Rgb8);
    if encoded.is_err() {
        return String::new();
    }
    format!(
        "<img class=\"map\" alt=\"density of {}\" width=\"{nx}\" height=\"{ny}\" src=\"data:image/png;base64,{}\">",
        escape(name),
        STANDARD.encode(&png)
    )
}
