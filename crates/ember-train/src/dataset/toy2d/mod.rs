//! Toy sets of the plane with exact densities.
//!
//! Eight have the parameters of FFJORD's toy data (Grathwohl et al., ICLR 2019, `lib/toy_data.py`, function `inf_train_gen`), which
//! call scikit-learn's `make_swiss_roll`, `make_circles` and `make_moons`; where those place points at equal distances and
//! add noise, the places are drawn here, so that samples are independent. The ninth, `two_modes`, is for relative masses.
//!
//! | name | law | labels and modes |
//! |---|---|---|
//! | `two_modes` | N((∓2, 0), .5² I) with masses 2/3 and 1/3: 8 standard deviations apart, a barrier of 8 nats | the nearest mean |
//! | `8gaussians` | N(2√2 e_k, .3536² I), equal masses: neighbours 6.1 standard deviations apart | the nearest mean |
//! | `rings` | four circles of radius .75, 1.5, 2.25, 3, equal masses, noise .08 | the nearest radius, outermost first |
//! | `circles` | two circles of radius 3 and 1.5, equal masses, noise .24 | the nearest radius, outermost first |
//! | `moons` | two half circles of radius 2, noise .2 | the half circle; no modes |
//! | `pinwheel` | five Gaussians, each turned by an angle that grows with its first coordinate | the arm; no modes |
//! | `2spirals` | two arms, jitter uniform in a square, noise .1 | the arm; no modes |
//! | `swissroll` | one arm, noise .2 | one label; no modes |
//! | `checkerboard` | uniform on 8 squares of side 2 | the square, by the nearest centre |
//!
//! Densities are exact where there is a closed form and by quadrature elsewhere; each file says the error. The first n samples
//! do not depend on how many are drawn, and training and held-out samples come from separate random streams.

mod checkerboard;
mod curve;
mod moons;
mod pinwheel;
mod rings;
mod shape;
mod swissroll;
mod two_spirals;

use std::f64::consts::FRAC_1_SQRT_2;
use std::sync::OnceLock;

use ember_model::SampleShape;
use ember_model::energy::Mixture;
use serde::{Deserialize, Serialize};

use super::drawn::Sizes;
use super::gaussian_mixture::Gaussians;
use super::{Data, Dataset, Truth};
use crate::error::Error;

/// The names there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Name {
    /// Two Gaussians with masses 2 : 1.
    #[serde(rename = "two_modes")]
    TwoModes,
    /// Eight Gaussians on a circle.
    #[serde(rename = "8gaussians")]
    EightGaussians,
    /// Four noisy circles.
    #[serde(rename = "rings")]
    Rings,
    /// Two noisy circles.
    #[serde(rename = "circles")]
    Circles,
    /// Two half circles that reach into each other.
    #[serde(rename = "moons")]
    Moons,
    /// Five bent arms.
    #[serde(rename = "pinwheel")]
    Pinwheel,
    /// Two arms of a spiral.
    #[serde(rename = "2spirals")]
    TwoSpirals,
    /// One arm of a spiral.
    #[serde(rename = "swissroll")]
    Swissroll,
    /// Eight squares.
    #[serde(rename = "checkerboard")]
    Checkerboard,
}

impl Name {
    /// Every name, in the order of the module's table.
    pub const ALL: [Self; 9] = [
        Self::TwoModes,
        Self::EightGaussians,
        Self::Rings,
        Self::Circles,
        Self::Moons,
        Self::Pinwheel,
        Self::TwoSpirals,
        Self::Swissroll,
        Self::Checkerboard,
    ];

    /// The law of the samples. Quadratures are set up once.
    pub fn truth(self) -> Truth {
        static TRUTHS: [OnceLock<Truth>; Name::ALL.len()] = [const { OnceLock::new() }; Name::ALL.len()];
        TRUTHS[self as usize].get_or_init(|| self.new_truth()).clone()
    }

    fn new_truth(self) -> Truth {
        match self {
            Self::TwoModes => {
                let means = vec![vec![-2.0, 0.0], vec![2.0, 0.0]];
                Gaussians::truth(Mixture { means, masses: vec![2.0 / 3.0, 1.0 / 3.0] }, 0.5)
            }
            Self::EightGaussians => {
                // Centres 4 e_k and noise .5, all divided by 1.414 (sic).
                const D: f64 = FRAC_1_SQRT_2;
                const PLACES: [[f64; 2]; 8] =
                    [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [D, D], [D, -D], [-D, D], [-D, -D]];
                let means = PLACES.map(|place| place.map(|x| 4.0 * x / 1.414).to_vec()).to_vec();
                Gaussians::truth(Mixture { means, masses: vec![0.125; 8] }, 0.5 / 1.414)
            }
            Self::Rings => shape::truth(rings::Rings::new(&[3.0, 2.25, 1.5, 0.75], 0.08)),
            Self::Circles => shape::truth(rings::Rings::new(&[3.0, 1.5], 0.24)),
            Self::Moons => shape::truth(moons::Moons::new()),
            Self::Pinwheel => shape::truth(pinwheel::Pinwheel),
            Self::TwoSpirals => shape::truth(two_spirals::TwoSpirals::new()),
            Self::Swissroll => shape::truth(swissroll::Swissroll::new()),
            Self::Checkerboard => shape::truth(checkerboard::Checkerboard),
        }
    }
}

/// `{ kind = "toy2d", name, train_size, test_size, batch_size }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toy2d {
    /// Which set.
    pub name: Name,
    /// Samples to train on.
    #[serde(default = "default_size")]
    pub train_size: usize,
    /// Samples held out.
    #[serde(default = "default_size")]
    pub test_size: usize,
    /// Samples of one batch.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
}

fn default_size() -> usize {
    20_000
}

fn default_batch_size() -> usize {
    256
}

impl Toy2d {
    fn sizes(&self) -> Sizes {
        Sizes { dim: 2, train: self.train_size, test: self.test_size, batch: self.batch_size }
    }
}

impl Dataset for Toy2d {
    fn shape(&self) -> SampleShape {
        SampleShape::Flat(2)
    }

    fn generate(&self, seed: u64) -> Result<Data, Error> {
        Ok(self.sizes().draw(self.name.truth().law(), seed))
    }

    fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn drawn_rows(&self) -> Option<[usize; 2]> {
        Some([self.train_size, self.test_size])
    }

    fn validate(&self) -> Result<(), Error> {
        self.sizes().check()
    }

    fn truth(&self) -> Option<Truth> {
        Some(self.name.truth())
    }
}
