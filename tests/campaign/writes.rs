//! Every call on a run's files made to fail in turn, then the run gone on with, against the run that nothing happened to.
//!
//! A shim in C (`failing.c`, built with `cc`, loaded with LD_PRELOAD; Linux) fails one call of the C library, or every call from one on, as a
//! full disk does. The run must end with an exit code of the contract, and a resume without the shim must come out the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::small::{small, with};

use crate::kills::{MIXTURE, compare, has_checkpoint};
use crate::program;

/// A run of 30 updates with checkpoints at every tenth.
const SHORT: &str =
    "steps = 30\noptimizer.ema = 0.9\naudit.every = 10\noutput.log_every = 5\noutput.checkpoint_every = 10\n";

/// No space, input/output error, no permission, too many open files.
const ERRORS: [i32; 4] = [28, 5, 13, 24];

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Calls that a run makes.
    pub calls: usize,
    /// Runs with a failing call.
    pub runs: usize,
    /// Of these, how many ended with each of 0, 1 and 2.
    pub codes: [usize; 3],
    /// What went otherwise than it should.
    pub lost: Vec<String>,
}

/// Fails every `stride`-th call, once and from then on.
///
/// # Panics
/// If there is no C compiler, the run fails without a fault, or the scratch folder cannot be written.
pub fn campaign(ember: &Path, folder: &Path, stride: usize) -> Outcome {
    let shim = folder.join("failing.so");
    let source = folder.join("failing.c");
    fs::write(&source, include_str!("failing.c")).expect("a scratch folder");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&shim)
        .arg(&source)
        .arg("-ldl")
        .status();
    assert!(built.expect("cc starts").success(), "the shim does not compile");
    fs::write(folder.join("config.toml"), with(&small(MIXTURE), SHORT)).expect("a config");
    let setting = Setting { ember, folder, shim: &shim };

    let whole = folder.join("whole");
    // The name given is the name that calls see.
    let out = whole.display().to_string();
    let (status, said) = setting.run(&["train", "config.toml", "--out", &out], Some((&whole, 0, 0, false)));
    assert!(status.success(), "the run without a fault fails: {said}");
    let calls = fs::read_to_string(folder.join("calls")).expect("the shim counts");
    let mut outcome = Outcome { calls: calls.trim().parse().expect("a number"), ..Outcome::default() };
    assert!(outcome.calls > 20, "the shim sees {} calls", outcome.calls);
    for at in (1..=outcome.calls).step_by(stride) {
        for on in [false, true] {
            let error = ERRORS[(at + usize::from(on)) % ERRORS.len()];
            outcome.runs += 1;
            if let Err(what) = setting.one(&whole, at, error, on, &mut outcome.codes) {
                let kind = if on { "and all after it" } else { "alone" };
                outcome.lost.push(format!("call {at} {kind}, errno {error}: {what}"));
            }
        }
    }
    outcome
}

struct Setting<'a> {
    ember: &'a Path,
    folder: &'a Path,
    shim: &'a Path,
}

impl Setting<'_> {
    /// The run's end and what it said on stderr. `fault`: below which folder, which call, which error, and whether all after it.
    fn run(&self, args: &[&str], fault: Option<(&Path, usize, i32, bool)>) -> (ExitStatus, String) {
        let mut command = program::ember(self.ember, self.folder, args);
        command.args(["--device", "flex"]);
        if let Some((under, at, error, on)) = fault {
            command
                .env("LD_PRELOAD", self.shim)
                .env("FAIL_UNDER", under)
                .env("FAIL_COUNT", self.folder.join("calls"));
            command.env("FAIL_AT", at.to_string()).env("FAIL_ERRNO", error.to_string());
            command.env("FAIL_ON", u8::from(on).to_string());
        }
        let output = command.output().expect("ember starts");
        (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
    }

    fn one(
        &self,
        whole: &Path,
        at: usize,
        error: i32,
        on: bool,
        codes: &mut [usize; 3],
    ) -> Result<(), String> {
        let run: PathBuf = self.folder.join("run");
        if run.exists() {
            fs::remove_dir_all(&run).map_err(|error| error.to_string())?;
        }
        let out = run.display().to_string();
        let (status, said) = self.run(&["train", "config.toml", "--out", &out], Some((&run, at, error, on)));
        match status.code() {
            Some(code @ 0..=2) => codes[code as usize] += 1,
            _ => return Err(format!("ended with {status}: {said}")),
        }
        if !status.success() && !said.contains("error:") {
            return Err(format!("ended with {status} and does not say why: {said}"));
        }
        if !status.success() {
            let (status, said) = match has_checkpoint(&run) {
                true => self.run(&["resume", &out], None),
                false => {
                    let _ = fs::remove_dir_all(&run);
                    self.run(&["train", "config.toml", "--out", &out], None)
                }
            };
            if !status.success() {
                return Err(format!("afterwards it ended with {status}: {said}"));
            }
        }
        compare(whole, &run)
    }
}
