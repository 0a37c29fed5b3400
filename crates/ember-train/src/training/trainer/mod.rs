//! The training state and one update of it: advance the walkers, take the gradient, step the optimiser.

pub(crate) mod assist;
mod ending;
mod fitted;
mod gradient;
mod health;
mod logged;
mod moves;
mod on_device;
mod own;
mod pace;
mod walk;

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use ember_model::{EnergyModel, Pass};
use ember_sampler::evidence::Ensembles;
use ember_sampler::{Estimate, Noise, StepInfo, Summary, Walkers, exact_draws};

use crate::config::Config;
use crate::dataset::Data;
use crate::dataset::gaussian_fit::GaussianFit;
use crate::error::Error;
use crate::store::parts;
use crate::training::batches::Batches;
use crate::training::ema::Ema;
use crate::training::optimizer::Optimizer;
use crate::training::start;
pub use assist::Assist;
use fitted::Fitted;
use logged::Findings;
pub use logged::Logged;
use moves::DeviceModes;
pub use own::Own;
use pace::Paced;

/// Lane of `Purpose::Batch` and `Purpose::Resampling` that belongs to the whole population of walkers where an update
/// moves a mini-batch of it: beyond those of the audit's repeats.
pub const WALKER_LANE: u32 = 1 << 20;

/// Everything a run carries from one update to the next. All of it is in a checkpoint or follows from the config.
pub struct Trainer {
    /// The resolved config.
    pub config: Config,
    /// `U_θ` at the current θ.
    pub model: EnergyModel,
    /// The moving average of θ, where the config asks for one.
    pub ema: Option<Ema>,
    /// The optimiser and its moments.
    pub optimizer: Optimizer,
    /// The walkers. All are cached at the θ of the last update, or each at that of its last visit where an update moves a
    /// mini-batch of them. Without a negative phase they are exact draws, of the θ of the last metric line or checkpoint.
    pub walkers: Walkers,
    /// The independent ensemble, where the config asks for one.
    pub audit: Option<Ensembles>,
    /// The flows that propose global moves, where the objective trains them.
    pub assist: Option<Assist>,
    /// The numbers that the objective trains beside θ, where it has any.
    pub own: Option<Own>,
    /// The objective's loss with what it takes from the data or from a flow, where it takes anything.
    pub(crate) fitted: Option<Fitted>,
    /// h of the kernel now, where it is not the config's own.
    pub step_size: Option<f64>,
    /// The factor on the learning rate, `[1]`, where that follows the ess; see `pace.rs`.
    rate_factor: Option<Tensor<1>>,
    /// Parameter updates done.
    pub step: u64,
    /// Times every walker was brought to the current θ between two visits: N gradients each.
    pub flushes: u64,
    /// Times the run was rolled back.
    pub rollbacks: u32,
    /// Why the state at the end is doubtful, in words; empty until then. See [`Trainer::judge_end`].
    pub doubts: Vec<String>,
    /// The data set, in host memory.
    pub data: Arc<Data>,
    batches: Batches,
    /// What each row of a batch counts in the gradient, `[batch]`: all the same.
    data_weights: Tensor<1>,
    /// On a GPU: whether and when the state was found not to be as it must be; see `on_device.rs`.
    alarm: Option<Tensor<1>>,
    /// Where the data's modes are, where that is known.
    modes: Option<DeviceModes>,
    /// Whether it was said that the audit's log Z is not finite.
    audit_is_lost: bool,
    device: Device,
}

