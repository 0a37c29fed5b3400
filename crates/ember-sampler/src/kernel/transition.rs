//! The Langevin transition that ULA moves by and MALA proposes from, with its exact density.
//!
//! `y = fold(x − D(x) + √(2h) ξ)`, `D(x) = clamp(h ∇U(x), ±drift_clip)` element by element (no clamp unless asked for).
//! Whatever changes the step changes its density too, and both densities of an increment are those of the step as it was
//! made (ALGORITHMS 1.5): the clamped drift is still a Gaussian step, and a reflected one has the folded density
//! `π(x→y) = Π_j Σ_i N(i(y_j); x_j − D_j(x), 2h)` over the mirror images `i(y) = y + 4m` and `2 − y + 4m` of `y` in `[−1, 1]`.

use burn::tensor::Tensor;
use ember_model::random::Stream;
use ember_model::shape::Support;
use serde::{Deserialize, Serialize};

use super::metropolis::Points;
use crate::device::{langevin_proposal, ula_log_weight_increment};
use crate::weights::LogWeights;

/// What happens at the faces of the cube `[−1, 1]^d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// Nothing: positions are unbounded.
    #[default]
    None,
    /// A step that leaves the cube is mirrored back into it, coordinate by coordinate.
    Reflect,
}

impl Boundary {
    pub(super) fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// What keeps walkers on a support.
    pub fn of(support: Support) -> Self {
        match support {
            Support::Unbounded => Self::None,
            Support::Cube => Self::Reflect,
        }
    }

    /// Where the density of a model lives that this kernel samples.
    pub fn support(self) -> Support {
        match self {
            Self::None => Support::Unbounded,
            Self::Reflect => Support::Cube,
        }
    }
}

/// One Langevin step's law.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transition {
    /// h.
    pub step_size: f64,
    /// The largest drift of one coordinate.
    pub drift_clip: Option<f64>,
    /// The faces of the cube.
    pub boundary: Boundary,
}

impl Transition {
    /// `D(x)/h`: the gradient the step follows. `[walkers, dim]`.
    fn drift(&self, grad: Tensor<2>) -> Tensor<2> {
        match self.drift_clip {
            Some(clip) => grad.clamp(-clip / self.step_size, clip / self.step_size),
            None => grad,
        }
    }

    /// Draws `y` from `π(x→·)`. All `[walkers, dim]`.
    pub fn propose(&self, x: Tensor<2>, grad: Tensor<2>, stream: Stream) -> Tensor<2> {
        let h = self.step_size;
        let y = langevin_proposal(x, self.drift(grad), h as f32, (2.0 * h).sqrt() as f32, stream);
        match self.boundary {
            Boundary::None => y,
            Boundary::Reflect => fold(y),
        }
    }

    /// `log [ρ̃_{k+1}(y) π_{k+1}(y→x) / (ρ̃_k(x) π_k(x→y))]`, `[walkers]`: what ULA adds to the log-weights, and with one θ
    /// MALA's acceptance. `from` is `(x, U_k(x), ∇U_k(x))`, `to` is `(y, U_{k+1}(y), ∇U_{k+1}(y))`.
    pub fn log_ratio(
        &self,
        (x, ux, gx): (Tensor<2>, Tensor<1>, Tensor<2>),
        (y, uy, gy): (Tensor<2>, Tensor<1>, Tensor<2>),
    ) -> Tensor<1> {
        let h = self.step_size;
        let (gx, gy) = (self.drift(gx), self.drift(gy));
        match self.boundary {
            Boundary::None => ula_log_weight_increment(x, y, ux, gx, uy, gy, h as f32),
            Boundary::Reflect => {
                let back = log_folded(y.clone() - gy.mul_scalar(h), x.clone(), h);
                let forth = log_folded(x - gx.mul_scalar(h), y, h);
                ux - uy + (back - forth).sum_dim(1).squeeze_dim::<1>(1)
            }
        }
    }

