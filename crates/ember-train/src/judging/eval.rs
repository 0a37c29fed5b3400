//! Judging a model: log Z with its method and standard error, cross-entropy, KL, mode masses (ALGORITHMS 1.6, 7, 8).
//!
//! log Z is `log_z.rs`'s. Masses are read off the *model* ([`crate::judging::masses`]).

use std::time::Instant;

use ember_model::EnergyModel;
use ember_sampler::Walkers;
use serde::Serialize;

use crate::config::Config;
use crate::dataset::{Data, Truth};
use crate::error::Error;
use crate::judging::classifier::{ClassFrequencies, cache};
use crate::judging::eval_images::{Classes, held_out_energies, judge_classes};
use crate::judging::eval_options::EvalOptions;
use crate::judging::features::FeatureDistances;
use crate::judging::grid::EnergyGrid;
use crate::judging::ladder::{LadderReport, Planned};
use crate::judging::likelihood::{self, BitsPerDim};
use crate::judging::log_z::{Failure, Found, Independent, LogZ, LogZEstimate, log_z_beside};
use crate::judging::masses::{self, Masses};
use crate::judging::mixing;
use crate::judging::ood::{self, Against, OutOfDistribution};
use crate::logging::Listener;
use crate::store::opened::Opened;
use crate::training::noisy::Noisy;
use ember_sampler::diagnostics::Mixing;
use ember_sampler::diagnostics::pareto;
use ember_sampler::evidence::Ensembles;
use ember_sampler::evidence::ais::{self, AisOptions, TwoSided};
use ember_sampler::evidence::smc::AnnealedPath;
use ember_sampler::statistics::{Estimate, ess_fraction};

/// Times that a ladder's top rung is looked at.
const LADDER_KEPT: usize = 16;
/// Cells an axis of the mass grids, in one and two dimensions.
const CELLS: [usize; 2] = [8_000, 400];

/// What `ember eval` finds. A figure that does not apply is absent.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Updates the model has seen.
    pub step: u64,
    /// The noise level that the energy is at, where it is not the smallest. The data have its noise in every figure below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<NoiseLevel>,
    /// `E_test[U] + log Z`, nats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cross_entropy: Option<Estimate>,
    /// `log ∫ e^{−U}`.
    pub log_z: LogZ,
    /// The same by each estimator that was available, to see whether they agree; see [`crate::judging::log_z`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_z_estimates: Vec<LogZEstimate>,
    /// Estimators of log Z that gave no finite value; the next one took their place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log_z_failures: Vec<Failure>,
    /// `log Z` over a grid that holds the data: one and two dimensions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_z_grid: Option<f64>,
    /// `log Z` as the run's objective learned it beside the energy: a parameter of the objective, not an estimate by sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_z_learned: Option<f64>,
    /// Mass the model puts on each mode of the data, in the data set's order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_weights: Option<Vec<f64>>,
    /// `exact`, `grid`, `audit`, `ladder`, `smc` or `importance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_weights_method: Option<&'static str>,
    /// Standard errors of `mode_weights` where they are estimates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_weights_standard_error: Option<Vec<f64>>,
    /// The same by importance sampling from the data's law, beyond two dimensions: nothing that the law never draws is seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_weights_importance: Option<Vec<f64>>,
    /// Its standard errors over independent repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_weights_importance_standard_error: Option<Vec<f64>>,
    /// ess fraction of the weights behind it: below a per cent or so the standard errors are too small as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_weights_importance_ess_fraction: Option<f64>,
    /// Pareto k̂ of those weights: above .7 the masses by importance sampling are withheld.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_weights_importance_pareto_k: Option<f64>,
    /// Fraction of each mode in the training set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode_weights_data: Option<Vec<f64>>,
    /// `KL(ρ* ‖ ρ_θ)` on the held-out set, nats, where the data's law is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<Estimate>,
    /// `KL(ρ* ‖ ρ_θ)` by a grid integral, nats: one and two dimensions, with the grid's own log Z.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_grid: Option<f64>,
    /// ess fraction of `ρ_θ/ρ*` under `ρ*`, on the held-out set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance_ess_fraction: Option<f64>,
    /// Pareto k̂ of the same weights: above .7 that fraction says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance_pareto_k: Option<f64>,
    /// ess fraction of the training walkers at the model's θ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ess_fraction: Option<f64>,
    /// Starting walkers still represented among the training walkers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distinct_ancestors: Option<usize>,
    /// How often weighted walkers are of each class: images with labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_frequencies: Option<ClassFrequencies>,
    /// The same of the tempered SMC behind log Z, where `class_frequencies` are the training walkers': the model's own masses,
    /// whatever the walkers show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_frequencies_model: Option<ClassFrequencies>,
    /// Why there are none, where there could be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_frequencies_withheld: Option<&'static str>,
    /// Parallel tempering over the run's checkpoints, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ladder: Option<LadderReport>,
    /// log Z from both ends of an annealed path, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_z_two_sided: Option<TwoSided>,
    /// Why the run's end is doubtful: its last checkpoint has it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// How the run's kernel mixes at fixed θ, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mixing: Option<Mixing>,
    /// Bits per dimension of held-out images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_per_dim: Option<BitsPerDim>,
    /// AUROC against another data set, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out_of_distribution: Option<OutOfDistribution>,
    /// FID and KID, where a feature network was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureDistances>,
}

