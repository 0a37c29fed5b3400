//! Every check that a type cannot make: ranges, sizes, and how the tables go together.

use ember_model::registry::too_large;
use ember_model::{EnergySpec, MOST_NUMBERS, ModelError, Support};
use ember_sampler::kernel::BadValue;
use toml::Value;

use super::{Config, Schedule, WalkerInit};
use crate::error::Error;

/// The largest size inside an energy's table, and the most elements of a tensor: device code indexes with 32 bits.
const MAX_ELEMENTS: u64 = MOST_NUMBERS as u64;

impl Config {
    /// Checks every value and how the tables go together.
    ///
    /// # Errors
    /// The first bad value, as [`Error::Config`].
    pub fn validate(&self) -> Result<(), Error> {
        self.check_run()?;
        self.dataset.as_dyn().validate()?;
        self.check_energy()?;
        self.check_base()?;
        self.check_discrete()?;
        self.check_data_alone()?;
        self.check_data_loss()?;
        self.check_walkers()?;
        self.check_step_loss()?;
        self.check_flows()?;
        self.check_optimizer()?;
        self.check_start()?;
        self.check_watchdog()?;
        self.check_audit()
    }

    fn check_run(&self) -> Result<(), Error> {
        if self.seed > i64::MAX as u64 {
            return fail("", "seed", format!("found {}, expected at most {}", self.seed, i64::MAX));
        }
        at_least_one("", "steps", self.steps)?;
        self.check_precision()?;
        let l2 = self.objective.as_dyn().energy_l2();
        if !l2.is_finite() || l2 < 0.0 {
            return fail("objective", "energy_l2", format!("found {l2}, expected a finite number ≥ 0"));
        }
        let checked = self.objective.as_dyn().check();
        checked.or_else(|BadValue { key, message }| fail("objective", key, message))
    }

    fn check_precision(&self) -> Result<(), Error> {
        if self.precision.is_f32() || self.energy.has_precisions() {
            return Ok(());
        }
        let message = format!(
            "found \"{}\", which is for the matrix products of an mlp: a {} computes in f32, leave this out",
            self.precision,
            self.energy.kind()
        );
        fail("", "precision", message)
    }

    fn check_energy(&self) -> Result<(), Error> {
        check_sizes(&self.energy_spec())
    }

    /// A base, Gaussian or a flow, is the start on all of `ℝ^d` at temperature 1 only.
    fn check_base(&self) -> Result<(), Error> {
        let energy = self.energy.build(self.dataset.as_dyn().shape()).map_err(energy_error)?;
        let base = match energy.tilt_and_base() {
            Some(_) => "a flow as base",
            None if energy.has_gaussian_base() => "a Gaussian base",
            None => return Ok(()),
        };
        if self.kernel.temperature != 1.0 || self.energy_spec().support != Support::Unbounded {
            let message = format!("{base} needs kernel.temperature = 1 and no kernel.boundary");
            return fail("energy", "base", message);
        }
        Ok(())
    }

    /// Without a negative phase log Z must be constant in θ, and what belongs to moving walkers has no meaning.
    fn check_data_alone(&self) -> Result<(), Error> {
        if self.objective.as_dyn().has_negative_phase() {
            return Ok(());
        }
        let kind = self.objective.kind();
        let energy = self.energy.build(self.dataset.as_dyn().shape()).map_err(energy_error)?;
        if energy.flow().is_none() {
            let message = format!(
                "\"{kind}\" needs an energy whose log Z does not move with θ, a flow, and a {} is none: take a flow \
                 (\"real_nvp\", \"spline_flow\", \"multiscale_real_nvp\"), or \"jarzynski\", whose walkers follow log Z",
                self.energy.kind()
            );
            return fail("objective", "kind", message);
        }
        if self.kernel.temperature != 1.0 {
            let message = format!("\"{kind}\" needs 1: at another temperature log Z moves with θ");
            return fail("kernel", "temperature", message);
        }
        if self.energy_spec().support != Support::Unbounded {
            let message = format!("\"{kind}\" needs all of space: on the cube log Z moves with θ");
            return fail("kernel", "boundary", message);
        }
        let walkers = &self.walkers;
        for (section, key, is_set) in [
            ("kernel", "steps_per_update", self.kernel.steps_per_update != 1),
            ("walkers", "moved_per_update", walkers.moved_per_update.is_some()),
            ("walkers", "flush_every", walkers.flush_every.is_some()),
            ("walkers", "init", walkers.init != WalkerInit::Model),
            ("walkers", "unweighted_start", walkers.unweighted_start),
            ("resampling", "scheme", self.resampling.scheme.is_some()),
            ("optimizer", "max_weight_change", self.optimizer.max_weight_change().is_some()),
            ("audit", "", self.audit.is_some()),
        ] {
            if is_set {
                let message = format!(
                    "\"{kind}\" moves no walkers: they are exact draws without importance weights, and log Z is 0: leave this out"
                );
                return fail(section, key, message);
            }
        }
        Ok(())
    }

