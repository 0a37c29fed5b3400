//! An energy with its parameters on a device.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::energy::chain::{Chain, ChainEnd, ChainState};
use crate::energy::gaussian::Gaussian;
use crate::energy::levels::Levels;
use crate::energy::score::{ScoreGrads, ScoreLoss};
use crate::energy::{Architecture, Energy, Evaluation, Mixture, WeightedGrads};
use crate::error::ModelError;
use crate::flat::{self, Layout};
use crate::flow::{Flow, NonFinite};
use crate::params::{HostTensor, ParamSpec, download, upload};
use crate::random::Stream;
use crate::registry::{EnergyConfig, EnergySpec};

/// `U_θ` at one θ. Cloning shares the parameters; [`EnergyModel::with_theta`] makes the model at another θ.
#[derive(Clone, Debug)]
pub struct EnergyModel {
    spec: EnergySpec,
    architecture: Arc<dyn Architecture>,
    theta: Vec<Tensor<1>>,
    /// The buffer that `theta` are views of, where they are.
    flat: Option<Tensor<1>>,
    device: Device,
    /// Whether [`Energy::energy_and_grad_kept`] keeps its pass.
    keeps: bool,
}

impl EnergyModel {
    /// The starting model of `seed`: the same values on every device.
    ///
    /// # Errors
    /// As [`EnergySpec::build`].
    pub fn init(spec: EnergySpec, seed: u64, device: &Device) -> Result<Self, ModelError> {
        let architecture: Arc<dyn Architecture> = spec.build()?.into();
        let theta = architecture.init(seed);
        Ok(Self::new(spec, architecture, theta, device))
    }

    /// The model whose weights are `tensors`, as a weight file holds them (any order, PyTorch names and layout).
    ///
    /// # Errors
    /// A missing, unknown or wrongly shaped tensor, or as [`EnergySpec::build`].
    pub fn from_tensors(
        spec: EnergySpec,
        mut tensors: Vec<HostTensor>,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let architecture: Arc<dyn Architecture> = spec.build()?.into();
        let present =
            tensors.iter().map(|t| format!("`{}` {:?}", t.name, t.shape)).collect::<Vec<_>>().join(", ");
        let mut theta = Vec::new();
        for param in architecture.params() {
            let Some(found) = tensors.iter().position(|t| t.name == param.name) else {
                return Err(ModelError::TensorMissing { name: param.name, expected: param.shape, present });
            };
            let tensor = tensors.swap_remove(found);
            if tensor.shape != param.shape {
                return Err(ModelError::TensorShape {
                    name: param.name,
                    found: tensor.shape,
                    expected: param.shape,
                });
            }
            theta.push(tensor.values);
        }
        if !tensors.is_empty() {
            let names: Vec<_> = tensors.iter().map(|t| format!("`{}`", t.name)).collect();
            return Err(ModelError::TensorUnknown { names: names.join(", ") });
        }
        Ok(Self::new(spec, architecture, theta, device))
    }

    fn new(
        spec: EnergySpec,
        architecture: Arc<dyn Architecture>,
        theta: Vec<Vec<f32>>,
        device: &Device,
    ) -> Self {
        let theta = theta.into_iter().map(|values| upload(values, device)).collect();
        Self { spec, architecture, theta, flat: None, device: device.clone(), keeps: false }
    }

    /// The same energy at another θ: flat tensors in the order of [`EnergyModel::params`].
    pub fn with_theta(&self, theta: Vec<Tensor<1>>) -> Self {
        assert_eq!(theta.len(), self.theta.len(), "one tensor per parameter");
        Self { theta, flat: None, ..self.clone() }
    }

    /// The same energy at the θ of one buffer, [`EnergyModel::layout`]'s: its tensors become views of it.
    pub fn with_flat_theta(&self, flat: Tensor<1>) -> Self {
        Self { theta: self.layout().views(&flat), flat: Some(flat), ..self.clone() }
    }

    /// θ in one buffer; packed where it is not yet.
    pub fn flat_theta(&self) -> Tensor<1> {
        self.flat.clone().unwrap_or_else(|| flat::pack(&self.theta))
    }

