//! Two coordinates: walkers and data side by side over the model's density.

use plotters::prelude::*;

use super::Grid2d;
use super::canvas::{Area, DATA, Drawn, FAINT, INK, SCALE, WALKERS, stroke, text, tick, titled};
use super::cloud::{Cloud, Point, Points, grouped, note, square_ranges};
use super::contour::Density;

/// More points than this only make a blot; every k-th is drawn.
const MOST_POINTS: usize = 20_000;
/// Shares of the model's mass inside its contours.
const SHARES: [f64; 3] = [0.5, 0.9, 0.99];
/// The shading where the density is highest.
const SHADE: RGBColor = RGBColor(150, 162, 182);
const CONTOUR: RGBColor = RGBColor(92, 102, 118);

type Range = (f64, f64);

pub(super) fn draw(
    area: &Area<'_>,
    title: &str,
    walkers: &Cloud<'_>,
    data: Option<&Cloud<'_>>,
    grid: Option<&Grid2d>,
) -> Drawn {
    assert!(walkers.dim == 2 && data.is_none_or(|data| data.dim == 2), "a scatter plot has two coordinates");
    let (x, y) = match grid {
        Some(grid) => (grid.x_range, grid.y_range),
        None => square_ranges(&[&[walkers][..], data.as_slice()].concat()),
    };
    let density = grid.map(Density::new);
    let weighted = walkers.log_weights.is_some();
    let walkers = walkers.finite();
    let data = data.map(Cloud::finite);

    let outside = |points: &Points| {
        let outside = |point: &&Point| point.x < x.0 || point.x > x.1 || point.y < y.0 || point.y > y.1;
        points.points.iter().filter(outside).count()
    };
    let mut notes = vec![note("walker", &walkers, weighted, outside(&walkers))];
    if let Some(data) = &data {
        notes.push(note("data point", data, false, outside(data)));
    }
    if density.is_some() {
        notes.push("shading and contours (50, 90, 99 % of the mass): the model, exp(−U)".to_owned());
    }
    let area = titled(area, title, &notes.join("   ·   "))?;
    let (left, right) = match &data {
        Some(_) => {
            let half = area.dim_in_pixel().0 / 2;
            let (left, right) = area.split_horizontally(half);
            (left, Some(right))
        }
        None => (area, None),
    };
    let name = if weighted { "walkers, area shows weight" } else { "walkers" };
    panel(&left, name, WALKERS, &walkers, (x, y), density.as_ref())?;
    if let (Some(right), Some(data)) = (&right, &data) {
        panel(right, "data", DATA, data, (x, y), density.as_ref())?;
    }
    Ok(())
}

fn panel(
    area: &Area<'_>,
    name: &str,
    color: RGBColor,
    points: &Points,
    (x, y): (Range, Range),
    density: Option<&Density<'_>>,
) -> Drawn {
    let stride = points.points.len().div_ceil(MOST_POINTS).max(1);
    let drawn = points.points.len().div_ceil(stride);
    let caption =
        if stride > 1 { format!("{name}, {} of them drawn", grouped(drawn)) } else { name.to_owned() };
    let mut chart = ChartBuilder::on(area)
        .margin(10 * SCALE)
        .margin_right(26 * SCALE)
        .caption(caption, text(20, color))
        .x_label_area_size(56 * SCALE)
        .y_label_area_size(74 * SCALE)
        .build_cartesian_2d(x.0..x.1, y.0..y.1)?;

    if let Some(density) = density {
        let (columns, rows) = chart.plotting_area().get_pixel_range();
        let (width, height) = (columns.len() as u32, rows.len() as u32);
        let pixels = shading(density, width, height, x, y);
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
    if let Some(density) = density {
        for share in SHARES {
            let segments = density.contour(density.level(share));
            let style = stroke(CONTOUR.mix(0.75), 12);
            chart.draw_series(segments.into_iter().map(|segment| PathElement::new(segment, style)))?;
        }
    }

    let opacity = (40.0 / (drawn.max(1) as f64).sqrt()).clamp(0.25, 0.9);
    let radius = (110.0 / (drawn.max(1) as f64).sqrt()).clamp(1.3, 4.0) * f64::from(SCALE);
    let count = points.points.len() as f64;
    chart.draw_series(
        points
            .points
            .iter()
            .step_by(stride)
            .filter(|point| point.x >= x.0 && point.x <= x.1 && point.y >= y.0 && point.y <= y.1)
            .filter_map(|point| {
                // Area ∝ weight; what would be smaller than half a pixel is not drawn.
                let size = radius * (point.weight * count).sqrt().min(4.0);
                (size >= 0.5).then(|| {
                    Circle::new((point.x, point.y), size.round().max(1.0) as i32, color.mix(opacity).filled())
                })
            }),
    )?;
    Ok(())
}

/// White to [`SHADE`], by the root of the density so that its flanks show.
fn shading(density: &Density<'_>, width: u32, height: u32, x: Range, y: Range) -> Vec<u8> {
    let mut pixels = Vec::with_capacity((width * height * 3) as usize);
    let at = |(from, to): Range, i: u32, n: u32| from + (to - from) * (f64::from(i) + 0.5) / f64::from(n);
    for row in 0..height {
        for column in 0..width {
            let depth = density.at(at(x, column, width), at(y, height - 1 - row, height)).sqrt();
            for (white, shade) in [(255.0, SHADE.0), (255.0, SHADE.1), (255.0, SHADE.2)] {
                pixels.push((white + (f64::from(shade) - white) * depth).round() as u8);
            }
        }
    }
    pixels
}
