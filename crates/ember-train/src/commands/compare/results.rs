//! What the runs of a comparison found, by one yardstick, and means over the seeds.

use ember_model::energy::levels::Levels;
use ember_sampler::statistics::Estimate;
use ember_sampler::{Kernel, WeightRule};
use serde::Serialize;
use serde_json::Value;

use super::jobs::{Job, Outcome, evaluation};
use super::plan::{Method, Plan};
use crate::config::Config;
use crate::shell;
use crate::store::metrics;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// Why there is nothing else, where the run failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// The model's mass of each mode.
    pub masses: Vec<f64>,
    /// Its largest distance from the training set's.
    pub mass_error: f64,
    /// KL from the data's law, nats: over a grid in one and two dimensions, else on held-out data.
    pub kl: f64,
    /// log Z as it is reported less that of the grid, where it is an estimate and there is a grid.
    pub log_z_error: f64,
    /// ess fraction of the training walkers.
    pub ess: f64,
    /// Wall-clock seconds of training.
    pub seconds: f64,
}

/// One method over its seeds. A figure is the mean of the runs that have it, with its standard error over them.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The method.
    pub name: String,
    /// What trains its first run.
    pub command: String,
    /// Every run.
    pub runs: Vec<Found>,
    /// Runs that failed.
    pub failed: usize,
    /// The model's mass of each mode.
    pub masses: Vec<Estimate>,
    /// See [`Found::mass_error`].
    pub mass_error: Estimate,
    /// See [`Found::kl`].
    pub kl: Estimate,
    /// See [`Found::log_z_error`].
    pub log_z_error: Estimate,
    /// See [`Found::ess`].
    pub ess: Estimate,
    /// Energies with gradients of single samples that a training took.
    pub evaluations: u64,
    /// Wall-clock seconds of training.
    pub seconds: Estimate,
}

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// What is compared.
    pub title: String,
    /// The seeds of every method.
    pub seeds: Vec<u64>,
    /// The training set's mass of each mode, a mean over the seeds.
    pub data_masses: Vec<f64>,
    /// The law's own, where it is known.
    pub law_masses: Vec<f64>,
    /// In the plan's order.
    pub methods: Vec<Summary>,
}

/// Reads what the jobs left.
pub fn collect(plan: &Plan, jobs: &[Job], outcomes: &[Outcome]) -> Results {
    let mut data: Vec<Vec<f64>> = Vec::new();
    let methods = plan.methods.iter().enumerate().map(|(index, method)| {
        let own = jobs.iter().zip(outcomes).filter(|(job, _)| job.method == index);
        let runs: Vec<Found> = own.map(|(job, outcome)| found(job, outcome, &mut data)).collect();
        let first = jobs.iter().find(|job| job.method == index);
        let args = first.map(|job| job.train(method)).unwrap_or_default();
        summary(method, runs, args)
    });
    let methods = methods.collect();
    let truth = plan.methods[0].resolved.dataset.as_dyn().truth();
    Results {
        title: plan.title.clone(),
        seeds: plan.seeds.clone(),
        data_masses: means(&data),
        law_masses: truth.filter(|truth| truth.modes.is_some()).map(|truth| truth.masses).unwrap_or_default(),
        methods,
    }
}

