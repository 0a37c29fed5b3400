//! Known targets and flows that do not fit them, for the kernels that propose from flows.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::gaussian_mixture::GaussianMixture;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::{FlowProposal, Walkers};

use crate::flows::{HALF, start, trained};
use crate::{mean_se, ratio_se};

/// A RealNVP moved away from the identity, its draws scaled by `scales`, one number a coordinate.
///
/// # Panics
/// If the scales do not fit the coordinates.
pub fn scaled_flow(scales: &[f64], device: &Device) -> FlowProposal {
    let model = trained(&format!("dim = {}\n{HALF}", scales.len()), device);
    let mut theta = model.theta().to_vec();
    let last = model.params().iter().position(|spec| spec.name == "couplings.0.act_norm.log_scale");
    let log_scale = scales.iter().map(|scale| scale.ln() as f32).collect();
    theta[last.expect("act-norm")] = upload(log_scale, device);
    FlowProposal::of(&model.with_theta(theta)).expect("a flow")
}

/// One coupling whose log-determinant grows with the first half of the coordinates, about linearly:
/// `s = tanh(tanh(0.3 Σ z))`.
///
/// # Panics
/// If `dim` is odd.
pub fn skewed_flow(dim: usize, device: &Device) -> FlowProposal {
    let hidden = 4;
    let table =
        format!("dim = {dim}\nkind = \"real_nvp\"\nlayers = 1\nhidden = [{hidden}]\nactivation = \"tanh\"");
    let model = start(&table, device);
    let theta = model.params().into_iter().map(|spec| {
        let moved = dim / 2 * hidden;
        let value = |i: usize| match spec.name.as_str() {
            "couplings.0.layers.0.weight" => 0.3,
            // The rows of the log-scale, and not those of the shift.
            "couplings.0.layers.1.weight" if i < moved => 1.0 / hidden as f32,
            _ => 0.0,
        };
        upload((0..spec.len()).map(value).collect(), device)
    });
    FlowProposal::of(&model.with_theta(theta.collect())).expect("a flow")
}

/// A statistic of one walker, with its name and its exact expectation.
pub type Statistic = (&'static str, fn(&[f64]) -> f64, f64);

/// A target that moves with t from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// `N(t·μ, I)`, with log Z growing by t.
    Gaussian {
        /// Coordinates.
        dim: usize,
    },
    /// Unit Gaussians at ∓3 on the first axis of the plane, of masses `1 : 2^t`.
    TwoModes,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Gaussian { dim: 2 }, Self::Gaussian { dim: 8 }, Self::TwoModes];

    /// Coordinates.
    pub fn dim(self) -> usize {
        match self {
            Self::Gaussian { dim } => dim,
            Self::TwoModes => 2,
        }
    }

    fn shift(self) -> f64 {
        if self.dim() == 2 { 0.4 } else { 0.2 }
    }

    /// The energy at t.
    ///
    /// # Panics
    /// Never: the mixtures are valid.
    pub fn at(self, t: f64, device: &Device) -> EnergyModel {
        let means = match self {
            Self::Gaussian { .. } => vec![vec![]],
            Self::TwoModes => vec![vec![-3.0], vec![3.0]],
        };
        let energy = EnergyConfig::GaussianMixture(GaussianMixture {
            means,
            means_noise: 0.0,
            train_means: true,
            logit_learning_rate_scale: 1.0,
        });
        let spec = EnergySpec::new(SampleShape::Flat(self.dim()), energy);
        let model = EnergyModel::init(spec, 0, device).expect("a valid mixture");
        let theta = match self {
            Self::Gaussian { dim } => vec![vec![(t * self.shift()) as f32; dim], vec![t as f32]],
            Self::TwoModes => vec![download(model.theta()[0].clone()), vec![0.0, (t * 2f64.ln()) as f32]],
        };
        model.with_theta(theta.into_iter().map(|values| upload(values, device)).collect())
    }

    /// log Z at t = 1 over that at t = 0.
    pub fn log_z(self) -> f64 {
        match self {
            Self::Gaussian { .. } => 1.0,
            Self::TwoModes => 1.5f64.ln(),
        }
    }

    /// A flow that covers the target without fitting it.
    pub fn flow(self, device: &Device) -> FlowProposal {
        match self {
            Self::Gaussian { dim: 2 } => scaled_flow(&[1.5, 1.5], device),
            Self::Gaussian { dim } => scaled_flow(&vec![1.25; dim], device),
            Self::TwoModes => scaled_flow(&[4.0, 2.0], device),
        }
    }

    /// Exact draws at t, the same for the same lane.
    ///
    /// # Panics
    /// Never: mixtures can be drawn.
    pub fn draws(self, t: f64, count: usize, lane: u32, device: &Device) -> Tensor<2> {
        let draws = self.at(t, device).draw(count, Stream::new(31, Purpose::Start).lane(lane));
        Tensor::from_data(TensorData::new(draws.expect("exact draws"), [count, self.dim()]), device)
    }

    /// What is known at t = 1.
    pub fn statistics(self) -> Vec<Statistic> {
        match self {
            Self::Gaussian { .. } => {
                let shift = self.shift();
                vec![
                    ("E x", |x| x.iter().sum::<f64>() / x.len() as f64, shift),
                    ("E x²", |x| x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64, 1.0 + shift * shift),
                    ("E x₀x₁", |x| x[0] * x[1], shift * shift),
                ]
            }
            Self::TwoModes => {
                // Φ(−3)
                let tail = 0.001_349_898;
                vec![
                    ("mass", |x| f64::from(u8::from(x[0] > 0.0)), (2.0 * (1.0 - tail) + tail) / 3.0),
                    ("E x₀²", |x| x[0] * x[0], 10.0),
                    ("E x₁²", |x| x[1] * x[1], 1.0),
                    ("E x₁", |x| x[1], 0.0),
                ]
            }
        }
    }
}

