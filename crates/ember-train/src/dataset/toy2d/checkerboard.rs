//! `checkerboard`: uniform on the 8 squares `[2i, 2i + 2) × [2j, 2j + 2)` of `[−4, 4)²` with i + j even.

use super::shape::{Point, Shape};
use crate::dataset::truth::Modes;

const SQUARES: u32 = 8;
/// 8 squares of area 4.
const AREA: f64 = 32.0;

/// The squares, column by column from the left, each from below.
#[derive(Debug)]
pub(super) struct Checkerboard;

/// The lower left corner of a square.
fn corner(label: u32) -> Point {
    let (column, row) = (label / 2, label % 2);
    let lift = f64::from(column % 2);
    [f64::from(column) * 2.0 - 4.0, (2.0 * f64::from(row) + lift) * 2.0 - 4.0]
}

impl Shape for Checkerboard {
    fn masses(&self) -> Vec<f64> {
        vec![1.0 / f64::from(SQUARES); SQUARES as usize]
    }

    fn point(&self, label: u32, [u, v, _]: [f64; 3], _normal: Point) -> Point {
        let [x, y] = corner(label);
        [x + 2.0 * u, y + 2.0 * v]
    }

    fn log_prob(&self, x: Point) -> f64 {
        let cell = x.map(|x| (0.5 * x).floor());
        let inside = cell.iter().all(|cell| (-2.0..2.0).contains(cell));
        if inside && (cell[0] + cell[1]) % 2.0 == 0.0 { -AREA.ln() } else { f64::NEG_INFINITY }
    }

    fn modes(&self) -> Option<Modes> {
        Some(Modes::Centres((0..SQUARES).map(|label| corner(label).map(|x| x + 1.0).to_vec()).collect()))
    }
}
