//! The training state and one update of it: advance the walkers, take the gradient, step the optimiser.

use burn::tensor::{Device, Tensor};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::{Noise, Scheme, Summary, Walkers, reduce, resample};

use crate::batches::Batches;
use crate::config::Config;
use crate::dataset::Data;
use crate::ensembles::Ensembles;
use crate::error::Error;
use crate::objective::Schedule;
use crate::optimizer::Optimizer;
use crate::start;
use crate::statistics::Estimate;

/// Everything a run carries from one update to the next. All of it is in a checkpoint or follows from the config.
pub struct Trainer {
    /// The resolved config.
    pub config: Config,
    /// `U_θ` at the current θ.
    pub model: EnergyModel,
    /// The optimiser and its moments.
    pub optimizer: Optimizer,
    /// The walkers, cached at the θ of the last update.
    pub walkers: Walkers,
    /// The independent ensemble, where the config asks for one.
    pub audit: Option<Ensembles>,
    /// Parameter updates done.
    pub step: u64,
    /// The data set, in host memory.
    pub data: Data,
    batches: Batches,
    device: Device,
}

/// What an update did. Tensors stay on the device until a log step asks.
pub struct UpdateInfo {
    /// Mean `U` of the batch, `[1]`.
    pub energy_data: Tensor<1>,
    /// `Σ W_i U_i`, `[1]`.
    pub energy_walkers: Tensor<1>,
    /// Global gradient norm before clipping, `[1]`.
    pub grad_norm: Tensor<1>,
    /// Acceptance of the last kernel step, `[1]`, where the kernel rejects.
    pub accept_rate: Option<Tensor<1>>,
    /// The learning rate used.
    pub learning_rate: f64,
    /// Weights and health before resampling, where they were read.
    pub summary: Option<Summary>,
    /// `log Z` by the audit, at log steps.
    pub log_z_audit: Option<Estimate>,
    /// On-line `log Z` of the θ the walkers are at; not an estimate of the model's (ALGORITHMS 1.6).
    pub log_z_online: Option<f64>,
}

