//! `ember compare`: runs made once, gone on with, judged by one yardstick; and what it refuses.

use std::fs;
use std::path::Path;

use crate::small::{small, with};
use crate::support::{Scratch, model_bytes};

const METHODS: &str = "title = \"two ways\"\nconfig = \"toy.toml\"\nseeds = 2\nset = [\"steps=20\"]\n\
                       [[method]]\nname = \"With weights\"\n\
                       [[method]]\nname = \"PCD\"\nset = ['objective={ kind = \"persistent_cd\" }', \"walkers.init=data\"]\n";

/// A plane, so that there are grids; and a scratch folder with the comparison in it.
fn scratch(methods: &str) -> Scratch {
    let scratch =
        Scratch::new(&small("output = { log_every = 5, checkpoint_every = 10 }\ndataset.std = 0.5"));
    fs::write(scratch.path("ways.toml"), methods).expect("written");
    scratch
}

const ARGS: [&str; 6] = ["compare", "ways.toml", "--out", "found", "--device", "flex"];

#[test]
fn runs_are_made_once_and_judged_alike() {
    let scratch = scratch(METHODS);
    let table = scratch.ok(&[&ARGS[..], &["--jobs", "2"]].concat());
    for words in ["two ways", "2 seeds", "With weights", "PCD", "mass error", "KL", "±"] {
        assert!(table.contains(words), "no `{words}` in\n{table}");
    }
    let results = fs::read_to_string(scratch.path("found/results.json")).expect("results");
    let results: serde_json::Value = serde_json::from_str(&results).expect("JSON");
    let methods = results["methods"].as_array().expect("methods");
    assert_eq!(methods.len(), 2);
    // Batches of all 256 rows and 128 walkers with one ULA step each, or, of the second, too: (256 + 128 + 128) · 20.
    assert_eq!(methods[0]["evaluations"], 10_240);
    for method in methods {
        assert_eq!(method["runs"].as_array().expect("runs").len(), 2);
        let masses: f64 =
            method["masses"].as_array().expect("masses").iter().map(|m| m["value"].as_f64().unwrap()).sum();
        assert!((masses - 1.0).abs() < 1e-6, "{method}");
        // By hand: the mean of two runs and half their distance.
        let kl: Vec<f64> =
            method["runs"].as_array().unwrap().iter().map(|run| run["kl"].as_f64().unwrap()).collect();
        let (mean, se) = (0.5 * (kl[0] + kl[1]), 0.5 * (kl[0] - kl[1]).abs());
        assert!((method["kl"]["value"].as_f64().unwrap() - mean).abs() < 1e-12, "{method}");
        assert!((method["kl"]["standard_error"].as_f64().unwrap() - se).abs() < 1e-12, "{method}");
    }
    page_is_whole(&scratch.path("found/compare.html"));

    // Nothing is run twice.
    let run = scratch.path("found/runs/pcd-seed1");
    let bytes = model_bytes(&run, 20);
    let before = fs::metadata(run.join("metrics.jsonl")).unwrap().modified().unwrap();
    let output = scratch.ember(&ARGS);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.matches("was there").count(), 4, "{said}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), table, "the same table");
    assert_eq!(fs::metadata(run.join("metrics.jsonl")).unwrap().modified().unwrap(), before);

    // A run that did not get to its end goes on, and ends where it would have.
    fs::remove_dir_all(run.join("checkpoints/step_00000020")).expect("removed");
    let output = scratch.ember(&ARGS);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.matches("was there").count() == 3, "{said}");
    assert_eq!(model_bytes(&run, 20), bytes);
    assert_eq!(scratch.ok(&[&ARGS[..], &["--json"]].concat()).lines().count(), 1);
}

fn page_is_whole(path: &Path) {
    let page = fs::read_to_string(path).expect("a page");
    for words in [
        "<h1>two ways</h1>",
        "Densities",
        "data:image/png;base64,",
        "Masses of the modes",
        "Error against cost",
        "ember train toy.toml",
    ] {
        assert!(page.contains(words), "no `{words}`");
    }
    assert!(
        page.trim_end().ends_with("</html>") && !page.contains("<script") && !page.contains("://"),
        "complete in itself"
    );
    // The law, and a model of each method.
    assert_eq!(page.matches("data:image/png;base64,").count(), 3);
}