/// What an update did. Tensors stay on the device until a log step asks.
pub struct UpdateInfo {
    /// Mean `U` of the batch, `[1]`. On a GPU, where somebody asks: at log steps, and with a watchdog.
    pub energy_data: Option<Tensor<1>>,
    /// `Σ W_i U_i` of the walkers that moved, `[1]`, where there is the mean energy of the batch. Without a negative phase, of exact
    /// draws at log steps and absent at others.
    pub energy_walkers: Option<Tensor<1>>,
    /// The loss, `[1]`, where the objective minimises one of the data alone.
    pub loss: Option<Tensor<1>>,
    /// Global gradient norm before clipping, of θ and of the objective's own numbers, `[1]`.
    pub grad_norm: Tensor<1>,
    /// Acceptances of the last kernel step.
    pub moves: StepInfo,
    /// Fraction of the walkers that moved whose nearest mode the update changed, `[1]`: at log steps, where the modes are known.
    pub jumps: Option<Tensor<1>>,
    /// The learning rate used; that of the schedule alone where it follows the ess and nobody asked.
    pub learning_rate: f64,
    /// The factor on it, `[1]`, where it follows the ess.
    pub rate_factor: Option<Tensor<1>>,
    /// The fraction of the optimiser's step that was made, `[1]`, where it is limited.
    pub step_scale: Option<Tensor<1>>,
    /// What was read of the walkers, before resampling.
    pub reading: Option<Reading>,
    /// `log Z` by the audit, at log steps.
    pub log_z_audit: Option<Estimate>,
    /// The numbers above in host memory, and what else a metric line says: at log steps.
    pub logged: Option<Logged>,
}

/// The walkers' part of an update.
struct NegativePhase {
    /// The walkers that moved, `[moved]`, before any resampling: those of the gradient, for resampling adds noise and nothing else.
    seen: Walkers,
    /// Their `W`, `[moved]`.
    seen_weights: Tensor<1>,
    /// Their last evaluation, where it was kept.
    pass: Option<Arc<dyn Pass>>,
    /// Where they stood before the last step, `[moved, dim]`, where the objective asks for it.
    before: Option<Tensor<2>>,
    /// Where they begin among all walkers.
    first: usize,
    /// The walkers that moved, settled, and their `W`, `[moved]`.
    moving: Walkers,
    weights: Tensor<1>,
    /// Their statistics, `[4]`, where the device is to look at them.
    stats: Option<Tensor<1>>,
    info: StepInfo,
    jumps: Option<Tensor<1>>,
    findings: Findings,
}

/// The walkers that moved, settled: resampled where their weights ask for it.
struct Settlement {
    moving: Walkers,
    /// Their `W`, `[moved]`.
    weights: Tensor<1>,
    /// `W` of the walkers as they came, `[moved]`.
    seen_weights: Tensor<1>,
    /// Statistics of before, `[4]`, where the device is to look at them.
    stats: Option<Tensor<1>>,
    findings: Findings,
}

/// Weights and health of a population, and what they say of log Z.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// ess and mean weight.
    pub summary: Summary,
    /// Walkers the summary is about.
    pub count: usize,
    /// On-line `log Z` of the θ the walkers are at; not an estimate of the model's (ALGORITHMS 1.6). NaN where it is not known.
    pub log_z_online: f64,
}

/// The batches of a run.
fn batches(config: &Config, data: &Data, device: &Device) -> Result<Batches, Error> {
    let dataset = config.dataset.as_dyn();
    let (size, augmentation) = (dataset.batch_size(), dataset.augmentation());
    Batches::new(&data.train, data.shape, size, augmentation, config.seed, device)
}

impl Trainer {
    /// The state before the first update.
    ///
    /// # Errors
    /// An energy that does not fit the data, a start that is not to be had.
    pub fn new(config: Config, device: &Device) -> Result<Self, Error> {
        let data = Arc::new(config.dataset.as_dyn().generate(config.seed)?);
        Self::start(config, data, device)
    }

