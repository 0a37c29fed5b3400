//! How far samples are from data in the features of a network the user supplies: FID and KID.
//!
//! A figure means something only together with the network, the reference set, the number of samples and the treatment of
//! pixels, noise in the data among it: [`FeatureDistances`] states them all, and what it cannot be used for. Samples are rounded to bytes first, as
//! published figures are; data that are not bytes are rounded the same way. Cost: 11 GFLOP an image.

mod distance;
mod inception;
mod network;
mod resize;

use std::collections::HashSet;
use std::fmt::Write;

use burn::tensor::Tensor;
use ember_model::Energy;
use ember_model::random::{Purpose, Stream};
use serde::Serialize;

use crate::dataset::{Rows, byte};
use crate::error::Error;
use crate::view::denoise::denoised;
pub use distance::{KernelDistance, Moments, frechet, kernel_distance};
use ember_sampler::statistics::Estimate;
pub use inception::{FEATURES, SIDE, UnitSpec, units};
pub use network::FeatureNetwork;
pub use resize::Resize;

/// Samples of the model and of the reference at most, unless asked for more.
pub const DEFAULT_SAMPLES: usize = 10_000;
/// Rows of a KID subset where there are enough samples.
const SUBSET: usize = 1_000;
/// Samples behind published FIDs.
const PUBLISHED: usize = 50_000;
/// Lanes of the generator, apart from those of the draw itself.
const REFERENCE_LANE: u32 = 1 << 20;

/// What is compared, and by how much.
#[derive(Clone, Debug)]
pub struct FeatureOptions {
    /// The most images of the reference; fewer where it has fewer.
    pub samples: usize,
    /// Rows of a KID subset; `None`: 1,000, or a tenth of the samples where that is less.
    pub subset_size: Option<usize>,
    /// Chooses images of the reference and KID's subsets.
    pub seed: u64,
    /// What the reference is.
    pub reference: String,
    /// What was done to the model's samples: what [`clean`] says.
    pub treatment: String,
}

/// Samples of the model to be compared with clean data, and what was done to them. Where the data had noise of standard deviation σ the
/// model has the law of data *and* noise: its samples, `position: [n, dim]`, are denoised, `E[x | y] = y − σ² ∇U(y)`.
pub fn clean(model: &dyn Energy, position: Tensor<2>, sigma: f64) -> (Tensor<2>, String) {
    match sigma > 0.0 {
        true => {
            let treatment = format!("denoised by the model, for its data had noise of {sigma}");
            (denoised(model, position, sigma), treatment)
        }
        false => (position, "as they are".to_owned()),
    }
}

/// FID and KID with all that they depend on.
#[derive(Clone, Debug, Serialize)]
pub struct FeatureDistances {
    /// The Fréchet distance.
    pub fid: f64,
    /// The kernel distance with the standard error over disjoint subsets of independent samples.
    pub kid: Estimate,
    /// Disjoint subsets behind KID.
    pub kid_subsets: usize,
    /// Images of either set in each.
    pub kid_subset_size: usize,
    /// The images compared with.
    pub reference: String,
    /// How many of them.
    pub reference_count: usize,
    /// Images of the model.
    pub sample_count: usize,
    /// What was done to them: denoised where the model learnt data with noise, for the reference has none.
    pub sample_treatment: String,
    /// How many of those differ from one another.
    pub distinct_samples: usize,
    /// From the values of samples to those the network gets.
    pub pixel_range: &'static str,
    /// Channels, where the network's three are one repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<&'static str>,
    /// The network and its weights.
    pub network: String,
    /// What the figures cannot be used for.
    pub caveat: String,
}