/// A level above the smallest of an energy that knows several.
#[derive(Clone, Debug, Serialize)]
pub struct NoiseLevel {
    /// Its number; 1 is the smallest.
    pub level: usize,
    /// How many there are.
    pub of: usize,
    /// Its σ.
    pub sigma: f64,
}

impl NoiseLevel {
    fn of(model: &EnergyModel) -> Option<Self> {
        let levels = model.levels().filter(|levels| levels.at() > 1)?;
        Some(Self { level: levels.at(), of: levels.count(), sigma: levels.sigma() })
    }
}

/// Judges what was found under a PATH. `repeats` are those of a tempered SMC, should one be needed.
///
/// # Errors
/// As [`log_z_beside`], a data set that cannot be read.
pub fn evaluate(subject: &Opened, repeats: usize, seed: u64) -> Result<Evaluation, Error> {
    evaluate_with(subject, &EvalOptions { repeats, seed, ..EvalOptions::default() })
}

/// As [`evaluate`], with what `options` ask for.
///
/// # Errors
/// As [`evaluate`], [`ais::two_sided`] and [`ood::judge`]; another data set for a model whose own is not known.
pub fn evaluate_with(subject: &Opened, options: &EvalOptions) -> Result<Evaluation, Error> {
    let model = &subject.model;
    if subject.config.is_none() && options.against.is_some() {
        return Err(Error::usage(
            "--against compares with the held-out data of a run, and a weight file names no data set: give the run or a checkpoint",
        ));
    }
    // Read first: estimates may take hours, and files that are gone end them all.
    let data =
        subject.config.as_ref().map(|config| config.dataset.as_dyn().generate(config.seed)).transpose()?;
    let flows = subject.proposals();
    let flow = flows.as_ref().map(|flows| &flows.flows()[0]);
    let planned = |sizes| Planned::of(subject, sizes, LADDER_KEPT, options.seed);
    let planned = options.ladder.map(planned).transpose()?;
    let Found { log_z, estimates, independent, failures, ladder } =
        log_z_beside(model, subject.audit.as_ref(), planned.as_ref(), flow, options)?;
    let walkers = independent.as_ref().map(|(ensembles, _)| ensembles);
    let two_sided =
        options.ais.filter(|_| !model.is_discrete()).map(|ais| two_sided(model, walkers, ais)).transpose()?;
    let mut evaluation = Evaluation {
        step: subject.step,
        level: NoiseLevel::of(model),
        cross_entropy: None,
        log_z,
        log_z_estimates: estimates,
        log_z_failures: failures,
        log_z_grid: None,
        log_z_learned: subject.log_z_learned(),
        mode_weights: None,
        mode_weights_method: None,
        mode_weights_standard_error: None,
        mode_weights_importance: None,
        mode_weights_importance_standard_error: None,
        mode_weights_importance_ess_fraction: None,
        mode_weights_importance_pareto_k: None,
        mode_weights_data: None,
        kl: None,
        kl_grid: None,
        importance_ess_fraction: None,
        importance_pareto_k: None,
        ess_fraction: None,
        distinct_ancestors: None,
        class_frequencies: None,
        class_frequencies_model: None,
        class_frequencies_withheld: None,
        log_z_two_sided: two_sided,
        ladder,
        doubts: subject.doubts.clone(),
        mixing: None,
        bits_per_dim: None,
        out_of_distribution: None,
        features: None,
    };
    let weighted = subject.is_weighted();
    let at_theta = |walkers: Walkers| if weighted { walkers.reweight(model) } else { walkers.unweighted() };
    let walkers = subject.walkers.clone().map(at_theta);
    if let Some(walkers) = walkers.as_ref().filter(|_| weighted) {
        evaluation.ess_fraction = Some(walkers.summary().ess / walkers.count() as f64);
        evaluation.distinct_ancestors = Some(walkers.distinct_ancestors());
    }
    if let Some(steps) = options.mixing {
        let truth = subject.config.as_ref().and_then(|config| config.dataset.as_dyn().truth());
        let modes = truth.as_ref().and_then(|truth| truth.modes.as_ref());
        evaluation.mixing = Some(mixing::of_subject(subject, walkers.as_ref(), modes, steps, options.seed)?);
    }
    if let (Some(config), Some(data)) = (&subject.config, &data) {
        judge_against_data(
            &mut evaluation,
            model,
            config,
            data,
            independent.as_ref(),
            walkers.as_ref(),
            options.against.as_ref(),
        )?;
    }
    Ok(evaluation)
}