    /// Whether θ is one buffer.
    pub fn is_flat(&self) -> bool {
        self.flat.is_some()
    }

    /// Where each parameter is in one buffer.
    pub fn layout(&self) -> Layout {
        Layout::new(self.theta.iter().map(|tensor| tensor.dims()[0]))
    }

    /// The model at `θ + share(θ' − θ)`, θ' that of `end`: over one buffer where θ' is one, tensor by tensor elsewhere.
    pub fn towards(&self, end: &Self, share: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        let moved = |old: Tensor<1>, new: Tensor<1>| old.clone() + share(new - old);
        if end.is_flat() {
            return end.with_flat_theta(moved(self.flat_theta(), end.flat_theta()));
        }
        let pairs = self.theta.iter().cloned().zip(end.theta.iter().cloned());
        end.with_theta(pairs.map(|(old, new)| moved(old, new)).collect())
    }

    /// The same model, which keeps the passes of [`Energy::energy_and_grad_kept`]: for the last step before a gradient in θ. Keeping
    /// costs memory and a little time, so a model that only moves walkers does not.
    pub fn keeping(&self) -> Self {
        Self { keeps: true, ..self.clone() }
    }

    /// The energy's table with the sample shape.
    pub fn spec(&self) -> &EnergySpec {
        &self.spec
    }

    /// Name, shape and treatment of each parameter.
    pub fn params(&self) -> Vec<ParamSpec> {
        self.architecture.params()
    }

    /// θ, one flat tensor per parameter.
    pub fn theta(&self) -> &[Tensor<1>] {
        &self.theta
    }

    /// θ in host memory. Waits for the device.
    pub fn host_theta(&self) -> Vec<Vec<f32>> {
        self.theta.iter().cloned().map(download).collect()
    }

    /// Number of parameters.
    pub fn param_count(&self) -> usize {
        self.params().iter().map(ParamSpec::len).sum()
    }

    /// The device the parameters are on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The tensors of a weight file.
    pub fn export(&self) -> Vec<HostTensor> {
        self.architecture.export(&self.host_theta())
    }

    /// `Σ_t Σ_b w_{t,b} ∂_θU(x_{t,b})`; see [`Architecture::weighted_param_grads`].
    pub fn weighted_param_grads(&self, terms: &[(Tensor<2>, Tensor<1>)]) -> WeightedGrads {
        self.architecture.weighted_param_grads(&self.theta, terms)
    }

    /// `U`, `vᵀ∇ₓU` and `vᵀ(∇ₓ²U)v`, `[batch]` each; see [`Architecture::jet`].
    pub fn jet(&self, x: Tensor<2>, v: Tensor<2>) -> Option<[Tensor<1>; 3]> {
        self.architecture.jet(&self.theta, x, v)
    }

    /// A loss of the score with its gradient in θ; see [`Architecture::score_grads`].
    pub fn score_grads(&self, x: &Tensor<2>, loss: &ScoreLoss<'_>) -> Option<ScoreGrads> {
        self.architecture.score_grads(&self.theta, x, loss)
    }

    /// Derivatives in x that [`EnergyModel::jet`] gives; see [`Architecture::jet_order`].
    pub fn jet_order(&self) -> usize {
        self.architecture.jet_order()
    }

    /// The noise levels that the energy knows of; see [`Architecture::levels`].
    pub fn levels(&self) -> Option<&Levels> {
        self.architecture.levels()
    }

    /// How many they are; 0 of most energies.
    pub fn level_count(&self) -> usize {
        self.levels().map_or(0, Levels::count)
    }

    /// The energy at the level σ_k, k = `level` from 1, with the same tensors and table; `None` where there is no such level. Of the table a
    /// new model is made at level 1.
    pub fn at_level(&self, level: usize) -> Option<Self> {
        Some(Self { architecture: self.architecture.at_level(level)?.into(), ..self.clone() })
    }

    /// Standard deviation of the noise that is on the data where the energy is at a level above the smallest, whose energy is the model of the
    /// data; 0 there, and without levels.
    pub fn level_noise(&self) -> f64 {
        self.levels().filter(|levels| levels.at() > 1).map_or(0.0, Levels::sigma)
    }

