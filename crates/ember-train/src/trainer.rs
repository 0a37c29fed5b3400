//! The training state and one update of it: advance the walkers, take the gradient, step the optimiser.

mod health;

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::{Noise, Scheme, Summary, Walkers, reduce, resample};

use crate::batches::Batches;
use crate::config::Config;
use crate::dataset::Data;
use crate::ema::Ema;
use crate::ensembles::Ensembles;
use crate::epochs::Epochs;
use crate::error::Error;
use crate::gaussian_fit::GaussianFit;
use crate::objective::Schedule;
use crate::optimizer::Optimizer;
use crate::start;
use crate::statistics::Estimate;

/// Lane of [`Purpose::Batch`] and [`Purpose::Resampling`] that belongs to the whole population of walkers where an update
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
    /// Parameter updates done.
    pub step: u64,
    /// Times every walker was brought to the current θ between two visits: N gradients each.
    pub flushes: u64,
    /// Times the run was rolled back.
    pub rollbacks: u32,
    /// The data set, in host memory.
    pub data: Arc<Data>,
    batches: Batches,
    device: Device,
}

/// What an update did. Tensors stay on the device until a log step asks.
pub struct UpdateInfo {
    /// Mean `U` of the batch, `[1]`.
    pub energy_data: Tensor<1>,
    /// `Σ W_i U_i` of the walkers that moved, `[1]`. Without a negative phase, of exact draws at log steps and absent at others.
    pub energy_walkers: Option<Tensor<1>>,
    /// Global gradient norm before clipping, `[1]`.
    pub grad_norm: Tensor<1>,
    /// Acceptance of the last kernel step, `[1]`, where the kernel rejects.
    pub accept_rate: Option<Tensor<1>>,
    /// The learning rate used.
    pub learning_rate: f64,
    /// The fraction of the optimiser's step that was made, `[1]`, where it is limited.
    pub step_scale: Option<Tensor<1>>,
    /// What was read of the walkers, before resampling.
    pub reading: Option<Reading>,
    /// `log Z` by the audit, at log steps.
    pub log_z_audit: Option<Estimate>,
}

