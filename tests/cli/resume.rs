//! A run that is interrupted, killed or damaged goes on as if nothing had happened.

use std::time::{Duration, Instant};

use crate::kills;
use crate::support::{FLOW, MLP, Scratch, TOY, metrics, model_bytes, stderr};

fn assert_same_run(scratch: &Scratch, run: &str, steps: u64) {
    let (whole, parts) = (scratch.path("whole"), scratch.path(run));
    assert_eq!(metrics(&whole), metrics(&parts), "{run}: metrics differ");
    assert!(model_bytes(&whole, steps) == model_bytes(&parts, steps), "{run}: weights differ");
}

#[test]
fn a_resumed_run_equals_one_never_interrupted() {
    // A learning rate that follows the ess, and a loss of the walkers' last step.
    let target = TOY.replace("learning_rate = 0.02", "learning_rate = 0.02\ntarget_ess = 0.98");
    let improved = MLP.replace("mala", "ula").replace("jarzynski", "improved_cd");
    for (config, half, steps) in [
        (TOY, "30", "60"),
        (MLP, "10", "20"),
        (FLOW, "7", "20"),
        (&target, "30", "60"),
        (&improved, "7", "20"),
    ] {
        let scratch = Scratch::new(config);
        scratch.ok(&["train", "toy.toml", "--out", "whole", "--device", "flex"]);
        scratch.ok(&["train", "toy.toml", "--out", "parts", "--device", "flex", "--steps", half]);
        scratch.ok(&["resume", "parts", "--device", "flex", "--steps", steps]);
        assert_same_run(&scratch, "parts", steps.parse().expect("a number"));
    }
}

/// A twentieth of `campaign kills`, which is a command of its own.
#[test]
fn runs_killed_at_random_moments_equal_those_never_interrupted() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (ember, folder) = (env!("CARGO_BIN_EXE_ember").into(), scratch.path().to_owned());
    let options = kills::Options { ember, kills: 50, seed: 1, folder };
    let outcome = kills::campaign(&options, |name, outcome| println!("{} kills: {name}", outcome.kills));
    assert!(outcome.lost.is_empty() && outcome.runs >= kills::RUNS.len(), "{outcome:?}");
    // What differs is seen.
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "one", "--device", "flex"]);
    scratch.ok(&["train", "toy.toml", "--out", "again", "--device", "flex"]);
    scratch.ok(&["train", "toy.toml", "--out", "other", "--device", "flex", "--seed", "4"]);
    assert_eq!(kills::compare(&scratch.path("one"), &scratch.path("again")), Ok(()));
    assert!(kills::compare(&scratch.path("one"), &scratch.path("other")).is_err());
}

#[test]
fn signals_end_the_update_write_a_checkpoint_and_say_how_to_go_on() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let config = TOY
            .replace("steps = 60", "steps = 200000")
            .replace("checkpoint_every = 20", "checkpoint_every = 100000");
        let scratch = Scratch::new(&config);
        let child = scratch
            .command(&["train", "toy.toml", "--out", "run", "--device", "flex"])
            .spawn()
            .expect("ember starts");
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::fs::read(scratch.path("run/metrics.jsonl")).map_or(0, |bytes| bytes.len()) == 0 {
            assert!(Instant::now() < deadline, "no metrics in 30 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        let kill = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        let output = child.wait_with_output().expect("ember ends");
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
        assert!(stderr(&output).contains("ember resume run"), "{}", stderr(&output));
        let checkpoints = std::fs::read_dir(scratch.path("run/checkpoints")).expect("checkpoints").count();
        assert_eq!(checkpoints, 2, "one checkpoint and `latest`");
        let latest = std::fs::read_to_string(scratch.path("run/checkpoints/latest")).expect("latest");
        let step: u64 = latest.trim().trim_start_matches("step_").parse().expect("a step");
        scratch.ok(&["resume", "run", "--device", "flex", "--steps", &(step + 10).to_string()]);
    }
}

#[test]
fn a_damaged_checkpoint_is_skipped_and_the_run_comes_out_the_same() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "whole", "--device", "flex"]);
    scratch.ok(&["train", "toy.toml", "--out", "parts", "--device", "flex", "--steps", "40"]);
    let victim = scratch.path("parts/checkpoints/step_00000040/walkers.safetensors");
    let mut bytes = std::fs::read(&victim).expect("walkers");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&victim, bytes).expect("damaged");
    let output = scratch.ember(&["resume", "parts", "--device", "flex", "--steps", "60"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("walkers.safetensors"), "no warning: {}", stderr(&output));
    assert_same_run(&scratch, "parts", 60);
}

#[test]
fn no_intact_checkpoint_is_an_error() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    for step in [20, 40, 60] {
        let path = scratch.path(&format!("run/checkpoints/step_{step:08}/state.json"));
        let text = std::fs::read(&path).expect("a state");
        std::fs::write(&path, &text[..text.len() / 2]).expect("truncated");
    }
    scratch.fails(&["resume", "run", "--device", "flex", "--steps", "80"], 2, &["state.json", "intact"]);
}
