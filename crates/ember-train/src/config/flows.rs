//! What a config says about flows: a base from a checkpoint, flows to be fitted before the run, and how flows, kernels and
//! objectives go together.

use std::path::Path;

use burn::tensor::Device;
use ember_model::{EnergyConfig, SampleShape};
use ember_sampler::WeightRule;
use toml::Value;

use super::document::Document;
use super::validate::{at_least_one, energy_error, fail, positive};
use super::{Config, PretrainConfig};
use crate::error::Error;
use crate::store::opened;
use crate::training::objective::NoiseFlow;

impl Document {
    /// Puts flows' own tables in the place of paths, as in `base = "runs/moons_realnvp-seed0"`, and notes the paths.
    ///
    /// # Errors
    /// Nothing that can be opened there, something else than a flow, or a flow on samples of another shape.
    pub(super) fn resolve_flows(&mut self, shape: SampleShape) -> Result<(), Error> {
        self.resolve_flow(["energy", "tilted", "base"], shape, ", as the tilt")?;
        self.resolve_flow(["objective", "noise_contrastive", "flow"], shape, "")
    }

    fn resolve_flow(
        &mut self,
        [section, kind, key]: [&str; 3],
        shape: SampleShape,
        too: &str,
    ) -> Result<(), Error> {
        let Some(path) = self.path_of_flow(section, kind, key) else { return Ok(()) };
        let wrong = |document: &Self, message: String| document.error(section, key, message);
        let subject = opened::open(Path::new(&path), &Device::flex())
            .map_err(|error| wrong(self, format!("\"{path}\" was to hold a flow: {error}")))?;
        let spec = subject.model.spec();
        if subject.model.flow().is_none() {
            let message = format!("\"{path}\" holds a {}, expected a flow", spec.energy.kind());
            return Err(wrong(self, message));
        }
        if spec.shape != shape {
            let message = format!(
                "\"{path}\" is a flow on samples of shape {}, and the data set has shape {shape}{too}",
                spec.shape
            );
            return Err(wrong(self, message));
        }
        let table = Value::try_from(&spec.energy)
            .map_err(|error| wrong(self, format!("\"{path}\": its table cannot be written: {error}")))?;
        self.set_flow(section, key, table, path);
        Ok(())
    }
}

impl Config {
    /// Fills in `[pretrain]` where the run has a flow to fit and the config says nothing.
    pub(super) fn resolve_pretrain(&mut self) {
        if self.needs_pretraining() && self.pretrain.is_none() {
            self.pretrain = Some(PretrainConfig::default());
        }
    }

    /// How a flow is fitted before the run.
    pub fn pretraining(&self) -> PretrainConfig {
        self.pretrain.clone().unwrap_or_default()
    }

    /// Whether the base of the energy is to be fitted to the data before the run.
    pub fn pretrains_base(&self) -> bool {
        self.energy.tilted().is_some_and(|tilted| tilted.base_from.is_none())
    }

