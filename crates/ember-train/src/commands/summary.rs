//! The tables on stdout: what a run found.

use std::fmt::Write;
use std::path::Path;

use super::counted;
use crate::error::Error;
use crate::judging::eval::{Evaluation, NoiseLevel, evaluate};
use crate::judging::features::FeatureDistances;
use crate::judging::ladder::LadderReport;
use crate::judging::log_z::LogZEstimate;
use crate::judging::masses::IMPORTANCE;
use crate::shell;
use crate::store::opened::Opened;
use crate::training::trainer::Trainer;
use ember_model::params::download;
use ember_sampler::diagnostics::{Mixing, Quantity};
use ember_sampler::statistics::Estimate;

/// Below this ess fraction importance weights and their standard errors rest on too few draws.
const FEW: f64 = 0.01;
const WITHHELD: &str = ": above .7, so the masses by importance sampling are withheld";
const LOW_ESS: &str = ": too few for the masses or their standard errors to be trusted";

/// Judges a finished run where that is quick, and says what to do next.
pub(super) fn print(dir: &Path, trainer: Trainer) -> Result<(), Error> {
    let quick = ember_model::Energy::log_z(&trainer.model).is_some() || trainer.audit.is_some();
    let mut text = String::new();
    if quick {
        let seed = trainer.config.seed;
        let subject = Opened {
            ema: trainer.ema_model(),
            model: trainer.model,
            step: trainer.step,
            config: Some(trainer.config),
            walkers: Some(trainer.walkers),
            audit: trainer.audit,
            proposal_flows: trainer.assist.map(|assist| assist.flows).unwrap_or_default(),
            step_size: trainer.step_size,
            own_numbers: trainer.own.map(|own| download(own.values)).unwrap_or_default(),
            doubts: trainer.doubts,
            run: Some(dir.to_path_buf()),
        };
        let evaluation = evaluate(&subject, 2, seed)?;
        super::kept::keep(dir, &evaluation)?;
        text += &table(&evaluation);
    } else {
        text += &doubtful(&trainer.doubts);
    }
    let run = shell::quoted(dir);
    let _ = writeln!(text, "run        {run}");
    let _ = writeln!(text, "picture    {}", shell::quoted(&dir.join("samples")));
    let _ = writeln!(text, "report     ember report {run}");
    let next = if quick { "ember sample" } else { "ember eval" };
    let rest = if quick { " --count 1000 --out samples.npz" } else { "" };
    let _ = writeln!(text, "next       {next} {run}{rest}");
    super::print(&text)
}

