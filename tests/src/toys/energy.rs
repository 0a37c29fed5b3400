//! `U_m(x) = ½ |x − m|²`: a normal law whose location is learned.

use burn::tensor::Tensor;
use ember_model::energy::EnergyTable;
use ember_model::random::Stream;
use ember_model::{Architecture, ModelError, ParamSpec, SampleShape};

/// The table: no keys.
#[derive(Clone, Copy, Debug)]
pub struct Location;

impl EnergyTable for Location {
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        Ok(Box::new(LocationEnergy { dim: shape.dim() }))
    }
}

#[derive(Debug)]
struct LocationEnergy {
    dim: usize,
}

impl Architecture for LocationEnergy {
    fn kind(&self) -> &'static str {
        "location"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("mean", [self.dim])]
    }

    fn init(&self, _seed: u64) -> Vec<Vec<f32>> {
        vec![vec![0.0; self.dim]]
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let gap = x - theta[0].clone().unsqueeze_dim(0);
        (gap.clone() * gap).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5)
    }

    fn log_z(&self, _theta: &[Vec<f32>]) -> Option<f64> {
        Some(0.5 * self.dim as f64 * (2.0 * std::f64::consts::PI).ln())
    }

    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        let mut draws = stream.normals(count, self.dim);
        draws
            .chunks_exact_mut(self.dim)
            .flat_map(|row| row.iter_mut().zip(&theta[0]))
            .for_each(|(x, m)| *x += m);
        Some(draws)
    }

    fn has_exact_start(&self) -> bool {
        true
    }
}