/// An estimate with its standard error, and what it should be.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// Of what.
    pub of: &'static str,
    /// The value and its standard error.
    pub found: (f64, f64),
    /// The exact value.
    pub exact: f64,
}

impl Estimate {
    /// Standard errors off.
    pub fn z(&self) -> f64 {
        (self.found.0 - self.exact) / self.found.1
    }
}

/// Weighted statistics at t = 1 and Z over its exact value; standard errors from `groups` blocks of walkers, which
/// must be independent.
pub fn estimates(target: Target, walkers: &Walkers, groups: usize) -> Vec<Estimate> {
    let dim = walkers.dim();
    let x: Vec<f64> = download(walkers.position.clone()).into_iter().map(f64::from).collect();
    let weights: Vec<f64> =
        download(walkers.log_weights.value()).into_iter().map(|a| f64::from(a).exp()).collect();
    let size = weights.len() / groups;
    let mean = |phi: &dyn Fn(&[f64]) -> f64, group: usize| {
        let rows = group * size..(group + 1) * size;
        rows.map(|i| weights[i] * phi(&x[i * dim..(i + 1) * dim])).sum::<f64>() / size as f64
    };
    let z: Vec<f64> = (0..groups).map(|group| mean(&|_| 1.0, group)).collect();
    let statistics = target.statistics().into_iter().map(|(of, phi, exact)| {
        let pairs: Vec<(f64, f64)> = (0..groups).map(|group| (mean(&phi, group), z[group])).collect();
        Estimate { of, found: ratio_se(&pairs), exact }
    });
    let mut found: Vec<Estimate> = statistics.collect();
    if z.iter().any(|z| *z != 1.0) {
        let z: Vec<f64> = z.iter().map(|z| z / target.log_z().exp()).collect();
        found.push(Estimate { of: "Z/Z", found: mean_se(&z), exact: 1.0 });
    }
    found
}

/// Estimates on one line.
pub fn line(estimates: &[Estimate]) -> String {
    let entry = |e: &Estimate| {
        format!("{} {:.4} ± {:.4} (exact {:.4}, z {:+.1})", e.of, e.found.0, e.found.1, e.exact, e.z())
    };
    estimates.iter().map(entry).collect::<Vec<_>>().join("; ")
}
