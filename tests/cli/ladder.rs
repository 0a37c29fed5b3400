//! `--ladder` of `ember eval` and `ember sample`: parallel tempering over a run's checkpoints.

use crate::small::{small, with};
use crate::support::{FLOW, Scratch};

/// Two modes in the plane, a checkpoint every 5 updates.
fn ladder_run(checkpoints: usize) -> String {
    let changes = format!(
        "steps = 60\noptimizer.learning_rate = 0.02\noutput.checkpoint_every = 5\noutput.keep_checkpoints = {checkpoints}"
    );
    small(&changes)
}

#[test]
fn log_z_masses_and_samples_by_a_ladder() {
    let scratch = Scratch::new(&ladder_run(1_000));
    scratch.ok(&["train", "toy.toml", "--out", "net", "--device", "flex"]);
    let sizes = ["--ladder", "--ladder-chains", "60", "--ladder-sweeps", "120", "--device", "flex"];
    let text = scratch.ok(&[&["eval", "net", "--json"][..], &sizes].concat());
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    assert_eq!(
        (&found["log_z"]["method"], &found["log_z"]["repeats"]),
        (&"ladder".into(), &64.into()),
        "{found}"
    );
    let (value, se) = (number(&found["log_z"]["value"]), number(&found["log_z"]["standard_error"]));
    assert!(
        (value - number(&found["log_z_grid"])).abs() < 5.0 * se + 1e-4 && se < 0.05,
        "{}",
        found["log_z"]
    );
    let ladder = &found["ladder"];
    let rungs = ladder["rungs"].as_array().expect("rungs");
    assert_eq!((&rungs[0]["step"], &rungs[rungs.len() - 1]["step"]), (&0.into(), &60.into()));
    assert_eq!(
        (&ladder["candidates"], &ladder["kernel"]["kind"]),
        (&13.into(), &"mala".into()),
        "ULA moves no rung"
    );
    assert!(rungs.len() < 13 && number(&rungs[0]["swap_rate"]) > 0.15, "{ladder}");
    assert!(number(&ladder["round_trips"]) > 64.0 && ladder["doubtful"] == false, "{ladder}");
    let table = scratch.ok(&[&["eval", "net", "--estimators", "smc"][..], &sizes].concat());
    for part in ["(ladder, 64 repeats", "(smc, 8 repeats", "round trips; ", "exchanges 0.", "update 60"] {
        assert!(table.contains(part), "{part}: {table}");
    }
    scratch.ok(&[
        "sample", "net", "--ladder", "--count", "700", "--out", "s.csv", "--seed", "3", "--device", "flex",
    ]);
    let csv = std::fs::read_to_string(scratch.path("s.csv")).expect("samples");
    assert_eq!(csv.lines().filter(|line| !line.starts_with(char::is_alphabetic)).count(), 700);
    // A checkpoint of the run has those before it.
    let text = scratch.ok(&[&["eval", "net/checkpoints/step_00000020", "--json"][..], &sizes].concat());
    let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(found["ladder"]["candidates"], 5, "{}", found["ladder"]);
}

#[test]
fn what_has_no_ladder_is_told_so() {
    let scratch = Scratch::new(&ladder_run(1));
    scratch.ok(&["train", "toy.toml", "--out", "net", "--device", "flex"]);
    let commands: [&[&str]; 2] = [&["eval"], &["sample", "--count", "10", "--out", "s.npz"]];
    for command in commands {
        let fails = |path: &str, words: &[&str]| {
            let args = [&command[..1], &[path, "--ladder", "--device", "flex"], &command[1..]].concat();
            scratch.fails(&args, 2, words);
        };
        fails("net", &["--ladder", "one checkpoint", "output.keep_checkpoints", "output.checkpoint_every"]);
        if command.len() == 1 {
            scratch.ok(&["export", "net", "--out", "m.safetensors"]);
        }
        fails("m.safetensors", &["--ladder", "weight file", "run folder"]);
    }
    let sample = ["sample", "net", "--count", "9", "--out", "s.npz", "--ladder", "--steps", "3"];
    scratch.fails(&sample, 2, &["--ladder", "--steps"]);
    scratch.fails(&["eval", "net", "--ladder-sweeps", "9"], 2, &["--ladder"]);
    for wrong in ["0", "1", "many"] {
        scratch.fails(&["eval", "net", "--ladder", "--ladder-chains", wrong], 2, &["--ladder-chains", wrong]);
    }
    let scratch = Scratch::new(&with(FLOW, "output.checkpoint_every = 5"));
    scratch.ok(&["train", "toy.toml", "--out", "flow", "--device", "flex"]);
    scratch.fails(&["eval", "flow", "--ladder", "--device", "flex"], 2, &["--ladder", "a flow", "exactly"]);
}

/// What has no log Z is refused before its ladder is run, and `--ais` without a start, too: not even the first checkpoint is opened.
#[test]
fn without_a_log_z_no_ladder_is_run() {
    let changes =
        "steps = 15\nenergy.confinement = 0.0\nwalkers.init = \"normal\"\nwalkers.unweighted_start = true";
    let scratch = Scratch::new(&with(&ladder_run(1_000), changes));
    scratch.ok(&["train", "toy.toml", "--out", "net", "--device", "flex"]);
    let fails = |args: &[&str]| {
        let said = scratch.fails(&[args, &["--device", "flex"]].concat(), 2, &[]);
        said.lines().last().expect("a line").to_owned()
    };
    let without = fails(&["eval", "net"]);
    assert!(without.contains("needs a tractable start"), "{without}");
    // What a ladder begins with.
    std::fs::write(scratch.path("net/checkpoints/step_00000005/walkers.safetensors"), "").expect("written");
    let run = fails(&["sample", "net", "--ladder", "--count", "9", "--out", "s.npz"]);
    assert!(run.contains("step_00000005"), "{run}");
    for more in [&[][..], &["--ais"], &["--ladder-chains", "8", "--ladder-sweeps", "9"]] {
        assert_eq!(fails(&[&["eval", "net", "--ladder"], more].concat()), without, "{more:?}");
    }
}
