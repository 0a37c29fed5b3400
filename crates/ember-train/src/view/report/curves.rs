//! Which curves a report has.

use crate::store::metrics::MetricsLine;

use super::scale::Axis;
use super::series::{Point, means, thin};

/// Lines of one chart at most; of more modes the heaviest are drawn.
const MOST_LINES: usize = 8;

/// A chart with its lines.
pub(super) struct Curve {
    /// The anchor in the page.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// What to look for.
    pub(super) note: String,
    pub(super) axis: Axis,
    pub(super) lines: Vec<Line>,
    /// A level worth a dashed line.
    pub(super) level: Option<f64>,
}

/// One line of a chart, thinned.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<Point>,
    /// Means over stretches, where there are many points.
    pub(super) means: Vec<Point>,
    /// The newest finite value and half the band around it.
    pub(super) last: Option<(f64, f64)>,
}

fn line(name: impl Into<String>, points: Vec<Point>) -> Line {
    let last = points.iter().rev().find(|point| point.y.is_finite()).map(|point| (point.y, point.half));
    Line { name: name.into(), means: means(&points), points: thin(&points), last }
}

fn values(metrics: &[MetricsLine], of: impl Fn(&MetricsLine) -> f64) -> Vec<Point> {
    metrics.iter().map(|m| Point { x: m.step as f64, y: of(m), half: 0.0 }).collect()
}

/// The curves of the metric lines; those without a single finite value are left out.
pub(super) fn curves(metrics: &[MetricsLine]) -> Vec<Curve> {
    let one = |name: &str, of: &dyn Fn(&MetricsLine) -> f64| vec![line(name, values(metrics, of))];
    let curve = |id, title, note: &str, axis, lines| Curve {
        id,
        title,
        note: note.to_owned(),
        axis,
        lines,
        level: None,
    };
    let mut curves = vec![
        Curve {
            level: Some(0.0),
            ..curve(
                "energy-gap",
                "Energy gap",
                "mean energy of the data less that of the walkers; around 0 where the model fits, noise and all",
                Axis::Linear,
                one("data − walkers", &|m| m.energy_data - m.energy_walkers),
            )
        },
        curve(
            "ess-fraction",
            "Effective sample size",
            "of the walkers, before resampling; 1 where all weights are equal",
            Axis::Fraction,
            one("ess / walkers", &|m| m.ess_fraction),
        ),
        log_z(metrics),
        curve(
            "loss",
            "Loss",
            "of the data alone, with fresh random numbers in every update",
            Axis::Linear,
            one("loss", &|m| m.loss.unwrap_or(f64::NAN)),
        ),
        curve(
            "grad-norm",
            "Gradient norm",
            "over all parameters, before clipping",
            Axis::Log,
            one("norm", &|m| m.grad_norm),
        ),
        curve(
            "accept-rate",
            "Acceptance",
            "local proposals that are accepted, and walkers that a flow's proposal moves, where there is one",
            Axis::Fraction,
            vec![
                line("local", values(metrics, |m| m.accept_rate.unwrap_or(f64::NAN))),
                line("global, by a flow", values(metrics, |m| m.global_accept_rate.unwrap_or(f64::NAN))),
            ],
        ),
        curve(
            "jump-rate",
            "Jumps between modes",
            "walkers whose nearest mode of the data is another after an update's moves",
            Axis::Fraction,
            one("jumped", &|m| m.jump_rate.unwrap_or(f64::NAN)),
        ),
        curve(
            "step-size",
            "Step size",
            "of the local moves, where it adapts",
            Axis::Log,
            one("h", &|m| m.step_size.unwrap_or(f64::NAN)),
        ),
        curve("learning-rate", "Learning rate", "", Axis::Log, one("rate", &|m| m.learning_rate)),
        curve(
            "distinct-ancestors",
            "Distinct ancestors",
            "starting walkers still represented; few means that resampling has merged the population",
            Axis::Log,
            one("walkers", &|m| m.distinct_ancestors as f64),
        ),
        mode_weights(metrics),
        curve(
            "energies",
            "Energies",
            "means over the data batch and over the weighted walkers",
            Axis::Linear,
            vec![
                line("data", values(metrics, |m| m.energy_data)),
                line("walkers", values(metrics, |m| m.energy_walkers)),
            ],
        ),
        curve(
            "speed",
            "Speed",
            "walkers times kernel steps, per second",
            Axis::Linear,
            one("per second", &|m| m.walker_steps_per_s),
        ),
    ];
    for curve in &mut curves {
        curve.lines.retain(|line| line.last.is_some());
    }
    curves.retain(|curve| !curve.lines.is_empty());
    curves
}

fn log_z(metrics: &[MetricsLine]) -> Curve {
    let audit: Vec<Point> = metrics
        .iter()
        .filter_map(|m| m.log_z_audit.map(|e| (m.step, e)))
        .map(|(step, e)| Point { x: step as f64, y: e.value, half: 2.0 * e.standard_error })
        .collect();
    let note = "on-line: what the training walkers say. θ follows the same walkers, so it is biased low and is no estimate of \
                the model's log Z";
    let learned = values(metrics, |m| m.log_z_learned.unwrap_or(f64::NAN));
    let note = if learned.iter().any(|point| point.y.is_finite()) {
        "learned: a parameter of the objective beside the energy, no estimate by sampling"
    } else {
        note
    };
    let more = if audit.is_empty() { "" } else { "; audit: an independent ensemble, ± 2 standard errors" };
    Curve {
        id: "log-z",
        title: "log Z",
        note: format!("{note}{more}"),
        axis: Axis::Linear,
        lines: vec![
            line("on-line, not the model's", values(metrics, |m| m.log_z_online)),
            line("audit ± 2 s.e.", audit),
            line("learned", learned),
        ],
        level: None,
    }
}

fn mode_weights(metrics: &[MetricsLine]) -> Curve {
    let newest = metrics.iter().rev().find_map(|m| m.mode_weights.clone()).unwrap_or_default();
    let mut modes: Vec<usize> = (0..newest.len()).collect();
    modes.sort_by(|&a, &b| newest[b].total_cmp(&newest[a]));
    modes.truncate(MOST_LINES);
    modes.sort_unstable();
    let of = |mode: usize| {
        move |m: &MetricsLine| m.mode_weights.as_ref().and_then(|w| w.get(mode)).copied().unwrap_or(f64::NAN)
    };
    let lines =
        modes.iter().map(|&mode| line(format!("mode {}", mode + 1), values(metrics, of(mode)))).collect();
    let note = if newest.len() > MOST_LINES {
        format!("what the model puts on each mode of the data: the {MOST_LINES} heaviest of {}", newest.len())
    } else {
        "what the model puts on each mode of the data".to_owned()
    };
    Curve { id: "mode-weights", title: "Masses", note, axis: Axis::Fraction, lines, level: None }
}
