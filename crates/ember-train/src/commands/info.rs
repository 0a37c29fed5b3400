//! `ember info`: what a run, a checkpoint or a weight file holds.

use std::fmt::Write;

use crate::cli::InfoArgs;
use crate::config::short;
use crate::error::Error;
use crate::store::checkpoint::Source;
use crate::{device, logging, store::metrics, store::opened};

pub(super) fn run(args: &InfoArgs) -> Result<(), Error> {
    logging::init();
    let flex = device::select("flex")?.device;
    let source = Source::open(&args.path)?;
    let subject = opened::open(&args.path, &flex)?;
    let mut text = String::new();
    let kind = match &source {
        Source::Run { .. } => "run folder",
        Source::Checkpoint { .. } => "checkpoint",
        Source::WeightFile { .. } => "weight file",
    };
    let _ = writeln!(text, "{}: {kind}", args.path.display());
    let spec = subject.model.spec();
    let _ = writeln!(text, "energy      {} on samples of shape {}", spec.energy.kind(), spec.shape);
    if let Some(levels) = subject.model.levels() {
        let (count, [low, high]) = (levels.count(), levels.ends());
        let _ = writeln!(
            text,
            "levels      {count} of noise, σ {low} to {high}; this is the energy at the smallest (--level of `sample` and `eval` takes another)"
        );
    }
    if spec.temperature != 1.0 {
        let _ = writeln!(text, "temperature {}: the model is e^(−U/T)", short(spec.temperature));
    }
    text += &super::compose::composition(&subject.model);
    let _ = writeln!(text, "parameters  {}", subject.model.param_count());
    for param in subject.model.params() {
        let _ = writeln!(text, "            {:<18} {:?}", param.name, param.shape);
    }
    let _ = writeln!(text, "update      {}", subject.step);
    if let Some(config) = &subject.config {
        let _ = writeln!(text, "of          {}", config.steps);
        let _ = writeln!(text, "seed        {}", config.seed);
        let _ = writeln!(text, "dataset     {}", config.dataset.kind());
        let _ = writeln!(text, "objective   {}", config.objective.kind());
    }
    if let Some(walkers) = &subject.walkers {
        let _ = writeln!(
            text,
            "walkers     {} × {}{}",
            walkers.count(),
            walkers.dim(),
            // A weight file does not say.
            match &subject.config {
                Some(_) => format!(", {}", super::counted(walkers.resamplings.read(), "resampling")),
                None => String::new(),
            }
        );
    }
    if let Some(flow) = subject.proposal_flows.first() {
        let (count, kind) = (subject.proposal_flows.len(), flow.spec().energy.kind());
        let _ = writeln!(text, "proposals   {count} × {kind}, {} parameters each", flow.param_count());
    }
    if !subject.own_numbers.is_empty() {
        let count = subject.own_numbers.len();
        let _ = match subject.log_z_learned() {
            Some(learned) => writeln!(text, "own numbers {count}, log Z learned {learned:.4}"),
            None => writeln!(text, "own numbers {count} {:?}", subject.own_numbers),
        };
    }
    if let Some(audit) = &subject.audit {
        let repeats = audit.log_z.len();
        let _ =
            writeln!(text, "audit       {repeats} repeats of {} walkers", audit.walkers.count() / repeats);
    }
    if let Source::Run { dir, .. } = &source
        && let Some(last) = metrics::read(dir)?.last()
    {
        let _ = writeln!(text, "trained     {:.0} s to update {}", last.time_s, last.step);
    }
    super::print(&text)
}
