//! One coordinate: weighted histogram, data, densities.

use plotters::prelude::*;

use super::Model;
use super::canvas::{
    Area, DATA, Drawn, FAINT, GRID, INK, Line, SCALE, TRUTH, WALKERS, legend, stroke, text, tick, titled,
};
use super::cloud::{Cloud, Points, note, range};

/// Where a density curve is evaluated.
const CURVE_POINTS: usize = 800;
/// Decades below the highest value that a logarithmic axis shows.
const DECADES: f64 = 6.0;

/// Densities of equal bins.
struct Bins {
    heights: Vec<f64>,
    outside: usize,
}

impl Bins {
    fn new(points: &Points, (from, to): (f64, f64), count: usize) -> Self {
        let mut heights = vec![0.0; count];
        let mut outside = 0;
        let width = (to - from) / count as f64;
        for point in &points.points {
            if point.x < from || point.x > to {
                outside += 1;
                continue;
            }
            let bin = (((point.x - from) / width) as usize).min(count - 1);
            heights[bin] += point.weight / width;
        }
        Self { heights, outside }
    }
}

pub(super) fn draw(
    area: &Area<'_>,
    title: &str,
    walkers: &Cloud<'_>,
    data: Option<&Cloud<'_>>,
    model: &Model<'_>,
) -> Drawn {
    let shown = walkers.finite();
    let data = data.map(Cloud::finite);
    let every = shown.points.iter().chain(data.iter().flat_map(|data| &data.points));
    let (from, to) = range(every.map(|point| point.x).collect());
    let count = bin_count(&shown, to - from);
    let bins = Bins::new(&shown, (from, to), count);
    let data_bins = data.as_ref().map(|data| Bins::new(data, (from, to), count));

    let xs: Vec<f64> =
        (0..CURVE_POINTS).map(|i| from + (to - from) * i as f64 / (CURVE_POINTS - 1) as f64).collect();
    let curve = |density: super::Density<'_>| density(&xs);
    let model_curve = model.density.map(curve);
    let truth_curve = model.truth.map(curve);

    let heights = bins.heights.iter().chain(data_bins.iter().flat_map(|bins| &bins.heights));
    let heights = heights.chain(model_curve.iter().chain(&truth_curve).flatten());
    let finite = heights.copied().filter(|height| height.is_finite());
    let top = finite.clone().fold(0.0, f64::max);
    let top = if top > 0.0 { top } else { 1.0 };
    // On a logarithmic axis, heights are exponents of ten and `floor` stands for nothing.
    let least = finite.filter(|&height| height > 0.0).fold(top, f64::min);
    let floor = least.log10().max(top.log10() - DECADES) - 0.2;
    let height = |value: f64| if model.log_scale { value.log10().max(floor) } else { value };
    let (y0, y1) = if model.log_scale { (floor, top.log10() + 0.15) } else { (0.0, 1.06 * top) };

    let mut notes = vec![note("walker", &shown, walkers.log_weights.is_some(), bins.outside)];
    if let (Some(data), Some(bins)) = (&data, &data_bins) {
        notes.push(note("data point", data, false, bins.outside));
    }
    let mut entries = vec![("walkers", stroke(WALKERS, 34), Line::Solid)];
    if data.is_some() {
        entries.push(("data", stroke(DATA, 34), Line::Solid));
    }
    if model_curve.is_some() {
        entries.push(("model density", stroke(INK, 26), Line::Solid));
    }
    if truth_curve.is_some() {
        entries.push(("true density", stroke(TRUTH, 30), Line::Dashed));
    }
    let area = titled(area, title, &notes.join("   ·   "))?;
    let area = legend(&area, &entries)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12 * SCALE)
        .margin_right(28 * SCALE)
        .x_label_area_size(58 * SCALE)
        .y_label_area_size(86 * SCALE)
        .build_cartesian_2d(from..to, y0..y1)?;
    let span = to - from;
    let y_label = |&value: &f64| {
        if model.log_scale { format!("1e{value:.0}").replace('-', "−") } else { tick(value, y1) }
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(stroke(FAINT, 10))
        .set_all_tick_mark_size(7 * SCALE)
        .x_labels(8)
        .y_labels(if model.log_scale { (y1 - y0).floor().max(1.0) as usize } else { 6 })
        .x_label_formatter(&|&x| tick(x, span))
        .y_label_formatter(&y_label)
        .x_desc(if walkers.dim == 1 { "x" } else { "first coordinate, x₀" })
        .y_desc(if model.log_scale { "density (logarithmic)" } else { "density" })
        .label_style(text(18, INK))
        .axis_desc_style(text(20, INK))
        .draw()?;

    let edge = |bin: usize| from + (to - from) * bin as f64 / count as f64;
    chart.draw_series(bins.heights.iter().enumerate().filter(|(_, h)| **h > 0.0).map(|(bin, &h)| {
        Rectangle::new([(edge(bin), y0), (edge(bin + 1), height(h))], WALKERS.mix(0.28).filled())
    }))?;
    let outline = |bins: &Bins| {
        let mut line = vec![(from, y0)];
        for (bin, &h) in bins.heights.iter().enumerate() {
            let h = height(h).max(y0);
            line.extend([(edge(bin), h), (edge(bin + 1), h)]);
        }
        line.push((to, y0));
        line
    };
    chart.draw_series([PathElement::new(outline(&bins), stroke(WALKERS, 18))])?;
    if let Some(bins) = &data_bins {
        chart.draw_series([PathElement::new(outline(bins), stroke(DATA, 18))])?;
    }
    let line = |values: &[f64]| {
        let points = xs.iter().zip(values).filter(|(_, value)| value.is_finite());
        points.map(|(&x, &value)| (x, height(value))).collect::<Vec<_>>()
    };
    if let Some(values) = &truth_curve {
        let style = stroke(TRUTH, 28);
        chart.draw_series(DashedLineSeries::new(line(values), 9 * SCALE, 6 * SCALE, style))?;
    }
    if let Some(values) = &model_curve {
        chart.draw_series(LineSeries::new(line(values), stroke(INK, 22)))?;
    }
    Ok(())
}

/// Freedman and Diaconis (1981) with the effective number of points, within reason.
fn bin_count(points: &Points, span: f64) -> usize {
    let mut xs: Vec<f64> = points.points.iter().map(|point| point.x).collect();
    if xs.is_empty() {
        return 20;
    }
    xs.sort_unstable_by(f64::total_cmp);
    let quartiles = xs[(3 * xs.len() / 4).min(xs.len() - 1)] - xs[xs.len() / 4];
    let effective = (points.ess_fraction * xs.len() as f64).max(1.0);
    let width = 2.0 * quartiles / effective.cbrt();
    // Quartiles in different modes ask for bins far too wide.
    let least = 4.0 * effective.cbrt();
    (span / width).max(least).round().clamp(16.0, 120.0) as usize
}
