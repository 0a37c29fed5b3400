//! Bits per dimension of images (ALGORITHMS 7; Theis, van den Oord, Bethge 2016).
//!
//! A byte v stands for the bin `x = s (v + u) − 1`, `u ~ U[0, 1)`, so by Jensen the model's probability of the bytes obeys
//! `−log₂ P(v) ≤ E_u[−log₂ ρ(x)] − d log₂ s`, and with `ρ = e^{−U}/Z`
//! `bits/dim = (E[U] + log Z)/(d ln 2) − log₂ s`; `s = 2/256` adds 7.

use ember_model::shape::Support;
use serde::Serialize;

use crate::dataset::{BIN, Data, Rows};
use ember_sampler::evidence::ais::TwoSided;
use ember_sampler::statistics::Estimate;

/// Bits per dimension of the held-out images.
#[derive(Clone, Debug, Serialize)]
pub struct BitsPerDim {
    /// With the `log_z` of the evaluation.
    #[serde(flatten)]
    pub estimate: Estimate,
    /// With both sides of a two-sided log Z, lower one first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sides: Option<[Estimate; 2]>,
    /// What the figure does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caveat: Option<String>,
}

/// `(E[U] + log Z)/(d ln 2) − log₂ s` for pixels of scale s.
pub fn bits_per_dim(mean_energy: Estimate, log_z: Estimate, dim: usize, scale: f64) -> Estimate {
    let nats = mean_energy.plus(log_z);
    let unit = dim as f64 * std::f64::consts::LN_2;
    Estimate { value: nats.value / unit - scale.log2(), standard_error: nats.standard_error / unit }
}

/// For a model whose held-out images have mean energy `mean_energy`, dequantised and with data noise of standard deviation
/// `noise`. `None` where the samples are no bytes, or where the noise takes them off the model's support.
pub fn of_images(
    mean_energy: Estimate,
    log_z: Estimate,
    data: &Data,
    noise: f64,
    support: Support,
    two_sided: Option<&TwoSided>,
) -> Option<BitsPerDim> {
    if !matches!(data.test, Rows::U8(_)) || data.test.is_empty() || (noise > 0.0 && support == Support::Cube)
    {
        return None;
    }
    let with = |log_z| bits_per_dim(mean_energy, log_z, data.shape.dim(), BIN);
    let caveat = (noise > 0.0).then(|| {
        format!(
            "of images with Gaussian noise of standard deviation {noise}, which the model learned: not comparable with bits \
             per dimension of the images themselves"
        )
    });
    Some(BitsPerDim {
        estimate: with(log_z),
        sides: two_sided.map(|sides| [with(sides.lower), with(sides.upper)]),
        caveat,
    })
}
