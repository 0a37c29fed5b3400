//! Class frequencies of a run on images, from the command line.

use serde_json::Value;

use crate::support::Scratch;

pub const SHAPES: &str = r#"
steps = 4

[dataset]
kind = "shapes32"
train_size = 200
test_size = 60
batch_size = 32
noise = 0.1

[energy]
kind = "conv"
layers = [{ out = 4, kernel = 4, stride = 4 }, { out = 1, kernel = 8 }]
confinement = 1.0

[walkers]
count = 40

[kernel]
kind = "ula"
step_size = 0.001

[objective]
kind = "jarzynski"

[optimizer]
kind = "adam"
learning_rate = 0.001

[audit]
walkers = 20
repeats = 3
every = 2

[output]
log_every = 2
checkpoint_every = 2
"#;

/// One classifier is trained and kept; every command after the first reads it; the figures are in the table and in the JSON.
#[test]
fn class_frequencies_of_an_audit_are_told() {
    let scratch = Scratch::new(SHAPES);
    let summary = scratch.ok(&["train", "toy.toml", "--out", "run"]);
    assert!(
        summary.contains("classes    ") && summary.contains("disc, square, triangle, cross"),
        "{summary}"
    );
    let kept = || {
        let entries = std::fs::read_dir(scratch.path("cache")).expect("a cache");
        entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect::<Vec<_>>()
    };
    let names = kept();
    assert!(names.len() == 1 && names[0].starts_with("classifier-"), "{names:?}");

    let eval = || -> Value { serde_json::from_str(&scratch.ok(&["eval", "run", "--json"])).expect("JSON") };
    let first = eval();
    let found = &first["class_frequencies"];
    assert_eq!((&found["method"], &found["repeats"]), (&"audit".into(), &3.into()), "{found}");
    let numbers = |key: &str| -> Vec<f64> {
        found[key].as_array().expect("a list").iter().map(|v| v.as_f64().expect("a number")).collect()
    };
    for key in ["data", "value"] {
        assert_eq!(numbers(key).len(), 4);
        assert!((numbers(key).iter().sum::<f64>() - 1.0).abs() < 1e-9, "{found}");
    }
    assert!(numbers("standard_error").iter().all(|e| e.is_finite()), "{found}");
    assert!(found["classifier_accuracy"]["value"].as_f64().expect("tested") > 0.9, "{found}");
    assert!(found["total_variation"]["standard_error"].is_number(), "{found}");
    assert!(first.get("class_frequencies_withheld").is_none());
    assert_eq!(&eval(), &first, "the same every time");
    assert_eq!(kept(), names);
}

/// Without an audit the training walkers are judged, and beside them the model itself, by the walkers of the SMC.
#[test]
fn the_models_own_class_frequencies_stand_beside_the_walkers() {
    let config = SHAPES.replace("[audit]\nwalkers = 20\nrepeats = 3\nevery = 2\n", "");
    let scratch = Scratch::new(&config.replace("confinement = 1.0", "base = \"gaussian\""));
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    let text = scratch.ok(&["eval", "run", "--json", "--repeats", "2", "--device", "flex"]);
    let found: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(found["class_frequencies"]["method"], "walkers", "{found}");
    let model = &found["class_frequencies_model"];
    assert_eq!((&model["method"], &model["repeats"]), (&"smc".into(), &2.into()), "{found}");
    assert!(model["value"] != found["class_frequencies"]["value"], "other walkers: {found}");
}
