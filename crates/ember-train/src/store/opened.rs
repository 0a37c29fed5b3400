//! A model to sample or to judge, with whatever came with it: from a run, a checkpoint or a weight file.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::upload;
use ember_model::{Energy, EnergyModel, EnergySpec, HostTensor};
use ember_sampler::evidence::{AUDIT_LANE, Ensembles};
use ember_sampler::kernel::{self, Gibbs, Mala};
use ember_sampler::weights::LogWeights;
use ember_sampler::{Banked, Boundary, FlowProposal, Kernel, KernelConfig, Proposals, Walkers, exact_draws};
use serde_json::Value;

use crate::config::Config;
use crate::error::Error;
use crate::store::checkpoint::{self, Checkpoint, Source, WalkersRecord};
use crate::store::record::{
    WALKERS_PREFIX, contents, doubts, ema_model, own_numbers, proposal_flows, walkers,
};
use crate::store::tensor_file::TensorFile;

/// A model found under a PATH argument, with whatever came with it.
pub struct Opened {
    /// The model.
    pub model: EnergyModel,
    /// The model at the moving average of θ, where the run keeps one.
    pub ema: Option<EnergyModel>,
    /// Updates the model has seen, where that is recorded.
    pub step: u64,
    /// The run's config, where it is known.
    pub config: Option<Config>,
    /// The training walkers, cached at the θ of the last update.
    pub walkers: Option<Walkers>,
    /// The audit ensemble.
    pub audit: Option<Ensembles>,
    /// The flows that propose global moves, where the run trains them.
    pub proposal_flows: Vec<EnergyModel>,
    /// h of the kernel, where the run adapted it.
    pub step_size: Option<f64>,
    /// The numbers that the run's objective trains beside the energy; none where it has none.
    pub own_numbers: Vec<f32>,
    /// Why the run's end is doubtful, where it is.
    pub doubts: Vec<String>,
    /// The run folder, where there is one.
    pub run: Option<PathBuf>,
}

impl Opened {
    /// The same with its averaged θ in the place of θ; the walkers stay cached where they were.
    ///
    /// # Errors
    /// A run without an average.
    pub fn averaged(self, origin: &Path) -> Result<Self, Error> {
        let Some(model) = self.ema.clone() else {
            let message =
                "it has no moving average of the parameters: the config needs optimizer.ema, such as 0.999";
            return Err(Error::checkpoint(origin, message));
        };
        // Walkers that are exact draws are drawn anew. The audit and the objective's own numbers followed θ, not its average.
        let walkers = match (&self.walkers, &self.config) {
            (Some(walkers), Some(config)) if self.walkers_are_draws() => {
                Some(exact_draws(&model, walkers.count(), config.seed, self.step)?)
            }
            (walkers, _) => walkers.clone(),
        };
        Ok(Self { model, walkers, ema: None, audit: None, own_numbers: Vec::new(), ..self })
    }

    /// The same at the noise level `level` of its energy, 1 the smallest. Above that without what the run knows of the smallest alone: walkers,
    /// audit, proposal flows, the objective's own numbers, doubts.
    ///
    /// # Errors
    /// No such level, or one that the run's objective does not train.
    pub fn at_level(self, level: usize) -> Result<Self, Error> {
        let refused = |why: String| Err(Error::usage(format!("--level {level}: {why}")));
        let Some(levels) = self.model.levels() else {
            return refused("the energy knows no noise levels (energy.levels): leave --level out".to_owned());
        };
        let Some(model) = self.model.at_level(level) else {
            return refused(format!("the energy has {levels}: give 1 (the smallest) to {}", levels.count()));
        };
        if level == 1 {
            return Ok(self);
        }
        if self.config.is_none() {
            tracing::warn!("--level {level}: a weight file does not say whether its levels were trained");
        }
        if let Some(config) = &self.config {
            let objective = &config.objective;
            if !objective.as_dyn().data_loss().is_some_and(|loss| loss.trains_levels()) {
                let kind = objective.kind();
                return refused(format!(
                    "the run's objective \"{kind}\" trained the energy at level 1 alone: leave --level out"
                ));
            }
        }
        Ok(Self {
            model,
            ema: None,
            walkers: None,
            audit: None,
            proposal_flows: Vec::new(),
            own_numbers: Vec::new(),
            doubts: Vec::new(),
            ..self
        })
    }