/// An evaluation for people.
pub(super) fn table(evaluation: &Evaluation) -> String {
    let mut text = format!("update     {}\n", evaluation.step);
    if let Some(NoiseLevel { level, of, sigma }) = &evaluation.level {
        let _ = writeln!(text, "level      {level} of {of}: σ = {sigma}; the data with this noise on them");
    }
    let with_error = |e: &Estimate| format!("{:.4} ± {:.4}", e.value, e.standard_error);
    if let Some(masses) = &evaluation.mode_weights {
        let _ = writeln!(text, "masses     {}", row(masses));
        if let Some(errors) = &evaluation.mode_weights_standard_error {
            let _ = writeln!(text, "         ± {}", row(errors));
        }
        if let Some(method) = evaluation.mode_weights_method {
            let _ = writeln!(text, "           ({})", method_text(method));
        }
    }
    text += &importance(evaluation);
    if let Some(data) = &evaluation.mode_weights_data {
        let _ = writeln!(text, "data       {}", row(data));
    }
    text += &classes(evaluation);
    let log_z = &evaluation.log_z;
    match log_z.interval_95 {
        None => {
            let _ = writeln!(text, "log Z      {:.4} ({})", log_z.value, log_z.method);
        }
        Some([low, high]) => {
            let _ = writeln!(
                text,
                "log Z      {:.4} ± {:.4} ({}, {} repeats; 95 % interval {low:.4} to {high:.4})",
                log_z.value,
                log_z.standard_error,
                log_z.method,
                log_z.repeats.unwrap_or(0)
            );
        }
    }
    if let Some(ancestors) = log_z.distinct_ancestors {
        let steps =
            log_z.temperatures.map(|t| format!("{}, ", counted(t as u64, "temperature"))).unwrap_or_default();
        let _ = writeln!(text, "           ({steps}{ancestors} starting walkers still represented)");
    }
    if let Some(caveat) = log_z.caveat {
        let _ = writeln!(text, "           ({caveat})");
    }
    for failure in &evaluation.log_z_failures {
        let _ = writeln!(text, "           (not by `{}`: {})", failure.method, failure.message);
    }
    text += &estimates(&evaluation.log_z_estimates);
    if let Some(grid) = evaluation.log_z_grid {
        let _ = writeln!(text, "log Z grid {grid:.4}");
    }
    if let Some(learned) = evaluation.log_z_learned {
        let _ = writeln!(
            text,
            "log Z learned {learned:.4}\n           (a parameter of the objective, not an estimate by sampling)"
        );
    }
    if let Some(kl) = &evaluation.kl {
        let _ = writeln!(text, "KL         {} (held-out data)", with_error(kl));
    }
    if let Some(kl) = evaluation.kl_grid {
        let _ = writeln!(text, "KL grid    {kl:.4} (grid integral)");
    }
    if let Some(cross_entropy) = &evaluation.cross_entropy {
        let _ = writeln!(text, "CE         {}", with_error(cross_entropy));
    }
    text += &evaluation.ladder.as_ref().map(ladder).unwrap_or_default();
    text += &judging(evaluation);
    if let Some(ess) = evaluation.ess_fraction {
        let ancestors = evaluation.distinct_ancestors.unwrap_or(0);
        let _ =
            writeln!(text, "walkers    ess {ess:.3} of them, {ancestors} starting walkers still represented");
    }
    text += &doubtful(&evaluation.doubts);
    text += &evaluation.mixing.as_ref().map(mixing).unwrap_or_default();
    text += &evaluation.features.as_ref().map(FeatureDistances::table).unwrap_or_default();
    text
}

/// Why the run's end is doubtful.
fn doubtful(doubts: &[String]) -> String {
    doubts.iter().fold(String::new(), |text, doubt| text + "doubtful   " + doubt + "\n")
}

/// The masses by importance sampling from the truth, and what their weights are worth.
fn importance(evaluation: &Evaluation) -> String {
    let Some(ess) = evaluation.mode_weights_importance_ess_fraction else { return String::new() };
    let k = evaluation.mode_weights_importance_pareto_k.unwrap_or(f64::NAN);
    let mut text = String::new();
    let values = [&evaluation.mode_weights_importance, &evaluation.mode_weights_importance_standard_error]
        .map(Option::as_deref);
    if let ([Some(masses), Some(errors)], false) =
        (values, evaluation.mode_weights_method == Some(IMPORTANCE))
    {
        let _ = writeln!(text, "importance {}\n         ± {}", row(masses), row(errors));
    }
    let _ = writeln!(
        text,
        "           (draws of the data's law, ess {ess:.4} of them, Pareto k {k:.2}{})",
        if evaluation.mode_weights_importance.is_none() {
            WITHHELD
        } else if ess < FEW {
            LOW_ESS
        } else {
            ""
        }
    );
    text
}

