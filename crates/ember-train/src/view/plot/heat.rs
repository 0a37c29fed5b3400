//! Densities as heat maps: colours by the logarithm, on one scale for the model and the truth.
//!
//! The scale ends at the truth's peak and spans [`SPAN`] nats, so that modes of little mass and the bridges between modes show, and
//! pictures of one run are on one scale. Both densities are normalised over the grid.

use plotters::prelude::*;

use super::canvas::{Area, Drawn, FAINT, INK, SCALE, stroke, text};
use super::contour::Density;

/// Nats from the darkest colour to white.
pub(in crate::view) const SPAN: f64 = 10.0;
/// Width of the scale beside the panels.
pub(super) const WIDTH: u32 = 96;
/// Equal steps from low to high (ColorBrewer's YlGnBu on white): lightness falls all the way, also for the colour-blind.
const COLOURS: [[f64; 3]; 8] = [
    [255.0, 255.0, 255.0],
    [237.0, 248.0, 200.0],
    [199.0, 233.0, 180.0],
    [127.0, 205.0, 187.0],
    [65.0, 182.0, 196.0],
    [29.0, 145.0, 192.0],
    [34.0, 94.0, 168.0],
    [8.0, 29.0, 88.0],
];

/// The colour of a log density `below` nats under the top of the scale.
fn colour(below: f64) -> [u8; 3] {
    // NaN, of a density that has no mass anywhere, is white.
    let place = (1.0 - below / SPAN).clamp(0.0, 1.0) * (COLOURS.len() - 1) as f64;
    let place = if place.is_nan() { 0.0 } else { place };
    let i = (place as usize).min(COLOURS.len() - 2);
    let part = place - i as f64;
    std::array::from_fn(|c| (COLOURS[i][c] + part * (COLOURS[i + 1][c] - COLOURS[i][c])).round() as u8)
}

/// The scale of a truth.
#[derive(Clone, Copy)]
pub(in crate::view) struct Scale {
    top: f64,
}

impl Scale {
    pub(in crate::view) fn of(truth: &Density<'_>) -> Self {
        Self { top: -truth.integral().ln() }
    }

    /// The colour of `density` at a point.
    pub(in crate::view) fn colour(self, density: &Density<'_>, x: f64, y: f64) -> [u8; 3] {
        colour(self.top - (density.at(x, y) / density.integral()).ln())
    }
}

/// The scale's bar with its labels, as high as the plotting area beside it.
pub(super) fn bar(area: &Area<'_>, top: i32, bottom: i32) -> Drawn {
    let px = |size: i32| size * SCALE as i32;
    let (left, right) = (px(4), px(24));
    for y in top..bottom {
        let [r, g, b] = colour(SPAN * f64::from(y - top) / f64::from(bottom - top));
        area.draw(&Rectangle::new([(left, y), (right, y + 1)], RGBColor(r, g, b).filled()))?;
    }
    area.draw(&Rectangle::new([(left, top), (right, bottom)], stroke(FAINT, 10)))?;
    let style = text(16, INK);
    for below in (0..=SPAN as i32).step_by(2) {
        let y = top + (f64::from(bottom - top) * f64::from(below) / SPAN) as i32;
        let label = if below == 0 { "peak".to_owned() } else { format!("−{below}") };
        area.draw_text(&label, &style, (right + px(6), y - px(9)))?;
    }
    let notes = text(14, FAINT);
    for (i, word) in ["nats below", "the truth's", "peak"].iter().enumerate() {
        area.draw_text(word, &notes, (left, bottom + px(14 + 17 * i as i32)))?;
    }
    Ok(())
}