    /// log Z as the run's objective learned it beside the energy: a parameter of the objective, not an estimate by sampling.
    pub fn log_z_learned(&self) -> Option<f64> {
        let loss = self.config.as_ref()?.objective.as_dyn().data_loss()?;
        self.own_numbers.get(loss.learned_log_z()?).map(|&value| f64::from(value))
    }

    /// The flows the run's kernel proposes from: those it trains, else the energy's own.
    pub fn proposals(&self) -> Option<Proposals> {
        let flows: Option<Vec<FlowProposal>> = self.proposal_flows.iter().map(FlowProposal::of).collect();
        match flows.filter(|flows| !flows.is_empty()) {
            Some(flows) => Some(Proposals::blocks(flows)),
            None => FlowProposal::of(&self.model).map(Proposals::one),
        }
    }

    /// The run's kernel. A weight file names none: MALA then, which leaves the model invariant at any step size, given the model's own
    /// walls; of a law of bits block Gibbs.
    pub fn kernel_config(&self) -> KernelConfig {
        if let Some(config) = &self.config {
            return config.kernel.kernel.clone();
        }
        if self.model.is_discrete() {
            return KernelConfig::Gibbs(Gibbs {});
        }
        let boundary = Boundary::of(self.model.spec().support);
        let step_size = 0.5 / (self.model.dim() as f64).cbrt();
        KernelConfig::Mala(Mala { boundary, ..Mala::new(step_size) })
    }

    /// [`Opened::kernel_config`] ready to move walkers: with its flows, at the step size the run had come to.
    ///
    /// # Errors
    /// A kernel that proposes from flows, and none.
    pub fn kernel(&self) -> Result<Box<dyn Kernel>, Error> {
        Ok(kernel::ready(&self.kernel_config(), self.step_size, self.proposals().as_ref())?)
    }

    /// Whether the walkers are exact draws of the model at its θ: the run's objective has no negative phase.
    pub fn walkers_are_draws(&self) -> bool {
        self.config.as_ref().is_some_and(|config| !config.objective.as_dyn().has_negative_phase())
    }

    /// Whether the walkers' log-weights count: always, unless the run's objective carries none.
    pub fn is_weighted(&self) -> bool {
        self.config.as_ref().is_none_or(|config| config.objective.as_dyn().carries_weights())
    }
}

/// Opens a run folder, a checkpoint folder or a weight file.
///
/// # Errors
/// Nothing of the kind at `path`, or damaged files.
pub fn open(path: &Path, device: &Device) -> Result<Opened, Error> {
    match Source::open(path)? {
        Source::Run { dir, .. } => {
            let (origin, found) = checkpoint::newest_intact(&dir)?;
            opened(found, &origin, Some(dir), device)
        }
        Source::Checkpoint { dir } => {
            let run = dir.parent().and_then(Path::parent);
            let run = run.filter(|run| run.join("config.toml").is_file()).map(Path::to_path_buf);
            opened(checkpoint::load(&dir)?, &dir, run, device)
        }
        Source::WeightFile { path } => weight_file(&path, device),
    }
}