/// log Z by each estimator, under each other: whether they agree is seen at a glance. Nothing where there is but one.
fn estimates(found: &[LogZEstimate]) -> String {
    let mut text = String::new();
    for (i, estimate) in found.iter().enumerate().filter(|_| found.len() > 1) {
        let head = if i == 0 { "estimates" } else { "" };
        let nearness = match (estimate.ess_fraction, estimate.overlap) {
            (Some(ess), _) => {
                let k = estimate.pareto_k.unwrap_or(f64::NAN);
                format!(", ess {ess:.3} of the flow's draws, Pareto k {k:.2}")
            }
            (_, Some(overlap)) => format!(", overlap of flow and model {overlap:.3}"),
            _ => String::new(),
        };
        let (value, error) = (estimate.value, estimate.standard_error);
        let _ = writeln!(
            text,
            "{head:<10} {value:.4} ± {error:.4} ({}, {} repeats{nearness})",
            estimate.method, estimate.repeats
        );
        if estimate.doubtful {
            let _ = writeln!(text, "           ({})", estimate.caveat);
        }
    }
    text
}

/// A ladder: its rungs a line each, and what passed.
fn ladder(found: &LadderReport) -> String {
    let kernel = serde_json::to_value(&found.kernel).unwrap_or_default();
    let mut text = format!(
        "ladder     {} rungs of {} candidates; {} ladders, {} sweeps of {} steps by {}\n",
        found.rungs.len(),
        found.candidates,
        found.ladders,
        found.sweeps,
        found.moves,
        kernel["kind"].as_str().unwrap_or("the kernel")
    );
    for rung in &found.rungs {
        let log_z = rung.log_z.map(|e| format!("  log Z {:.4} ± {:.4}", e.value, e.standard_error));
        let swaps = rung.swap_rate.map(|rate| format!("  exchanges {rate:.3} with the rung above"));
        let moves = rung.accept_rate.map(|rate| format!("  takes {rate:.3} of its moves"));
        let parts = [log_z, moves, swaps].into_iter().flatten().collect::<String>();
        let _ = writeln!(text, "           update {:<8}{parts}", rung.step);
    }
    let _ = writeln!(
        text,
        "           {} round trips; {} of {} ladders made one",
        found.round_trips, found.ladders_with_round_trips, found.ladders
    );
    if let (Some(forward), Some(reverse)) = (found.log_z_forward, found.log_z_reverse) {
        let _ = writeln!(
            text,
            "           log Z weighted upwards {:.4} ± {:.4}, downwards {:.4} ± {:.4}",
            forward.value, forward.standard_error, reverse.value, reverse.standard_error
        );
    }
    text + "           (" + found.caveat + ")\n"
}

/// How the kernel mixes, a line for each quantity and a sentence for each figure.
fn mixing(found: &Mixing) -> String {
    let mut text = String::new();
    // A config's tag is the kernel's name.
    let table = serde_json::to_value(&found.kernel).unwrap_or_default();
    let kernel = table["kind"].as_str().unwrap_or("the kernel");
    let _ = writeln!(
        text,
        "mixing     {} chains of {} steps at fixed parameters, from {}, by {kernel}",
        found.chains,
        found.steps,
        method_text(found.starts)
    );
    let rates = [
        (found.accept_rate, "of the local proposals are taken"),
        (found.global_accept_rate, "of the walkers are moved by a flow's proposal in a step"),
        (found.jumps_per_step, "jumps to another mode per walker and step"),
    ];
    for (rate, what) in rates {
        if let Some(rate) = rate {
            let _ = writeln!(text, "           {rate:.4} {what}");
        }
    }
    let worst =
        |quantity: &Option<Quantity>| quantity.as_ref().and_then(|quantity| quantity.index).unwrap_or(0);
    let rows = [
        (&found.energy, "energy".to_owned(), String::new()),
        (
            &found.coordinate,
            format!("x[{}]", worst(&found.coordinate)),
            format!(", the slowest of {} coordinates", found.coordinates),
        ),
        (
            &found.mode,
            format!("mode {}", worst(&found.mode)),
            ", the slowest of the modes' indicators".to_owned(),
        ),
    ];
    for (quantity, name, which) in rows {
        let Some(quantity) = quantity else { continue };
        let least = if quantity.doubtful { "at least " } else { "" };
        let _ = writeln!(
            text,
            "           {name:<8} R-hat {:.3}, autocorrelation time {least}{:.1} steps, ess {:.4} per step{which}",
            quantity.r_hat, quantity.autocorrelation_time, quantity.ess_per_step
        );
    }
    text += "           (R-hat: chains that agree have 1, above 1.01 they do not. Autocorrelation time: steps from one independent\n\
             \x20           value to the next; `at least` where chains are under 50 times as long. ess: independent values a step)\n";
    let _ = writeln!(text, "           ({})", found.caveat);
    text
}

