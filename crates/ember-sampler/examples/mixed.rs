//! Have the chains mixed? R-hat and the autocorrelation time along chains, for two modes near together and far apart.
//!
//! ```text
//! cargo run --release -p ember-sampler --example mixed
//! ```

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::Energy;
use ember_sampler::Error;
use ember_sampler::diagnostics::{ChainOptions, Quantity, along};
use ember_sampler::kernel::Mala;

const CHAINS: usize = 32;
const STEPS: usize = 5_000;

/// `½ N(−a, I) + ½ N(a, I)` in the plane, a on the first axis.
struct TwoModes {
    a: f64,
}

impl Energy for TwoModes {
    fn dim(&self) -> usize {
        2
    }

    /// `U(x) = ½ |x|² − log cosh(a x₁)`, with `log cosh t = |t| + log(1 + e^{−2|t|}) − log 2`.
    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        let t = x.clone().narrow(1, 0, 1).mul_scalar(self.a).abs();
        let log_cosh = t.clone() + t.mul_scalar(-2.0).exp().log1p();
        ((x.clone() * x).sum_dim(1).mul_scalar(0.5) - log_cosh).squeeze_dim(1)
    }
}

/// How the first coordinate mixes, of chains that start in the modes that `sides` names in turn.
fn first_coordinate(a: f64, sides: &[f64]) -> Result<Option<Quantity>, Error> {
    let starts: Vec<f32> = sides.iter().cycle().take(CHAINS).flat_map(|s| [(s * a) as f32, 0.0]).collect();
    let position = Tensor::from_data(TensorData::new(starts, [CHAINS, 2]), &Device::flex());
    let seen = along(&TwoModes { a }, &Mala::new(0.5), position, ChainOptions::new(STEPS, 1))?;
    Ok(seen.worst_coordinate())
}

/// Prints the diagnosis of three starts, and fails where it is not what it should be.
pub fn main() {
    let cases = [
        ("modes 3 apart, chains from both", 1.5, vec![-1.0, 1.0], false),
        ("modes 12 apart, chains from both", 6.0, vec![-1.0, 1.0], true),
        // The trap: chains that all miss the same mode agree with one another.
        ("modes 12 apart, chains from one", 6.0, vec![1.0], false),
    ];
    for (what, a, sides, warns) in cases {
        let found = first_coordinate(a, &sides).expect("the energy is finite").expect("the chains move");
        let (r_hat, time) = (found.r_hat, found.autocorrelation_time);
        println!("{what:<32}  R-hat {r_hat:.3}, {time:.0} steps from one independent value to the next");
        assert_eq!(r_hat > 1.01, warns, "{what}: R-hat");
        assert_eq!(found.doubtful, warns, "{what}: too short a run for its autocorrelation time");
    }
}
