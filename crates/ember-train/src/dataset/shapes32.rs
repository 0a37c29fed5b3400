//! Coloured shapes on a plain ground, 3 × 32 × 32: an image set that needs no files and whose class masses are known.
//!
//! A sample is one disc, square, triangle or cross (the classes, in this order, with the masses `weights`), drawn with
//! anti-aliased edges on a dark grey ground. The centre is uniform within ±4 pixels of the middle in each direction, the radius
//! uniform in 7 to 10 pixels, each colour channel uniform within ±24 levels of the colour of the class.
//!
//! Colours are tied to the classes (red disc, green square, blue triangle, yellow cross), so a classifier is never in doubt and
//! modes are far apart: the set tests whether masses are learned, not whether shapes are told apart in grey.
//!
//! # Random numbers
//! A pure function of the seed, from the counter: class from one lane, the six numbers of a drawing from another, training and
//! held-out images from different ones. The first n images do not depend on how many are drawn.

use ember_model::SampleShape;
use ember_model::random::{Purpose, Stream};
use serde::{Deserialize, Serialize};

use super::images::{bad_key, check_batches, check_elements, default_batch_size};
use super::{Augmentation, Data, Dataset, Rows};
use crate::error::Error;

/// Rows and columns.
const SIDE: usize = 32;
/// Numbers of one image.
const DIM: usize = 3 * SIDE * SIDE;
/// The grey level around the shape.
const GROUND: f32 = 40.0;
/// The middle of the radius and half the width of its range, in pixels.
const RADIUS: [f32; 2] = [8.5, 1.5];
/// Half the width of the range of the centre, in pixels.
const SHIFT: f32 = 4.0;
/// Half the width of the range of each colour channel, in levels.
const COLOUR_JITTER: f32 = 24.0;
/// How far the weights' sum may be from 1.
const WEIGHT_TOLERANCE: f64 = 1e-6;

/// A class.
struct Shape {
    name: &'static str,
    /// The middle of its colours, red, green, blue.
    colour: [f32; 3],
    /// The signed distance to the edge (pixels, negative inside) at (x, y) from the centre, y downwards, for a radius.
    distance: fn(f32, f32, f32) -> f32,
}

/// The classes.
const SHAPES: [Shape; 4] = [
    Shape { name: "disc", colour: [215.0, 60.0, 60.0], distance: |x, y, r| x.hypot(y) - r },
    Shape {
        name: "square",
        colour: [60.0, 200.0, 80.0],
        distance: |x, y, r| x.abs().max(y.abs()) - 0.85 * r,
    },
    Shape {
        name: "triangle",
        colour: [80.0, 110.0, 225.0],
        // The half-planes of an equilateral triangle that points up, with r from the centre to a corner.
        distance: |x, y, r| (0.5 * 3f32.sqrt() * x.abs() - 0.5 * y - 0.5 * r).max(y - 0.5 * r),
    },
    Shape {
        name: "cross",
        colour: [225.0, 205.0, 70.0],
        distance: |x, y, r| {
            let (long, short) = (x.abs().max(y.abs()), x.abs().min(y.abs()));
            (long - r).max(short - 0.32 * r)
        },
    },
];

/// `{ kind = "shapes32", weights, train_size, test_size, batch_size, flip, noise }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shapes32 {
    /// The masses of disc, square, triangle and cross; they sum to 1. Fewer leave out the last shapes.
    #[serde(default = "default_weights")]
    pub weights: Vec<f64>,
    /// Images to train on.
    #[serde(default = "default_train_size")]
    pub train_size: usize,
    /// Images held out.
    #[serde(default = "default_test_size")]
    pub test_size: usize,
    /// Samples of one batch.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Whether images are mirrored left to right with probability ½.
    #[serde(default)]
    pub flip: bool,
    /// Standard deviation of the Gaussian noise added to every batch, where pixels span [−1, 1].
    #[serde(default)]
    pub noise: f64,
}

fn default_weights() -> Vec<f64> {
    vec![0.4, 0.3, 0.2, 0.1]
}