    /// The energy at every level, over rows `[x, τ]`, with the same tensors; see [`Architecture::on_levels`].
    pub fn on_levels(&self) -> Option<Self> {
        let architecture = self.architecture.on_levels()?.into();
        Some(Self { architecture, keeps: false, ..self.clone() })
    }

    /// Numbers of the largest layer's output for one sample; see [`Architecture::widest`].
    pub fn widest(&self) -> usize {
        self.architecture.widest()
    }

    /// `∂_θ` of a number `[1]` that `loss` makes of the model on the tape, one flat gradient a parameter, and the number itself.
    ///
    /// # Errors
    /// That of `loss`.
    pub fn differentiated<E>(
        &self,
        loss: impl FnOnce(&Self) -> Result<Tensor<1>, E>,
    ) -> Result<(Vec<Tensor<1>>, Tensor<1>), E> {
        let on_tape = |tensor: &Tensor<1>| tensor.clone().autodiff().require_grad();
        let taped = self.with_theta(self.theta.iter().map(on_tape).collect());
        let loss = loss(&taped)?;
        let mut tape = loss.backward();
        let grad = |tensor: &Tensor<1>| {
            let grad = tensor.grad_remove(&mut tape);
            grad.unwrap_or_else(|| tensor.clone().without_autodiff().zeros_like())
        };
        let grads = taped.theta.iter().map(grad).collect();
        Ok((grads, loss.without_autodiff()))
    }

    /// Whether the model is a law of zeros and ones, and no density.
    pub fn is_discrete(&self) -> bool {
        self.architecture.hidden_units().is_some()
    }

    /// log Z by a sum over all states, where there are few enough of them; see [`Architecture::enumerated_log_z`].
    pub fn enumerated_log_z(&self) -> Option<f64> {
        self.architecture.enumerated_log_z(&self.host_theta())
    }

    /// The law that walkers of this starting model are drawn from: itself, but for a law of bits; see [`Architecture::start_theta`].
    pub fn start(&self) -> Self {
        self.with_theta(self.architecture.start_theta(&self.theta))
    }

    /// `count` exact draws of `ρ_θ`, `[count, dim]` row-major, where the model can be drawn.
    pub fn draw(&self, count: usize, stream: Stream) -> Option<Vec<f32>> {
        self.architecture.draw(&self.host_theta(), count, stream)
    }

    /// `c` of the confinement `½ c |x|²`, where there is one.
    pub fn confinement(&self) -> Option<f64> {
        self.architecture.confinement()
    }

    /// Means and variances of normals near the model; see [`Architecture::moments`].
    pub fn moments(&self) -> Option<[Vec<f64>; 2]> {
        self.architecture.moments(&self.host_theta())
    }

    /// What the network is added to, `[batch]`; see [`Architecture::base_energy`].
    pub fn base_energy(&self, x: Tensor<2>) -> Option<Tensor<1>> {
        self.architecture.base_energy(&self.theta, x)
    }

    /// Whether a Gaussian base is to be fitted before a run.
    pub fn has_gaussian_base(&self) -> bool {
        self.architecture.has_gaussian_base()
    }

    /// The model on the Gaussian of this mean `[dim]` and precision `[dim, dim]`.
    ///
    /// # Panics
    /// If the energy has no Gaussian base or the lengths differ from its own.
    pub fn with_gaussian_base(&self, mean: Vec<f32>, precision: Vec<f32>) -> Self {
        assert!(self.has_gaussian_base(), "no Gaussian base to set");
        let mut theta = self.theta.clone();
        let first = theta.len() - 2;
        for (slot, values) in theta[first..].iter_mut().zip([mean, precision]) {
            assert_eq!(slot.dims(), [values.len()], "the base's shape");
            *slot = upload(values, &self.device);
        }
        self.with_theta(theta)
    }