/// As a supervisor sends it, to the comparison alone: the run saves, nothing is left running, and the same command goes on.
#[cfg(unix)]
#[test]
fn a_signal_reaches_the_runs() {
    let long = METHODS.replace("steps=20", "steps=1000000");
    let scratch = scratch(&long);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ember"))
        .args(ARGS)
        .current_dir(scratch.path("."))
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("it starts");
    let run = scratch.path("found/runs/with-weights-seed0");
    let begun = std::time::Instant::now();
    while !run.join("metrics.jsonl").is_file() {
        assert!(begun.elapsed().as_secs() < 60, "no run");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let kill = std::process::Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
    // The run's own words: it saved before it ended.
    let log = fs::read_to_string(scratch.path("found/logs/with-weights-seed0.log")).expect("a log");
    assert!(log.contains("SIGTERM"), "{log}");
    let lock = scratch.ember(&["info", run.to_str().expect("UTF-8")]);
    assert!(lock.status.success(), "{}", String::from_utf8_lossy(&lock.stderr));
}

#[test]
fn a_run_that_fails_is_named_and_the_others_are_compared() {
    let bad = METHODS.replace("\"walkers.init=data\"", "\"optimizer.learning_rate=1e30\"");
    let scratch = scratch(&bad.replace("seeds = 2", "seeds = [7]"));
    let output = scratch.ember(&ARGS);
    let (table, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(table.contains("1 of 1 failed") && table.contains("With weights"), "{table}");
    assert!(said.contains("1 of 2 runs failed") && said.contains("PCD, seed 7: failed: "), "{said}");
    let page = fs::read_to_string(scratch.path("found/compare.html")).expect("a page");
    assert!(page.contains("Runs that failed") && page.contains("PCD, seed 7: "), "it says which");
}

#[test]
fn what_cannot_be_compared_is_refused_before_anything_runs() {
    let cases: [(&str, &str, &[&str]); 14] = [
        ("name = \"PCD\"", "name = \"with - WEIGHTS\"", &["two methods are called `with-weights`"]),
        ("name = \"PCD\"", "name = \"…\"", &["expected a name with a letter"]),
        ("persistent_cd", "maximum_likelihood", &["method `PCD`", "flow"]),
        ("persistent_cd", "persistent", &["method `PCD`", "persistent_cd"]),
        ("\"walkers.init=data\"", "\"dataset.std=1.0\"", &["method `PCD`", "[dataset]", "`With weights`"]),
        ("seeds = 2", "seeds = 0", &["seeds", "a count such as 5"]),
        ("seeds = 2", "seeds = [3, 3]", &["3 is there twice"]),
        ("config = \"toy.toml\"", "config = \"none.toml\"", &["method `With weights`", "none.toml"]),
        ("config = \"toy.toml\"\n", "", &["no config", "With weights"]),
        ("seeds = 2", "seeds = -1", &["seeds", "a count such as 5"]),
        (
            "\"walkers.init=data\"",
            "\"seed=7\"",
            &["method `PCD`", "`seed` is the same for every method", "`seeds`"],
        ),
        (
            "\"walkers.init=data\"",
            "\"walkers.init=data\", \"energy.confinement=0.0\"",
            &["method `PCD`", "energy.confinement > 0"],
        ),
        ("[[method]]", "[method]", &["method"]),
        ("title = \"two ways\"", "titel = \"two ways\"", &["titel", "title"]),
    ];
    for (from, to, words) in cases {
        let scratch = scratch(&METHODS.replace(from, to));
        scratch.fails(&ARGS, 2, words);
        assert!(!scratch.path("found").exists(), "{words:?}");
    }
    let scratch = scratch(METHODS);
    scratch.fails(&["compare", "other.toml"], 2, &["other.toml"]);
    scratch.fails(
        &["compare", "toy.toml"],
        2,
        &["the config of one training", "`ember sweep`", "[[method]]"],
    );
    fs::write(scratch.path("none.toml"), "title = \"nothing\"\nseeds = 2\n").expect("written");
    scratch.fails(&["compare", "none.toml"], 2, &["no [[method]]"]);
    scratch.fails(&[&ARGS[..4], &["--device", "cuda:99"]].concat(), 2, &["cuda:99"]);
}

#[test]
fn a_run_folder_of_another_problem_is_refused() {
    let scratch = scratch(METHODS);
    let other =
        with(&fs::read_to_string(scratch.path("toy.toml")).unwrap(), "kernel.step_size = 0.2\nsteps = 2");
    fs::write(scratch.path("other.toml"), other).expect("written");
    scratch.ok(&["train", "other.toml", "--out", "found/runs/pcd-seed1", "--device", "flex", "--seed", "1"]);
    let said = scratch.fails(&ARGS, 2, &["found/runs/pcd-seed1", "another", "--out"]);
    assert!(
        ["kernel.step_size", "objective.kind", "steps", "walkers.init"].iter().any(|key| said.contains(key)),
        "{said}"
    );
    assert!(!scratch.path("found/runs/pcd-seed0").exists());

    // Whatever its name, a run on other data; and a run's own folder.
    fs::remove_dir_all(scratch.path("found/runs/pcd-seed1")).expect("removed");
    let other = with(&fs::read_to_string(scratch.path("toy.toml")).unwrap(), "dataset.std = 0.7\nsteps = 2");
    fs::write(scratch.path("other.toml"), other).expect("written");
    scratch.ok(&["train", "other.toml", "--out", "found/runs/mine", "--device", "flex"]);
    scratch.fails(&ARGS, 2, &["found/runs/mine", "another [dataset]", "--out"]);
    scratch.fails(&["compare", "ways.toml", "--out", "found/runs/mine"], 2, &["a run folder", "--out"]);
}

/// Two comparisons in one folder would write each other's tables.
#[test]
fn one_comparison_at_a_time_in_a_folder() {
    let scratch = scratch(METHODS);
    fs::create_dir_all(scratch.path("found")).expect("a folder");
    let held = fs::File::create(scratch.path("found/.lock")).expect("a lock");
    held.lock().expect("it is free");
    scratch.fails(&ARGS, 2, &["found", "in use"]);
    drop(held);
    scratch.ok(&ARGS);
}

#[test]
fn a_sweep_runs_every_combination() {
    let scratch = Scratch::new(&small(
        "steps = 4\noutput = { log_every = 2, checkpoint_every = 4 }\ndataset.std = 0.5",
    ));
    let sweep = [
        "sweep",
        "toy.toml",
        "--set",
        "kernel.step_size=0.05,0.1",
        "--set",
        "energy.hidden=[8],[8, 8]",
        "--device",
        "flex",
    ];
    let table = scratch.ok(&sweep);
    for name in ["kernel.step_size=0.05, energy.hidden=[8]", "kernel.step_size=0.1, energy.hidden=[8, 8]"] {
        assert!(table.contains(name), "no `{name}` in\n{table}");
    }
    assert_eq!(fs::read_dir(scratch.path("runs/sweep-toy/runs")).expect("runs").count(), 4);
    let page = |folder: &str| fs::read_to_string(scratch.path(folder).join("compare.html")).expect("a page");
    assert!(!page("runs/sweep-toy").contains("Error against kernel"), "two keys have no one axis");
    // One key with several values: the error against it.
    scratch.ok(&[
        "sweep",
        "toy.toml",
        "--set",
        "kernel.step_size=0.05,0.1",
        "--set",
        "steps=2",
        "--out",
        "one",
        "--device",
        "flex",
    ]);
    assert!(page("one").contains("Error against kernel.step_size"));
    scratch.fails(&["sweep", "toy.toml", "--set", "kernel.step_size"], 2, &["no `=`", "section.key=A,B,C"]);
    scratch.fails(&["sweep", "toy.toml", "--set", "kernel.step=1,2"], 2, &["step", "step_size"]);
    scratch.fails(&["sweep", "toy.toml", "--set", "steps=1,1"], 2, &["twice"]);
    scratch.fails(&["sweep", "toy.toml", "--set", "seed=1,2"], 2, &["`seed` is the same", "--seeds N"]);
    scratch.fails(
        &["sweep", "toy.toml", "--set", "dataset.std=0.5,0.7"],
        2,
        &["its [dataset]", "one problem"],
    );
}
