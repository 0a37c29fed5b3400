//! Two coordinates: walkers and data side by side over the model's density; where the truth is known, its density and the model's
//! above them as heat maps.

use std::error::Error as StdError;

use plotters::prelude::*;

use super::canvas::{Area, DATA, Drawn, FAINT, INK, SCALE, WALKERS, stroke, text, tick, titled};
use super::cloud::{Cloud, Point, Points, grouped, note, square_ranges};
use super::contour::Density;
use super::heat::{self, Scale};
use super::{Grid2d, Model};

/// More points than this only make a blot; every k-th is drawn.
const MOST_POINTS: usize = 20_000;
/// The same for panels of a figure with heat maps, which are smaller.
const MOST_POINTS_SMALL: usize = 6_000;
/// Shares of the mass inside its contours.
const SHARES: [f64; 3] = [0.5, 0.9, 0.99];
/// The shading where the density is highest.
const SHADE: RGBColor = RGBColor(150, 162, 182);
const CONTOUR: RGBColor = RGBColor(92, 102, 118);

type Range = (f64, f64);

/// Pixels of a figure that give square panels.
pub(super) fn size(has_data: bool, has_truth: bool) -> (u32, u32) {
    match (has_data, has_truth) {
        (_, true) => (1280 + heat::WIDTH, 1344),
        (true, false) => (1600, 874),
        (false, false) => (800, 874),
    }
}

pub(super) fn draw(
    area: &Area<'_>,
    title: &str,
    walkers: &Cloud<'_>,
    data: Option<&Cloud<'_>>,
    model: &Model<'_>,
) -> Drawn {
    assert!(walkers.dim == 2 && data.is_none_or(|data| data.dim == 2), "a scatter plot has two coordinates");
    let axes = match model.grid {
        Some(Grid2d { x_range, y_range, .. }) => (*x_range, *y_range),
        None => square_ranges(&[&[walkers][..], data.as_slice()].concat()),
    };
    let density = model.grid.map(Density::new);
    let truth = model.truth_grid.map(Density::new);
    let weighted = walkers.log_weights.is_some();
    let walkers = walkers.finite();
    let data = data.map(Cloud::finite);

    let outside = |points: &Points| {
        let ((x0, x1), (y0, y1)) = axes;
        let outside = |point: &&Point| point.x < x0 || point.x > x1 || point.y < y0 || point.y > y1;
        points.points.iter().filter(outside).count()
    };
    let mut notes = vec![note("walker", &walkers, weighted, outside(&walkers))];
    if let Some(data) = &data {
        notes.push(note("data point", data, false, outside(data)));
    }
    if density.is_some() {
        let whose = if truth.is_some() { "left the truth, right the model" } else { "the model, exp(−U)" };
        notes.push(format!("shading and contours (50, 90, 99 % of the mass): {whose}"));
    }
    let area = titled(area, title, &notes.join("   ·   "))?;
    let name = if weighted { "walkers, area shows weight" } else { "walkers" };
    let points = |name, color, points| Panel {
        name,
        color,
        points: Some(points),
        density: density.as_ref(),
        heat: None,
    };
    let walkers = points(name, WALKERS, &walkers);
    let data = data.as_ref().map(|data| points("data", DATA, data));
    match (&truth, data) {
        (Some(truth), data) => {
            let scale = Scale::of(truth);
            let heat = |name, density| Panel { name, color: INK, points: None, density, heat: Some(scale) };
            let (panels, bar) = area.split_horizontally(area.dim_in_pixel().0 - heat::WIDTH * SCALE);
            let areas = panels.split_evenly((2, 2));
            let rows = heat("the true density", Some(truth)).draw(&areas[0], axes)?;
            heat("the model's density", density.as_ref()).draw(&areas[1], axes)?;
            if let Some(data) = data {
                Panel { density: Some(truth), ..data }.draw(&areas[2], axes)?;
            }
            walkers.draw(&areas[3], axes)?;
            let corner = bar.get_base_pixel().1;
            heat::bar(&bar, rows.start - corner, rows.end - corner)
        }
        (None, Some(data)) => {
            let (left, right) = area.split_horizontally(area.dim_in_pixel().0 / 2);
            walkers.draw(&left, axes)?;
            data.draw(&right, axes).map(drop)
        }
        (None, None) => walkers.draw(&area, axes).map(drop),
    }
}

