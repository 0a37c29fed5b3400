//! The training state as a checkpoint, and back: everything `resume` needs to go on bit for bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::{Energy, EnergyModel, EnergySpec, HostTensor};
use ember_sampler::kernel::Mala;
use ember_sampler::weights::LogWeights;
use ember_sampler::{Banked, Boundary, Counter, FlowProposal, Kernel, KernelConfig, Proposals, Walkers};
use serde_json::{Value, json};

use crate::config::Config;
use crate::dataset::Data;
use crate::ensembles::{AUDIT_LANE, Ensembles};
use crate::error::Error;
use crate::store::checkpoint::{self, Checkpoint, Environment, Source, WalkersRecord};
use crate::store::tensor_file::TensorFile;
use crate::training::ema::Ema;
use crate::training::objective::Fit;
use crate::training::start::exact_draws;
use crate::training::trainer::{Assist, Trainer, moves};

mod contents;
pub use contents::check_config;

/// Names in an exported weight file that hold walkers, not parameters, begin with this.
pub const WALKERS_PREFIX: &str = "walkers.";

/// Names in the optimiser's file that hold the moving average of θ begin with this.
const EMA_PREFIX: &str = "ema.";

/// Names in the optimiser's file that hold a proposal flow and what moves it begin with this and the flow's number.
const PROPOSAL_PREFIX: &str = "proposal.";

/// The whole state. Reads every walker from the device.
pub fn checkpoint(trainer: &Trainer, device_label: &str) -> Checkpoint {
    let (mut optimizer, counters) = trainer.optimizer.state();
    optimizer.extend(trainer.ema_model().iter().flat_map(|model| named_theta(model, EMA_PREFIX)));
    let mut counters: BTreeMap<String, u64> = counters.into_iter().collect();
    let assist = trainer.assist.as_ref();
    for (k, (flow, adam)) in
        assist.iter().flat_map(|assist| assist.flows.iter().zip(&assist.optimizers)).enumerate()
    {
        let prefix = format!("{PROPOSAL_PREFIX}{k}.");
        let (moments, times) = adam.state();
        optimizer.extend(named_theta(flow, &format!("{prefix}flow.")));
        optimizer
            .extend(moments.into_iter().map(|t| HostTensor { name: format!("{prefix}{}", t.name), ..t }));
        counters.extend(times.into_iter().map(|(name, time)| (format!("{prefix}{name}"), time)));
    }
    let audit_log_z = trainer.audit.as_ref().map(|audit| audit.log_z.values());
    Checkpoint {
        step: trainer.step,
        seed: trainer.config.seed,
        model: trainer.model.export(),
        energy_config: trainer.model.spec().to_metadata(),
        theta: named_theta(&trainer.model, ""),
        optimizer,
        optimizer_counters: counters,
        walkers: Some(walkers_record(&trainer.walkers)),
        audit: trainer.audit.iter().map(|audit| walkers_record(&audit.walkers)).collect(),
        environment: environment(device_label),
        extra: json!({
            "config": trainer.config.to_toml(),
            "audit_log_z": audit_log_z,
            "flushes": trainer.flushes,
            "rollbacks": trainer.rollbacks,
            "doubts": trainer.doubts,
            "step_size": trainer.step_size,
            "proposal": assist.map(|assist| json!({
                "flow": assist.flows[0].spec().to_metadata(),
                "count": assist.flows.len(),
                "accept_rate": assist.accept_rate,
                "collapsed": assist.collapsed,
            })),
        }),
    }
}

/// What this process runs on.
pub fn environment(device_label: &str) -> Environment {
    Environment {
        ember_version: env!("CARGO_PKG_VERSION").to_owned(),
        device: device_label.to_owned(),
        threads: rayon::current_num_threads(),
    }
}

/// The training state of a checkpoint.
///
/// # Errors
/// Weights or walkers of another architecture or size than the config's, naming both.
pub fn trainer(
    config: Config,
    checkpoint: &Checkpoint,
    origin: &Path,
    device: &Device,
) -> Result<Trainer, Error> {
    let data = Arc::new(config.dataset.as_dyn().generate(config.seed)?);
    trainer_on(config, data, checkpoint, origin, device)
}

