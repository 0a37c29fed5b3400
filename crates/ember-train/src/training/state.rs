//! The training state as a checkpoint, and back: everything `resume` needs to go on bit for bit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use ember_model::{Energy, EnergyModel, HostTensor};
use ember_sampler::Banked;
use ember_sampler::evidence::{AUDIT_LANE, Ensembles};
use serde_json::json;

use crate::config::Config;
use crate::dataset::Data;
use crate::error::Error;
use crate::store::checkpoint::Checkpoint;
use crate::store::record::{
    EMA_PREFIX, PROPOSAL_PREFIX, contents, doubts, ema_model, environment, named_theta, proposal_flows,
    walkers, walkers_record, without_prefix,
};
use crate::training::ema::Ema;
use crate::training::objective::Fit;
use crate::training::trainer::{Assist, Trainer};

impl Trainer {
    /// The whole state. Reads every walker from the device.
    pub fn to_state(&self, device_label: &str) -> Checkpoint {
        let (mut optimizer, counters) = self.optimizer.state();
        optimizer.extend(self.ema_model().iter().flat_map(|model| named_theta(model, EMA_PREFIX)));
        let mut counters: BTreeMap<String, u64> = counters.into_iter().collect();
        let assist = self.assist.as_ref();
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
        if let Some(own) = &self.own {
            let (tensors, times) = own.state();
            optimizer.extend(tensors);
            counters.extend(times);
        }
        if let Some(fitted) = &self.fitted {
            let (tensors, times) = fitted.state();
            optimizer.extend(tensors);
            counters.extend(times);
        }
        let audit_log_z = self.audit.as_ref().map(|audit| audit.log_z.values());
        Checkpoint {
            step: self.step,
            seed: self.config.seed,
            model: self.model.export(),
            energy_config: self.model.spec().to_metadata(),
            theta: named_theta(&self.model, ""),
            optimizer,
            optimizer_counters: counters,
            walkers: Some(walkers_record(&self.walkers)),
            audit: self.audit.iter().map(|audit| walkers_record(&audit.walkers)).collect(),
            environment: environment(device_label),
            extra: json!({
                "config": self.config.to_toml(),
                "audit_log_z": audit_log_z,
                "flushes": self.flushes,
                "rollbacks": self.rollbacks,
                "doubts": self.doubts,
                "step_size": self.step_size,
                "rate_factor": self.rate_factor(),
                "proposal": assist.map(|assist| json!({
                    "flow": assist.flows[0].spec().to_metadata(),
                    "count": assist.flows.len(),
                    "accept_rate": assist.accept_rate,
                    "collapsed": assist.collapsed,
                })),
            }),
        }
    }

    /// The training state of a checkpoint.
    ///
    /// # Errors
    /// Weights or walkers of another architecture or size than the config's, naming both.
    pub fn from_state(
        config: Config,
        checkpoint: &Checkpoint,
        origin: &Path,
        device: &Device,
    ) -> Result<Self, Error> {
        let data = Arc::new(config.dataset.as_dyn().generate(config.seed)?);
        Self::from_state_on(config, data, checkpoint, origin, device)
    }

    /// [`Trainer::from_state`] on a data set that is already in memory.
    ///
    /// # Errors
    /// As [`Trainer::from_state`].
    pub fn from_state_on(
        config: Config,
        data: Arc<Data>,
        checkpoint: &Checkpoint,
        origin: &Path,
        device: &Device,
    ) -> Result<Self, Error> {
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
        let population = walkers(record, device);
        let audit = match (&config.audit, checkpoint.audit.first()) {
            (None, _) => None,
            (Some(_), None) => {
                return Err(wrong("the config has an [audit], the checkpoint has none".into()));
            }
            (Some(audit), Some(record)) => {
                if record.dim != model.dim() {
                    let (found, expected) = (record.dim, model.dim());
                    return Err(wrong(format!(
                        "its audit has {found} coordinates, the energy has {expected}"
                    )));
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
                let walkers = walkers(record, device);
                Some(Ensembles { walkers, log_z: Banked::new(log_z, device), lane: AUDIT_LANE })
            }
        };
        let mut trainer = Self::assemble(config, data, model, population, audit, checkpoint.step, device)?;
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
                let time =
                    |name: &str| checkpoint.optimizer_counters.get(&format!("{prefix}{name}")).copied();
                adam.load_state(&moments, time, device)?;
            }
            let extra = &checkpoint.extra["proposal"];
            assist.accept_rate = extra["accept_rate"].as_f64().unwrap_or(1.0);
            assist.collapsed = extra["collapsed"].as_bool().unwrap_or(false);
            trainer.assist = Some(assist);
        }
        trainer.load_loss(checkpoint, origin)?;
        trainer.load_own(checkpoint, origin)?;
        trainer.step_size = checkpoint.extra["step_size"].as_f64();
        match &checkpoint.extra["rate_factor"] {
            serde_json::Value::Null => {}
            found => match found.as_f64().filter(|factor| factor.is_finite() && *factor > 0.0) {
                Some(factor) => trainer.set_rate_factor(factor),
                None => {
                    return Err(wrong(format!("state.json: rate_factor is {found}, expected a number > 0")));
                }
            },
        }
        let count = |name: &str| checkpoint.extra[name].as_u64().unwrap_or(0);
        trainer.flushes = count("flushes");
        trainer.roll_back_to(count("rollbacks") as u32);
        trainer.doubts = doubts(&checkpoint.extra);
        Ok(trainer)
    }
}
