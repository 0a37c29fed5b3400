//! A figure with two logarithmic axes, as SVG: measured lines, and dashed straight ones to compare their slopes with.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

/// Width and height of a figure, in pixels.
const SIZE: (u32, u32) = (760, 520);
/// The font that viewers are asked for; sizes are estimated with the built-in one.
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(34, 38, 46);
const FAINT: RGBColor = RGBColor(105, 112, 124);
const GRID: RGBColor = RGBColor(230, 232, 236);
/// Colours that stay apart for every kind of colour vision (Okabe and Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// What was measured under one name.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name in the legend.
    pub name: String,
    /// `(x, y)`, both positive, in ascending order of x.
    pub points: Vec<(f64, f64)>,
}

/// `y ∝ x^slope` through the last point of the first line.
#[derive(Clone, Copy, Debug)]
pub struct Slope {
    /// The exponent.
    pub slope: f64,
    /// Its name in the legend.
    pub name: &'static str,
}

/// A figure.
#[derive(Clone, Debug)]
pub struct Figure<'a> {
    /// What is shown.
    pub title: &'a str,
    /// What is held fixed, under the title.
    pub fixed: &'a str,
    /// Name of the x axis, with its unit.
    pub x: &'a str,
    /// Name of the y axis, with its unit.
    pub y: &'a str,
    /// What was measured: at least one point.
    pub lines: &'a [Line],
    /// What it is compared with.
    pub slopes: &'a [Slope],
}

impl Figure<'_> {
    /// Writes the figure.
    ///
    /// # Errors
    /// No point that is positive, or a file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Box<dyn Error>> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let last = self.lines.first().and_then(|line| line.points.last());
        let (Some(&last), true) = (last, points().all(|&(x, y)| x > 0.0 && y > 0.0)) else {
            return Err(format!("{}: nothing to draw, or a value that is not positive", self.title).into());
        };
        register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| "the built-in font cannot be read")?;
        let area = SVGBackend::new(path, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let area = self.head(&area)?;
        let (xs, ys) = (range(points().map(|p| p.0)), range(points().map(|p| p.1)));
        let mut chart = ChartBuilder::on(&area)
            .margin_left(14)
            .margin_right(24)
            .x_label_area_size(48)
            .y_label_area_size(74)
            .build_cartesian_2d(
                xs.clone().log_scale().with_key_points(ticks(&xs)),
                ys.clone().log_scale().with_key_points(ticks(&ys)),
            )?;
        chart
            .configure_mesh()
            .max_light_lines(1)
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(FAINT)
            .label_style((FONT, 15).into_font().color(&INK))
            .axis_desc_style((FONT, 17).into_font().color(&INK))
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        for (i, slope) in self.slopes.iter().enumerate() {
            let at = |x: f64| last.1 * (x / last.0).powf(slope.slope);
            let steps = (0..=96).map(|k| xs.start * (xs.end / xs.start).powf(f64::from(k) / 96.0));
            let inside: Vec<_> = steps.map(|x| (x, at(x))).filter(|p| ys.contains(&p.1)).collect();
            let style = FAINT.stroke_width(1);
            let dash = 4 + 6 * i as u32;
            chart
                .draw_series(DashedLineSeries::new(inside, dash, 4, style))?
                .label(slope.name)
                .legend(move |(x, y)| DashedPathElement::new([(x, y), (x + 26, y)], dash, 4, style));
        }
        for (line, color) in self.lines.iter().zip(COLORS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)))?
                .label(&line.name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 26, y)], color.stroke_width(2)));
            chart.draw_series(line.points.iter().map(|&p| Circle::new(p, 3, color.filled())))?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .margin(14)
            .legend_area_size(34)
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .label_font((FONT, 15).into_font().color(&INK))
            .draw()?;
        area.present()?;
        Ok(())
    }

    /// The title and what is held fixed. Returns the rest of the area.
    fn head<'a>(
        &self,
        area: &DrawingArea<SVGBackend<'a>, Shift>,
    ) -> Result<DrawingArea<SVGBackend<'a>, Shift>, Box<dyn Error>> {
        let (head, rest) = area.split_vertically(66);
        head.draw_text(self.title, &(FONT, 21).into_font().color(&INK), (16, 12))?;
        head.draw_text(self.fixed, &(FONT, 15).into_font().color(&FAINT), (16, 40))?;
        Ok(rest)
    }
}

/// From the smallest to the largest value, with a margin.
fn range(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(low, high), v| (low.min(v), high.max(v)));
    low / 1.6..high * 1.6
}

/// Powers of ten; also twice and five times them where there would be few.
fn ticks(range: &Range<f64>) -> Vec<f64> {
    let multiples: &[f64] = if range.end / range.start > 3e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = (range.start.log10().floor() as i32)..=(range.end.log10().ceil() as i32);
    let all = powers.flat_map(|power| multiples.iter().map(move |multiple| multiple * 10f64.powi(power)));
    all.filter(|tick| range.contains(tick)).collect()
}

/// `0.05`, `200`, `10⁴`.
fn number(value: f64) -> String {
    let power = value.log10();
    if (0.001..10_000.0).contains(&value) || (power - power.round()).abs() > 1e-6 {
        return format!("{}", (value * 1e6).round() / 1e6);
    }
    let digits = format!("{}", power.round() as i32)
        .chars()
        .map(|digit| match digit {
            '-' => '⁻',
            _ => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit as usize - '0' as usize],
        })
        .collect::<String>();
    format!("10{digits}")
}
