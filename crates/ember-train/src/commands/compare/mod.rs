//! `ember compare`: methods on one problem, each with several seeds, by one yardstick.

mod child;
mod densities;
mod jobs;
mod plan;
mod results;
mod sweep;
mod table;

use std::path::{Path, PathBuf};

use burn::tensor::Device;

use crate::cli::{CompareArgs, CompareHow, SweepArgs};
use crate::error::Error;
use crate::store::checkpoint::atomic;
use crate::store::lock::RunLock;
use crate::store::opened;
use crate::view::comparison::{self, Panel};
use crate::{device, logging, shell};
use densities::Place;
use jobs::{Job, check_folders, jobs, run_all};
use plan::Plan;
use results::{Results, collect};

pub(super) fn run(args: &CompareArgs) -> Result<(), Error> {
    logging::init();
    let plan = Plan::read(&args.file)?;
    let out = args.out.clone().unwrap_or_else(|| default_out("compare", &args.file));
    let command = format!("ember compare {}{}", shell::quoted(&args.file), given(args.out.as_deref()));
    made(&plan, &out, command, &args.how)
}

/// `ember sweep`.
pub(super) fn sweep(args: &SweepArgs) -> Result<(), Error> {
    logging::init();
    let plan = sweep::plan(&args.config, &args.set, args.seeds)?;
    let out = args.out.clone().unwrap_or_else(|| default_out("sweep", &args.config));
    let sets = args.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]);
    let words = ["sweep".to_owned(), args.config.display().to_string()].into_iter().chain(sets);
    let command = shell::words("ember", &words.collect::<Vec<_>>());
    let command = format!("{command} --seeds {}{}", args.seeds, given(args.out.as_deref()));
    made(&plan, &out, command, &args.how)
}

fn made(plan: &Plan, out: &Path, command: String, args: &CompareHow) -> Result<(), Error> {
    // A device that is not there is better said once than by every run.
    device::select(&args.device.device)?;
    let all = jobs(plan, out);
    check_folders(plan, &all, out)?;
    std::fs::create_dir_all(out).map_err(|error| Error::unwritable(out, error))?;
    let _lock = RunLock::take(out)?;
    let outcomes = run_all(plan, &all, args.jobs as usize, &args.device.device)?;
    let results = collect(plan, &all, &outcomes);
    let json = serde_json::to_string(&results)
        .map_err(|error| Error::failed(format!("the results cannot be written as JSON: {error}")))?;
    let write = |name: &str, text: &str| {
        let path = out.join(name);
        atomic::write_file(&path, |file| std::io::Write::write_all(file, text.as_bytes())).map(|()| path)
    };
    write("results.json", &format!("{json}\n"))?;
    let page = write("compare.html", &comparison::page(&shown(plan, &all, &results, command)?))?;
    if args.json {
        super::print(&format!("{json}\n"))?;
    } else {
        super::print(&format!("{}\npage       {}\n", table::table(&results), shell::quoted(&page)))?;
    }
    match results.methods.iter().map(|method| method.failed).sum::<usize>() {
        0 => Ok(()),
        failed => Err(Error::failed(format!(
            "{failed} of {} runs failed: the table and the page say which and why; the same command tries them again",
            all.len()
        ))),
    }
}

/// `--out`, where it was given.
fn given(out: Option<&Path>) -> String {
    out.map(|out| format!(" --out {}", shell::quoted(out))).unwrap_or_default()
}

fn default_out(kind: &str, file: &Path) -> PathBuf {
    let stem = file.file_stem().map_or_else(|| "all".into(), |stem| stem.to_string_lossy().into_owned());
    Path::new("runs").join(format!("{kind}-{stem}"))
}

/// What the page shows: the results, and the densities of the first seed.
fn shown(plan: &Plan, all: &[Job], results: &Results, command: String) -> Result<comparison::Page, Error> {
    let config = plan.methods[0].at(plan.seeds[0])?;
    let data = config.dataset.as_dyn().generate(config.seed)?;
    let place = Place::around(&data);
    let mut panels = Vec::new();
    if let Some(truth) = config.dataset.as_dyn().truth() {
        panels.extend(place.truth(&truth).map(|shown| Panel { name: "the data's law".to_owned(), shown }));
    }
    for (index, method) in plan.methods.iter().enumerate() {
        let job = all.iter().find(|job| job.method == index && job.seed == plan.seeds[0]);
        let Some(job) = job.filter(|_| results.methods[index].runs[0].failed.is_none()) else { continue };
        let model = opened::open(&job.run, &Device::flex())?.model;
        let shown = place.model(&model, &data);
        panels.extend(shown.map(|shown| Panel { name: method.name.clone(), shown }));
    }
    let methods =
        plan.methods.iter().map(|method| method.swept).zip(&results.methods).map(|(swept, method)| {
            comparison::Method {
                name: method.name.clone(),
                swept,
                masses: method.masses.clone(),
                mass_error: method.mass_error,
                kl: method.kl,
                log_z_error: method.log_z_error,
                ess: method.ess,
                evaluations: method.evaluations,
                seconds: method.seconds,
                command: method.command.clone(),
                failures: method
                    .runs
                    .iter()
                    .filter_map(|run| Some((run.seed, run.failed.clone()?)))
                    .collect(),
            }
        });
    Ok(comparison::Page {
        title: plan.title.clone(),
        command,
        seeds: plan.seeds.clone(),
        data_masses: results.data_masses.clone(),
        law_masses: results.law_masses.clone(),
        methods: methods.collect(),
        swept: plan.swept.clone(),
        panels,
    })
}
