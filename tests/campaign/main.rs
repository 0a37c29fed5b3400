//! Long tests of `ember`, for anyone to run: `cargo run --release -p ember-tests --bin campaign -- kills 1000`.

mod kills;
mod program;
mod soak;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;

use ember_tests::small;

const USAGE: &str = "\
campaign kills [COUNT] [SEED]    COUNT kills (1,000) of runs at random moments, against runs never killed
campaign writes [STRIDE]         every STRIDE-th (1) call on a run's files fails in turn, once and from then on; Linux, needs cc
campaign coverage [RUNS]         how often the 95 % intervals of log Z and of masses hold the exact value, of RUNS (1,000) runs of each of two families
campaign calibration [RUNS]      whether every kernel's draws have uniform ranks, over RUNS (1,000) simulated data sets each
campaign soak [UPDATES]          small runs of UPDATES (1,000,000): memory, disk, ess and energies; Linux

The program is `ember` beside this one, or what EMBER names. Scratch is in TMPDIR. Ends with 1 if anything is lost or not as it should be,
coverage is not 95 ± 2 %, or ranks are not uniform.";

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
        (Some("soak"), ..) => match number(1, 1_000_000) {
            Some(updates) => soak(updates.max(1_000)),
            None => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
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

fn soak(updates: u64) -> ExitCode {
    let folder = std::env::temp_dir().join(format!("ember-soak-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a scratch folder");
    let mut good = true;
    soak::campaign(&ember(), &folder, updates, |run| {
        println!("{}: address space at most {:.0} MB", run.name, run.limit_mb);
        for (tenth, [low, high]) in run.tenths.iter().enumerate() {
            println!(
                "  {} to {} updates: {low:.1} to {high:.1} MB resident",
                tenth as u64 * updates / 10,
                (tenth as u64 + 1) * updates / 10
            );
        }
        println!("  folder {:.2} MB, and {:.2} MB of metric lines", run.disk_mb[0], run.disk_mb[1]);
        for (key, (means, z)) in &run.quarters {
            println!("  {key}: third quarter {:.4}, last {:.4}, {z:+.1} s.e.", means[0], means[1]);
        }
        let [data, walkers] = run.energies;
        println!(
            "  energies of data {:.3} and {:.3}, of walkers {:.3} and {:.3}",
            data[0], data[1], walkers[0], walkers[1]
        );
        run.faults.iter().for_each(|fault| println!("  fault: {fault}"));
        good &= run.faults.is_empty();
    });
    if good {
        std::fs::remove_dir_all(&folder).expect("a scratch folder can be removed");
        return ExitCode::SUCCESS;
    }
    println!("the folders are in {}", folder.display());
    ExitCode::FAILURE
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
