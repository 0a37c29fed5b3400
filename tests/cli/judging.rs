//! `ember eval --ais`: what is asked for is in the output, and only then.

use crate::support::{MLP, Scratch, TOY};

fn json(scratch: &Scratch, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&scratch.ok(&[args, &["--json", "--device", "flex"]].concat())).expect("JSON")
}

#[test]
fn eval_tells_log_z_from_both_sides() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "mix", "--device", "flex"]);
    assert!(json(&scratch, &["eval", "mix"]).get("log_z_two_sided").is_none());
    let found = json(&scratch, &["eval", "mix", "--ais", "--temperatures", "40", "--chains", "32"]);
    let sides = &found["log_z_two_sided"];
    assert_eq!((&sides["kind"], &sides["starts"]), (&"bracket".into(), &"exact draws".into()), "{sides}");
    assert_eq!((&sides["temperatures"], &sides["chains"]), (&40.into(), &32.into()), "{sides}");
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let exact = number(&found["log_z"]["value"]);
    let side = |name: &str| (number(&sides[name]["value"]), number(&sides[name]["standard_error"]));
    let ((lower, lower_se), (upper, upper_se)) = (side("lower"), side("upper"));
    assert!(lower <= exact + 5.0 * lower_se && upper >= exact - 5.0 * upper_se, "{found}");
    let table = scratch.ok(&["eval", "mix", "--ais", "--temperatures", "40", "--device", "flex"]);
    assert!(table.contains("log Z AIS") && table.contains("bracket from exact draws"), "{table}");
    scratch.fails(&["eval", "mix", "--temperatures", "40"], 2, &["--ais"]);

    let scratch = Scratch::new(MLP);
    scratch.ok(&["train", "toy.toml", "--out", "net", "--device", "flex"]);
    let found = json(&scratch, &["eval", "net", "--repeats", "4", "--ais", "--temperatures", "40"]);
    let sides = &found["log_z_two_sided"];
    assert_eq!(sides["kind"], "two-sided estimate", "{sides}");
    assert_eq!((&sides["starts"], &sides["repeats"]), (&"walkers".into(), &4.into()), "{sides}");
    assert!(found.get("bits_per_dim").is_none(), "only images have bits per dimension");
}
