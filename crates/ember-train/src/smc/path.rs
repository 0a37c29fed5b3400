//! The annealed path `U_β = (1 − β) U_0 + β U` from a tractable start to an energy, and the kernel that moves along it.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::Energy;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_sampler::kernel::Mala;
use ember_sampler::{Boundary, Walkers};

use super::GaussianStart;
use super::start::Precision;

/// Coordinates of one call of the energy: more rows go through in several, so that a network's activations stay small.
const BLOCK: usize = 1 << 20;

/// One temperature of a schedule, with the MALA step size used there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rung {
    /// β, in (0, 1].
    pub beta: f64,
    /// h.
    pub step_size: f64,
}

/// The path between a start and an energy.
pub struct AnnealedPath<'a> {
    energy: &'a dyn Energy,
    start: &'a GaussianStart,
    device: Device,
    mean: Tensor<2>,
    precision: Precision,
}

impl<'a> AnnealedPath<'a> {
    /// From `start` to `energy`, whose tensors are on `device`.
    ///
    /// # Panics
    /// If the dimensions differ.
    pub fn new(energy: &'a dyn Energy, start: &'a GaussianStart, device: &Device) -> Self {
        assert_eq!(start.dim(), energy.dim(), "the start has the energy's dimension");
        let (mean, precision) = (start.mean_on(device), start.precision_on(device));
        Self { energy, start, device: device.clone(), mean, precision }
    }

    /// The tractable end.
    pub fn start(&self) -> &GaussianStart {
        self.start
    }

    /// Coordinates of one sample.
    pub fn dim(&self) -> usize {
        self.energy.dim()
    }

    /// `U_β`.
    pub fn at(&self, beta: f64) -> Tempered<'_> {
        Tempered { path: self, beta }
    }

    /// MALA on the support of the path: with reflecting walls on the cube.
    pub fn kernel(&self, step_size: f64) -> Mala {
        Mala { boundary: Boundary::of(self.start.support()), ..Mala::new(step_size) }
    }

    /// `count` exact draws of the start, cached at β = 0, on a lane of the generator.
    pub fn starting_walkers(&self, count: usize, seed: u64, lane: u32) -> Walkers {
        let stream = Stream::new(seed, Purpose::Anneal).lane(lane);
        let position = self.upload(self.start.draw(count, stream));
        Walkers::new(&self.at(0.0), position, self.start.log_z())
    }

    /// Positions on the device, `[walkers, dim]`.
    pub fn upload(&self, rows: Vec<f32>) -> Tensor<2> {
        let shape = [rows.len() / self.dim(), self.dim()];
        Tensor::from_data(TensorData::new(rows, shape), &self.device)
    }

    /// `U − U_0`, `[walkers]`: what a change of β multiplies.
    pub fn gap(&self, x: Tensor<2>) -> Vec<f64> {
        let gap = self.blockwise_energy(x.clone()) - self.base(x).0;
        download(gap).into_iter().map(f64::from).collect()
    }

    /// Brings walkers cached at β = `from` to β = `to` with the weight of the change, `A += U_from(X) − U_to(X)`.
    ///
    /// `U_β` is affine in β: `U_to = U_0 + (to/from)(U_from − U_0)`, and so are the gradients. So this costs no gradient, but
    /// for `from = 0`, where nothing is known of U: one.
    pub fn shift(&self, walkers: Walkers, from: f64, to: f64) -> Walkers {
        let (base, base_grad) = self.base(walkers.position.clone());
        // U − U_0 and its gradient
        let (gap, gap_grad) = if from == 0.0 {
            let (u, grad) = self.blockwise(walkers.position.clone());
            (u - base.clone(), grad - base_grad.clone())
        } else {
            let scale = from.recip();
            (
                (walkers.energy - base.clone()).mul_scalar(scale),
                (walkers.energy_grad - base_grad.clone()).mul_scalar(scale),
            )
        };
        Walkers {
            // A += U_from − U_to = (from − to)(U − U_0)
            log_weights: walkers.log_weights.accumulate(gap.clone().mul_scalar(from - to)),
            energy: base + gap.mul_scalar(to),
            energy_grad: base_grad + gap_grad.mul_scalar(to),
            ..walkers
        }
    }

    /// `(U_0, ∇U_0)`.
    fn base(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let gap = x - self.mean.clone();
        let grad = self.precision.times(gap.clone());
        let u = (gap * grad.clone()).sum_dim(1).squeeze_dim::<1>(1);
        (u.mul_scalar(0.5), grad)
    }

    fn blocks(&self, x: &Tensor<2>) -> Vec<Tensor<2>> {
        let [n, dim] = x.dims();
        let rows = (BLOCK / dim).max(1);
        (0..n).step_by(rows).map(|first| x.clone().narrow(0, first, rows.min(n - first))).collect()
    }

    fn blockwise_energy(&self, x: Tensor<2>) -> Tensor<1> {
        Tensor::cat(self.blocks(&x).into_iter().map(|x| self.energy.energy(x)).collect(), 0)
    }

    fn blockwise(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let parts = self.blocks(&x).into_iter().map(|x| self.energy.energy_and_grad(x));
        let (energies, grads): (Vec<_>, Vec<_>) = parts.unzip();
        (Tensor::cat(energies, 0), Tensor::cat(grads, 0))
    }
}

/// `U_β = (1 − β) U_0 + β U`.
pub struct Tempered<'a> {
    path: &'a AnnealedPath<'a>,
    beta: f64,
}

impl Energy for Tempered<'_> {
    fn dim(&self) -> usize {
        self.path.dim()
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        let (base, _) = self.path.base(x.clone());
        if self.beta == 0.0 {
            return base;
        }
        base.mul_scalar(1.0 - self.beta) + self.path.blockwise_energy(x).mul_scalar(self.beta)
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (base, base_grad) = self.path.base(x.clone());
        if self.beta == 0.0 {
            return (base, base_grad);
        }
        let (u, grad) = self.path.blockwise(x);
        (
            base.mul_scalar(1.0 - self.beta) + u.mul_scalar(self.beta),
            base_grad.mul_scalar(1.0 - self.beta) + grad.mul_scalar(self.beta),
        )
    }
}