    /// [`Trainer::new`] on a data set that is already in memory.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn start(config: Config, data: Arc<Data>, device: &Device) -> Result<Self, Error> {
        Self::start_on(config, data, None, device)
    }

    /// The state before the first update once more, from the data and, of a tilted energy, the base in memory.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn restart(&self) -> Result<Self, Error> {
        let base = self.config.energy.tilted().is_some().then(|| self.model.flow_part());
        Self::start_on(self.config.clone(), self.data.clone(), base.flatten(), &self.device)
    }

    fn start_on(
        config: Config,
        data: Arc<Data>,
        base: Option<EnergyModel>,
        device: &Device,
    ) -> Result<Self, Error> {
        let mut model = EnergyModel::init(config.energy_spec(), config.seed, device)?;
        start::check_support(model.spec().support, &data)?;
        start::check_bits(&model, &data)?;
        if model.has_gaussian_base() {
            let fit = GaussianFit::of_noisy(&data, config.dataset.as_dyn().augmentation())?;
            model = model.with_gaussian_base(fit.mean(), fit.precision());
        }
        if config.energy.tilted().is_some() {
            let base = base.map_or_else(|| start::base(&config, &model, &data, device), Ok)?;
            model = model.with_base(base.theta());
        } else if config.energy.has_trained_parts() {
            model = parts::trained(model, device)?;
        } else if model.has_data_init() {
            let rows = batches(&config, &data, device)?.batch(0)?;
            model = model.with_data_init(rows);
        }
        let objective = config.objective.as_dyn();
        let assist =
            objective.assisted().map(|assisted| Assist::new(assisted, &config, &model, &data, device));
        let assist = assist.transpose()?;
        let (init, count) = (config.walkers.init, config.walkers.count);
        let walkers = match objective.has_negative_phase() {
            true => start::walkers(&model, init, count, &data.train, config.seed, 0, device)?,
            false => exact_draws(&model, count, config.seed, 0)?,
        };
        let audit = config
            .audit
            .as_ref()
            .map(|audit| start::audit(audit, &model, config.seed, device))
            .transpose()?;
        let mut trainer = Self::assemble(config, data, model, walkers, audit, 0, device)?;
        trainer.assist = assist;
        trainer.fit_loss(None)?;
        trainer.start_own()?;
        if let Some(target) = trainer.config.kernel.target_accept_rate {
            trainer.step_size = trainer.config.kernel.kernel.as_dyn().step_size();
            if trainer.carries_weights() {
                let proposals = trainer.proposals();
                let model = &trainer.model;
                trainer.step_size =
                    Some(moves::warm_up(&trainer.config, target, model, proposals.as_ref(), device)?);
            }
        }
        Ok(trainer)
    }

    /// A state from its parts; used by `new` and when a checkpoint is loaded.
    ///
    /// # Errors
    /// More Langevin steps than the noise counter holds, a batch larger than the training set.
    pub fn assemble(
        config: Config,
        data: Arc<Data>,
        model: EnergyModel,
        walkers: Walkers,
        audit: Option<Ensembles>,
        step: u64,
        device: &Device,
    ) -> Result<Self, Error> {
        let numbers = config.kernel.noise_steps_per_update().unwrap_or(u64::MAX);
        Noise::at(config.seed, 0, config.steps, numbers, 0)?;
        let modes = config.dataset.as_dyn().truth().and_then(|truth| truth.modes);
        let modes = modes.map(|modes| DeviceModes::new(&modes, device));
        let batches = batches(&config, &data, device)?;
        let data_weights = Tensor::zeros([1], device);
        let mut trainer = Self {
            data_weights,
            optimizer: Optimizer::new(&config.optimizer, model.params()),
            ema: config.optimizer.ema().map(|decay| Ema::new(decay, &model)),
            config,
            model,
            walkers,
            audit,
            assist: None,
            own: None,
            fitted: None,
            step_size: None,
            rate_factor: None,
            modes,
            step,
            flushes: 0,
            rollbacks: 0,
            doubts: Vec::new(),
            data,
            batches,
            alarm: None,
            audit_is_lost: false,
            device: device.clone(),
        };
        let n = trainer.config.dataset.as_dyn().batch_size();
        trainer.data_weights = Tensor::full([n], trainer.gradient_sign() / n as f64, device);
        trainer.set_rate_factor(1.0);
        Ok(trainer)
    }

    /// The device everything is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The model at the moving average of θ, where there is one.
    pub fn ema_model(&self) -> Option<EnergyModel> {
        self.ema.as_ref().map(|ema| ema.average.clone())
    }

    /// Takes note of the rollbacks so far: each has cost the learning rate its factor.
    pub fn roll_back_to(&mut self, rollbacks: u32) {
        self.rollbacks = rollbacks;
        let scale = self.config.watchdog.learning_rate_factor.powi(rollbacks.min(1_000) as i32);
        self.optimizer.learning_rate_scale = scale;
        if let Some(own) = &mut self.own {
            own.optimizer.learning_rate_scale = scale;
        }
    }

    fn carries_weights(&self) -> bool {
        self.config.objective.as_dyn().carries_weights()
    }

    /// Whether log Z can be followed: weights are carried and the start was exact.
    pub fn log_z_is_known(&self) -> bool {
        self.carries_weights() && self.walkers.log_z.is_known()
    }

    fn has_negative_phase(&self) -> bool {
        self.config.objective.as_dyn().has_negative_phase()
    }

    /// Without a negative phase, makes the walkers exact draws of the model as it is: call before they are shown or saved.
    ///
    /// # Errors
    /// Draws that are not finite.
    pub fn redraw(&mut self) -> Result<(), Error> {
        if self.has_negative_phase() {
            return Ok(());
        }
        let count = self.config.walkers.count;
        self.walkers = exact_draws(&self.model, count, self.config.seed, self.step)?;
        match self.walkers.summary().finite {
            true => Ok(()),
            false => Err(self.non_finite(&self.walkers)),
        }
    }

    /// How many walkers an update moves.
    pub fn moved_per_update(&self) -> usize {
        if !self.has_negative_phase() {
            return 0;
        }
        self.config.walkers.moved_per_update.unwrap_or(self.walkers.count())
    }

    fn is_partial(&self) -> bool {
        self.moved_per_update() < self.walkers.count()
    }

    /// One update. At `log` steps the health of all walkers is read whatever the objective, and on a GPU whether all was well since the
    /// last one.
    ///
    /// # Errors
    /// A non-finite energy, gradient or weight: names the step, the walkers and, of a flow, the layer; θ is left as it was.
    pub fn update(&mut self, log: bool) -> Result<UpdateInfo, Error> {
        let update = self.step;
        let batch = self.batches.batch(update)?;
        let negative = match self.has_negative_phase() {
            true => Some(self.advance(&batch, log)?),
            false => None,
        };
        if log {
            self.redraw()?;
        }

        let terms = self.terms(batch, negative.as_ref());
        let gradient = self.gradient(&terms, negative.as_ref(), log)?;
        let [energy_data, energy_walkers] = gradient.energies;
        let stats = negative.as_ref().and_then(|phase| phase.stats.clone());
        let gap = [energy_data.as_ref(), energy_walkers.as_ref()];
        let (end, step) = self.descend(gradient.grads, gradient.own.as_ref(), stats, gap);
        let (own, grad_norm) = self.descend_own(gradient.own, step.grad_norm);
        let Paced { model, factor, step_scale } = match &negative {
            Some(phase) => self.paced(end, step.learning_rate, &phase.moving, &phase.weights),
            None => Paced { model: end, factor: None, step_scale: None },
        };
        let mut info = UpdateInfo {
            energy_data,
            energy_walkers,
            loss: gradient.loss,
            grad_norm,
            moves: StepInfo::default(),
            jumps: None,
            learning_rate: step.learning_rate,
            rate_factor: factor,
            step_scale,
            reading: None,
            log_z_audit: None,
            logged: None,
        };
        let mut findings = Findings::default();
        self.watch(&info, &terms)?;
        self.follow_with_noise(&terms[0].0)?;
        if let Some(phase) = negative {
            if let (Some(assist), Some(assisted)) =
                (&mut self.assist, self.config.objective.as_dyn().assisted())
            {
                assist.fit(assisted, &phase.moving, &phase.weights, self.config.seed, update)?;
            }
            (info.moves, info.jumps) = (phase.info, phase.jumps);
            findings = phase.findings;
        }
        if let Some(ema) = &mut self.ema {
            ema.update(&model);
        }
        self.model = model;
        if let (Some(own), Some(values)) = (&mut self.own, own) {
            own.values = values;
        }
        self.step += 1;
        match log {
            true => self.read(info, findings),
            false => {
                (info.reading, info.log_z_audit) = (findings.reading, findings.log_z_audit);
                Ok(info)
            }
        }
    }

    /// The walkers brought to the current θ: with weights where the objective carries them, without elsewhere.
    pub fn walkers_at_theta(&self) -> Walkers {
        walkers_at_theta(&self.model, self.walkers.clone(), self.carries_weights())
    }
}

/// Walkers brought to the model's θ: with weights where the objective carries them, without elsewhere.
pub fn walkers_at_theta(model: &EnergyModel, walkers: Walkers, weighted: bool) -> Walkers {
    if weighted { walkers.reweight(model) } else { walkers.refresh(model).unweighted() }
}