    fn check_walkers(&self) -> Result<(), Error> {
        let walkers = &self.walkers;
        at_least_one("walkers", "count", walkers.count as u64)?;
        self.check_population("walkers", "count", walkers.count)?;
        if let Some(moved) = walkers.moved_per_update {
            at_least_one("walkers", "moved_per_update", moved as u64)?;
            if moved > walkers.count {
                let message = format!("found {moved}, expected at most walkers.count = {}", walkers.count);
                return fail("walkers", "moved_per_update", message);
            }
            if self.objective.as_dyn().restarts_at_data() {
                let kind = self.objective.kind();
                let message =
                    format!("{kind} restarts all walkers at the data and moves them all: leave this key out");
                return fail("walkers", "moved_per_update", message);
            }
        }
        if let Some(every) = walkers.flush_every {
            at_least_one("walkers", "flush_every", every)?;
            if walkers.moved_per_update.is_none() {
                let message = "it is for runs that move some of the walkers in an update: set walkers.moved_per_update, or leave this out";
                return fail("walkers", "flush_every", message.to_owned());
            }
        }
        self.check_kernel()?;
        let threshold = self.resampling.ess_threshold;
        if !(0.0..=1.0).contains(&threshold) {
            return fail(
                "resampling",
                "ess_threshold",
                format!("found {threshold}, expected a fraction between 0 and 1"),
            );
        }
        at_least_one("output", "log_every", self.output.log_every)?;
        at_least_one("output", "checkpoint_every", self.output.checkpoint_every)?;
        at_least_one("output", "keep_checkpoints", self.output.keep_checkpoints as u64)
    }

    fn check_kernel(&self) -> Result<(), Error> {
        let kernel = self.kernel.kernel.as_dyn();
        kernel.check().map_err(|bad| Error::config("config", "kernel", bad.key, bad.message))?;
        if let Some(step_size) = kernel.step_size() {
            positive("kernel", "step_size", step_size)?;
        }
        if let Some(clip) = kernel.drift_clip() {
            positive("kernel", "drift_clip", clip)?;
        }
        let (rows, count) = (kernel.rows_per_walker(), self.walkers.count);
        let dim = self.dataset.as_dyn().shape().dim();
        if rows as u128 * count as u128 * dim as u128 > u128::from(MAX_ELEMENTS) {
            let message = format!(
                "{rows} proposals × {count} walkers × {dim} coordinates is more than {MAX_ELEMENTS} numbers, the most a tensor \
                 can hold"
            );
            return fail("kernel", "proposals", message);
        }
        positive("kernel", "temperature", self.kernel.temperature)?;
        at_least_one("kernel", "steps_per_update", self.kernel.steps_per_update)?;
        let numbers = self.kernel.noise_steps_per_update();
        let steps = numbers.and_then(|numbers| self.steps.checked_mul(numbers));
        if steps.is_none_or(|steps| steps > u64::from(u32::MAX)) {
            let message = format!(
                "steps × steps_per_update{} is more than {}, the Langevin steps that the random number counter holds",
                if kernel.noise_steps() > 1 { " × (1 + local_steps)" } else { "" },
                u32::MAX
            );
            return fail("kernel", "steps_per_update", message);
        }
        Ok(())
    }

    fn check_population(&self, section: &str, key: &str, count: usize) -> Result<(), Error> {
        let dim = self.dataset.as_dyn().shape().dim() as u64;
        if (count as u64).checked_mul(dim).is_none_or(|n| n > MAX_ELEMENTS) {
            let message = format!(
                "{count} walkers × {dim} coordinates is more than {MAX_ELEMENTS} numbers, the most a tensor can hold"
            );
            return fail(section, key, message);
        }
        Ok(())
    }