/// Both sides of log Z, with the seconds that they took.
fn two_sided(
    model: &EnergyModel,
    walkers: Option<&Ensembles>,
    options: AisOptions,
) -> Result<TwoSided, Error> {
    let begun = Instant::now();
    let listener = Listener::default();
    let path = AnnealedPath::of(model).ok_or(ember_sampler::Error::NoStart)?.telling(&listener);
    let found = ais::of_model_along(&path, model, walkers, options)?;
    Ok(TwoSided { seconds: Some(begun.elapsed().as_secs_f64()), ..found })
}

fn judge_against_data(
    evaluation: &mut Evaluation,
    model: &EnergyModel,
    config: &Config,
    data: &Data,
    independent: Option<&Independent>,
    walkers: Option<&Walkers>,
    against: Option<&Against>,
) -> Result<(), Error> {
    let dataset = config.dataset.as_dyn();
    let log_z = Estimate { value: evaluation.log_z.value, standard_error: evaluation.log_z.standard_error };
    // Above the smallest level the model is of the data with the level's noise.
    let level_noise = model.level_noise();
    let noise = dataset.augmentation().noise.hypot(level_noise);
    let u = held_out_energies(model, data, noise);
    if !u.is_empty() {
        let (mean, support) = (Estimate::mean(&u), model.spec().support);
        let sides = evaluation.log_z_two_sided.as_ref();
        evaluation.cross_entropy = Some(mean.plus(log_z));
        evaluation.bits_per_dim = likelihood::of_images(mean, log_z, data, noise, support, sides);
    }
    if let Some(against) = against {
        evaluation.out_of_distribution = Some(ood::judge(model, data, against, noise)?);
    }
    let folder = cache::folder();
    match judge_classes(config, data, level_noise, independent, walkers, folder.as_deref())? {
        Classes::DoNotApply => {}
        Classes::Withheld(why) => evaluation.class_frequencies_withheld = Some(why),
        Classes::Found { found, model } => {
            evaluation.class_frequencies = Some(*found);
            evaluation.class_frequencies_model = model.map(|model| *model);
        }
    }
    let Some(truth) = dataset.truth() else { return Ok(()) };
    let law = if level_noise > 0.0 { truth.noised(level_noise) } else { Some(truth.clone()) };
    let dim = data.shape.dim();
    if let Some(law) = law.as_ref().filter(|_| !u.is_empty()) {
        let rows = Noisy::held_out(noise).rows(&data.test, dim, 0..u.len());
        let (kl, ess, pareto_k) = divergence(law, &rows, &u, log_z);
        evaluation.kl = Some(kl);
        evaluation.importance_ess_fraction = Some(ess);
        evaluation.importance_pareto_k = Some(pareto_k);
    }
    let grid = grid(model, data);
    evaluation.log_z_grid = grid.as_ref().map(EnergyGrid::log_z);
    evaluation.kl_grid = grid.as_ref().zip(law.as_ref()).map(|(grid, law)| grid.divergence(law));
    let Some(modes) = &truth.modes else { return Ok(()) };
    evaluation.mode_weights_data = Some(match level_noise {
        0.0 => data.train_fractions(),
        // Noise takes points to other modes than those they came from.
        _ => modes.fractions(&Noisy::training(noise).rows(&data.train, dim, 0..data.train.len() / dim), dim),
    });
    let masses = if let Some(mixture) = model.mixture() {
        Masses::known(modes.masses_of(&mixture), "exact")
    } else if let Some(grid) = &grid {
        Masses::known(grid.masses(modes), "grid")
    } else {
        let found = law.map(|law| masses::by_importance(model, &law, modes, config.seed));
        if let Some(found) = &found {
            evaluation.mode_weights_importance_ess_fraction = Some(found.ess_fraction);
            evaluation.mode_weights_importance_pareto_k = Some(found.pareto_k);
        }
        let shown = found.filter(|found| !found.withheld).map(|found| found.masses);
        if let Some(masses) = &shown {
            evaluation.mode_weights_importance_standard_error = masses.standard_error.clone();
            evaluation.mode_weights_importance = Some(masses.value.clone());
        }
        match (independent, shown) {
            (Some((ensembles, method)), _) => masses::by_ensembles(ensembles, modes, method),
            (None, Some(masses)) => masses,
            (None, None) => return Ok(()),
        }
    };
    evaluation.mode_weights = Some(masses.value);
    evaluation.mode_weights_method = Some(masses.method);
    evaluation.mode_weights_standard_error = masses.standard_error;
    Ok(())
}

