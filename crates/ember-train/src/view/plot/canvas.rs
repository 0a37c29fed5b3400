//! A PNG drawn at twice its size and averaged down: smooth lines, dots and letters.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::{FontStyle, IntoFont, TextStyle, register_font};

use crate::error::Error;
use crate::store::checkpoint::atomic;

/// What is drawn on.
pub(super) type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
/// Any failure while drawing.
pub(super) type Drawn = Result<(), Box<dyn StdError>>;

/// Drawn pixels per pixel of the file, along each side. Sizes below are in pixels of the file.
pub(super) const SCALE: u32 = 2;

/// Colours that stay apart for every kind of colour vision (Okabe and Ito).
pub(super) const WALKERS: RGBColor = RGBColor(0, 114, 178);
pub(super) const DATA: RGBColor = RGBColor(213, 94, 0);
pub(super) const TRUTH: RGBColor = RGBColor(0, 158, 115);
pub(super) const INK: RGBColor = RGBColor(34, 38, 46);
pub(super) const FAINT: RGBColor = RGBColor(105, 112, 124);
pub(super) const GRID: RGBColor = RGBColor(230, 232, 236);

const FONT: &str = "ember";

/// Text of `size` pixels.
pub(super) fn text(size: u32, color: RGBColor) -> TextStyle<'static> {
    (FONT, size * SCALE).into_font().color(&color)
}

/// `color` for lines of `width` tenths of a pixel.
pub(super) fn stroke(color: impl Color, tenths: u32) -> ShapeStyle {
    color.to_rgba().stroke_width((tenths * SCALE / 10).max(1))
}

/// Draws a figure of `size` pixels and writes it: complete or absent.
pub(super) fn png(
    path: &Path,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<(), Error> {
    let failed = |error: Box<dyn StdError>| Error::io(path, io::Error::other(error.to_string()));
    let temp = atomic::temp_file(path, ".png")?;
    let (w, h) = (width * SCALE, height * SCALE);
    let mut large = vec![255; (w * h * 3) as usize];
    register().map_err(failed)?;
    {
        let area = BitMapBackend::with_buffer(&mut large, (w, h)).into_drawing_area();
        draw(&area).and_then(|()| Ok(area.present()?)).map_err(failed)?;
    }
    let small = averaged(&large, width as usize, height as usize);
    encode(temp.path(), (width, height), &small).map_err(failed)?;
    atomic::commit_file(temp, path)
}

/// Compressed by default, not in haste: images enlarged to whole pixels then take half the room.
fn encode(path: &Path, (width, height): (u32, u32), pixels: &[u8]) -> Drawn {
    let file = io::BufWriter::new(std::fs::File::create(path)?);
    PngEncoder::new_with_quality(file, CompressionType::Default, FilterType::Adaptive).write_image(
        pixels,
        width,
        height,
        ExtendedColorType::Rgb8,
    )?;
    Ok(())
}

/// Means over squares of `SCALE × SCALE` pixels.
fn averaged(large: &[u8], width: usize, height: usize) -> Vec<u8> {
    let scale = SCALE as usize;
    let mut small = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            for channel in 0..3 {
                let mut sum = 0;
                for dy in 0..scale {
                    for dx in 0..scale {
                        let pixel = (y * scale + dy) * width * scale + x * scale + dx;
                        sum += usize::from(large[3 * pixel + channel]);
                    }
                }
                small.push((sum / (scale * scale)) as u8);
            }
        }
    }
    small
}

fn register() -> Drawn {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = *REGISTERED
        .get_or_init(|| register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok());
    if registered { Ok(()) } else { Err("the built-in font cannot be read".into()) }
}

/// The title in large letters, what was counted below it. Returns the rest of the area.
pub(super) fn titled<'a>(area: &Area<'a>, title: &str, notes: &str) -> Result<Area<'a>, Box<dyn StdError>> {
    let (width, _) = area.dim_in_pixel();
    let left = 28 * SCALE as i32;
    let room = width as i32 - 2 * left;
    let mut size = 26;
    while size > 12 && area.estimate_text_size(title, &text(size, INK))?.0 as i32 > room {
        size -= 1;
    }
    area.draw_text(title, &text(size, INK), (left, 20 * SCALE as i32))?;
    let mut size = 17;
    while size > 9 && area.estimate_text_size(notes, &text(size, FAINT))?.0 as i32 > room {
        size -= 1;
    }
    area.draw_text(notes, &text(size, FAINT), (left, 58 * SCALE as i32))?;
    let (_, rest) = area.split_vertically(86 * SCALE);
    Ok(rest)
}

/// A row of the lines' names, each behind a piece of its line. Returns the rest of the area.
pub(super) fn legend<'a>(
    area: &Area<'a>,
    entries: &[(&str, ShapeStyle, Line)],
) -> Result<Area<'a>, Box<dyn StdError>> {
    let (row, rest) = area.split_vertically(30 * SCALE);
    let px = |size: i32| size * SCALE as i32;
    let style = text(18, INK);
    let mut left = px(28);
    for &(name, line_style, line) in entries {
        let pieces: &[(i32, i32)] = match line {
            Line::Solid => &[(0, 38)],
            Line::Dashed => &[(0, 9), (15, 24), (30, 38)],
        };
        for &(from, to) in pieces {
            let piece = [(left + px(from), px(14)), (left + px(to), px(14))];
            row.draw(&PathElement::new(piece, line_style))?;
        }
        row.draw_text(name, &style, (left + px(48), px(4)))?;
        left += px(48 + 34) + row.estimate_text_size(name, &style)?.0 as i32;
    }
    Ok(rest)
}

/// How a line is drawn.
#[derive(Clone, Copy)]
pub(super) enum Line {
    Solid,
    Dashed,
}

/// A tick's label: as many decimals as the spacing of the ticks needs.
pub(super) fn tick(value: f64, span: f64) -> String {
    if value.abs() < 1e-9 * span {
        return "0".to_owned();
    }
    if !(1e-3..1e5).contains(&span) {
        return format!("{value:.1e}").replace('-', "−");
    }
    let decimals = (1.0 - span.log10().floor()).clamp(0.0, 6.0) as usize;
    let label = format!("{value:.decimals$}");
    let label = if label.contains('.') {
        label.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        label
    };
    label.replace('-', "−")
}