/// The class frequencies, where there are any.
fn classes(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    if let Some(found) = &evaluation.class_frequencies {
        let (variation, accuracy) = (found.total_variation, found.classifier_accuracy.value);
        let (own, held_out) = (found.confidence, found.confidence_held_out.value);
        let _ = writeln!(text, "classes    {}  ({})", row(&found.value), found.classes.join(", "));
        let _ = writeln!(text, "         ± {}  ({})", row(&found.standard_error), method_text(found.method));
        let _ = writeln!(text, "data       {}", row(&found.data));
        let _ = writeln!(
            text,
            "           total variation {:.4} ± {:.4}; {} starting walkers still represented",
            variation.value, variation.standard_error, found.distinct_ancestors
        );
        let _ = writeln!(
            text,
            "           by a classifier right on {accuracy:.4} of held-out images; its confidence {:.4} ± {:.4}, on \
             held-out images {held_out:.4}",
            own.value, own.standard_error
        );
        let _ = writeln!(text, "           ({})", found.caveat);
    }
    if let Some(found) = &evaluation.class_frequencies_model {
        let variation = found.total_variation;
        let _ = writeln!(text, "the model  {}  ({})", row(&found.value), method_text(found.method));
        let _ = writeln!(
            text,
            "         ± {}\n           total variation {:.4} ± {:.4}; confidence {:.4}",
            row(&found.standard_error),
            variation.value,
            variation.standard_error,
            found.confidence.value
        );
    }
    if let Some(why) = evaluation.class_frequencies_withheld {
        let _ = writeln!(text, "classes    withheld: {why}");
    }
    text
}

/// The lines of log Z from both sides, bits per dimension and AUROC.
fn judging(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    let with_error = |e: &Estimate| format!("{:.4} ± {:.4}", e.value, e.standard_error);
    if let Some(found) = &evaluation.log_z_two_sided {
        let (lower, upper) = (with_error(&found.lower), with_error(&found.upper));
        let _ = writeln!(text, "log Z AIS  {lower} to {upper}\n           ({})", found.cost());
    }
    if let Some(bits) = &evaluation.bits_per_dim {
        let _ = writeln!(text, "bits/dim   {}", with_error(&bits.estimate));
        if let Some([low, high]) = &bits.sides {
            let _ = writeln!(text, "           {} to {} with AIS's log Z", with_error(low), with_error(high));
        }
        if let Some(caveat) = &bits.caveat {
            let _ = writeln!(text, "           ({caveat})");
        }
    }
    if let Some(found) = &evaluation.out_of_distribution {
        let _ = writeln!(text, "AUROC      {} against {}", with_error(&found.auroc), found.against);
        let _ = writeln!(
            text,
            "           {} by a Gaussian fitted to {} training samples",
            with_error(&found.auroc_gaussian),
            found.gaussian_samples
        );
    }
    text
}

fn row(values: &[f64]) -> String {
    values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join("  ")
}

fn method_text(method: &str) -> &str {
    match method {
        "exact" => "exact: the model's own masses",
        "grid" => "grid integral of the model's density",
        "audit" => "independent weighted walkers beside the training",
        "smc" => "tempered sequential Monte Carlo",
        "ladder" => "parallel tempering over the run's checkpoints",
        IMPORTANCE => "importance sampling from the data's law",
        "walkers" => "the training walkers",
        "draws" => "exact draws of the model",
        "start" => "draws of the model's tractable start",
        other => other,
    }
}
