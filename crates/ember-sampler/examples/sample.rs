//! Samples an energy of your own: write `U(x)`, and a kernel of this crate moves walkers under it.
//!
//! ```text
//! cargo run --release -p ember-sampler --example sample
//! ```

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::Energy;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_sampler::kernel::{Kernel, Mala};
use ember_sampler::{Estimate, Noise, Walkers};
use rand::RngExt;

const WALKERS: usize = 2_000;
const STEPS: u32 = 500;
const SEED: u64 = 1;

/// A banana: `x ~ N(0, 1)`, and `y ~ N(x², 1)` given x. So `E x = 0` and `E y = 1`.
struct Banana;

impl Energy for Banana {
    fn dim(&self) -> usize {
        2
    }

    /// `U(x, y) = ½ x² + ½ (y − x²)²` of every row; the gradient is found by automatic differentiation.
    fn energy(&self, position: Tensor<2>) -> Tensor<1> {
        let [x, y] = [0, 1].map(|column| position.clone().narrow(1, column, 1));
        let square = x.clone() * x;
        let gap = y - square.clone();
        (square + gap.clone() * gap).mul_scalar(0.5).squeeze_dim(1)
    }
}

/// The means of both coordinates, and the fraction of proposals that were taken.
fn sample() -> ([Estimate; 2], f64) {
    let mut rng = Stream::new(SEED, Purpose::Start).rng();
    let start: Vec<f32> = (0..2 * WALKERS).map(|_| rng.random_range(-2.0..2.0)).collect();
    let position = Tensor::from_data(TensorData::new(start, [WALKERS, 2]), &Device::flex());

    let kernel = Mala::new(0.1);
    // log Z of the law they are drawn from plays no part here.
    let mut walkers = Walkers::new(&Banana, position, 0.0);
    let mut taken = 0.0;
    for step in 0..STEPS {
        let (moved, info) = kernel.step(&Banana, walkers, &Noise::new(SEED, step));
        walkers = moved;
        taken += info.accept_rate.map_or(1.0, |rate| f64::from(download(rate)[0]));
    }

    // The walkers are independent of one another, so their means have honest standard errors.
    let rows = download(walkers.position);
    let column = |j: usize| rows.iter().skip(j).step_by(2).map(|&x| f64::from(x)).collect::<Vec<_>>();
    ([0, 1].map(|j| Estimate::mean(&column(j))), taken / f64::from(STEPS))
}

/// Prints the means beside the exact ones, and fails where they are more than four standard errors away.
pub fn main() {
    let (means, accept_rate) = sample();
    for (name, (mean, exact)) in ["x", "y"].into_iter().zip(means.into_iter().zip([0.0, 1.0])) {
        println!("E {name} = {:.3} ± {:.3}   (exact: {exact})", mean.value, mean.standard_error);
        assert!((mean.value - exact).abs() < 4.0 * mean.standard_error, "E {name}");
    }
    println!("{:.0} % of the proposals were taken", 100.0 * accept_rate);
    assert!((0.5..0.99).contains(&accept_rate), "the step size no longer fits");
}
