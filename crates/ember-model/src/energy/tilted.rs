//! A tilted flow: `U(x) = −log ρ₀(x) + f_θ(x)`, that is `ρ_θ ∝ ρ₀ e^{−f}` (Grenioux, Moulines, Gabrié 2023).
//!
//! ρ₀ is a normalizing flow, frozen unless `train_base`; f is a network without confinement. The starting model, where f's last
//! layer is zero, is ρ₀ exactly: `log Z_0 = 0`, and draws are the flow's. Wherever ρ₀ is near to the model it is also a source of
//! global moves and a start for annealing. Parameters are the tilt's as `tilt.…`, then the base's as `base.…`. Cost: one network
//! and one inverse pass of the flow.

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Architecture, EnergyTable, WeightedGrads};
use crate::error::ModelError;
use crate::flow::NonFinite;
use crate::params::ParamSpec;
use crate::precision::Precision;
use crate::random::Stream;
use crate::shape::SampleShape;

const TILT: &str = "tilt";
const BASE: &str = "base";

/// `{ kind = "tilted", base, tilt, train_base }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tilted<C> {
    /// ρ₀: the table of a flow.
    pub base: Box<C>,
    /// Where the base's parameters came from, where they were not trained by the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_from: Option<String>,
    /// f: the table of a network.
    pub tilt: Box<C>,
    /// Whether θ includes the base's parameters; frozen unless given.
    #[serde(default)]
    pub train_base: bool,
}

impl<C: EnergyTable> EnergyTable for Tilted<C> {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// A base that is no flow, a tilt that is no network or has levels, a confinement or a base of its own, or as their own tables.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        let base = self.base.build(shape).map_err(|error| inside(BASE, error))?;
        if base.flow().is_none() {
            let kind = base.kind();
            let message = format!(
                "a {kind} found, expected a flow: \"real_nvp\", \"spline_flow\" or \"multiscale_real_nvp\""
            );
            return Err(ModelError::invalid(BASE, message));
        }
        let tilt = self.tilt.build(shape).map_err(|error| inside(TILT, error))?;
        if !tilt.is_network() {
            let kind = tilt.kind();
            let message = format!("a {kind} found, expected a network: \"mlp\", \"conv\" or \"resnet\"");
            return Err(ModelError::invalid(TILT, message));
        }
        if tilt.confinement().is_some() || tilt.has_gaussian_base() {
            let message = "the base confines already: leave `confinement` and `base` out of the tilt";
            return Err(ModelError::invalid(TILT, message));
        }
        if tilt.levels().is_some() {
            let message = "the base knows no noise levels: leave `levels` out of the tilt";
            return Err(ModelError::invalid(TILT, message));
        }
        Ok(Box::new(TiltedEnergy {
            tilt_params: tilt.params().len(),
            tilt: tilt.into(),
            base: base.into(),
            train_base: self.train_base,
        }))
    }

    fn has_precisions(&self) -> bool {
        self.tilt.has_precisions()
    }
}

/// An error of an inner table, under the key that holds it.
fn inside(key: &'static str, error: ModelError) -> ModelError {
    match error {
        ModelError::Invalid { key: inner, message } => {
            ModelError::invalid(key, format!("{inner}: {message}"))
        }
        other => other,
    }
}

/// A flow with a network on it.
#[derive(Debug)]
struct TiltedEnergy {
    tilt: Arc<dyn Architecture>,
    base: Arc<dyn Architecture>,
    /// Parameters of the tilt.
    tilt_params: usize,
    train_base: bool,
}

impl TiltedEnergy {
    /// θ of the tilt and of the base.
    fn split<'a, T>(&self, theta: &'a [T]) -> (&'a [T], &'a [T]) {
        theta.split_at(self.tilt_params)
    }
}

impl Architecture for TiltedEnergy {
    fn kind(&self) -> &'static str {
        "tilted"
    }

    fn dim(&self) -> usize {
        self.tilt.dim()
    }

    fn widest(&self) -> usize {
        self.tilt.widest()
    }

    fn set_precision(&mut self, precision: Precision) {
        // Before the model is there, nobody else has a share in it.
        if let Some(tilt) = Arc::get_mut(&mut self.tilt) {
            tilt.set_precision(precision);
        }
    }

    fn params(&self) -> Vec<ParamSpec> {
        let named = |prefix: &str, spec: ParamSpec, scale: f64| ParamSpec {
            name: format!("{prefix}.{}", spec.name),
            learning_rate_scale: scale * spec.learning_rate_scale,
            ..spec
        };
        let base_scale = if self.train_base { 1.0 } else { 0.0 };
        let tilt = self.tilt.params().into_iter().map(|spec| named(TILT, spec, 1.0));
        tilt.chain(self.base.params().into_iter().map(|spec| named(BASE, spec, base_scale))).collect()
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        let mut theta = self.tilt.init(seed);
        theta.extend(self.base.init(seed));
        theta
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let (tilt, base) = self.split(theta);
        self.tilt.energy(tilt, x.clone()) + self.base.energy(base, x)
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (tilt, base) = self.split(theta);
        let (u, grad) = self.tilt.energy_and_grad(tilt, x.clone());
        let (base_u, base_grad) = self.base.energy_and_grad(base, x);
        (u + base_u, grad + base_grad)
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let (tilt, base) = self.split(theta);
        let mut found = self.tilt.weighted_param_grads(tilt, terms);
        let below = if self.train_base {
            self.base.weighted_param_grads(base, terms)
        } else {
            WeightedGrads {
                grads: base.iter().map(Tensor::zeros_like).collect(),
                energies: terms.iter().map(|(x, _)| self.base.energy(base, x.clone())).collect(),
            }
        };
        let energies = found.energies.into_iter().zip(below.energies).map(|(u, base)| u + base).collect();
        found.grads.extend(below.grads);
        WeightedGrads { grads: found.grads, energies }
    }

    fn log_z(&self, theta: &[Vec<f32>]) -> Option<f64> {
        self.is_base_alone(theta).then_some(0.0)
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        if !self.is_base_alone(theta) {
            return None;
        }
        self.base.draw(self.split(theta).1, count, stream)
    }

    fn starts_at_base(&self) -> bool {
        self.tilt.starts_at_base()
    }

    fn has_exact_start(&self) -> bool {
        self.starts_at_base()
    }

    fn is_base_alone(&self, theta: &[Vec<f32>]) -> bool {
        self.tilt.is_base_alone(self.split(theta).0)
    }

    fn base_energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Option<Tensor<1>> {
        Some(self.base.energy(self.split(theta).1, x))
    }

    fn tilt_and_base(&self) -> Option<[Arc<dyn Architecture>; 2]> {
        Some([self.tilt.clone(), self.base.clone()])
    }

    /// Those of the base.
    fn moments(&self, theta: &[Vec<f32>]) -> Option<[Vec<f64>; 2]> {
        self.base.moments(self.split(theta).1)
    }

    fn has_data_init(&self) -> bool {
        self.base.has_data_init()
    }

    fn data_init(&self, theta: &[Tensor<1>], rows: Tensor<2>) -> Vec<Tensor<1>> {
        let (tilt, base) = self.split(theta);
        let mut theta = tilt.to_vec();
        theta.extend(self.base.data_init(base, rows));
        theta
    }

    fn first_non_finite_layer(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Option<NonFinite> {
        self.base.first_non_finite_layer(self.split(theta).1, x)
    }
}