    /// `log_weights` with [`Self::log_ratio`] added.
    pub fn earn(&self, log_weights: LogWeights, from: Points, to: Points) -> LogWeights {
        match self.boundary {
            Boundary::None => {
                let drifting = |(x, u, grad): Points| (x, u, self.drift(grad));
                log_weights.accumulate_ula(drifting(from), drifting(to), self.step_size as f32)
            }
            Boundary::Reflect => log_weights.accumulate(self.log_ratio(from, to)),
        }
    }
}

/// Mirrors every coordinate into `[−1, 1]`: `1 − |2 − t|`, `t = (z + 1) mod 4`.
fn fold(z: Tensor<2>) -> Tensor<2> {
    let t = z.add_scalar(1.0);
    let t = t.clone() - t.div_scalar(4.0).floor().mul_scalar(4.0);
    // 1 − |2 − t|, kept inside for what rounding does
    t.sub_scalar(2.0).abs().neg().add_scalar(1.0).clamp(-1.0, 1.0)
}

/// Log-density of the folded step with mean `mean` at `y`, up to the constant `−½ log 4πh`, coordinate by coordinate.
/// `[walkers, dim]` all.
///
/// The density depends on the mean only through its mirror image in the cube, and of all images of `y` the nearest to that
/// is `y` itself: `−(y − m)²/4h + log(1 + Σ_{other images} e^{−((i(y) − m)² − (y − m)²)/4h})`, no exponent above 0.
fn log_folded(mean: Tensor<2>, y: Tensor<2>, h: f64) -> Tensor<2> {
    let mean = fold(mean);
    let square = |gap: Tensor<2>| gap.clone() * gap;
    let nearest = square(y.clone() - mean.clone());
    // Images further than seven standard deviations beyond the cube's width count for nothing in f32.
    let turns = 1 + (7.0 * (2.0 * h).sqrt() / 4.0).floor() as i64;
    let mut others = nearest.zeros_like();
    for m in -turns..=turns {
        let shift = 4.0 * m as f64;
        // 2 − y + 4m
        let mirrored = y.clone().neg().add_scalar(2.0 + shift);
        let mut images = vec![mirrored];
        if m != 0 {
            images.push(y.clone().add_scalar(shift));
        }
        for image in images {
            let further = square(image - mean.clone()) - nearest.clone();
            others = others + further.clamp_min(0.0).mul_scalar(-0.25 / h).exp();
        }
    }
    nearest.mul_scalar(-0.25 / h) + others.log1p()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};
    use ember_model::params::download;

    /// The folded density is one: over the cube it integrates to 1, for means inside and far outside, for steps small
    /// beside the cube and larger than it.
    #[test]
    fn the_folded_density_integrates_to_one() {
        let device = Device::flex();
        let cells = 20_000;
        for h in [1e-3, 0.05, 1.0, 9.0] {
            for mean in [-0.99, 0.3, 1.7, -6.2] {
                let y: Vec<f32> = (0..cells).map(|i| -1.0 + (i as f32 + 0.5) * 2.0 / cells as f32).collect();
                let y = Tensor::<2>::from_data(TensorData::new(y, [cells, 1]), &device);
                let log = download(log_folded(Tensor::full([cells, 1], mean, &device), y, h));
                let norm = (4.0 * std::f64::consts::PI * h).sqrt();
                let sum: f64 = log.iter().map(|&l| f64::from(l).exp() / norm).sum();
                let integral = sum * 2.0 / cells as f64;
                assert!((integral - 1.0).abs() < 1e-3, "h {h}, mean {mean}: {integral}");
            }
        }
    }

    /// Folding keeps what is inside and mirrors the rest.
    #[test]
    fn folding_mirrors() {
        let z = [0.3f32, -1.0, 1.0, 1.25, -1.5, 3.5, 5.0, -7.25];
        let folded = fold(Tensor::<2>::from_data(TensorData::new(z.to_vec(), [8, 1]), &Device::flex()));
        let expected = [0.3f32, -1.0, 1.0, 0.75, -0.5, -0.5, 1.0, 0.75];
        for (found, expected) in download(folded).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} for {expected}");
        }
    }
}