fn default_train_size() -> usize {
    10_000
}

fn default_test_size() -> usize {
    2_000
}

/// One image, `[3, 32, 32]`, from its class and six uniform numbers.
fn draw(class: u32, u: &[f32]) -> impl Iterator<Item = u8> {
    let Shape { colour, distance, .. } = SHAPES[class as usize];
    let spread = |u: f32| 2.0 * u - 1.0;
    let middle = 0.5 * (SIDE - 1) as f32;
    let (cx, cy) = (middle + SHIFT * spread(u[0]), middle + SHIFT * spread(u[1]));
    let radius = RADIUS[0] + RADIUS[1] * spread(u[2]);
    let colour: [f32; 3] = std::array::from_fn(|c| colour[c] + COLOUR_JITTER * spread(u[3 + c]));
    (0..DIM).map(move |i| {
        let (c, y, x) = (i / (SIDE * SIDE), i / SIDE % SIDE, i % SIDE);
        // The share of the pixel that the shape covers, to first order in the distance of its edge.
        let cover = (0.5 - distance(x as f32 - cx, y as f32 - cy, radius)).clamp(0.0, 1.0);
        (GROUND + cover * (colour[c] - GROUND)).round() as u8
    })
}

impl Shapes32 {
    /// `count` images and their classes from two lanes of the counter.
    fn images(&self, count: usize, stream: Stream, lanes: [u32; 2]) -> (Vec<u8>, Vec<u32>) {
        let classes = stream.lane(lanes[0]).categorical(count, &self.weights);
        let uniforms = stream.lane(lanes[1]).uniforms(count, 6);
        let drawn = classes.iter().zip(uniforms.chunks_exact(6)).flat_map(|(&class, u)| draw(class, u));
        (drawn.collect(), classes)
    }
}

impl Dataset for Shapes32 {
    fn shape(&self) -> SampleShape {
        SampleShape::Image([3, SIDE, SIDE])
    }

    fn generate(&self, seed: u64) -> Result<Data, Error> {
        let stream = Stream::new(seed, Purpose::Data);
        let (train, train_labels) = self.images(self.train_size, stream, [0, 1]);
        let (test, test_labels) = self.images(self.test_size, stream, [2, 3]);
        let names = SHAPES[..self.weights.len()].iter().map(|shape| shape.name.to_owned());
        Ok(Data {
            shape: self.shape(),
            train: Rows::U8(train),
            train_labels,
            test: Rows::U8(test),
            test_labels,
            class_names: names.collect(),
        })
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn drawn_rows(&self) -> Option<[usize; 2]> {
        Some([self.train_size, self.test_size])
    }

    fn validate(&self) -> Result<(), Error> {
        for (key, size) in [("train_size", self.train_size), ("test_size", self.test_size)] {
            if size == 0 {
                return Err(bad_key(key, "found 0, expected at least 1"));
            }
            check_elements(key, size, DIM)?;
        }
        check_batches(self.batch_size, self.noise, DIM)?;
        if self.batch_size > self.train_size {
            let (batch, train) = (self.batch_size, self.train_size);
            return Err(bad_key(
                "batch_size",
                format!("found {batch}, expected at most train_size = {train}"),
            ));
        }
        let count = self.weights.len();
        if count == 0 || count > SHAPES.len() {
            return Err(bad_key(
                "weights",
                format!("found {count} weights, expected 1 to 4 (disc, square, triangle, cross)"),
            ));
        }
        if let Some(bad) = self.weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
            return Err(bad_key("weights", format!("found {bad}, expected finite numbers ≥ 0")));
        }
        let sum: f64 = self.weights.iter().sum();
        if (sum - 1.0).abs() > WEIGHT_TOLERANCE {
            return Err(bad_key("weights", format!("the weights sum to {sum}, expected 1")));
        }
        Ok(())
    }

    fn augmentation(&self) -> Augmentation {
        Augmentation { flip: self.flip, noise: self.noise }
    }
}