/// [`trainer`] on a data set that is already in memory.
///
/// # Errors
/// As [`trainer`].
pub fn trainer_on(
    config: Config,
    data: Arc<Data>,
    checkpoint: &Checkpoint,
    origin: &Path,
    device: &Device,
) -> Result<Trainer, Error> {
    let wrong = |message: String| Error::checkpoint(origin, message);
    contents::check(checkpoint, origin)?;
    let model = EnergyModel::from_tensors(config.energy_spec(), checkpoint.theta.clone(), device)
        .map_err(|error| wrong(format!("does not fit the run's config.toml: {error}")))?;
    let record = checkpoint.walkers.as_ref().ok_or_else(|| wrong("it holds no walkers".into()))?;
    if (record.count, record.dim) != (config.walkers.count, model.dim()) {
        return Err(wrong(format!(
            "its walkers are [{}, {}], the run's config.toml asks for [{}, {}]",
            record.count,
            record.dim,
            config.walkers.count,
            model.dim()
        )));
    }
    let walkers = walkers(record, device);
    let audit = match (&config.audit, checkpoint.audit.first()) {
        (None, _) => None,
        (Some(_), None) => return Err(wrong("the config has an [audit], the checkpoint has none".into())),
        (Some(audit), Some(record)) => {
            if record.dim != model.dim() {
                let (found, expected) = (record.dim, model.dim());
                return Err(wrong(format!("its audit has {found} coordinates, the energy has {expected}")));
            }
            let log_z = contents::audit_log_z(&checkpoint.extra, origin)?;
            if log_z.len() != audit.repeats || record.count != audit.repeats * audit.walkers {
                return Err(wrong(format!(
                    "its audit holds {} walkers in {} repeats, the config asks for {} × {}",
                    record.count,
                    log_z.len(),
                    audit.repeats,
                    audit.walkers
                )));
            }
            let walkers = self::walkers(record, device);
            Some(Ensembles { walkers, log_z: Banked::new(log_z, device), lane: AUDIT_LANE })
        }
    };
    let mut trainer = Trainer::assemble(config, data, model, walkers, audit, checkpoint.step, device)?;
    let counter = |name: &str| checkpoint.optimizer_counters.get(name).copied();
    trainer.optimizer.load_state(&checkpoint.optimizer, counter, device)?;
    if let Some(ema) = &mut trainer.ema {
        let average = ema_model(&trainer.model, &checkpoint.optimizer)?
            .ok_or_else(|| wrong("the config asks for an ema, the checkpoint has none".into()))?;
        *ema = Ema::new(ema.decay, &average);
    }
    if let Some(assisted) = trainer.config.objective.as_dyn().assisted() {
        let flows = proposal_flows(checkpoint, origin, device)?;
        if flows.len() != if assisted.fit == Fit::Cross { 2 } else { 1 } {
            let found = flows.len();
            return Err(wrong(format!(
                "it holds {found} proposal flows, which is not what objective.fit asks for"
            )));
        }
        let mut assist = Assist::assemble(assisted, flows);
        for (k, adam) in assist.optimizers.iter_mut().enumerate() {
            let prefix = format!("{PROPOSAL_PREFIX}{k}.");
            let moments = without_prefix(&checkpoint.optimizer, &prefix);
            let time = |name: &str| checkpoint.optimizer_counters.get(&format!("{prefix}{name}")).copied();
            adam.load_state(&moments, time, device)?;
        }
        let extra = &checkpoint.extra["proposal"];
        assist.accept_rate = extra["accept_rate"].as_f64().unwrap_or(1.0);
        assist.collapsed = extra["collapsed"].as_bool().unwrap_or(false);
        trainer.assist = Some(assist);
    }
    trainer.step_size = checkpoint.extra["step_size"].as_f64();
    let count = |name: &str| checkpoint.extra[name].as_u64().unwrap_or(0);
    trainer.flushes = count("flushes");
    trainer.roll_back_to(count("rollbacks") as u32);
    trainer.doubts = doubts(&checkpoint.extra);
    Ok(trainer)
}

/// Why the run's end is doubtful, as its last checkpoint has it.
fn doubts(extra: &Value) -> Vec<String> {
    serde_json::from_value(extra["doubts"].clone()).unwrap_or_default()
}

/// θ as it is trained (a weight file may hold a normalised form).
fn named_theta(model: &EnergyModel, prefix: &str) -> Vec<HostTensor> {
    let tensor = |(spec, values): (ember_model::ParamSpec, Vec<f32>)| HostTensor {
        name: format!("{prefix}{}", spec.name),
        shape: spec.shape,
        values,
    };
    model.params().into_iter().zip(model.host_theta()).map(tensor).collect()
}

