//! `ember eval --ais` and `--against`: what is asked for is in the output, and only then.

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

/// The effort of a tempered SMC is the user's: nearer to 1, more temperatures; of few walkers, the caveat says so.
#[test]
fn the_effort_of_a_tempered_smc_can_be_set() {
    let scratch = Scratch::new(MLP);
    scratch.ok(&["train", "toy.toml", "--out", "net", "--device", "flex"]);
    let log_z = |options: &[&str]| {
        json(&scratch, &[&["eval", "net", "--repeats", "4", "--smc-moves", "2"], options].concat())["log_z"]
            .clone()
    };
    let number = |log_z: &serde_json::Value, name: &str| log_z[name].as_u64().expect("a count");
    let coarse = log_z(&["--smc-walkers", "200", "--smc-ess", "0.9"]);
    let fine = log_z(&["--smc-walkers", "200", "--smc-ess", "0.999"]);
    assert!(number(&fine, "temperatures") > number(&coarse, "temperatures"), "{fine} {coarse}");
    let few = log_z(&["--smc-walkers", "5"]);
    assert!((1..=20).contains(&number(&few, "distinct_ancestors")), "{few}");
    assert!(few["caveat"].to_string().contains("too few starting walkers"), "{few}");
    assert!(!fine["caveat"].to_string().contains("too few"), "{fine}");
    for wrong in [["--smc-ess", "1.5"], ["--smc-ess", "nan"], ["--smc-walkers", "1"], ["--smc-moves", "0"]] {
        scratch.fails(&[&["eval", "net"][..], &wrong].concat(), 2, &[wrong[0], wrong[1]]);
    }
}

/// `count` CIFAR-10 records of noise.
fn records(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let record = |_| std::iter::once(3).chain((0..3_072).map(|_| byte())).collect::<Vec<u8>>();
    (0..count).flat_map(record).collect()
}

/// An idx file of `count` values under a header.
fn idx(sides: &[u32], values: usize) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sides.len() as u8];
    file.extend(sides.iter().flat_map(|side| side.to_be_bytes()));
    file.resize(file.len() + values, 7);
    file
}

#[test]
fn eval_tells_data_sets_apart() {
    let scratch = Scratch::new(crate::classes::SHAPES);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    std::fs::create_dir(scratch.path("noise")).expect("a folder");
    std::fs::write(scratch.path("noise/data_batch_1.bin"), records(4)).expect("a file");
    std::fs::write(scratch.path("noise/test_batch.bin"), records(50)).expect("a file");
    let found = json(
        &scratch,
        &["eval", "run", "--against", "noise", "--ais", "--temperatures", "3", "--chains", "6"],
    );
    let apart = &found["out_of_distribution"];
    assert_eq!((&apart["against"], &apart["split"]), (&"noise".into(), &"test".into()), "{apart}");
    assert_eq!((&apart["held_out"], &apart["others"]), (&60.into(), &50.into()), "{apart}");
    assert_eq!((&apart["noise"], &apart["gaussian_samples"]), (&0.1.into(), &200.into()), "{apart}");
    for key in ["auroc", "auroc_gaussian"] {
        assert!(apart[key]["value"].is_number() && apart[key]["standard_error"].is_number(), "{apart}");
    }
    let bits = &found["bits_per_dim"];
    let number = |value: &serde_json::Value| value.as_f64().expect("a number");
    let nats = number(&found["cross_entropy"]["value"]);
    let expected = nats / (3_072.0 * std::f64::consts::LN_2) + 7.0;
    assert!((number(&bits["value"]) - expected).abs() < 1e-9, "{bits}");
    assert!(bits["caveat"].as_str().expect("a caveat").contains("0.1"), "{bits}");
    assert_eq!(bits["sides"].as_array().expect("both sides").len(), 2);
    let table = scratch.ok(&["eval", "run", "--against", "noise", "--device", "flex"]);
    assert!(table.contains("AUROC  ") && table.contains("bits/dim  "), "{table}");

    std::fs::create_dir(scratch.path("digits")).expect("a folder");
    std::fs::write(scratch.path("digits/t10k-images-idx3-ubyte"), idx(&[2, 28, 28], 2 * 784))
        .expect("a file");
    std::fs::write(scratch.path("digits/t10k-labels-idx1-ubyte"), idx(&[2], 2)).expect("a file");
    let words = ["digits", "[1, 28, 28]", "[3, 32, 32]"];
    scratch.fails(&["eval", "run", "--against", "digits", "--device", "flex"], 2, &words);
    scratch.fails(&["eval", "run", "--against", "nowhere", "--device", "flex"], 2, &["nowhere"]);
    scratch.ok(&["export", "run", "--out", "model.safetensors"]);
    let words = ["--against", "names no data set"];
    scratch.fails(&["eval", "model.safetensors", "--against", "noise", "--device", "flex"], 2, &words);
}

