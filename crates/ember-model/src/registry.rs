//! The energies a config can name. A new energy is one file in [`crate::energy`] or [`crate::flow`] and one line here.

use serde::{Deserialize, Serialize};

use crate::custom::Custom;
use crate::energy::conditioned::Conditioned;
use crate::energy::{Architecture, EnergyTable};
use crate::energy::{
    composed::{Composition, mixture::PartsMixture, negation::Negation, sum::Sum},
    conv::Conv,
    gaussian_mixture::GaussianMixture,
    mlp::Mlp,
    rbm::Rbm,
    resnet::ResNet,
    tilted::Tilted,
};
use crate::error::ModelError;
use crate::flow::{multiscale_real_nvp::MultiscaleRealNvp, real_nvp::RealNvp, spline_flow::SplineFlow};
use crate::precision::Precision;
use crate::shape::{SampleShape, Support};
use crate::sizes::numbers;

const TEMPERATURE: &str = "temperature";
const SUPPORT: &str = "support";
const CUBE: &str = "cube";

macro_rules! energies {
    ($($(#[$doc:meta])* $Variant:ident($Config:ty) = $kind:literal),* $(,)?) => {
        /// The `[energy]` table: the config value describes the architecture, tagged by `kind`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum EnergyConfig {
            $($(#[$doc])* #[serde(rename = $kind)] $Variant($Config),)*
            /// An energy that a program brings itself.
            #[serde(skip)]
            Custom(Custom<dyn EnergyTable>),
        }

        impl EnergyConfig {
            /// Every `kind` there is.
            pub const KINDS: &'static [&'static str] = &[$($kind),*];

            /// The `kind` of this energy.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$Variant(_) => $kind,)* Self::Custom(_) => "custom" }
            }

            /// Builds the architecture for samples of `shape`.
            ///
            /// # Errors
            /// A value out of range, or an architecture that does not fit the shape.
            pub fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
                self.table().build(shape)
            }

            /// Whether it has products that can be made at another precision than f32.
            pub fn has_precisions(&self) -> bool {
                self.table().has_precisions()
            }

            /// The table of a network on a flow, where it is one.
            pub fn tilted(&self) -> Option<&Tilted<Self>> {
                match self {
                    Self::Tilted(tilted) => Some(tilted),
                    _ => None,
                }
            }

            /// What it is composed of, where it is composed of other energies.
            pub fn composition(&self) -> Option<Composition<'_, Self>> {
                match self {
                    Self::Sum(sum) => Some(sum.composition()),
                    Self::Mixture(mixture) => Some(mixture.composition()),
                    Self::Negation(negation) => Some(negation.composition()),
                    _ => None,
                }
            }

            /// Whether the parameters of some part came from elsewhere: they are not those of its start.
            pub fn has_trained_parts(&self) -> bool {
                self.composition().is_some_and(|parts| {
                    let mut tables = parts.tables.iter().enumerate();
                    tables.any(|(i, table)| parts.from(i).is_some() || table.has_trained_parts())
                })
            }

            /// What its table says.
            fn table(&self) -> &dyn EnergyTable {
                match self { $(Self::$Variant(table) => table,)* Self::Custom(table) => &**table }
            }
        }
    };
}

impl EnergyTable for EnergyConfig {
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        self.table().build(shape)
    }

    fn has_precisions(&self) -> bool {
        self.table().has_precisions()
    }
}

energies! {
    /// A mixture of unit-covariance Gaussians with free means and masses.
    GaussianMixture(GaussianMixture) = "gaussian_mixture",
    /// A multi-layer perceptron.
    Mlp(Mlp) = "mlp",
    /// A convolutional network.
    Conv(Conv) = "conv",
    /// A restricted Boltzmann machine, on zeros and ones.
    Rbm(Rbm) = "rbm",
    /// A residual network.
    ResNet(ResNet) = "resnet",
    /// A flow of affine couplings.
    #[serde(alias = "realnvp")]
    RealNvp(RealNvp) = "real_nvp",
    /// A flow of spline couplings.
    SplineFlow(SplineFlow) = "spline_flow",
    /// A flow of affine couplings on images, at several scales.
    MultiscaleRealNvp(MultiscaleRealNvp) = "multiscale_real_nvp",
    /// A network on a flow.
    Tilted(Tilted<EnergyConfig>) = "tilted",
    /// A product of experts.
    Sum(Sum<EnergyConfig>) = "sum",
    /// A mixture of models.
    Mixture(PartsMixture<EnergyConfig>) = "mixture",
    /// One model without another.
    Negation(Negation<EnergyConfig>) = "negation",
}

/// An energy's table with the shape of its samples: what the metadata `ember.config` of a weight file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct EnergySpec {
    /// The shape of one sample.
    pub shape: SampleShape,
    /// The `[energy]` table.
    pub energy: EnergyConfig,
    /// T: the model is `e^{−U/T}`.
    pub temperature: f64,
    /// Where the model's density lives.
    pub support: Support,
    /// Of a network's matrix products: how the energy is computed, no part of what it is. Weight files do not hold it.
    pub precision: Precision,
}

