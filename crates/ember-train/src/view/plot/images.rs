//! Images in square panels side by side, each pixel a block of equal colour.

use plotters::prelude::*;

use super::canvas::{Area, Drawn, INK, SCALE, text, titled};
use crate::dataset::byte;

/// The side of a panel that is aimed at; a pixel becomes a whole number of the file's.
const SIDE: usize = 480;
/// The pixels of images along the side of a panel at most.
pub(super) const MOST_PIXELS: usize = 2048;
/// Between the images of a panel.
const GAP: usize = 2;
/// Left and right of everything, and between panels.
const MARGIN: usize = 28;
/// Title and caption above the panels.
const ABOVE: usize = 86 + 34;
/// The figure is no narrower than this, so that its title can be read.
const LEAST_WIDTH: usize = 520;

/// Images under one caption.
#[derive(Clone, Debug, PartialEq)]
pub struct ImagePanel {
    /// What they are.
    pub caption: String,
    /// `[n, c·h·w]` row-major, channel first; what lies outside `[−1, 1]` is drawn at its end.
    pub pixels: Vec<f32>,
}

/// How panels of images are laid out, in pixels of the file.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    shape: [usize; 3],
    /// Images along a row.
    columns: usize,
    rows: usize,
    /// Pixels of the file along the side of an image's pixel.
    zoom: usize,
    panels: usize,
}

impl Layout {
    pub(super) fn new(shape: [usize; 3], panels: &[ImagePanel]) -> Self {
        let [c, h, w] = shape;
        assert!(c == 1 || c == 3, "an image has 1 or 3 channels, not {c}");
        let most = panels.iter().map(|panel| panel.pixels.len() / (c * h * w)).max().unwrap_or(0).max(1);
        let columns = (1..).find(|side| side * side >= most).unwrap_or(most);
        let zoom = (SIDE / (columns * w.max(h))).clamp(1, 8);
        Self { shape, columns, rows: most.div_ceil(columns), zoom, panels: panels.len() }
    }

    /// Width and height of a panel.
    fn panel(&self) -> (usize, usize) {
        let [_, h, w] = self.shape;
        let side = |count: usize, pixels: usize| count * (pixels * self.zoom + GAP) - GAP;
        (side(self.columns, w), side(self.rows, h))
    }

    /// Width and height of the figure.
    pub(super) fn size(&self) -> (u32, u32) {
        let (width, height) = self.panel();
        let width = MARGIN + self.panels * (width + MARGIN);
        (width.max(LEAST_WIDTH) as u32, (ABOVE + height + MARGIN) as u32)
    }
}

pub(super) fn draw(
    area: &Area<'_>,
    title: &str,
    notes: &str,
    layout: Layout,
    panels: &[ImagePanel],
) -> Drawn {
    titled(area, title, notes)?;
    let scale = SCALE as usize;
    let (width, height) = layout.panel();
    for (i, panel) in panels.iter().enumerate() {
        let left = ((MARGIN + i * (width + MARGIN)) * scale) as i32;
        let mut size = 18;
        while size > 9
            && area.estimate_text_size(&panel.caption, &text(size, INK))?.0 as usize > width * scale
        {
            size -= 1;
        }
        area.draw_text(&panel.caption, &text(size, INK), (left, ((ABOVE - 28) * scale) as i32))?;
        let pixels = panel_pixels(layout, panel);
        let size = ((width * scale) as u32, (height * scale) as u32);
        let bitmap = BitMapElement::with_owned_buffer((left, (ABOVE * scale) as i32), size, pixels)
            .ok_or("the bitmap has a wrong size")?;
        area.draw(&bitmap)?;
    }
    Ok(())
}

/// RGB of one panel on white, at the size it is drawn.
fn panel_pixels(layout: Layout, panel: &ImagePanel) -> Vec<u8> {
    let [c, h, w] = layout.shape;
    let scale = SCALE as usize;
    let zoom = layout.zoom * scale;
    let (width, height) = layout.panel();
    let (width, height) = (width * scale, height * scale);
    let mut rgb = vec![255; width * height * 3];
    for (i, image) in panel.pixels.chunks_exact(c * h * w).enumerate() {
        let left = (i % layout.columns) * (w * layout.zoom + GAP) * scale;
        let top = (i / layout.columns) * (h * layout.zoom + GAP) * scale;
        for y in 0..h * zoom {
            for x in 0..w * zoom {
                let at = ((top + y) * width + left + x) * 3;
                for channel in 0..3 {
                    // One channel is grey.
                    let plane = channel.min(c - 1) * h * w;
                    rgb[at + channel] = byte(image[plane + (y / zoom) * w + x / zoom]);
                }
            }
        }
    }
    rgb
}