    fn check_optimizer(&self) -> Result<(), Error> {
        positive("optimizer", "learning_rate", self.optimizer.learning_rate())?;
        if let Some(norm) = self.optimizer.clip_norm() {
            positive("optimizer", "clip_norm", norm)?;
        }
        if let Some(change) = self.optimizer.max_weight_change() {
            positive("optimizer", "max_weight_change", change)?;
        }
        if let Some(target) = self.optimizer.target_ess() {
            if !(target > 0.0 && target < 1.0) {
                let message =
                    format!("found {target}, expected an ess fraction between 0 and 1, such as 0.99");
                return fail("optimizer", "target_ess", message);
            }
            if !self.objective.as_dyn().carries_weights() {
                let message = format!(
                    "the learning rate follows the ess of the walkers' weights, and with \"{}\" they carry none: leave this out, or \
                     take objective \"jarzynski\"",
                    self.objective.kind()
                );
                return fail("optimizer", "target_ess", message);
            }
        }
        if let Some(ema) = self.optimizer.ema()
            && !(0.0..1.0).contains(&ema)
        {
            return fail(
                "optimizer",
                "ema",
                format!("found {ema}, expected a decay in [0, 1), such as 0.999"),
            );
        }
        let checked = self.optimizer.as_dyn().check();
        checked.or_else(|BadValue { key, message }| fail("optimizer", key, message))?;
        match self.optimizer.schedule() {
            Schedule::Constant {} => Ok(()),
            Schedule::Linear { end, horizon } | Schedule::Cosine { end, horizon } => {
                at_least_one("optimizer", "schedule.horizon", horizon)?;
                if !end.is_finite() || end < 0.0 {
                    return fail(
                        "optimizer",
                        "schedule.end",
                        format!("found {end}, expected a finite number ≥ 0"),
                    );
                }
                Ok(())
            }
        }
    }

    /// Whether the starting model can be drawn exactly, so that `A_0 = 0` is right (ALGORITHMS 1.1).
    pub fn has_exact_start(&self) -> bool {
        let Ok(architecture) = self.energy_spec().build() else { return false };
        if self.energy.has_trained_parts() {
            return false;
        }
        architecture.confinement().is_some()
            || architecture.has_gaussian_base()
            || architecture.has_exact_start()
    }

    /// An energy whose starting model cannot be drawn exactly, and what to do about it.
    pub(super) fn undrawn(&self) -> (String, &'static str) {
        let kind = self.energy.kind();
        if self.energy.has_trained_parts() {
            return (format!("a {kind} of trained parts"), "leave what needs one out");
        }
        if self.energy.composition().is_some() {
            let remedy = "give each part a confinement > 0";
            return (format!("a {kind} whose parts are not all networks with confinement"), remedy);
        }
        let remedy = "set energy.confinement to a number > 0 (it adds ½ c |x|²)";
        (format!("a {kind} without confinement"), remedy)
    }

    /// On the cube everything must be inside it: the folded density of a step knows no other points.
    fn check_cube(&self) -> Result<(), Error> {
        if self.energy_spec().support != Support::Cube {
            return Ok(());
        }
        if self.walkers.init == WalkerInit::Normal {
            let message = "\"normal\" starts outside the cube that kernel.boundary = \"reflect\" keeps walkers in: \
                           take \"model\", \"uniform\" or \"data\"";
            return fail("walkers", "init", message.to_owned());
        }
        if self.dataset.as_dyn().augmentation().noise > 0.0 {
            let message = "noisy data leave the cube that kernel.boundary = \"reflect\" keeps walkers in: \
                           set it to 0, or leave the boundary out";
            return fail("dataset", "noise", message.to_owned());
        }
        Ok(())
    }

