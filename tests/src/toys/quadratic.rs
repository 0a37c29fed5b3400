//! `U(x) = ½ xᵀP x − bᵀx`, P symmetric: a normal law whose precision and location are learned, with derivatives along lines.

use burn::tensor::Tensor;
use ember_model::energy::EnergyTable;
use ember_model::random::Stream;
use ember_model::{Architecture, ModelError, ParamSpec, SampleShape};

/// The table.
#[derive(Clone, Copy, Debug)]
pub struct Quadratic {
    /// What its second derivatives are multiplied by: 1 is right.
    pub bend: f64,
}

impl EnergyTable for Quadratic {
    fn build(&self, shape: SampleShape) -> Result<Box<dyn Architecture>, ModelError> {
        Ok(Box::new(QuadraticEnergy { dim: shape.dim(), bend: self.bend }))
    }
}

#[derive(Debug)]
struct QuadraticEnergy {
    dim: usize,
    bend: f64,
}

impl QuadraticEnergy {
    /// `b [1, d]` and P, the mean of the parameter and its transpose.
    fn parts(&self, theta: &[Tensor<1>]) -> [Tensor<2>; 2] {
        let d = self.dim;
        let free = theta[1].clone().reshape([d, d]);
        let precision = (free.clone() + free.transpose()).mul_scalar(0.5);
        [theta[0].clone().reshape([1, d]), precision]
    }
}

fn dot(a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
    (a * b).sum_dim(1).squeeze_dim::<1>(1)
}

impl Architecture for QuadraticEnergy {
    fn kind(&self) -> &'static str {
        "quadratic"
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("field", [self.dim]), ParamSpec::new("precision", [self.dim, self.dim])]
    }

    /// The standard normal.
    fn init(&self, _seed: u64) -> Vec<Vec<f32>> {
        let d = self.dim;
        vec![vec![0.0; d], (0..d * d).map(|i| if i % (d + 1) == 0 { 1.0 } else { 0.0 }).collect()]
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        let [field, precision] = self.parts(theta);
        dot(x.clone().matmul(precision).mul_scalar(0.5) - field, x)
    }

    fn jet(&self, theta: &[Tensor<1>], x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        let [field, precision] = self.parts(theta);
        let first = dot(x.clone().matmul(precision.clone()) - field, v.clone());
        let second = dot(v.clone().matmul(precision), v).mul_scalar(self.bend);
        Some([self.energy(theta, x), first, second])
    }

    fn jet_order(&self) -> usize {
        2
    }

    fn log_z(&self, _theta: &[Vec<f32>]) -> Option<f64> {
        None
    }

    fn draw(&self, _theta: &[Vec<f32>], _count: usize, _stream: Stream) -> Option<Vec<f32>> {
        None
    }
}