/// `KL(ρ* ‖ ρ_θ)` as the mean of exact log-ratios, and the ess fraction and Pareto k̂ of `ρ_θ/ρ*`. `rows` `[n, dim]` are of ρ*, `u` `[n]`
/// their energies.
fn divergence(truth: &Truth, rows: &[f32], u: &[f64], log_z: Estimate) -> (Estimate, f64, f64) {
    // log ρ*(x) − log ρ_θ(x), log ρ_θ = −U − log Z
    let log_probs = truth.log_probs(rows);
    let ratios: Vec<f64> = log_probs.iter().zip(u).map(|(log_p, u)| log_p + u + log_z.value).collect();
    let kl = Estimate::mean(&ratios);
    let kl = Estimate { value: kl.value, standard_error: kl.standard_error.hypot(log_z.standard_error) };
    let log_weights: Vec<f64> = ratios.iter().map(|ratio| -ratio).collect();
    (kl, ess_fraction(&log_weights), pareto::shape(&log_weights))
}

/// The model's density over a box around the data and itself, in one and two dimensions; none of a law of bits.
fn grid(model: &EnergyModel, data: &Data) -> Option<EnergyGrid> {
    if model.is_discrete() {
        return None;
    }
    let dim = data.shape.dim();
    let cells = *CELLS.get(dim.checked_sub(1)?)?;
    let range = EnergyGrid::range_of(&data.train.values(), dim, 4.0 + 5.0 * model.level_noise());
    EnergyGrid::covering(model, range, cells)
}