    /// The Gaussian base; `None` without one, or where its precision is not positive definite.
    pub fn gaussian_base(&self) -> Option<Gaussian> {
        let first = self.theta.len().checked_sub(2).filter(|_| self.has_gaussian_base())?;
        Gaussian::new(download(self.theta[first].clone()), download(self.theta[first + 1].clone()))
    }

    /// The flow whose `−log_prob` is the energy, to be called with [`EnergyModel::theta`].
    pub fn flow(&self) -> Option<&dyn Flow> {
        self.architecture.flow()
    }

    /// The flow of the energy as a model of its own, with the same tensors: the energy itself where it is a flow, the base of a
    /// tilted energy; `None` where there is neither.
    pub fn flow_part(&self) -> Option<Self> {
        if self.flow().is_some() {
            return Some(self.clone());
        }
        let [_, base] = self.parts()?;
        Some(base)
    }

    /// f of a tilted energy `−log ρ₀ + f` as a model of its own, with the same tensors; `None` of any other energy.
    pub fn tilt_part(&self) -> Option<Self> {
        let [tilt, _] = self.parts()?;
        Some(tilt)
    }

    /// The tilt and the base of a tilted energy.
    fn parts(&self) -> Option<[Self; 2]> {
        let [tilt, base] = self.architecture.tilt_and_base()?;
        let tilted = self.spec.energy.tilted()?;
        let (tilt_theta, base_theta) = self.theta.split_at(tilt.params().len());
        let part = |energy: &EnergyConfig, architecture, theta: &[Tensor<1>]| Self {
            spec: EnergySpec::new(self.spec.shape, energy.clone()),
            architecture,
            theta: theta.to_vec(),
            flat: None,
            device: self.device.clone(),
            keeps: false,
        };
        Some([part(&tilted.tilt, tilt, tilt_theta), part(&tilted.base, base, base_theta)])
    }

    /// The tilted energy on its base at another θ.
    ///
    /// # Panics
    /// If the energy is not a tilted one, or `base` has another number of tensors than its base.
    pub fn with_base(&self, base: &[Tensor<1>]) -> Self {
        let [tilt, _] = self.architecture.tilt_and_base().expect("a tilted energy");
        self.with_theta(self.theta[..tilt.params().len()].iter().chain(base).cloned().collect())
    }

    /// Whether parts of θ are to be set from data before a run.
    pub fn has_data_init(&self) -> bool {
        self.architecture.has_data_init()
    }

    /// The model with those parts set from `rows: [n, dim]`, n ≥ 2; see [`Flow::data_init`].
    pub fn with_data_init(&self, rows: Tensor<2>) -> Self {
        self.with_theta(self.architecture.data_init(&self.theta, rows))
    }

    /// Where a number that is not finite first appears in `U_θ(x)`, where the energy has layers to name. Waits for the device.
    pub fn first_non_finite_layer(&self, x: Tensor<2>) -> Option<NonFinite> {
        self.architecture.first_non_finite_layer(&self.theta, x)
    }

    /// Means and masses, where the energy is a mixture.
    pub fn mixture(&self) -> Option<Mixture> {
        self.architecture.mixture(&self.host_theta())
    }
}

impl Energy for EnergyModel {
    fn dim(&self) -> usize {
        self.architecture.dim()
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        self.architecture.energy(&self.theta, x)
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        self.architecture.energy_and_grad(&self.theta, x)
    }

    fn energy_and_grad_kept(&self, x: Tensor<2>) -> Evaluation {
        if self.keeps {
            return self.architecture.energy_and_grad_kept(&self.theta, x);
        }
        let (energy, grad) = self.energy_and_grad(x);
        (energy, grad, None)
    }

    fn chain(&self, from: &ChainState, chain: &Chain) -> Option<ChainEnd> {
        self.architecture.chain(&self.theta, from, chain)
    }

    fn log_z(&self) -> Option<f64> {
        self.architecture.log_z(&self.host_theta())
    }

    fn hidden_units(&self) -> Option<usize> {
        self.architecture.hidden_units()
    }

    fn block_gibbs(&self, v: Tensor<2>, coins: [Tensor<2>; 2]) -> Tensor<2> {
        self.architecture.block_gibbs(&self.theta, v, coins)
    }
}
