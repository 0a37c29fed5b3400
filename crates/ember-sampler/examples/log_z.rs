//! log Z of an energy of your own, by tempered SMC from a Gaussian.
//!
//! ```text
//! cargo run --release -p ember-sampler --example log_z
//! ```

use burn::tensor::{Device, Tensor};
use ember_model::Energy;
use ember_sampler::Error;
use ember_sampler::evidence::smc::{AnnealedPath, GaussianStart, SmcOptions, SmcResult, along};

/// Two wells of unequal mass, at x = ±2: `U(x, y) = ½ (x² − 4)² + ½ x + ½ y²`.
struct DoubleWell;

impl Energy for DoubleWell {
    fn dim(&self) -> usize {
        2
    }

    fn energy(&self, position: Tensor<2>) -> Tensor<1> {
        self.energy_and_grad(position).0
    }

    /// The gradient by hand, `(2x (x² − 4) + ½, y)`: faster than the automatic one, and optional.
    fn energy_and_grad(&self, position: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let [x, y] = [0, 1].map(|column| position.clone().narrow(1, column, 1));
        let well = x.clone() * x.clone() - 4.0;
        let u = (well.clone() * well.clone() + x.clone() + y.clone() * y.clone()).mul_scalar(0.5);
        let grad = Tensor::cat(vec![(x * well).mul_scalar(2.0).add_scalar(0.5), y], 1);
        (u.squeeze_dim(1), grad)
    }
}

/// `log ∫ e^{−U}` by the midpoint rule over x, and `½ log 2π` of y.
fn by_quadrature() -> f64 {
    let width = 1e-3;
    let midpoints = (-5_000..5_000).map(|i| width * (f64::from(i) + 0.5));
    let z: f64 = midpoints.map(|x| (-0.5 * ((x * x - 4.0).powi(2) + x)).exp() * width).sum();
    z.ln() + 0.5 * std::f64::consts::TAU.ln()
}

fn by_smc() -> Result<SmcResult, Error> {
    // A Gaussian that covers both wells: modes that no walker starts near are not counted.
    let start = GaussianStart::new(vec![0.0, 0.0], &[2.0, 1.0]);
    let path = AnnealedPath::new(&DoubleWell, start, &Device::flex());
    along(&path, SmcOptions { walkers: 1_000, repeats: 16, ..SmcOptions::default() })
}

/// Prints both, and fails where they are more than four standard errors apart.
pub fn main() {
    let found = by_smc().expect("the energy is finite, and near enough to its start");
    let (exact, smc) = (by_quadrature(), found.log_z);
    println!("tempered SMC: log Z = {:.4} ± {:.4}", smc.value, smc.standard_error);
    println!("              {} temperatures, {} repeats", found.temperatures, found.ensembles.log_z.len());
    println!("quadrature:   log Z = {exact:.4}");
    assert!((smc.value - exact).abs() < 4.0 * smc.standard_error, "log Z");
    assert!(smc.standard_error < 0.02, "the estimate has become noisier");
}
