//! The runs of a comparison, each by a program of its own: some at a time, none twice, and one that was interrupted goes on.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::Value;

use super::child::run_to_end;
use super::plan::{Method, Plan, problem};
use crate::config::Config;
use crate::error::Error;
use crate::logging;
use crate::store::checkpoint::{self, step_of};
use crate::store::record::first_difference;
use crate::training::run::Signals;

/// One run and its evaluation.
pub struct Job {
    /// Index of the method.
    pub method: usize,
    /// The seed.
    pub seed: u64,
    /// The run folder.
    pub run: PathBuf,
    /// The evaluation, one JSON object.
    pub evaluation: PathBuf,
    log: PathBuf,
}

impl Job {
    /// The program's arguments that make the run.
    pub fn train(&self, method: &Method) -> Vec<String> {
        let set = method.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]);
        let fixed =
            ["train", &method.config.display().to_string(), "--seed", &self.seed.to_string(), "--out"];
        let run = self.run.display().to_string();
        fixed.map(ToOwned::to_owned).into_iter().chain([run]).chain(set).collect()
    }

    fn what(&self, method: &Method) -> String {
        format!("{}, seed {}", method.name, self.seed)
    }
}

/// Every run of a plan, under the folder `out`.
pub fn jobs(plan: &Plan, out: &Path) -> Vec<Job> {
    let job = |(method, seed): (usize, u64)| {
        let name = format!("{}-seed{seed}", plan.methods[method].slug);
        Job {
            method,
            seed,
            run: out.join("runs").join(&name),
            evaluation: out.join("evaluations").join(format!("{name}.json")),
            log: out.join("logs").join(format!("{name}.log")),
        }
    };
    let pairs = (0..plan.methods.len()).flat_map(|method| plan.seeds.iter().map(move |&seed| (method, seed)));
    pairs.map(job).collect()
}

/// Refuses a folder that is a run's or holds runs on other data, and runs that are there and are of another config than the plan's.
///
/// # Errors
/// The first of them, with the key that differs.
pub fn check_folders(plan: &Plan, jobs: &[Job], out: &Path) -> Result<(), Error> {
    if out.join("config.toml").is_file() {
        return Err(Error::usage(format!("{}: this is a run folder: give another --out", out.display())));
    }
    let asked = problem(&plan.methods[0].resolved);
    for entry in fs::read_dir(out.join("runs")).into_iter().flatten().flatten() {
        let path = entry.path().join("config.toml");
        // What cannot be read is none of this comparison's.
        let Ok(found) = Config::load(&path, &Default::default()) else { continue };
        if problem(&found.config) != asked {
            return Err(Error::usage(format!(
                "{}: this run is of another [dataset] than the comparison: remove the folder, or give another --out",
                entry.path().display()
            )));
        }
    }
    for job in jobs {
        let path = job.run.join("config.toml");
        if !path.is_file() {
            continue;
        }
        let found = Config::load(&path, &Default::default())?.config;
        if let Some(key) = first_difference(&found, &plan.methods[job.method].at(job.seed)?) {
            return Err(Error::usage(format!(
                "{}: this run was trained with another {key} than the comparison asks for: remove the folder, or give another --out",
                job.run.display()
            )));
        }
    }
    Ok(())
}

/// What became of a job: nothing to say, or why it failed.
pub type Outcome = Result<(), String>;