impl Trainer {
    /// The state before the first update.
    ///
    /// # Errors
    /// An energy that does not fit the data, a start that is not to be had.
    pub fn new(config: Config, device: &Device) -> Result<Self, Error> {
        let data = config.dataset.as_dyn().generate(config.seed)?;
        let model = EnergyModel::init(config.energy_spec(), config.seed, device)?;
        let walkers = start::walkers(
            &model,
            config.walkers.init,
            config.walkers.count,
            &data.train,
            config.seed,
            0,
            device,
        )?;
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
    /// More Langevin steps than the noise counter holds.
    pub fn assemble(
        config: Config,
        data: Data,
        model: EnergyModel,
        walkers: Walkers,
        audit: Option<Ensembles>,
        step: u64,
        device: &Device,
    ) -> Result<Self, Error> {
        Noise::at(config.seed, 0, config.steps, config.kernel.steps_per_update, 0)?;
        let batches = Batches::new(
            &data.train,
            data.shape.dim(),
            config.dataset.as_dyn().batch_size(),
            config.seed,
            device,
        );
        Ok(Self {
            optimizer: Optimizer::new(&config.optimizer, model.params()),
            config,
            model,
            walkers,
            audit,
            step,
            data,
            batches,
            device: device.clone(),
        })
    }

    /// The device everything is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether log Z can be followed: weights are carried and the start was exact.
    pub fn log_z_is_known(&self) -> bool {
        self.config.objective.as_dyn().carries_weights() && self.walkers.log_z.is_finite()
    }

    /// One update. At `log` steps the health of the walkers is read whatever the objective.
    ///
    /// # Errors
    /// A non-finite energy, gradient or weight: names the step and the walkers; θ is left as it was.
    pub fn update(&mut self, log: bool) -> Result<UpdateInfo, Error> {
        let (seed, update) = (self.config.seed, self.step);
        let steps = self.config.kernel.steps_per_update;
        let first_step = update * steps;
        let objective = self.config.objective.as_dyn();
        let kernel = self.config.kernel.kernel.as_dyn();
        let batch = self.batches.batch(update)?;

        // The whole run's step numbers were checked when the state was assembled.
        let noise = |sub_step| Noise { seed, lane: 0, step: first_step + sub_step };
        let schedule = Schedule { update, steps };
        let (walkers, info) =
            objective.advance(kernel, &self.model, self.walkers.clone(), &batch, schedule, &noise);
        self.walkers = walkers;
        if let Some(audit) = &mut self.audit {
            audit.advance(kernel, &self.model, seed, update, steps)?;
        }
        let (summary, log_z_audit) = self.settle(log)?;
        let log_z_online = summary.filter(|_| self.log_z_is_known()).map(|summary| summary.1);
        let summary = summary.map(|(summary, _)| summary);

        // G = (1/n) Σ_j ∂_θU(x_j) − Σ_i W_i ∂_θU(X_i)   (Carbone et al. 2023, Alg. 1)
        let [n, _] = batch.dims();
        let data_weights = Tensor::<1>::full([n], 1.0 / n as f64, &self.device);
        let weights = if self.config.objective.as_dyn().carries_weights() {
            self.walkers.weights()
        } else {
            let count = self.walkers.count();
            Tensor::<1>::full([count], 1.0 / count as f64, &self.device)
        };
        let gradient = self.model.weighted_param_grads(&[
            (batch, data_weights),
            (self.walkers.position.clone(), weights.clone().neg()),
        ]);
        let (theta, step) = self.optimizer.step(update, self.model.theta(), gradient.grads);
        self.model = self.model.with_theta(theta);
        self.step += 1;
        Ok(UpdateInfo {
            energy_data: reduce::mean(gradient.energies[0].clone()),
            energy_walkers: reduce::sum(gradient.energies[1].clone() * weights),
            grad_norm: step.grad_norm,
            accept_rate: info.and_then(|info| info.accept_rate),
            learning_rate: step.learning_rate,
            summary,
            log_z_audit,
            log_z_online,
        })
    }

    /// Reads the statistics of the walkers and of the audit in one transfer, stops on a non-finite state, and resamples
    /// where ess asks for it. Returns the summary with the on-line log Z, both from before the resampling.
    #[allow(clippy::type_complexity)]
    fn settle(&mut self, log: bool) -> Result<(Option<(Summary, f64)>, Option<Estimate>), Error> {
        let resampling =
            self.config.resampling.scheme.filter(|_| self.config.objective.as_dyn().carries_weights());
        if !log && resampling.is_none() && self.audit.is_none() {
            return Ok((None, None));
        }
        let mut packed = vec![self.walkers.stats().packed()];
        packed.extend(self.audit.as_ref().map(Ensembles::stats));
        let values = ember_model::params::download(Tensor::cat(packed, 0));
        let (own, rest) = values.split_at(4);
        let summary = Summary::unpack(own);
        if !summary.finite {
            return Err(self.non_finite());
        }
        let log_z_online = self.walkers.log_z + summary.log_mean_exp;
        let threshold = self.config.resampling.ess_threshold;
        if let Some(scheme) = resampling
            && summary.ess < threshold * self.walkers.count() as f64
        {
            let stream = Stream::new(self.config.seed, Purpose::Resampling).at(self.step)?;
            let ancestors = resample(scheme, self.walkers.log_weights.value(), stream);
            self.walkers = self.walkers.clone().resampled(ancestors, summary.log_mean_exp);
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
        Ok((Some((summary, log_z_online)), estimate))
    }

    /// Reads and checks the health of the walkers, as `update` does at log steps: call before a checkpoint.
    ///
    /// # Errors
    /// As [`Trainer::update`].
    pub fn check(&self) -> Result<(), Error> {
        if !self.walkers.summary().finite {
            return Err(self.non_finite());
        }
        let theta = self.model.theta().iter().map(|t| reduce::sum(t.clone())).collect();
        let sums = ember_model::params::download(Tensor::cat(theta, 0));
        match sums.iter().position(|sum| !sum.is_finite()) {
            Some(i) => Err(Error::NonFinite {
                step: self.step,
                what: format!("parameter `{}`", self.model.params()[i].name),
                walkers: Vec::new(),
                count: 0,
            }),
            None => Ok(()),
        }
    }

    fn non_finite(&self) -> Error {
        let mut walkers = self.walkers.non_finite();
        let count = walkers.len();
        walkers.truncate(8);
        let what = "energy, gradient or log-weight of walkers".into();
        Error::NonFinite { step: self.step, what, walkers, count }
    }

    /// The walkers brought to the current θ: with weights where the objective carries them, without elsewhere.
    pub fn walkers_at_theta(&self) -> Walkers {
        let weighted = self.config.objective.as_dyn().carries_weights();
        walkers_at_theta(&self.model, self.walkers.clone(), weighted)
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
