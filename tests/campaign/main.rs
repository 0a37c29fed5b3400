//! Long tests of `ember`, for anyone to run: `cargo run --release -p ember-tests --bin campaign -- kills 1000`.

mod kills;
mod program;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
campaign kills [COUNT] [SEED]    COUNT kills (1,000) of runs at random moments, against runs never killed
campaign writes [STRIDE]         every STRIDE-th (1) call on a run's files fails in turn, once and from then on; Linux, needs cc
campaign coverage [RUNS]         how often the 95 % intervals of log Z and of masses hold the exact value, of RUNS (1,000) runs of each of two families
campaign calibration [RUNS]      whether every kernel's draws have uniform ranks, over RUNS (1,000) simulated data sets each

The program is `ember` beside this one, or what EMBER names. Scratch is in TMPDIR. Ends with 1 if anything is lost, coverage is not 95 ± 2 %, or ranks are not uniform.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, otherwise: u64| match args.get(i) {
        None => Some(otherwise),
        Some(text) => text.parse().ok(),
    };
    match (args.first().map(String::as_str), number(1, 1_000), number(2, 1)) {
        (Some("kills"), Some(count), Some(seed)) => kills(count as usize, seed),
        (Some("writes"), ..) => writes(number(1, 1).unwrap_or(1).max(1) as usize),
        (Some("coverage"), Some(runs), _) => coverage(runs.max(1)),
        (Some("calibration"), Some(runs), _) => calibration(runs.max(1)),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn ember() -> PathBuf {
    let beside = || std::env::current_exe().expect("this program has a path").with_file_name("ember");
    std::env::var_os("EMBER").map_or_else(beside, PathBuf::from)
}

fn kills(count: usize, seed: u64) -> ExitCode {
    let folder = std::env::temp_dir().join(format!("ember-kills-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let options = kills::Options { ember: ember(), kills: count, seed, folder: folder.clone() };
    let outcome = kills::campaign(&options, |name, outcome| {
        println!("{} kills, {} runs, {} lost: {name}", outcome.kills, outcome.runs, outcome.lost.len());
    });
    println!(
        "{} kills ({} before a first checkpoint, {} while something was being written) of {} runs: {} lost",
        outcome.kills,
        outcome.before_first,
        outcome.while_writing,
        outcome.runs,
        outcome.lost.len()
    );
    if outcome.lost.is_empty() {
        std::fs::remove_dir_all(&folder).expect("a scratch folder can be removed");
        return ExitCode::SUCCESS;
    }
    outcome.lost.iter().for_each(|what| println!("lost: {what}"));
    println!("the folders are in {}", folder.display());
    ExitCode::FAILURE
}

fn writes(stride: usize) -> ExitCode {
    let folder = std::env::temp_dir().join(format!("ember-writes-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let outcome = writes::campaign(&ember(), &folder, stride);
    let [good, failed, refused] = outcome.codes;
    println!(
        "{} calls of a run; {} runs with one that fails, or all from one on: {good} ended with 0, {failed} with 1, {refused} with 2; {} lost",
        outcome.calls,
        outcome.runs,
        outcome.lost.len()
    );
    outcome.lost.iter().for_each(|what| println!("lost: {what}"));
    std::fs::remove_dir_all(&folder).expect("a scratch folder can be removed");
    if outcome.lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn coverage(runs: u64) -> ExitCode {
    // Seeds that no test has.
    let first = 1_000_000;
    let found = ember_tests::coverage::coverage(first..first + runs, ember_tests::coverage::Plan::ALL);
    let off: Vec<_> = found.0.iter().filter(|intervals| !intervals.is_as_claimed(0.02)).collect();
    found.0.iter().for_each(|intervals| println!("{intervals}"));
    off.iter().for_each(|intervals| println!("not as claimed: {intervals}"));
    if off.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn calibration(runs: u64) -> ExitCode {
    let first = 2_000_000;
    let found = ember_tests::calibration::calibration(first..first + runs);
    found.iter().for_each(|ranks| println!("{ranks}"));
    match found.iter().all(ember_tests::calibration::Ranks::is_uniform) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