    fn check_start(&self) -> Result<(), Error> {
        self.check_cube()?;
        let (walkers, (energy, remedy)) = (&self.walkers, self.undrawn());
        if walkers.init == WalkerInit::Model {
            if self.has_exact_start() {
                return Ok(());
            }
            return fail(
                "walkers",
                "init",
                format!(
                    "\"model\" needs a starting model that can be drawn exactly, and {energy} cannot: {remedy}, or start elsewhere \
                     (\"normal\", \"uniform\", \"data\")"
                ),
            );
        }
        if !self.objective.as_dyn().carries_weights() || walkers.unweighted_start {
            return Ok(());
        }
        let remedy = if self.has_exact_start() {
            "set walkers.init = \"model\"".to_owned()
        } else if self.energy.has_trained_parts() {
            format!(
                "{energy} has none, and an objective without weights needs none, such as \"persistent_cd\""
            )
        } else {
            format!("{remedy} and walkers.init = \"model\"")
        };
        fail(
            "walkers",
            "init",
            format!(
                "objective \"jarzynski\" gives every walker the weight 1 at the start, which is right only for exact draws of the starting \
             model: {remedy}; or accept biased weights with walkers.unweighted_start = true, which is recorded and withholds log Z"
            ),
        )
    }

    fn check_watchdog(&self) -> Result<(), Error> {
        let watchdog = &self.watchdog;
        let factor = watchdog.learning_rate_factor;
        if !(factor > 0.0 && factor <= 1.0) {
            let message = format!("found {factor}, expected a factor in (0, 1]");
            return fail("watchdog", "learning_rate_factor", message);
        }
        match watchdog.max_energy_gap {
            Some(gap) => positive("watchdog", "max_energy_gap", gap),
            None => Ok(()),
        }
    }

    fn check_audit(&self) -> Result<(), Error> {
        let Some(audit) = &self.audit else { return Ok(()) };
        at_least_one("audit", "walkers", audit.walkers as u64)?;
        at_least_one("audit", "every", audit.every)?;
        if audit.repeats < 2 {
            return fail(
                "audit",
                "repeats",
                format!(
                    "found {}, expected at least 2: the standard error comes from the repeats",
                    audit.repeats
                ),
            );
        }
        self.check_population("audit", "walkers", audit.walkers.saturating_mul(audit.repeats))?;
        if audit.repeats as u64 >= 1 << 16 {
            return fail("audit", "repeats", format!("found {}, expected less than 65536", audit.repeats));
        }
        if !self.has_exact_start() {
            let (energy, remedy) = self.undrawn();
            return fail(
                "audit",
                "",
                format!(
                    "an audit starts at exact draws of the starting model, and {energy} has none: {remedy}"
                ),
            );
        }
        Ok(())
    }
}

/// Checks that an energy can be built, and that no tensor of its parameters is too large.
pub(super) fn check_sizes(spec: &EnergySpec) -> Result<(), Error> {
    // Sizes first: building an energy multiplies them.
    if let Ok(table) = Value::try_from(&spec.energy)
        && let Some(size) = too_large(&table)
    {
        return fail("energy", "", format!("the size {size} is beyond {}", i32::MAX));
    }
    let architecture = spec.build().map_err(energy_error)?;
    for param in architecture.params() {
        let len = param.shape.iter().try_fold(1u64, |len, &side| len.checked_mul(side as u64));
        if len.is_none_or(|len| len > MAX_ELEMENTS) {
            let message =
                format!("`{}` of shape {:?} has more than {MAX_ELEMENTS} elements", param.name, param.shape);
            return fail("energy", "", message);
        }
    }
    Ok(())
}

pub(super) fn fail(section: &str, key: &str, message: String) -> Result<(), Error> {
    Err(Error::config("config", section, key, message))
}

pub(super) fn at_least_one(section: &str, key: &str, value: u64) -> Result<(), Error> {
    match value {
        0 => fail(section, key, "found 0, expected at least 1".to_owned()),
        value if value > i64::MAX as u64 => {
            fail(section, key, format!("found {value}, expected at most {}", i64::MAX))
        }
        _ => Ok(()),
    }
}

pub(super) fn positive(section: &str, key: &str, value: f64) -> Result<(), Error> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    fail(section, key, format!("found {value}, expected a finite number > 0"))
}

pub(super) fn energy_error(error: ModelError) -> Error {
    match error {
        ModelError::Invalid { key, message } => Error::config("config", "energy", key, message),
        ModelError::Shape { kind, shape, message } => Error::config(
            "config",
            "energy",
            "kind",
            format!("\"{kind}\" does not fit samples of shape {shape}: {message}"),
        ),
        other => Error::from(other),
    }
}
