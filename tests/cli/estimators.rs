//! `ember eval --estimators` and `--mixing`: log Z several ways under each other, and how the kernel mixes.

use crate::support::{MLP, Scratch, TILTED, TOY};

fn json(scratch: &Scratch, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&scratch.ok(&[args, &["--json", "--device", "flex"]].concat())).expect("JSON")
}

fn methods(found: &serde_json::Value) -> Vec<&str> {
    let estimates = found["log_z_estimates"].as_array().expect("estimates");
    estimates.iter().map(|estimate| estimate["method"].as_str().expect("a name")).collect()
}

#[test]
fn eval_tells_log_z_by_every_estimator() {
    let scratch = Scratch::new(TILTED);
    scratch.ok(&["train", "toy.toml", "--out", "tilted", "--device", "flex"]);
    let found = json(&scratch, &["eval", "tilted"]);
    assert_eq!(found["log_z"]["method"], "smc");
    assert_eq!(methods(&found), ["smc", "importance", "bridge"]);
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let grid = number(&found["log_z_grid"]);
    for estimate in found["log_z_estimates"].as_array().expect("estimates") {
        let (value, se) = (number(&estimate["value"]), number(&estimate["standard_error"]));
        assert!((value - grid).abs() < 8.0 * se + 1e-3, "{estimate}, grid {grid}");
        assert!(estimate["caveat"].is_string() && estimate["repeats"] == 8, "{estimate}");
    }
    assert!(found["log_z_estimates"][1]["ess_fraction"].is_number(), "{found}");
    assert!(found["log_z_estimates"][2]["overlap"].is_number(), "{found}");
    let table = scratch.ok(&["eval", "tilted", "--estimators", "importance,bridge", "--device", "flex"]);
    assert!(table.contains("estimates  ") && table.contains("(importance, 8 repeats, ess"), "{table}");
    scratch.fails(&["eval", "tilted", "--estimators", "audit"], 2, &["--estimators audit", "[audit]"]);
    scratch.fails(&["eval", "tilted", "--estimators", "briddge"], 2, &["briddge", "bridge"]);
    // Both ends of the path from the flow.
    let sides = json(&scratch, &["eval", "tilted", "--ais", "--temperatures", "20", "--chains", "16"]);
    assert_eq!(sides["log_z_two_sided"]["temperatures"], 20);
    // A weight file has its base.
    scratch.ok(&["export", "tilted", "--out", "m.safetensors"]);
    assert_eq!(methods(&json(&scratch, &["eval", "m.safetensors"])), ["smc", "importance", "bridge"]);

    let scratch = Scratch::new(MLP);
    scratch.ok(&["train", "toy.toml", "--out", "net", "--device", "flex"]);
    for named in ["importance", "bridge"] {
        let words = ["--estimators", named, "a flow"];
        scratch.fails(&["eval", "net", "--estimators", named, "--device", "flex"], 2, &words);
    }
    assert_eq!(methods(&json(&scratch, &["eval", "net", "--estimators", "all"])), ["smc"]);

    // Exact, with the audit and tempered SMC beside it.
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "mix", "--device", "flex"]);
    let found = json(&scratch, &["eval", "mix", "--estimators", "all"]);
    assert_eq!((&found["log_z"]["method"], methods(&found)), (&"exact".into(), vec!["audit", "smc"]));
}

#[test]
fn eval_tells_how_the_kernel_mixes() {
    let scratch = Scratch::new(MLP);
    scratch.ok(&["train", "toy.toml", "--out", "net", "--device", "flex"]);
    assert!(json(&scratch, &["eval", "net"]).get("mixing").is_none());
    let found = json(&scratch, &["eval", "net", "--mixing", "60"]);
    let mixing = &found["mixing"];
    assert_eq!((&mixing["steps"], &mixing["chains"]), (&60.into(), &128.into()), "{mixing}");
    assert_eq!(
        (&mixing["starts"], &mixing["kernel"]["kind"]),
        (&"walkers".into(), &"mala".into()),
        "{mixing}"
    );
    for key in ["energy", "coordinate", "mode"] {
        assert!(mixing[key]["r_hat"].as_f64().is_some_and(|r_hat| r_hat >= 0.9), "{key}: {mixing}");
        assert!(mixing[key]["autocorrelation_time"].is_number(), "{key}: {mixing}");
    }
    assert!(mixing["accept_rate"].as_f64().is_some_and(|rate| rate > 0.3), "{mixing}");
    assert!(mixing["jumps_per_step"].as_f64().is_some_and(|jumps| jumps > 0.0), "{mixing}");
    assert!(mixing.get("global_accept_rate").is_none(), "{mixing}");
    let table = scratch.ok(&["eval", "net", "--mixing", "60", "--device", "flex"]);
    assert!(
        table.contains("128 chains of 60 steps")
            && table.contains("training walkers, by mala")
            && table.contains("R-hat"),
        "{table}"
    );
    for wrong in ["0", "3", "many"] {
        scratch.fails(&["eval", "net", "--mixing", wrong, "--device", "flex"], 2, &["--mixing", wrong]);
    }
    // A weight file names no kernel and no walkers: MALA, from the tractable start.
    scratch.ok(&["export", "net", "--out", "m.safetensors"]);
    let found = json(&scratch, &["eval", "m.safetensors", "--mixing", "20"]);
    let mixing = &found["mixing"];
    assert_eq!((&mixing["starts"], &mixing["kernel"]["kind"]), (&"start".into(), &"mala".into()), "{mixing}");
    assert!(mixing.get("jumps_per_step").is_none(), "a weight file names no data");

    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "mix", "--device", "flex"]);
    let found = json(&scratch, &["eval", "mix", "--mixing", "20"]);
    let caveat = found["mixing"]["caveat"].as_str().expect("a caveat");
    assert!(caveat.contains("does not leave the model invariant"), "ULA: {caveat}");
}