impl EnergySpec {
    /// The energy itself: temperature 1, unbounded, in f32.
    pub fn new(shape: SampleShape, energy: EnergyConfig) -> Self {
        Self { shape, energy, temperature: 1.0, support: Support::Unbounded, precision: Precision::F32 }
    }

    /// Builds the architecture.
    ///
    /// # Errors
    /// As [`EnergyConfig::build`]; a negation that nothing confines on the support.
    pub fn build(&self) -> Result<Box<dyn Architecture>, ModelError> {
        let mut inner = self.energy.build(self.shape)?;
        inner.check_support(self.support)?;
        inner.set_precision(self.precision);
        let (temperature, support) = (self.temperature, self.support);
        if temperature == 1.0 && support == Support::Unbounded {
            return Ok(inner);
        }
        Ok(Box::new(Conditioned { inner, temperature, support }))
    }

    /// The metadata text: the `[energy]` table with `dim`, or `shape = [c, h, w]`, and with `temperature` where that is not
    /// 1 and `support = "cube"` where that is not unbounded.
    pub fn to_metadata(&self) -> String {
        let mut table = toml::Table::new();
        match self.shape {
            SampleShape::Flat(dim) => table.insert("dim".into(), toml::Value::Integer(dim as i64)),
            SampleShape::Image(shape) => table.insert(
                "shape".into(),
                toml::Value::Array(shape.iter().map(|&side| toml::Value::Integer(side as i64)).collect()),
            ),
        };
        if self.temperature != 1.0 {
            table.insert(TEMPERATURE.into(), toml::Value::Float(self.temperature));
        }
        if self.support == Support::Cube {
            table.insert(SUPPORT.into(), toml::Value::String(CUBE.into()));
        }
        if let Ok(toml::Value::Table(energy)) = toml::Value::try_from(&self.energy) {
            table.extend(energy);
        }
        table.to_string()
    }

    /// Reads the metadata text back.
    ///
    /// # Errors
    /// Text that is not TOML, lacks `dim` or `shape`, or does not describe an energy.
    pub fn from_metadata(text: &str) -> Result<Self, ModelError> {
        let metadata = |message: String| ModelError::Metadata(message);
        let mut table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| metadata(error.message().to_owned()))?;
        // Building an energy multiplies sizes.
        if let Some(size) = table.values().find_map(too_large) {
            return Err(metadata(format!("the size {size} is beyond {}", i32::MAX)));
        }
        let side = |value: &toml::Value| {
            value.as_integer().and_then(|side| usize::try_from(side).ok()).filter(|&side| side > 0)
        };
        let shape = match (table.remove("dim"), table.remove("shape")) {
            (Some(dim), None) => SampleShape::Flat(
                side(&dim).ok_or_else(|| metadata(format!("dim = {dim} is no positive integer")))?,
            ),
            (None, Some(shape)) => {
                let sides: Option<Vec<usize>> =
                    shape.as_array().map(|sides| sides.iter().map(side).collect()).unwrap_or(None);
                match sides.as_deref() {
                    Some(&[c, h, w]) => SampleShape::Image([c, h, w]),
                    _ => return Err(metadata(format!("shape = {shape} is not [c, h, w]"))),
                }
            }
            (None, None) => return Err(metadata("neither `dim` nor `shape` is there".into())),
            (Some(_), Some(_)) => {
                return Err(metadata("both `dim` and `shape` are there; give one".into()));
            }
        };
        if let SampleShape::Image(sides) = shape
            && numbers(&sides).is_none()
        {
            return Err(metadata(format!("shape = {sides:?} has more numbers than a tensor can hold")));
        }
        let temperature = match table.remove(TEMPERATURE) {
            None => 1.0,
            Some(value) => value
                .as_float()
                .or_else(|| value.as_integer().map(|t| t as f64))
                .filter(|t| t.is_finite() && *t > 0.0)
                .ok_or_else(|| metadata(format!("temperature = {value} is no finite number > 0")))?,
        };
        let support = match table.remove(SUPPORT) {
            None => Support::Unbounded,
            Some(value) if value.as_str() == Some(CUBE) => Support::Cube,
            Some(value) => return Err(metadata(format!("support = {value} found, expected \"cube\""))),
        };
        let energy: EnergyConfig = toml::Value::Table(table)
            .try_into()
            .map_err(|error: toml::de::Error| metadata(error.message().to_owned()))?;
        if matches!(energy, EnergyConfig::Rbm(_)) && (temperature != 1.0 || support != Support::Unbounded) {
            return Err(metadata("a law of zeros and ones has neither `temperature` nor `support`".into()));
        }
        Ok(Self { shape, energy, temperature, support, precision: Precision::F32 })
    }
}

/// An integer beyond what sizes may be, anywhere in a table that describes an energy.
pub fn too_large(value: &toml::Value) -> Option<i64> {
    match value {
        toml::Value::Integer(size) => (*size > i64::from(i32::MAX)).then_some(*size),
        toml::Value::Array(values) => values.iter().find_map(too_large),
        toml::Value::Table(table) => table.values().find_map(too_large),
        _ => None,
    }
}