    /// The flow that the objective draws noise from, where there is one.
    pub fn noise_flow(&self) -> Option<NoiseFlow<'_>> {
        self.objective.as_dyn().data_loss()?.noise_flow()
    }

    fn needs_pretraining(&self) -> bool {
        let assisted = self.objective.as_dyn().assisted();
        let noise = self.noise_flow().is_some_and(|noise| noise.from.is_none());
        self.pretrains_base() || noise || assisted.is_some_and(|assisted| assisted.proposal.is_some())
    }

    /// Whether the start takes more than config and data give at once: a flow or parts of other runs, or a flow fitted first.
    pub fn starts_from_elsewhere(&self) -> bool {
        self.energy.tilted().is_some()
            || self.energy.has_trained_parts()
            || self.noise_flow().is_some()
            || self.needs_pretraining()
    }

    /// How flows, kernels and objectives go together.
    pub(super) fn check_flows(&self) -> Result<(), Error> {
        self.check_assisted()?;
        if let Some(noise) = self.noise_flow() {
            self.check_flow_table("flow", noise.table)?;
        }
        self.check_pretrain()?;
        self.check_target_accept_rate()
    }

    fn check_assisted(&self) -> Result<(), Error> {
        let kernel = self.kernel.kernel.as_dyn();
        let is_conditioned = self.kernel.temperature != 1.0;
        let has_base = self.energy.tilted().is_some() || self.is_flow()?;
        let Some(assisted) = self.objective.as_dyn().assisted() else {
            if kernel.needs_proposals() && (!has_base || is_conditioned) {
                let message = "this kernel proposes from a flow: take a tilted energy at temperature 1 (its base proposes), or \
                               objective \"flow_assisted\" (a flow fitted to the walkers does)";
                return fail("kernel", "kind", message.to_owned());
            }
            return Ok(());
        };
        if !kernel.needs_proposals() {
            let message = "objective \"flow_assisted\" needs a kernel that takes a flow's proposals: \"flow_mh\", \"i_sir\", \
                           \"ex2mcmc\" or \"neutra\"";
            return fail("kernel", "kind", message.to_owned());
        }
        if self.walkers.moved_per_update.is_some() {
            let message = "objective \"flow_assisted\" moves all walkers in every update: leave this key out";
            return fail("walkers", "moved_per_update", message.to_owned());
        }
        match assisted.proposal {
            None if !has_base || is_conditioned => {
                let message = "missing: the flow that proposes, such as { kind = \"real_nvp\", layers = 6, hidden = [64, 64] }; only a \
                               tilted energy at temperature 1 has one to copy, its base";
                return fail("objective", "proposal", message.to_owned());
            }
            None => {}
            Some(table) => self.check_flow_table("proposal", table)?,
        }
        positive("objective", "proposal_learning_rate", assisted.learning_rate)?;
        at_least_one("objective", "proposal_batch_size", assisted.batch_size as u64)?;
        if self.walkers.count < 2 {
            return fail(
                "walkers",
                "count",
                format!("found {}, expected at least 2: two halves", self.walkers.count),
            );
        }
        let floor = assisted.accept_floor;
        if !(0.0..1.0).contains(&floor) {
            return fail(
                "objective",
                "accept_floor",
                format!("found {floor}, expected a fraction in [0, 1)"),
            );
        }
        Ok(())
    }

    /// The table at `key` of the objective is that of a flow on the data's samples.
    fn check_flow_table(&self, key: &str, table: &EnergyConfig) -> Result<(), Error> {
        let built = table.build(self.dataset.as_dyn().shape());
        let flow = built.map_err(|error| match energy_error(error) {
            Error::Config { key: inner, message, .. } => {
                Error::config("config", "objective", format!("{key}.{inner}"), message)
            }
            other => other,
        })?;
        if flow.flow().is_none() {
            let message = format!(
                "a {} found, expected a flow: \"real_nvp\", \"spline_flow\" or \"multiscale_real_nvp\"",
                table.kind()
            );
            return fail("objective", key, message);
        }
        Ok(())
    }

    fn is_flow(&self) -> Result<bool, Error> {
        let energy = self.energy.build(self.dataset.as_dyn().shape()).map_err(energy_error)?;
        Ok(energy.flow().is_some())
    }

    fn check_pretrain(&self) -> Result<(), Error> {
        let Some(pretrain) = &self.pretrain else { return Ok(()) };
        if !self.needs_pretraining() {
            let message = "there is no flow to fit before the run: [pretrain] belongs to the base of a tilted energy that comes from no \
                           checkpoint, to objective.proposal, and to an objective.flow that is a table";
            return fail("pretrain", "", message.to_owned());
        }
        at_least_one("pretrain", "steps", pretrain.steps)?;
        at_least_one("pretrain", "batch_size", pretrain.batch_size as u64)?;
        positive("pretrain", "learning_rate", pretrain.learning_rate)
    }

    fn check_target_accept_rate(&self) -> Result<(), Error> {
        let Some(target) = self.kernel.target_accept_rate else { return Ok(()) };
        let kernel = self.kernel.kernel.as_dyn();
        if kernel.weight_rule() == WeightRule::TransitionDensity || kernel.step_size().is_none() {
            let message =
                "this kernel has no local moves that could be rejected: there is no step size to adapt";
            return fail("kernel", "target_accept_rate", message.to_owned());
        }
        if !(target > 0.0 && target < 1.0) {
            let message = format!("found {target}, expected a fraction between 0 and 1");
            return fail("kernel", "target_accept_rate", message);
        }
        if self.objective.as_dyn().carries_weights() && !self.has_exact_start() {
            let (energy, remedy) = self.undrawn();
            let message = format!(
                "with weights the step size is set before the run, on exact draws of the starting model, and {energy} has none: \
                 {remedy}, or leave this key out"
            );
            return fail("kernel", "target_accept_rate", message);
        }
        Ok(())
    }
}