/// The tensors whose names begin with `prefix`, without it.
fn without_prefix(tensors: &[HostTensor], prefix: &str) -> Vec<HostTensor> {
    let own = |tensor: &HostTensor| {
        let name = tensor.name.strip_prefix(prefix)?.to_owned();
        Some(HostTensor { name, ..tensor.clone() })
    };
    tensors.iter().filter_map(own).collect()
}

/// The proposal flows of a checkpoint; none where its run has none.
fn proposal_flows(
    checkpoint: &Checkpoint,
    origin: &Path,
    device: &Device,
) -> Result<Vec<EnergyModel>, Error> {
    let extra = &checkpoint.extra["proposal"];
    let (Some(table), Some(count)) = (extra["flow"].as_str(), extra["count"].as_u64()) else {
        return Ok(Vec::new());
    };
    let spec = EnergySpec::from_metadata(table)?;
    let wrong = |message: String| Error::checkpoint(origin, format!("state.json: proposal: {message}"));
    if !(1..=2).contains(&count) {
        return Err(wrong(format!("count = {count} found, expected 1 or 2 flows")));
    }
    let dim = EnergySpec::from_metadata(&checkpoint.energy_config)?.shape.dim();
    if spec.shape.dim() != dim {
        let found = spec.shape.dim();
        return Err(wrong(format!("a flow on {found} coordinates found, expected the {dim} of the energy")));
    }
    let flow = |k| {
        let tensors = without_prefix(&checkpoint.optimizer, &format!("{PROPOSAL_PREFIX}{k}.flow."));
        let flow = EnergyModel::from_tensors(spec.clone(), tensors, device)?;
        match flow.flow() {
            Some(_) => Ok(flow),
            None => Err(wrong(format!("a {} found, expected a flow", spec.energy.kind()))),
        }
    };
    (0..count).map(flow).collect()
}

/// The model at the moving average of θ that lies among the optimiser's tensors; `None` where there is none.
fn ema_model(model: &EnergyModel, optimizer: &[HostTensor]) -> Result<Option<EnergyModel>, Error> {
    let tensors = without_prefix(optimizer, EMA_PREFIX);
    if tensors.is_empty() {
        return Ok(None);
    }
    Ok(Some(EnergyModel::from_tensors(model.spec().clone(), tensors, model.device())?))
}

/// Walkers in host memory.
pub fn walkers_record(walkers: &Walkers) -> WalkersRecord {
    WalkersRecord {
        position: download(walkers.position.clone()),
        energy: download(walkers.energy.clone()),
        energy_grad: download(walkers.energy_grad.clone()),
        log_weights: download(walkers.log_weights.value()),
        log_weights_compensation: download(walkers.log_weights.compensation()),
        ancestor: walkers.ancestor.clone().into_data().iter::<i64>().collect(),
        count: walkers.count(),
        dim: walkers.dim(),
        log_z: walkers.log_z.value(),
        resamplings: walkers.resamplings.read(),
    }
}

/// Walkers on the device.
pub fn walkers(record: &WalkersRecord, device: &Device) -> Walkers {
    let (n, d) = (record.count, record.dim);
    let rows = |values: &Vec<f32>| Tensor::from_data(TensorData::new(values.clone(), [n, d]), device);
    let ancestor: Vec<i32> = record.ancestor.iter().map(|&i| i as i32).collect();
    Walkers {
        position: rows(&record.position),
        energy: upload(record.energy.clone(), device),
        energy_grad: rows(&record.energy_grad),
        log_weights: LogWeights::from_parts(
            upload(record.log_weights.clone(), device),
            upload(record.log_weights_compensation.clone(), device),
        ),
        ancestor: Tensor::from_data(TensorData::new(ancestor, [n]), device),
        log_z: Banked::new(vec![record.log_z], device),
        resamplings: Counter::new(record.resamplings, device),
    }
}

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
                "no moving average of the weights in it: the config needs optimizer.ema, such as 0.999";
            return Err(Error::checkpoint(origin, message));
        };
        // Walkers that are exact draws are drawn anew. The audit followed θ, not its average.
        let walkers = match (&self.walkers, &self.config) {
            (Some(walkers), Some(config)) if self.walkers_are_draws() => {
                Some(exact_draws(&model, walkers.count(), config.seed, self.step)?)
            }
            (walkers, _) => walkers.clone(),
        };
        Ok(Self { model, walkers, ema: None, audit: None, ..self })
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
    /// walls.
    pub fn kernel_config(&self) -> KernelConfig {
        if let Some(config) = &self.config {
            return config.kernel.kernel.clone();
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
        moves::ready(&self.kernel_config(), self.step_size, self.proposals().as_ref())
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
