//! Out-of-distribution scores: does the energy tell held-out data from another data set (ALGORITHMS 8)?
//!
//! AUROC `= P(U(y) > U(x)) + ½ P(U(y) = U(x))`, x held out, y of the other set, with the standard error of DeLong, DeLong and
//! Clarke-Pearson (1988). Beside it the same figure of a Gaussian with full covariance fitted to the training set
//! (`gaussian_fit.rs`). Both sets are dequantised and get the data noise of the model's own data.

use std::path::{Path, PathBuf};

use ember_model::{EnergyModel, SampleShape};
use serde::Serialize;

use crate::dataset::gaussian_fit::GaussianFit;
use crate::dataset::{Data, Rows};
use crate::error::Error;
use crate::training::noisy::Noisy;
use ember_model::energy::blockwise::energies;
use ember_sampler::statistics::Estimate;

/// The most samples of a set that are scored.
const MOST: usize = 10_000;
/// The most training samples the Gaussian is fitted to.
const MOST_FITTED: usize = 20_000;
/// The Gaussian's ridge over the mean variance.
const RELATIVE_RIDGE: f64 = 1e-3;
/// First lane of the dequantisation and noise of scored sets: two for each of held-out, other, training.
const LANE: u32 = 1 << 21;

/// The other data set.
#[derive(Clone, Debug)]
pub struct Against {
    /// The folder it came from.
    pub dir: PathBuf,
    rows: Rows,
    split: &'static str,
}

impl Against {
    /// The test split of a data set found in `dir`, or its training split where it holds nothing out, for a model of samples of
    /// `shape`.
    ///
    /// # Errors
    /// Another sample shape, or no samples.
    pub fn new(dir: &Path, data: Data, shape: SampleShape) -> Result<Self, Error> {
        if data.shape != shape {
            return Err(Error::data(
                dir,
                format!("its samples have shape {}; the model's have shape {shape}", data.shape),
            ));
        }
        let (rows, split) = if data.test.is_empty() { (data.train, "train") } else { (data.test, "test") };
        if rows.is_empty() {
            return Err(Error::data(dir, "no samples found; expected at least one to compare with"));
        }
        Ok(Self { dir: dir.to_owned(), rows, split })
    }
}

/// How well energies tell the held-out data from another set.
#[derive(Clone, Debug, Serialize)]
pub struct OutOfDistribution {
    /// The folder of the other set.
    pub against: String,
    /// Its split that was scored.
    pub split: &'static str,
    /// Held-out samples scored.
    pub held_out: usize,
    /// Samples of the other set scored.
    pub others: usize,
    /// Standard deviation of the noise both sets got, the model's own data noise.
    pub noise: f64,
    /// AUROC of `U`; 1 where every sample of the other set has the higher energy.
    pub auroc: Estimate,
    /// AUROC of the Gaussian fit.
    pub auroc_gaussian: Estimate,
    /// Training samples the Gaussian was fitted to.
    pub gaussian_samples: usize,
    /// What was added to every variance of the Gaussian.
    pub gaussian_ridge: f64,
    /// Of the standard errors: `DeLong`.
    pub standard_error_method: &'static str,
}

/// Scores the held-out samples of `data` and those of `against`. `noise` is the data noise the model learned with.
///
/// # Errors
/// A data set that holds nothing out, or scores that are not finite.
pub fn judge(
    model: &EnergyModel,
    data: &Data,
    against: &Against,
    noise: f64,
) -> Result<OutOfDistribution, Error> {
    let dim = data.shape.dim();
    if data.test.is_empty() {
        return Err(Error::usage(
            "--against compares with held-out data, and the run's data set holds nothing out",
        ));
    }
    let train = as_learned(&data.train, dim, MOST_FITTED, noise, LANE + 4);
    let gaussian = GaussianFit::new(&train, dim, RELATIVE_RIDGE)?;
    let scores = |rows: &Rows, lane: u32| -> Result<[Vec<f64>; 2], Error> {
        let rows = as_learned(rows, dim, MOST, noise, lane);
        let scores = [energies(model, &rows).into_iter().map(f64::from).collect(), gaussian.energies(&rows)];
        if scores.iter().flatten().any(|score| score.is_nan()) {
            return Err(Error::failed("out-of-distribution scores: the energy of a sample is not a number"));
        }
        Ok(scores)
    };
    let [inside, inside_gaussian] = scores(&data.test, LANE)?;
    let [outside, outside_gaussian] = scores(&against.rows, LANE + 2)?;
    Ok(OutOfDistribution {
        against: against.dir.display().to_string(),
        split: against.split,
        held_out: inside.len(),
        others: outside.len(),
        noise,
        auroc: auroc(&inside, &outside),
        auroc_gaussian: auroc(&inside_gaussian, &outside_gaussian),
        gaussian_samples: train.len() / dim,
        gaussian_ridge: gaussian.ridge,
        standard_error_method: "DeLong",
    })
}

/// At most `most` rows, at equal distances (a set may be sorted by class), dequantised and noised by fixed numbers, row-major.
fn as_learned(rows: &Rows, dim: usize, most: usize, noise: f64, lane: u32) -> Vec<f32> {
    let (found, noisy) = (rows.len() / dim, Noisy::new(noise, 0, lane));
    let count = found.min(most);
    (0..count).flat_map(|i| noisy.row(rows, dim, i * found / count)).collect()
}

/// `P(y > x) + ½ P(y = x)` for x in `inside`, y in `outside`, with DeLong's standard error: from the placements
/// `V(x) = P_y(y > x) + ½ P_y(y = x)` and `V(y) = P_x(…)`, `se² = var V(x)/m + var V(y)/n`. NaN for a set of fewer than two.
pub fn auroc(inside: &[f64], outside: &[f64]) -> Estimate {
    let sorted = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values
    };
    let (xs, ys) = (sorted(inside), sorted(outside));
    // The fraction of `others` below `value`, ties half.
    let below = |others: &[f64], value: f64| {
        let (first, last) = (others.partition_point(|&o| o < value), others.partition_point(|&o| o <= value));
        0.5 * (first + last) as f64 / others.len() as f64
    };
    let of_x = Estimate::mean(&xs.iter().map(|&x| 1.0 - below(&ys, x)).collect::<Vec<_>>());
    let of_y = Estimate::mean(&ys.iter().map(|&y| below(&xs, y)).collect::<Vec<_>>());
    Estimate { value: of_y.value, standard_error: of_x.standard_error.hypot(of_y.standard_error) }
}
