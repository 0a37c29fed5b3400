//! A flow as an energy: `U = −log ρ_θ`, `log Z = 0`, exact draws.

use burn::tensor::{Device, Tensor, TensorData};

use super::chain::Chain;
use super::{Flow, NonFinite};
use crate::energy::{
    Architecture, WeightedGrads, energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff,
};
use crate::params::{ParamSpec, download, upload};
use crate::random::{Purpose, Stream};

/// Rows pushed through a flow at a time when drawing.
const BLOCK: usize = 1_024;

/// `−log ρ_θ` of a flow.
#[derive(Debug)]
pub(super) struct FlowEnergy {
    pub flow: Chain,
}

impl Architecture for FlowEnergy {
    fn kind(&self) -> &'static str {
        self.flow.kind()
    }

    fn dim(&self) -> usize {
        self.flow.dim()
    }

    fn params(&self) -> Vec<ParamSpec> {
        self.flow.params()
    }

    fn init(&self, seed: u64) -> Vec<Vec<f32>> {
        self.flow.init(seed)
    }

    fn energy(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Tensor<1> {
        self.flow.explicit_energy(theta, &x).unwrap_or_else(|| self.flow.log_prob(theta, x).neg())
    }

    fn energy_and_grad(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let explicit = self.flow.explicit_energy_and_grad(theta, &x);
        explicit.unwrap_or_else(|| energy_and_grad_by_autodiff(self, theta, x))
    }

    fn weighted_param_grads(&self, theta: &[Tensor<1>], terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        let explicit = self.flow.explicit_param_grads(theta, terms);
        explicit.unwrap_or_else(|| weighted_param_grads_by_autodiff(self, theta, terms))
    }

    fn log_z(&self, _theta: &[Vec<f32>]) -> Option<f64> {
        Some(0.0)
    }

    fn has_exact_start(&self) -> bool {
        true
    }

    /// On the CPU, whatever device θ came from, in blocks of rows.
    fn draw(&self, theta: &[Vec<f32>], count: usize, stream: Stream) -> Option<Vec<f32>> {
        let (device, dim) = (Device::flex(), self.dim());
        let theta: Vec<Tensor<1>> = theta.iter().map(|values| upload(values.clone(), &device)).collect();
        let latents = stream.normals(count, dim);
        let mut draws = Vec::with_capacity(latents.len());
        for block in latents.chunks(BLOCK * dim) {
            let z = TensorData::new(block.to_vec(), [block.len() / dim, dim]);
            draws.extend(download(self.flow.forward(&theta, Tensor::from_data(z, &device)).0));
        }
        Some(draws)
    }

    /// Of as many draws.
    fn moments(&self, theta: &[Vec<f32>]) -> Option<[Vec<f64>; 2]> {
        let (dim, n) = (self.dim(), BLOCK as f64);
        let draws = self.draw(theta, BLOCK, Stream::new(0, Purpose::Start))?;
        let mean_of = |j: usize, of: &dyn Fn(f64) -> f64| -> f64 {
            draws.chunks_exact(dim).map(|row| of(f64::from(row[j]))).sum::<f64>() / n
        };
        let mean: Vec<f64> = (0..dim).map(|j| mean_of(j, &|x| x)).collect();
        let variance = (0..dim).map(|j| mean_of(j, &|x| (x - mean[j]).powi(2)));
        // A coordinate that does not vary is none of a density's.
        let variance = variance.map(|v| v.max(f64::MIN_POSITIVE)).collect();
        Some([mean, variance])
    }

    fn flow(&self) -> Option<&dyn Flow> {
        Some(&self.flow)
    }

    fn has_data_init(&self) -> bool {
        self.flow.has_data_init()
    }

    fn data_init(&self, theta: &[Tensor<1>], rows: Tensor<2>) -> Vec<Tensor<1>> {
        self.flow.data_init(theta, rows)
    }

    fn first_non_finite_layer(&self, theta: &[Tensor<1>], x: Tensor<2>) -> Option<NonFinite> {
        self.flow.first_non_finite_layer(theta, x)
    }
}