fn found(job: &Job, outcome: &Outcome, data: &mut Vec<Vec<f64>>) -> Found {
    let nothing = |why: String| Found {
        seed: job.seed,
        failed: Some(why),
        masses: Vec::new(),
        mass_error: f64::NAN,
        kl: f64::NAN,
        log_z_error: f64::NAN,
        ess: f64::NAN,
        seconds: f64::NAN,
    };
    let eval = match (outcome, evaluation(&job.evaluation)) {
        (Err(why), _) => return nothing(why.clone()),
        (Ok(()), None) => return nothing(format!("{} cannot be read", job.evaluation.display())),
        (Ok(()), Some(eval)) => eval,
    };
    let number = |pointer: &str| eval.pointer(pointer).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let list = |key: &str| -> Vec<f64> {
        eval[key].as_array().into_iter().flatten().filter_map(Value::as_f64).collect()
    };
    let (masses, of_data) = (list("mode_weights"), list("mode_weights_data"));
    let mass_error = match masses.len() == of_data.len() && !masses.is_empty() {
        true => masses.iter().zip(&of_data).map(|(m, d)| (m - d).abs()).fold(0.0, f64::max),
        false => f64::NAN,
    };
    if !of_data.is_empty() {
        data.push(of_data);
    }
    let grid = number("/kl_grid");
    let exact = eval["log_z"]["method"] == "exact";
    Found {
        seed: job.seed,
        failed: None,
        masses,
        mass_error,
        kl: if grid.is_nan() { number("/kl/value") } else { grid },
        log_z_error: if exact { f64::NAN } else { number("/log_z/value") - number("/log_z_grid") },
        ess: number("/ess_fraction"),
        seconds: metrics::read(&job.run)
            .ok()
            .and_then(|lines| Some(lines.last()?.time_s))
            .unwrap_or(f64::NAN),
    }
}

fn summary(method: &Method, runs: Vec<Found>, args: Vec<String>) -> Summary {
    let mean = |of: &dyn Fn(&Found) -> f64| {
        let values: Vec<f64> = runs.iter().map(of).filter(|value| !value.is_nan()).collect();
        Estimate::mean(&values)
    };
    let modes = runs.iter().map(|run| run.masses.len()).max().unwrap_or(0);
    Summary {
        name: method.name.clone(),
        command: shell::words("ember", &args),
        failed: runs.iter().filter(|run| run.failed.is_some()).count(),
        masses: (0..modes).map(|k| mean(&|run| run.masses.get(k).copied().unwrap_or(f64::NAN))).collect(),
        mass_error: mean(&|run| run.mass_error),
        kl: mean(&|run| run.kl),
        log_z_error: mean(&|run| run.log_z_error),
        ess: mean(&|run| run.ess),
        evaluations: evaluations(&method.resolved),
        seconds: mean(&|run| run.seconds),
        runs,
    }
}

/// Energies with gradients of single samples: the rows of the parameters' gradient, and what the walkers' moves take.
fn evaluations(config: &Config) -> u64 {
    let (dataset, objective) = (config.dataset.as_dyn(), config.objective.as_dyn());
    let batch = dataset.batch_size() as u64;
    // Walkers have no part in a loss of the data alone.
    if let Some(loss) = objective.data_loss() {
        let built = config.energy_spec().build();
        let levels = built.ok().and_then(|energy| energy.levels().map(Levels::count)).unwrap_or(0);
        let rows = config.steps.saturating_mul(batch);
        return rows.saturating_mul(loss.evaluations(dataset.shape().dim(), levels));
    }
    let moved = match objective.has_negative_phase() {
        true => config.walkers.moved_per_update.unwrap_or(config.walkers.count) as u64,
        false => 0,
    };
    let kernel: &dyn Kernel = config.kernel.kernel.as_dyn();
    // A kernel that leaves the model invariant begins with the pair of the new parameters.
    let first = u64::from(kernel.weight_rule() == WeightRule::Invariant);
    let steps = config.kernel.steps_per_update.saturating_mul(kernel.noise_steps()).saturating_add(first);
    // A loss of the last step takes a pass along a line.
    let lines = if objective.step_loss().is_some() { moved } else { 0 };
    config.steps.saturating_mul(batch + moved + lines + moved.saturating_mul(steps))
}

fn means(rows: &[Vec<f64>]) -> Vec<f64> {
    let modes = rows.first().map_or(0, Vec::len);
    let of = |k: usize| rows.iter().filter_map(|row| row.get(k)).sum::<f64>() / rows.len() as f64;
    (0..modes).map(of).collect()
}