fn opened(found: Checkpoint, origin: &Path, run: Option<PathBuf>, device: &Device) -> Result<Opened, Error> {
    contents::check(&found, origin)?;
    let spec = EnergySpec::from_metadata(&found.energy_config)?;
    let config = match &found.extra["config"] {
        Value::String(text) => Some(Config::from_toml(text, &format!("{}/state.json", origin.display()))?),
        _ => None,
    };
    let proposal_flows = proposal_flows(&found, origin, device)?;
    let own_numbers = own_numbers(&found);
    let precision = config.as_ref().map_or(spec.precision, |config| config.precision);
    let model = EnergyModel::from_tensors(EnergySpec { precision, ..spec }, found.theta, device)?;
    let ema = ema_model(&model, &found.optimizer)?;
    let audit = match found.audit.first() {
        None => None,
        Some(record) => {
            let log_z = Banked::new(contents::audit_log_z(&found.extra, origin)?, device);
            Some(Ensembles { walkers: walkers(record, device), log_z, lane: AUDIT_LANE })
        }
    };
    let fits = |record: &WalkersRecord| record.dim == model.dim();
    if !found.walkers.iter().chain(&found.audit).all(fits) {
        let message = format!("its walkers have not the {} coordinates of its energy", model.dim());
        return Err(Error::checkpoint(origin, message));
    }
    Ok(Opened {
        proposal_flows,
        step_size: found.extra["step_size"].as_f64(),
        own_numbers,
        doubts: doubts(&found.extra),
        model,
        ema,
        step: found.step,
        config,
        walkers: found.walkers.as_ref().map(|record| walkers(record, device)),
        audit,
        run,
    })
}

fn weight_file(path: &Path, device: &Device) -> Result<Opened, Error> {
    let file = TensorFile::read(path)?;
    let config = file.metadata.get("ember.config").ok_or_else(|| {
        Error::checkpoint(
            path,
            "no metadata `ember.config`: it must hold the energy's TOML table with `dim` or `shape = [c, h, w]`",
        )
    })?;
    let spec =
        EnergySpec::from_metadata(config).map_err(|error| Error::checkpoint(path, error.to_string()))?;
    let step = file.metadata.get("ember.step").and_then(|step| step.parse().ok()).unwrap_or(0);
    let tensors = file.into_host_tensors(path)?;
    tensors.iter().try_for_each(|tensor| contents::check_tensor(tensor, path))?;
    let (carried, weights): (Vec<_>, Vec<_>) =
        tensors.into_iter().partition(|tensor| tensor.name.starts_with(WALKERS_PREFIX));
    let model = EnergyModel::from_tensors(spec, weights, device)
        .map_err(|error| Error::checkpoint(path, error.to_string()))?;
    let walkers = carried_walkers(carried, &model, path)?;
    Ok(Opened {
        model,
        ema: None,
        step,
        config: None,
        walkers,
        audit: None,
        proposal_flows: Vec::new(),
        step_size: None,
        own_numbers: Vec::new(),
        doubts: Vec::new(),
        run: None,
    })
}

/// The walkers of `ember export --walkers`: `walkers.position` `[N, d]` and `walkers.log_weights` `[N]`.
fn carried_walkers(
    tensors: Vec<HostTensor>,
    model: &EnergyModel,
    path: &Path,
) -> Result<Option<Walkers>, Error> {
    let find = |name: &str| tensors.iter().find(|tensor| tensor.name == format!("{WALKERS_PREFIX}{name}"));
    let Some(position) = find("position") else { return Ok(None) };
    let &[n, d] = position.shape.as_slice() else {
        let message =
            format!("`walkers.position` has shape {:?}, expected [N, {}]", position.shape, model.dim());
        return Err(Error::checkpoint(path, message));
    };
    if d != model.dim() || n == 0 {
        let message = format!(
            "`walkers.position` has shape [{n}, {d}], expected [N, {}] with at least one walker",
            model.dim()
        );
        return Err(Error::checkpoint(path, message));
    }
    let position = Tensor::from_data(TensorData::new(position.values.clone(), [n, d]), model.device());
    let mut walkers = Walkers::new(model, position, f64::NAN);
    if let Some(log_weights) = find("log_weights") {
        if log_weights.shape != [n] {
            let message = format!("`walkers.log_weights` has shape {:?}, expected [{n}]", log_weights.shape);
            return Err(Error::checkpoint(path, message));
        }
        let value = upload(log_weights.values.clone(), model.device());
        walkers.log_weights = LogWeights::from_parts(value.clone(), value.zeros_like());
    }
    Ok(Some(walkers))
}