/// Compares samples of a model, `[n, c·h·w]` row-major in `[−1, 1]`, with a reference of the same `shape = [c, h, w]`.
///
/// # Errors
/// Fewer than 4 images on either side, images of neither 1 nor 3 channels (exit code 2), features that are not finite.
pub fn judge(
    network: &FeatureNetwork,
    samples: &[f32],
    shape: [usize; 3],
    reference: &Rows,
    options: &FeatureOptions,
) -> Result<FeatureDistances, Error> {
    let dim = shape.iter().product::<usize>();
    let (sample_count, available) = (samples.len() / dim, reference.len() / dim);
    let reference_count = available.min(options.samples);
    let least = sample_count.min(reference_count);
    if least < 4 {
        return Err(Error::usage(format!(
            "feature distances need at least 4 images on either side; {sample_count} samples and {reference_count} of the \
             reference found"
        )));
    }
    let subset_size = options.subset_size.unwrap_or((least / 10).min(SUBSET)).clamp(2, least / 2);
    let images: Vec<u8> = samples.iter().map(|&x| byte(x)).collect();
    let distinct_samples = images.chunks_exact(dim).collect::<HashSet<_>>().len();
    let stream = Stream::new(options.seed, Purpose::Sample).lane(REFERENCE_LANE);
    let chosen = stream.permutation(available).into_iter().take(reference_count).map(|row| row as usize);
    let chosen = bytes_of(reference, dim, chosen);
    let a = network.features(&images, shape, "samples")?;
    let b = network.features(&chosen, shape, "the reference")?;
    let streams = [stream.lane(REFERENCE_LANE + 1), stream.lane(REFERENCE_LANE + 2)];
    let kid = kernel_distance(&a, &b, FEATURES, subset_size, streams);
    let result = FeatureDistances {
        fid: frechet(&Moments::of(&a, FEATURES)?, &Moments::of(&b, FEATURES)?)?,
        kid: kid.value,
        kid_subsets: kid.subsets,
        kid_subset_size: kid.subset_size,
        reference: options.reference.clone(),
        reference_count,
        sample_count,
        sample_treatment: options.treatment.clone(),
        distinct_samples,
        pixel_range: "[-1, 1] cut and rounded to bytes 0..=255, as v/255 in [0, 1]",
        channels: (shape[0] == 1).then_some("1, repeated to 3"),
        network: network.description.clone(),
        caveat: caveat(sample_count, reference_count, distinct_samples),
    };
    if least < FEATURES {
        tracing::warn!(
            "FID from {least} images: their covariance has no full rank below {FEATURES}; KID is unbiased"
        );
    }
    Ok(result)
}

/// Rows of the reference as bytes.
fn bytes_of(reference: &Rows, dim: usize, rows: impl Iterator<Item = usize>) -> Vec<u8> {
    match reference {
        Rows::U8(bytes) => rows.flat_map(|row| &bytes[row * dim..(row + 1) * dim]).copied().collect(),
        Rows::F32(_) => reference.gather(dim, rows).into_iter().map(byte).collect(),
    }
}

fn caveat(samples: usize, reference: usize, distinct: usize) -> String {
    let least = samples.min(reference);
    let mut parts = Vec::new();
    if least < FEATURES {
        parts.push(format!("FID is far too high: {least} images do not span {FEATURES} features"));
    }
    if least < PUBLISHED {
        parts.push(format!(
            "FID is biased upwards below {PUBLISHED} images, so not a published value; KID is not biased"
        ));
    }
    if distinct < samples {
        parts.push(format!("{} samples repeat another, which raises both", samples - distinct));
    }
    parts.push(
        "KID's standard error takes samples as independent, walkers of common ancestry are not".to_owned(),
    );
    parts.join("; ")
}

impl FeatureDistances {
    /// Lines for people.
    pub fn table(&self) -> String {
        let mut text = format!("FID        {:.3}\n", self.fid);
        let _ = writeln!(
            text,
            "KID        {:.6} ± {:.6} ({} subsets of {})",
            self.kid.value, self.kid.standard_error, self.kid_subsets, self.kid_subset_size
        );
        let _ = writeln!(
            text,
            "           ({} samples, {}, {} distinct, against {} of {}; {})",
            self.sample_count,
            self.sample_treatment,
            self.distinct_samples,
            self.reference_count,
            self.reference,
            self.network
        );
        let channels = self.channels.map(|channels| format!("; channels: {channels}")).unwrap_or_default();
        let _ = writeln!(text, "           (pixels: {}{channels})", self.pixel_range);
        let _ = writeln!(text, "           ({})", self.caveat);
        text
    }
}
