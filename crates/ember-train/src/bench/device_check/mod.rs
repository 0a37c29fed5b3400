//! `ember devices --check`: a device against `flex`, the processor, and against plain evaluations in f64.
//!
//! Every row computes something on the device twice, from the same inputs. It is right where the first result is within what is
//! allowed of the reference and the second has the bits of the first: runs are promised to repeat bit for bit. Networks are small,
//! since a new card compiles each kernel first: all rows together are meant to take some ten seconds there. What a row allows is stated
//! where the row is made, with its reason.
//!
//! | rows | reference |
//! |---|---|
//! | uniform numbers, normals | Philox in f64 (`ember_model::random`) |
//! | U, ∇U and weighted ∂θ of every kind of energy | the tape on `flex`; an MLP and a mixture also in f64 (`exact.rs`) |
//! | a step of ULA and of MALA, three updates of each objective | `flex` |
//! | ancestors of every resampling scheme | `flex`, to the bit |
//! | products at each precision of the device | f64 |

mod energies;
mod exact;
mod products;
mod sampling;
mod table;
mod updates;

use std::time::Instant;

use burn::tensor::Device;

pub use table::{HEADER, line, to_json, verdict};

use crate::device::Selected;
use crate::device::panics;
use crate::error::Error;

/// One comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What was computed.
    pub what: String,
    /// What it was compared with: `flex` or `f64`.
    pub against: &'static str,
    /// The largest difference, as a fraction of the reference's size where it has one.
    pub error: f64,
    /// The largest error that rounding explains.
    pub allowed: f64,
    /// Milliseconds of the first time, kernels compiled.
    pub first_ms: f64,
    /// Milliseconds of the second time.
    pub again_ms: f64,
    /// Why there is no result, or what else is wrong with it.
    pub fault: Option<String>,
}

impl Row {
    /// Whether the device computes this as it should.
    pub fn is_ok(&self) -> bool {
        self.fault.is_none() && self.error <= self.allowed
    }
}

/// For tests: in rows whose name begins with `row` the largest number of the device's result is off by this fraction of itself.
#[derive(Clone, Copy, Debug)]
pub struct Disturbance<'a> {
    /// How the row's name begins.
    pub row: &'a str,
    /// The fraction.
    pub by: f32,
}

/// Compares the device with its references. `seen` gets every row as soon as it is there.
///
/// Nothing that happens on the device is an error: a row that panics or fails says so and counts as off.
pub fn run(
    selected: &Selected,
    disturbance: Option<Disturbance<'_>>,
    seen: &mut dyn FnMut(&Row),
) -> Vec<Row> {
    let mut check = Check { selected, disturbance, seen, rows: Vec::new() };
    sampling::random_numbers(&mut check);
    products::rows(&mut check);
    energies::rows(&mut check);
    sampling::resampling(&mut check);
    sampling::steps(&mut check);
    updates::rows(&mut check);
    check.rows
}

/// What makes the rows.
struct Check<'a> {
    selected: &'a Selected,
    disturbance: Option<Disturbance<'a>>,
    seen: &'a mut dyn FnMut(&Row),
    rows: Vec<Row>,
}

/// What one tensor of a result should be.
struct Expected {
    values: Vec<f64>,
    /// What differences are divided by.
    scale: f64,
}

impl Expected {
    /// Differences are fractions of `scale`.
    fn of_size<T: Into<f64>>(values: impl IntoIterator<Item = T>, scale: f64) -> Self {
        Self { values: values.into_iter().map(Into::into).collect(), scale }
    }

    /// Differences are fractions of the largest value, or of `least` where that is more.
    fn relative<T: Into<f64>>(values: impl IntoIterator<Item = T>, least: f64) -> Self {
        let values: Vec<f64> = values.into_iter().map(Into::into).collect();
        let scale = largest(&values).max(least).max(f64::from(f32::MIN_POSITIVE));
        Self { values, scale }
    }

    /// The largest difference; infinite where a number is none.
    fn error(&self, found: &[f32]) -> f64 {
        let differences = found.iter().zip(&self.values).map(|(&f, e)| (f64::from(f) - e).abs() / self.scale);
        differences.fold(0.0, |worst: f64, d| if d.is_nan() { f64::INFINITY } else { worst.max(d) })
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The tensors of a result in host memory.
type Found = Result<Vec<Vec<f32>>, Error>;

impl Check<'_> {
    fn device(&self) -> Device {
        self.selected.device.clone()
    }

    /// Adds a row: `measure` computes on the device what `expected` says, tensor by tensor.
    fn row(
        &mut self,
        what: impl Into<String>,
        against: &'static str,
        allowed: f64,
        expected: &[Expected],
        measure: impl Fn() -> Found,
    ) {
        let what = what.into();
        let timed = || {
            let start = Instant::now();
            let found = match panics::caught(&measure) {
                Ok(found) => found.map_err(|error| error.to_string()),
                Err(panic) => Err(panic),
            };
            (found, 1e3 * start.elapsed().as_secs_f64())
        };
        let (mut found, first_ms) = timed();
        let (again, again_ms) = if found.is_ok() { timed() } else { (found.clone(), 0.0) };
        let repeats = match (&found, &again) {
            (Ok(found), Ok(again)) => same_bits(found, again),
            _ => true,
        };
        if let (Ok(found), Some(Disturbance { row, by })) = (&mut found, self.disturbance)
            && what.starts_with(row)
        {
            disturb(found, by);
        }
        let (error, fault) = match &found {
            Err(message) => (f64::INFINITY, Some(message.lines().next().unwrap_or_default().to_owned())),
            Ok(found) => match compared(expected, found) {
                None => (f64::INFINITY, Some("the result has another shape".to_owned())),
                Some(error) if !repeats => (error, Some("twice the same gave different bits".to_owned())),
                Some(error) => (error, None),
            },
        };
        let row = Row { what, against, error, allowed, first_ms, again_ms, fault };
        (self.seen)(&row);
        self.rows.push(row);
    }
}

/// The largest error of all tensors; `None` where shapes differ.
fn compared(expected: &[Expected], found: &[Vec<f32>]) -> Option<f64> {
    let fits = expected.len() == found.len()
        && expected.iter().zip(found).all(|(expected, found)| expected.values.len() == found.len());
    let errors = expected.iter().zip(found).map(|(expected, found)| expected.error(found));
    fits.then(|| errors.fold(0.0, f64::max))
}

fn same_bits(a: &[Vec<f32>], b: &[Vec<f32>]) -> bool {
    let bits = |tensors: &[Vec<f32>]| -> Vec<u32> { tensors.iter().flatten().map(|v| v.to_bits()).collect() };
    bits(a) == bits(b)
}

/// The largest number of the first tensor, off by a fraction of itself.
fn disturb(found: &mut [Vec<f32>], by: f32) {
    let values = found.iter_mut().find(|values| !values.is_empty());
    if let Some(largest) =
        values.and_then(|values| values.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs())))
    {
        *largest *= 1.0 + by;
    }
}
