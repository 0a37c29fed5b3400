//! Neural spline flow (Durkan et al. 2019, arXiv 1906.04032): couplings whose elements are rational-quadratic splines.
//!
//! Chained like RealNVP. A coupling's network gives the spline of every coordinate that moves; the spline maps data to latent, so
//! that `log_prob` evaluates it and draws take the root of a quadratic. Outside `[−B, B]` every spline is the identity: data should
//! mostly lie inside (`act_norm` puts it at mean 0 and variance 1). The start is `N(0, I)` exactly, but for act-norm.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::chain::Layer;
use super::conditioner::{Conditioner, MlpConditioner};
use super::couplings::{Couplings, check_positive};
use super::mask::Mask;
use super::parts::Parts;
use super::rational_quadratic::Spline;
use crate::energy::activation::Activation;
use crate::energy::network::{check_hidden, init_layers_with};
use crate::energy::{Architecture, EnergyTable};
use crate::error::ModelError;
use crate::params::ParamSpec;
use crate::random::Stream;
use crate::shape::SampleShape;

const KIND: &str = "spline_flow";

/// `{ kind = "spline_flow", layers, hidden, activation, mask, bins, bound, min_width, min_height, min_derivative, act_norm }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplineFlow {
    /// Couplings; two move every coordinate once.
    pub layers: usize,
    /// Widths of the hidden layers of each coupling's network.
    pub hidden: Vec<usize>,
    /// The non-linearity after each hidden layer.
    #[serde(default)]
    pub activation: Activation,
    /// How the coordinates are divided.
    #[serde(default)]
    pub mask: Mask,
    /// K, the bins of a spline; 8 unless given.
    #[serde(default = "eight")]
    pub bins: usize,
    /// B: splines bend `[−B, B]`; 5 unless given.
    #[serde(default = "five")]
    pub bound: f64,
    /// Smallest width of a bin over 2B; 10⁻³ unless given.
    #[serde(default = "thousandth")]
    pub min_width: f64,
    /// Smallest height of a bin over 2B; 10⁻³ unless given.
    #[serde(default = "thousandth")]
    pub min_height: f64,
    /// Smallest slope at a knot; 10⁻³ unless given.
    #[serde(default = "thousandth")]
    pub min_derivative: f64,
    /// Whether a trained scale and shift of every coordinate, fitted to data before a run, stands before each coupling.
    #[serde(default)]
    pub act_norm: bool,
}

fn eight() -> usize {
    8
}

fn five() -> f64 {
    5.0
}

fn thousandth() -> f64 {
    1e-3
}

impl EnergyTable for SplineFlow {
    /// Builds the architecture for samples of `shape`.
    ///
    /// # Errors
    /// No couplings, an empty or zero-width `hidden`, fewer than 2 bins, a bound that is not positive, smallest widths or heights
    /// that K bins do not leave room for, a smallest slope outside (0, 1), a mask that does not divide the coordinates.
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        check_hidden(&self.hidden)?;
        if self.bins < 2 {
            return Err(ModelError::invalid("bins", format!("{} found, expected at least 2", self.bins)));
        }
        check_positive("bound", self.bound)?;
        for (key, value, limit) in [
            ("min_width", self.min_width, 1.0 / self.bins as f64),
            ("min_height", self.min_height, 1.0 / self.bins as f64),
            ("min_derivative", self.min_derivative, 1.0),
        ] {
            check_positive(key, value)?;
            if value >= limit {
                let message = format!("{value} is not below {limit}, what {} bins leave room for", self.bins);
                return Err(ModelError::invalid(key, message));
            }
        }
        let spline = Spline {
            bins: self.bins,
            bound: self.bound,
            min_width: self.min_width,
            min_height: self.min_height,
            min_derivative: self.min_derivative,
        };
        let couplings =
            Couplings { kind: KIND, layers: self.layers, mask: self.mask, act_norm: self.act_norm };
        couplings.build(shape, |parts| {
            let (stays, output) = (parts.stays(), parts.moves() * spline.numbers());
            let conditioner = MlpConditioner::new(stays, &self.hidden, output, self.activation);
            SplineCoupling { parts, conditioner, spline }
        })
    }
}

/// A spline coupling on `[first | second]`.
#[derive(Debug)]
struct SplineCoupling {
    parts: Parts,
    conditioner: MlpConditioner,
    spline: Spline,
}

impl SplineCoupling {
    fn map(
        &self,
        theta: &[Tensor<1>],
        x: Tensor<2>,
        spline: impl Fn(Tensor<3>, Tensor<2>) -> (Tensor<2>, Tensor<2>),
    ) -> (Tensor<2>, Tensor<1>) {
        let (stays, moves) = self.parts.split(x);
        let [n, m] = moves.dims();
        let raw = self.conditioner.apply(theta, stays.clone()).reshape([n, m, self.spline.numbers()]);
        let (moved, log_slope) = spline(raw, moves);
        (self.parts.join(stays, moved), log_slope.sum_dim(1).squeeze_dim::<1>(1))
    }
}

impl Layer for SplineCoupling {
    fn params(&self) -> Vec<ParamSpec> {
        self.conditioner.params()
    }

    fn init(&self, stream: &dyn Fn(usize) -> Stream) -> Vec<Vec<f32>> {
        init_layers_with(&self.params(), stream)
    }

    fn forward(&self, theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.map(theta, z, |raw, z| self.spline.invert(raw, z))
    }

    fn inverse(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        self.map(theta, x, |raw, x| self.spline.apply(raw, x))
    }
}
