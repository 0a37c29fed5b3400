//! Act-norm (Kingma and Dhariwal 2018, section 3.1): `x = e^a z + b`, with `a` and `b` per coordinate, or per channel of an image,
//! trained; they start at 0, or such that the rows of a batch come out with mean 0 and variance 1.

use burn::tensor::Tensor;

use super::chain::Layer;
use super::steps::Step;
use crate::params::{ParamSpec, download, upload};
use crate::random::Stream;

/// No standard deviation is taken as smaller than this fraction of the largest: coordinates that are all but constant in the
/// batch (the corners of digits) would make the flow blow up rows that differ from it.
const SMALLEST_STD: f64 = 1e-3;

/// `x = e^a z + b`.
#[derive(Clone, Debug)]
pub(super) struct ActNorm {
    /// Numbers in `a`, and in `b`.
    pub groups: usize,
    /// Consecutive coordinates that share one.
    pub group_len: usize,
}

impl ActNorm {
    fn width(&self) -> usize {
        self.groups * self.group_len
    }

    /// One number per group as one per coordinate, `[groups]` → `[1, width]`.
    fn spread(&self, values: &Tensor<1>) -> Tensor<2> {
        let values = values.clone().reshape([self.groups, 1]);
        values.expand([self.groups, self.group_len]).reshape([1, self.width()])
    }

    /// `log |det ∂x/∂z| = Σ_j a_j`, `[1]`.
    fn log_det(&self, theta: &[Tensor<1>]) -> Tensor<1> {
        theta[1].clone().sum().mul_scalar(self.group_len as f64)
    }
}

impl Layer for ActNorm {
    fn params(&self) -> Vec<ParamSpec> {
        ["shift", "log_scale"].into_iter().map(|name| ParamSpec::new(name, vec![self.groups])).collect()
    }

    fn init(&self, _stream: &dyn Fn(usize) -> Stream) -> Vec<Vec<f32>> {
        vec![vec![0.0; self.groups]; 2]
    }

    fn forward(&self, theta: &[Tensor<1>], z: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [n, _] = z.dims();
        let x = z * self.spread(&theta[1]).exp() + self.spread(&theta[0]);
        (x, self.log_det(theta).expand([n]))
    }

    fn inverse(&self, theta: &[Tensor<1>], x: Tensor<2>) -> (Tensor<2>, Tensor<1>) {
        let [n, _] = x.dims();
        let z = (x - self.spread(&theta[0])) * self.spread(&theta[1]).neg().exp();
        (z, self.log_det(theta).neg().expand([n]))
    }

    fn is_fitted(&self) -> bool {
        true
    }

    fn cpu_step(&self) -> Option<Step> {
        (self.group_len == 1).then_some(Step::ActNorm)
    }

    /// Mean and standard deviation of the rows, in f64 on the host.
    fn fitted(&self, x: Tensor<2>) -> Option<Vec<Tensor<1>>> {
        let device = x.device();
        let rows = download(x);
        let count = (rows.len() / self.groups) as f64;
        let mut means = vec![0.0; self.groups];
        for (i, &value) in rows.iter().enumerate() {
            means[i % self.width() / self.group_len] += f64::from(value) / count;
        }
        let mut squares = vec![0.0; self.groups];
        for (i, &value) in rows.iter().enumerate() {
            let group = i % self.width() / self.group_len;
            squares[group] += (f64::from(value) - means[group]).powi(2) / count;
        }
        let largest = squares.iter().copied().fold(0.0, f64::max).sqrt();
        let floor = if largest > 0.0 { SMALLEST_STD * largest } else { 1.0 };
        let log_scale = squares.iter().map(|square| square.sqrt().max(floor).ln() as f32).collect();
        let shift = means.into_iter().map(|mean| mean as f32).collect();
        Some(vec![upload(shift, &device), upload(log_scale, &device)])
    }
}
