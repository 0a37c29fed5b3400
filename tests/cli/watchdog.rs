//! The watchdog through the program: rolls back, goes on, is deterministic, gives up.

use crate::support::{MLP, Scratch, metrics, model_bytes, stderr};

/// A learning rate that lets the network's energies explode, checkpoints often enough to come back to.
fn diverging(rollbacks: u32) -> String {
    let config = MLP
        .replace("steps = 20", "steps = 40")
        .replace("learning_rate = 0.005", "learning_rate = 0.5")
        .replace("checkpoint_every = 10", "checkpoint_every = 4");
    format!(
        "{config}\n[watchdog]\nmax_rollbacks = {rollbacks}\nlearning_rate_factor = 0.1\nmax_energy_gap = 3.0\n"
    )
}

fn events(scratch: &Scratch, run: &str) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(scratch.path(run).join("events.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect()
}

#[test]
fn a_diverging_run_rolls_back_and_goes_on() {
    let scratch = Scratch::new(&diverging(8));
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    let events = events(&scratch, "run");
    assert!(!events.is_empty(), "the run must diverge for this test to mean something");
    for (i, event) in events.iter().enumerate() {
        assert_eq!(event["event"], "rollback");
        assert_eq!(event["rollbacks"], i as u64 + 1);
        assert!(event["to_step"].as_u64() <= event["step"].as_u64());
        let scale = event["learning_rate_scale"].as_f64().expect("a number");
        assert!((scale / 0.1f64.powi(i as i32 + 1) - 1.0).abs() < 1e-9, "{scale}");
    }
    let lines = metrics(&scratch.path("run"));
    let steps: Vec<u64> = lines.iter().map(|line| line["step"].as_u64().expect("a step")).collect();
    assert!(steps.windows(2).all(|pair| pair[0] < pair[1]), "{steps:?}");
    assert_eq!(steps.last(), Some(&40));
    let last = lines.last().and_then(|line| line["learning_rate"].as_f64()).expect("a number");
    assert!(last < 0.051, "{last}");
}

#[test]
fn a_resumed_run_rolls_back_the_same_way() {
    let scratch = Scratch::new(&diverging(8));
    scratch.ok(&["train", "toy.toml", "--out", "whole", "--device", "flex"]);
    // Stopped before the first rollback, and after it.
    let first = events(&scratch, "whole")[0]["step"].as_u64().expect("a step").max(2);
    for (run, steps) in [("early", first - 1), ("late", 24)] {
        scratch.ok(&["train", "toy.toml", "--out", run, "--device", "flex", "--steps", &steps.to_string()]);
        scratch.ok(&["resume", run, "--device", "flex", "--steps", "40"]);
        assert_eq!(metrics(&scratch.path("whole")), metrics(&scratch.path(run)), "{run}");
        assert_eq!(model_bytes(&scratch.path("whole"), 40), model_bytes(&scratch.path(run), 40), "{run}");
        assert_eq!(events(&scratch, "whole"), events(&scratch, run), "{run}");
    }
}

#[test]
fn a_run_that_cannot_be_saved_gives_up_with_a_checkpoint() {
    let config = diverging(2).replace("max_energy_gap = 3.0", "max_energy_gap = 1e-9");
    let scratch = Scratch::new(&config);
    let text = scratch.fails(
        &["train", "toy.toml", "--out", "run", "--device", "flex"],
        1,
        &["energy gap", "watchdog.max_rollbacks = 2 are used up", "The last good checkpoint"],
    );
    assert_eq!(events(&scratch, "run").len(), 2, "{text}");
}

#[test]
fn without_a_watchdog_a_divergence_ends_the_run() {
    let config = diverging(0).replace("learning_rate = 0.5", "learning_rate = 1e30");
    let scratch = Scratch::new(&config);
    let output = scratch.ember(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(!scratch.path("run/events.jsonl").exists());
}

#[test]
fn watchdog_values_are_checked() {
    let scratch = Scratch::new(MLP);
    for (set, words) in [
        ("watchdog.learning_rate_factor=0", ["watchdog.learning_rate_factor", "(0, 1]"]),
        ("watchdog.max_energy_gap=-1", ["watchdog.max_energy_gap", "> 0"]),
        ("watchdog.max_rolbacks=1", ["max_rolbacks", "did you mean `max_rollbacks`"]),
        ("optimizer.ema=1.0", ["optimizer.ema", "[0, 1)"]),
        ("optimizer.target_ess=1.5", ["optimizer.target_ess", "between 0 and 1"]),
        ("objective={ kind = \"improved_cd\" }", ["kernel.kind", "\"ula\""]),
        ("kernel.paper={ step = 10.0, noise = 0.005 }", ["step_size", "leave one of the two out"]),
        ("objective.energy_l2=-1.0", ["objective.energy_l2", "≥ 0"]),
        ("walkers.moved_per_update=1000", ["walkers.moved_per_update", "at most walkers.count = 128"]),
        ("walkers.moved_per_update=0", ["walkers.moved_per_update", "at least 1"]),
        ("walkers.flush_every=0", ["walkers.flush_every", "at least 1"]),
        ("walkers.flush_every=10", ["walkers.flush_every", "set walkers.moved_per_update"]),
        ("kernel.temperature=0.0", ["kernel.temperature", "> 0"]),
        ("kernel.drift_clip=-0.1", ["kernel.drift_clip", "> 0"]),
    ] {
        scratch.fails(&["train", "toy.toml", "--out", "run", "--set", set], 2, &words);
    }
    assert_eq!(scratch.leftovers(), Vec::<String>::new());
}