/// What noise-contrastive estimation learned of log Z stands beside the estimates, under a name of its own, and needs nothing but the run:
/// its flow came from another one, which is gone.
#[test]
fn eval_shows_the_log_z_that_was_learned() {
    let scratch = Scratch::new(MLP);
    std::fs::write(scratch.path("flow.toml"), crate::support::FLOW).expect("a config");
    scratch.ok(&["train", "flow.toml", "--out", "flow", "--device", "flex"]);
    let objective = |path: &str| {
        format!(
            "objective={{ kind = \"noise_contrastive\", noise = \"flow\", flow = \"{path}\", ratio = 2.0, log_z_learning_rate_scale = 4.0 }}"
        )
    };
    let train = |objective: &str, out: &str| {
        scratch.ok(&["train", "toy.toml", "--out", out, "--device", "flex", "--set", objective]);
    };
    train(&objective("flow"), "nce");
    train("objective={ kind = \"conditional_nce\", sigma = 1.0 }", "pairs");
    std::fs::remove_dir_all(scratch.path("flow")).expect("removed");
    let metrics = std::fs::read_to_string(scratch.path("nce/metrics.jsonl")).expect("lines");
    let last: serde_json::Value =
        serde_json::from_str(metrics.lines().last().expect("a line")).expect("JSON");
    let found = json(&scratch, &["eval", "nce", "--repeats", "4"]);
    let learned = found["log_z_learned"].as_f64().expect("learned");
    assert_eq!(
        (last["log_z_learned"].as_f64(), &last["own_numbers"][0]),
        (Some(learned), &found["log_z_learned"])
    );
    // After 20 updates c is on its way: it is shown, and another is reported as the model's.
    assert!(learned.is_finite() && found["log_z"]["method"] == "smc", "{found}");
    assert_ne!(found["log_z"]["value"].as_f64(), Some(learned));
    let table = scratch.ok(&["eval", "nce", "--repeats", "4", "--device", "flex"]);
    assert!(table.contains("log Z learned") && table.contains("a parameter of the objective"), "{table}");
    assert!(scratch.ok(&["info", "nce"]).contains("log Z learned"));
    scratch.ok(&["report", "nce"]);
    assert!(json(&scratch, &["eval", "pairs", "--repeats", "4"]).get("log_z_learned").is_none());
    assert!(!scratch.ok(&["info", "pairs"]).contains("own numbers"));
    scratch.ok(&["resume", "nce", "--steps", "25", "--device", "flex"]);

    let fails = |objective: &str, parts: &[&str]| {
        scratch.fails(
            &["train", "toy.toml", "--out", "no", "--device", "flex", "--set", objective],
            2,
            parts,
        );
    };
    fails(&objective("flow"), &["objective.flow", "flow"]);
    fails(&objective("pairs"), &["objective.flow", "\"pairs\" holds a mlp, expected a flow"]);
    let other = crate::support::FLOW.replace("dim = 2", "dim = 4");
    std::fs::write(scratch.path("flow4.toml"), other).expect("a config");
    scratch.ok(&["train", "flow4.toml", "--out", "flow4", "--device", "flex", "--steps", "1"]);
    fails(&objective("flow4"), &["objective.flow", "shape [4]", "the data set has shape [2]"]);
    fails("objective={ kind = \"noise_contrastive\", ratio = 0 }", &["objective.ratio", "found 0"]);
    fails(
        "objective={ kind = \"noise_contrastive\", weights = true }",
        &["objective.weights", "unknown key"],
    );
}