/// Runs and evaluates whatever is not there yet, `count` at a time; outcomes in the order of the jobs.
///
/// # Errors
/// A folder that cannot be made; the signal that ended a run.
pub fn run_all(plan: &Plan, jobs: &[Job], count: usize, device: &str) -> Result<Vec<Outcome>, Error> {
    for job in jobs {
        for path in [&job.run, &job.evaluation, &job.log] {
            let folder = path.parent().unwrap_or(Path::new(""));
            fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
        }
    }
    let signals = Signals::listen("")?;
    signals.defer();
    let program = std::env::current_exe().map_err(|error| Error::io("the program itself", error))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / count).max(1).to_string();
    let (next, done, stopped) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let outcomes: Vec<Mutex<Option<Result<Outcome, Error>>>> =
        jobs.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return };
            if stopped.load(Ordering::Relaxed) || signals.seen().is_some() {
                return;
            }
            let runner = Runner { program: &program, device, threads: &threads, signals: &signals };
            let method = &plan.methods[job.method];
            let begun = Instant::now();
            let outcome = runner.make(method, job);
            let said = match &outcome {
                Ok(Ok(true)) => format!("done in {:.0} s", begun.elapsed().as_secs_f64()),
                Ok(Ok(false)) => "was there".to_owned(),
                Ok(Err(message)) => format!("failed: {message}"),
                Err(error) => error.to_string(),
            };
            stopped.fetch_or(outcome.is_err(), Ordering::Relaxed);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            logging::note(&format!("[{done}/{}] {}: {said}", jobs.len(), job.what(method)));
            let mut place = outcomes[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *place = Some(outcome.map(|outcome| outcome.map(|_| ())));
        }
    };
    std::thread::scope(|scope| (0..count).for_each(|_| drop(scope.spawn(work))));
    if let Some(signal) = signals.seen() {
        logging::note("the same command goes on where this ends");
        return Err(Error::Interrupted { signal });
    }
    let outcome = |place: Mutex<Option<Result<Outcome, Error>>>| {
        let found = place.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        found.unwrap_or_else(|| Ok(Err("not run".to_owned())))
    };
    outcomes.into_iter().map(outcome).collect()
}

struct Runner<'a> {
    program: &'a Path,
    device: &'a str,
    threads: &'a str,
    signals: &'a Signals,
}

impl Runner<'_> {
    /// Whether anything was left to do; a run that fails says why.
    fn make(&self, method: &Method, job: &Job) -> Result<Result<bool, String>, Error> {
        let complete = reached(&job.run) == Some(method.resolved.steps);
        if complete && evaluation(&job.evaluation).is_some() {
            return Ok(Ok(false));
        }
        if !complete {
            let run = job.run.display().to_string();
            let args = match job.run.join("config.toml").is_file() {
                true => vec!["resume".to_owned(), run],
                false => job.train(method),
            };
            if let Err(message) = self.program(&args, job, None)? {
                return Ok(Err(message));
            }
        }
        // Written whole or not at all: an evaluation that was killed leaves none.
        let partial = job.evaluation.with_extension("partial");
        let args = ["eval".to_owned(), job.run.display().to_string(), "--json".to_owned()];
        if let Err(message) = self.program(&args, job, Some(&partial))? {
            return Ok(Err(message));
        }
        fs::rename(&partial, &job.evaluation).map_err(|error| Error::io(&job.evaluation, error))?;
        Ok(Ok(true))
    }

    fn program(&self, args: &[String], job: &Job, out: Option<&Path>) -> Result<Outcome, Error> {
        let log = File::options().create(true).append(true).open(&job.log);
        let log = log.map_err(|error| Error::io(&job.log, error))?;
        let stdout = match out {
            Some(path) => Stdio::from(File::create(path).map_err(|error| Error::io(path, error))?),
            None => Stdio::null(),
        };
        let mut command = Command::new(self.program);
        command.args(args).args(["--device", self.device]).stdin(Stdio::null()).stdout(stdout).stderr(log);
        if std::env::var_os("RAYON_NUM_THREADS").is_none() {
            command.env("RAYON_NUM_THREADS", self.threads);
        }
        let status =
            run_to_end(&mut command, self.signals).map_err(|error| Error::io(self.program, error))?;
        if status.success() {
            return Ok(Ok(()));
        }
        match signal(status) {
            Some(signal) => Err(Error::Interrupted { signal }),
            None => Ok(Err(format!("{} (all of it: {})", last_line(&job.log), job.log.display()))),
        }
    }
}

/// The signal that ended a program, or that it says ended it.
fn signal(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return Some(signal);
    }
    status.code().filter(|code| [129, 130, 143].contains(code)).map(|code| code - 128)
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = text.lines().rev().find(|line| line.starts_with("error: ")).or(text.lines().last());
    line.unwrap_or("it said nothing").trim_start_matches("error: ").to_owned()
}

/// The update of a run's newest checkpoint.
fn reached(run: &Path) -> Option<u64> {
    let dir = checkpoint::newest_dir(run).ok()?;
    step_of(dir.file_name()?.to_str()?)
}

/// An evaluation that is there.
pub fn evaluation(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
