//! The annealed path `U_β = (1 − β) U_0 + β U` from a tractable start to an energy, and the kernel that moves along it.
//!
//! From the base of a tilted energy `U = U_0 + f` it is `U_β = U_0 + β f`: one pass of the flow and one of the network.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::blockwise::Blockwise;
use ember_model::energy::chain::{Chain, ChainEnd, ChainState};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};

use super::start::{GaussianStart, Start};
use crate::kernel::Mala;
use crate::progress::{Progress, Silent};
use crate::{Boundary, FlowProposal, Walkers};

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
    start: Box<dyn Start + 'a>,
    /// `U_0`.
    base: Box<dyn Energy>,
    far: Far<'a>,
    device: Device,
    progress: &'a dyn Progress,
}

/// What is known of the end at β = 1.
enum Far<'a> {
    /// U.
    Energy(Blockwise<&'a dyn Energy>),
    /// `f = U − U_0`.
    Tilt(Box<Blockwise<EnergyModel>>),
}

impl<'a> AnnealedPath<'a> {
    /// From `start` to `energy`, whose tensors are on `device`.
    ///
    /// # Panics
    /// If the dimensions differ.
    pub fn new(energy: &'a dyn Energy, start: impl Start + 'a, device: &Device) -> Self {
        assert_eq!(start.dim(), energy.dim(), "the start has the energy's dimension");
        let base = start.energy_on(device);
        let far = Far::Energy(Blockwise(energy));
        Self { start: Box::new(start), base, far, device: device.clone(), progress: &Silent }
    }

    /// To a model from its tractable start: the base of a tilted energy, else as [`GaussianStart::of`]; `None` where there is
    /// neither.
    pub fn of(model: &'a EnergyModel) -> Option<Self> {
        let device = model.device();
        let Some(tilt) = model.tilt_part() else {
            return Some(Self::new(model, GaussianStart::of(model)?, device));
        };
        let path = Self::new(model, FlowProposal::of(model)?, device);
        Some(Self { far: Far::Tilt(Box::new(Blockwise(tilt))), ..path })
    }

    /// The same, and what runs along it tells `progress` how far it is.
    pub fn telling(self, progress: &'a dyn Progress) -> Self {
        Self { progress, ..self }
    }

    /// Who hears how far a run along it is.
    pub(crate) fn progress(&self) -> &'a dyn Progress {
        self.progress
    }

    /// The tractable end.
    pub fn start(&self) -> &(dyn Start + 'a) {
        &*self.start
    }

    /// Coordinates of one sample.
    pub fn dim(&self) -> usize {
        self.start.dim()
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
        let gap = match &self.far {
            Far::Energy(energy) => energy.energy(x.clone()) - self.base.energy(x),
            Far::Tilt(tilt) => tilt.energy(x),
        };
        download(gap).into_iter().map(f64::from).collect()
    }

    /// Brings walkers cached at β = `from` to β = `to` with the weight of the change, `A += U_from(X) − U_to(X)`.
    ///
    /// `U_β` is affine in β: `U_to = U_0 + (to/from)(U_from − U_0)`, and so are the gradients. So this costs no gradient, but
    /// for `from = 0`, where nothing is known of U: one.
    pub fn shift(&self, walkers: Walkers, from: f64, to: f64) -> Walkers {
        let (base, base_grad) = self.base.energy_and_grad(walkers.position.clone());
        // U − U_0 and its gradient
        let (gap, gap_grad) = if from == 0.0 {
            let x = walkers.position.clone();
            match &self.far {
                Far::Energy(energy) => {
                    let (u, grad) = energy.energy_and_grad(x);
                    (u - base.clone(), grad - base_grad.clone())
                }
                Far::Tilt(tilt) => tilt.energy_and_grad(x),
            }
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
        let base = self.path.base.energy(x.clone());
        match &self.path.far {
            _ if self.beta == 0.0 => base,
            Far::Energy(energy) => base.mul_scalar(1.0 - self.beta) + energy.energy(x).mul_scalar(self.beta),
            Far::Tilt(tilt) => base + tilt.energy(x).mul_scalar(self.beta),
        }
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        let (base, base_grad) = self.path.base.energy_and_grad(x.clone());
        let (far, kept) = match &self.path.far {
            _ if self.beta == 0.0 => return (base, base_grad),
            Far::Energy(energy) => (energy.energy_and_grad(x), 1.0 - self.beta),
            Far::Tilt(tilt) => (tilt.energy_and_grad(x), 1.0),
        };
        let (u, grad) = far;
        (
            base.mul_scalar(kept) + u.mul_scalar(self.beta),
            base_grad.mul_scalar(kept) + grad.mul_scalar(self.beta),
        )
    }

    /// From an isotropic Gaussian, `U_β = β U + ½ (1 − β) c |x|²` is a chain of U at a temperature.
    fn chain(&self, from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        let c = self.path.start.confinement()?;
        let Far::Energy(energy) = &self.path.far else { return None };
        if self.beta == 0.0 || !chain.is_plain() {
            return None;
        }
        let (scale, confinement) = (self.beta as f32, ((1.0 - self.beta) * c) as f32);
        energy.chain(from, &Chain { scale, confinement, ..*chain })
    }
}