/// The walkers' part of an update.
struct NegativePhase {
    /// The walkers that moved, `[moved]`.
    moving: Walkers,
    /// Their `W`, `[moved]`.
    weights: Tensor<1>,
    accept_rate: Option<Tensor<1>>,
    reading: Option<Reading>,
    log_z_audit: Option<Estimate>,
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
        let mut model = EnergyModel::init(config.energy_spec(), config.seed, device)?;
        if model.has_gaussian_base() {
            let fit = GaussianFit::of_noisy(&data, config.dataset.as_dyn().augmentation())?;
            model = model.with_gaussian_base(fit.mean(), fit.precision());
        }
        if model.has_data_init() {
            let rows = batches(&config, &data, device)?.batch(0)?;
            model = model.with_data_init(rows);
        }
        let (init, count) = (config.walkers.init, config.walkers.count);
        let walkers = match config.objective.as_dyn().has_negative_phase() {
            true => start::walkers(&model, init, count, &data.train, config.seed, 0, device)?,
            false => start::exact_draws(&model, count, config.seed, 0)?,
        };
        let audit = config
            .audit
            .as_ref()
            .map(|audit| Ensembles::audit(audit, &model, config.seed, device))
            .transpose()?;
        Self::assemble(config, data, model, walkers, audit, 0, device)
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
        Noise::at(config.seed, 0, config.steps, config.kernel.steps_per_update, 0)?;
        let batches = batches(&config, &data, device)?;
        Ok(Self {
            optimizer: Optimizer::new(&config.optimizer, model.params()),
            ema: config.optimizer.ema().map(|decay| Ema::new(decay, model.theta())),
            config,
            model,
            walkers,
            audit,
            step,
            flushes: 0,
            rollbacks: 0,
            data,
            batches,
            device: device.clone(),
        })
    }

    /// The device everything is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The model at the moving average of θ, where there is one.
    pub fn ema_model(&self) -> Option<EnergyModel> {
        self.ema.as_ref().map(|ema| self.model.with_theta(ema.theta.clone()))
    }

    /// Takes note of the rollbacks so far: each has cost the learning rate its factor.
    pub fn roll_back_to(&mut self, rollbacks: u32) {
        self.rollbacks = rollbacks;
        self.optimizer.learning_rate_scale =
            self.config.watchdog.learning_rate_factor.powi(rollbacks.min(1_000) as i32);
    }

    fn carries_weights(&self) -> bool {
        self.config.objective.as_dyn().carries_weights()
    }

    /// Whether log Z can be followed: weights are carried and the start was exact.
    pub fn log_z_is_known(&self) -> bool {
        self.carries_weights() && self.walkers.log_z.is_finite()
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
        self.walkers = start::exact_draws(&self.model, count, self.config.seed, self.step)?;
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

    /// One update. At `log` steps the health of all walkers is read whatever the objective.
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

        // G = (1/n) Σ_j ∂_θU(x_j) − Σ_i W_i ∂_θU(X_i)   (Carbone et al. 2023, Alg. 1)
        let [n, _] = batch.dims();
        let l2 = self.config.objective.as_dyn().energy_l2();
        // λ ∂ E[e²] = 2λ E[e ∂U]
        let regulariser = |u: Tensor<1>, x: Tensor<2>| self.unconfined(u, x).mul_scalar(2.0 * l2);
        let mut data_weights = Tensor::<1>::full([n], 1.0 / n as f64, &self.device);
        if l2 > 0.0 {
            let e = regulariser(self.model.energy(batch.clone()), batch.clone());
            data_weights = data_weights.clone() + data_weights * e;
        }
        let mut terms = vec![(batch, data_weights)];
        if let Some(NegativePhase { moving, weights, .. }) = &negative {
            let mut walker_weights = weights.clone().neg();
            if l2 > 0.0 {
                let e = regulariser(moving.energy.clone(), moving.position.clone());
                walker_weights = walker_weights + weights.clone() * e;
            }
            terms.push((moving.position.clone(), walker_weights));
        }
        let gradient = self.model.weighted_param_grads(&terms);
        let energy_data = reduce::mean(gradient.energies[0].clone());
        let (mut theta, step) = self.optimizer.step(update, self.model.theta(), gradient.grads);
        let mut step_scale = None;
        if let (Some(most), Some(NegativePhase { moving, weights, .. })) =
            (self.config.optimizer.max_weight_change(), &negative)
        {
            let scale = self.step_scale(&theta, moving, weights, most);
            let shorten =
                |(old, new): (&Tensor<1>, Tensor<1>)| old.clone() + (new - old.clone()) * scale.clone();
            theta = self.model.theta().iter().zip(theta).map(shorten).collect();
            step_scale = Some(scale);
        }
        let energy_walkers = match &negative {
            Some(phase) => Some(reduce::sum(gradient.energies[1].clone() * phase.weights.clone())),
            None => log.then(|| reduce::mean(self.walkers.energy.clone())),
        };
        let (accept_rate, reading, log_z_audit) = match negative {
            Some(phase) => (phase.accept_rate, phase.reading, phase.log_z_audit),
            None => (None, None, None),
        };
        let info = UpdateInfo {
            energy_data,
            energy_walkers,
            grad_norm: step.grad_norm,
            accept_rate,
            learning_rate: step.learning_rate,
            step_scale,
            reading,
            log_z_audit,
        };
        self.watch(&info, &terms)?;
        if let Some(ema) = &mut self.ema {
            ema.update(&theta);
        }
        self.model = self.model.with_theta(theta);
        self.step += 1;
        Ok(info)
    }

    /// Brings the walkers of this update to the model's θ, with the audit beside them.
    fn advance(&mut self, batch: &Tensor<2>, log: bool) -> Result<NegativePhase, Error> {
        let (seed, update) = (self.config.seed, self.step);
        let steps = self.config.kernel.steps_per_update;
        let first_step = update * steps;
        // The whole run's step numbers were checked when the state was assembled.
        let noise = |sub_step| Noise { seed, lane: 0, step: first_step + sub_step };
        let schedule = Schedule { update, steps, partial: self.is_partial() };
        let (first, moving) = self.next_walkers()?;
        let kernel = self.config.kernel.kernel.as_dyn();
        let objective = self.config.objective.as_dyn();
        let (moving, info) = objective.advance(kernel, &self.model, moving, batch, schedule, &noise);
        if let Some(audit) = &mut self.audit {
            audit.advance(kernel, &self.model, seed, update, steps)?;
        }
        let (moving, mut reading, log_z_audit) = self.settle(moving, log)?;
        if self.is_partial() {
            self.walkers = self.walkers.clone().with_batch(first, moving.clone());
            if log {
                reading = Some(self.flush()?);
            }
        } else {
            self.walkers = moving.clone();
        }
        let weights = self.gradient_weights(&moving);
        let accept_rate = info.and_then(|info| info.accept_rate);
        Ok(NegativePhase { moving, weights, accept_rate, reading, log_z_audit })
    }

    /// The walkers this update moves and where they begin: all of them, or the next slice of this epoch's order.
    fn next_walkers(&mut self) -> Result<(usize, Walkers), Error> {
        let moved = self.moved_per_update();
        if !self.is_partial() {
            return Ok((0, self.walkers.clone()));
        }
        let count = self.walkers.count();
        let epochs = Epochs::new(count, moved, self.config.seed, WALKER_LANE);
        let (epoch, dealt) = epochs.at(self.step);
        if dealt.start == 0 {
            // The walkers themselves change places: an epoch's mini-batches are then slices.
            let order: Vec<i32> = epochs.order(epoch)?.into_iter().map(|i| i as i32).collect();
            let order = Tensor::from_data(TensorData::new(order, [count]), &self.device);
            self.walkers = self.walkers.clone().permuted(order);
        }
        Ok((dealt.start, self.walkers.narrow(dealt)))
    }

    /// `W` of the walkers in the gradient, `[walkers]`.
    fn gradient_weights(&self, walkers: &Walkers) -> Tensor<1> {
        if self.carries_weights() {
            return walkers.weights();
        }
        let count = walkers.count();
        Tensor::full([count], 1.0 / count as f64, &self.device)
    }

    /// The fraction of the step to `theta` that changes the log-weights of `walkers` by a standard deviation of at most `most`,
    /// `[1]`, to first order in the step. `walkers` are cached at the model's θ.
    fn step_scale(
        &self,
        theta: &[Tensor<1>],
        walkers: &Walkers,
        weights: &Tensor<1>,
        most: f64,
    ) -> Tensor<1> {
        let moved = self.model.with_theta(theta.to_vec()).energy(walkers.position.clone());
        // δ_i = U_{θ'}(X_i) − U_θ(X_i), s² = Σ W_i (δ_i − Σ W δ)²
        let delta = moved - walkers.energy.clone();
        let gap = delta.clone() - reduce::sum(delta * weights.clone());
        let spread = reduce::sum(gap.clone() * gap * weights.clone()).sqrt();
        (spread + 1e-12).recip().mul_scalar(most).clamp_max(1.0)
    }

    /// `U` less its confinement or base, `[walkers]`.
    fn unconfined(&self, u: Tensor<1>, x: Tensor<2>) -> Tensor<1> {
        match self.model.base_energy(x) {
            Some(base) => u - base,
            None => u,
        }
    }

    /// Reads the statistics of the walkers that moved and of the audit in one transfer, stops on a non-finite state, and
    /// resamples where ess asks for it. What is read is from before the resampling.
    fn settle(
        &mut self,
        mut moving: Walkers,
        log: bool,
    ) -> Result<(Walkers, Option<Reading>, Option<Estimate>), Error> {
        let resampling = self.config.resampling.scheme.filter(|_| self.carries_weights());
        if !log && resampling.is_none() && self.audit.is_none() {
            return Ok((moving, None, None));
        }
        let mut packed = vec![moving.stats().packed()];
        packed.extend(self.audit.as_ref().map(Ensembles::stats));
        let values = ember_model::params::download(Tensor::cat(packed, 0));
        let (own, rest) = values.split_at(4);
        let reading = self.reading(Summary::unpack(own), moving.count());
        if !reading.summary.finite {
            return Err(self.non_finite(&moving));
        }
        let threshold = self.config.resampling.ess_threshold;
        if let Some(scheme) = resampling
            && reading.summary.ess < threshold * moving.count() as f64
        {
            let stream = Stream::new(self.config.seed, Purpose::Resampling).at(self.step)?;
            let ancestors = resample(scheme, moving.log_weights.value(), stream);
            let log_mean_exp = reading.summary.log_mean_exp;
            moving = match self.is_partial() {
                true => moving.resampled_within(ancestors, log_mean_exp),
                false => moving.resampled(ancestors, log_mean_exp),
            };
        }
        let mut estimate = None;
        if let Some(audit) = &mut self.audit {
            let stats: Vec<f64> = rest.iter().map(|&v| f64::from(v)).collect();
            let every = self.config.audit.as_ref().map_or(1, |audit| audit.every);
            // A report that came due since the last log step goes into this one's line.
            let next = self.step + 1;
            let last_log = next.saturating_sub(self.config.output.log_every);
            if log && next / every > last_log / every {
                estimate = Some(audit.log_z_from(&stats));
            }
            let scheme = resampling.unwrap_or(Scheme::Systematic);
            audit.resample(&stats, scheme, threshold, self.config.seed, self.step)?;
        }
        Ok((moving, Some(reading), estimate))
    }

    /// Brings every walker to the current θ, reads the global weights and resamples globally where ess asks for it: a
    /// mini-batch's own weights say nothing about the others (ALGORITHMS 1.4). One counted pass over all walkers.
    fn flush(&mut self) -> Result<Reading, Error> {
        self.walkers = self.walkers_at_theta();
        self.flushes += 1;
        let summary = self.walkers.summary();
        if !summary.finite {
            return Err(self.non_finite(&self.walkers));
        }
        let reading = self.reading(summary, self.walkers.count());
        if let Some(scheme) = self.config.resampling.scheme.filter(|_| self.carries_weights())
            && summary.ess < self.config.resampling.ess_threshold * self.walkers.count() as f64
        {
            let stream = Stream::new(self.config.seed, Purpose::Resampling).lane(WALKER_LANE).at(self.step)?;
            let ancestors = resample(scheme, self.walkers.log_weights.value(), stream);
            self.walkers = self.walkers.clone().resampled(ancestors, summary.log_mean_exp);
        }
        Ok(reading)
    }

    fn reading(&self, summary: Summary, count: usize) -> Reading {
        let log_z_online = match self.log_z_is_known() {
            true => self.walkers.log_z + summary.log_mean_exp,
            false => f64::NAN,
        };
        Reading { summary, count, log_z_online }
    }

    /// The walkers brought to the current θ: with weights where the objective carries them, without elsewhere.
    pub fn walkers_at_theta(&self) -> Walkers {
        walkers_at_theta(&self.model, self.walkers.clone(), self.carries_weights())
    }
}

/// `U_θ` of rows in host memory, row-major `[n, dim]`, in blocks of 16,384.
pub fn energies(model: &EnergyModel, rows: &[f32]) -> Vec<f32> {
    let dim = model.dim();
    rows.chunks(16_384 * dim)
        .flat_map(|block| {
            let x = burn::tensor::TensorData::new(block.to_vec(), [block.len() / dim, dim]);
            ember_model::params::download(model.energy(Tensor::from_data(x, model.device())))
        })
        .collect()
}

/// Walkers brought to the model's θ: with weights where the objective carries them, without elsewhere.
pub fn walkers_at_theta(model: &EnergyModel, walkers: Walkers, weighted: bool) -> Walkers {
    if weighted { walkers.reweight(model) } else { walkers.refresh(model).unweighted() }
}