/// One pair of axes.
struct Panel<'a> {
    name: &'a str,
    color: RGBColor,
    points: Option<&'a Points>,
    /// Below the points.
    density: Option<&'a Density<'a>>,
    /// The density as a heat map, without contours.
    heat: Option<Scale>,
}

impl Panel<'_> {
    /// Draws it and returns the rows of pixels that its axes span.
    fn draw(
        &self,
        area: &Area<'_>,
        (x, y): (Range, Range),
    ) -> Result<std::ops::Range<i32>, Box<dyn StdError>> {
        let most = if area.dim_in_pixel().0 < 700 * SCALE { MOST_POINTS_SMALL } else { MOST_POINTS };
        let count = self.points.map_or(0, |points| points.points.len());
        let stride = count.div_ceil(most).max(1);
        let drawn = count.div_ceil(stride);
        let name = self.name;
        let caption =
            if stride > 1 { format!("{name}, {} of them drawn", grouped(drawn)) } else { name.to_owned() };
        let mut chart = ChartBuilder::on(area)
            .margin(10 * SCALE)
            .margin_right(26 * SCALE)
            .caption(caption, text(20, self.color))
            .x_label_area_size(56 * SCALE)
            .y_label_area_size(74 * SCALE)
            .build_cartesian_2d(x.0..x.1, y.0..y.1)?;
        let (columns, rows) = chart.plotting_area().get_pixel_range();
        if let Some(density) = self.density {
            let (width, height) = (columns.len() as u32, rows.len() as u32);
            let pixels = match self.heat {
                Some(scale) => pixels((width, height), (x, y), |x, y| scale.colour(density, x, y)),
                None => pixels((width, height), (x, y), |x, y| shade(density.at(x, y))),
            };
            if let Some(bitmap) = BitMapElement::with_owned_buffer((x.0, y.1), (width, height), pixels) {
                chart.plotting_area().draw(&bitmap)?;
            }
        }
        let (x_span, y_span) = (x.1 - x.0, y.1 - y.0);
        chart
            .configure_mesh()
            .disable_mesh()
            .axis_style(stroke(FAINT, 10))
            .set_all_tick_mark_size(7 * SCALE)
            .x_labels(7)
            .y_labels(7)
            .x_label_formatter(&|&value| tick(value, x_span))
            .y_label_formatter(&|&value| tick(value, y_span))
            .x_desc("x₀")
            .y_desc("x₁")
            .label_style(text(18, INK))
            .axis_desc_style(text(20, INK))
            .draw()?;
        if let (Some(density), None) = (self.density, self.heat) {
            for share in SHARES {
                let segments = density.contour(density.level(share));
                let style = stroke(CONTOUR.mix(0.75), 12);
                chart.draw_series(segments.into_iter().map(|segment| PathElement::new(segment, style)))?;
            }
        }
        let opacity = (40.0 / (drawn.max(1) as f64).sqrt()).clamp(0.25, 0.9);
        let radius = (110.0 / (drawn.max(1) as f64).sqrt()).clamp(1.3, 4.0) * f64::from(SCALE);
        let points = self.points.into_iter().flat_map(|points| points.points.iter().step_by(stride));
        chart.draw_series(
            points
                .filter(|point| point.x >= x.0 && point.x <= x.1 && point.y >= y.0 && point.y <= y.1)
                .filter_map(|point| {
                    // Area ∝ weight; what would be smaller than half a pixel is not drawn.
                    let size = radius * (point.weight * count as f64).sqrt().min(4.0);
                    let style = self.color.mix(opacity).filled();
                    (size >= 0.5)
                        .then(|| Circle::new((point.x, point.y), size.round().max(1.0) as i32, style))
                }),
        )?;
        Ok(rows)
    }
}

/// White to [`SHADE`], by the root of the density (relative to its peak) so that its flanks show.
fn shade(density: f64) -> [u8; 3] {
    let depth = density.sqrt();
    [SHADE.0, SHADE.1, SHADE.2].map(|shade| (255.0 + (f64::from(shade) - 255.0) * depth).round() as u8)
}

/// The colours of `width × height` pixels over the axes, row by row from the top.
fn pixels(
    (width, height): (u32, u32),
    (x, y): (Range, Range),
    colour: impl Fn(f64, f64) -> [u8; 3],
) -> Vec<u8> {
    let at = |(from, to): Range, i: u32, n: u32| from + (to - from) * (f64::from(i) + 0.5) / f64::from(n);
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    for row in 0..height {
        for column in 0..width {
            pixels.extend(colour(at(x, column, width), at(y, height - 1 - row, height)));
        }
    }
    pixels
}
