//! What a run comes to: a divergence is never a success, what is doubtful is said wherever the run is looked at, and a schedule that ends
//! before the run is named.

use crate::support::{MLP, Scratch, stderr};

/// Data of size 1e20: no energy of theirs is finite.
#[test]
fn data_beyond_f32_end_the_run() {
    let scratch = Scratch::new(&MLP.replace("means = [[-1.5], [1.5]]", "means = [[-1e20], [1e20]]"));
    let words =
        ["step 0: ", "the mean energy of the data is inf", "1.000e20", "Bring the data to a range near 1"];
    scratch.fails(&["train", "toy.toml", "--out", "run", "--device", "flex"], 1, &words);
    assert!(!scratch.path("run/checkpoints/latest").exists());
}

/// Unweighted walkers that run away while every number is finite.
#[test]
fn walkers_far_from_the_data_at_the_end_are_no_success() {
    let config = MLP.replace("\"mala\"\nstep_size = 0.1", "\"ula\"\nstep_size = 5.0");
    let scratch = Scratch::new(&config.replace("\"jarzynski\"", "\"persistent_cd\""));
    let words = ["the energy gap between data and walkers is -", "the training has diverged"];
    scratch.fails(&["train", "toy.toml", "--out", "run", "--device", "flex"], 1, &words);
    // The checkpoint of update 10 is kept, that of the end is not written.
    let latest = std::fs::read_to_string(scratch.path("run/checkpoints/latest")).expect("a checkpoint");
    assert_eq!(latest.trim(), "step_00000010");
}

/// Two walkers and weights that resample them: one ancestor is left.
#[test]
fn what_is_doubtful_is_said_everywhere() {
    let config =
        MLP.replace("count = 128", "count = 2").replace("learning_rate = 0.005", "learning_rate = 0.05");
    let scratch = Scratch::new(&format!("{config}\n[resampling]\ness_threshold = 0.99\n"));
    let output = scratch.ember(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let doubt = "all 2 walkers descend from one starting walker";
    assert!(stderr(&output).contains(doubt), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("doubtful   {doubt}")));
    let eval =
        scratch.ok(&["eval", "run", "--json", "--repeats", "2", "--smc-walkers", "50", "--device", "flex"]);
    let eval: serde_json::Value = serde_json::from_str(&eval).expect("JSON");
    let doubts = eval["doubts"].as_array().expect("doubts");
    assert!(
        doubts.iter().any(|found| found.as_str().is_some_and(|found| found.starts_with(doubt))),
        "{eval}"
    );
    scratch.ok(&["report", "run", "--out", "page.html"]);
    let page = std::fs::read_to_string(scratch.path("page.html")).expect("a page");
    assert!(page.contains("<h2>Doubtful</h2>") && page.contains(doubt));
    // A sound run says nothing.
    let sound = Scratch::new(MLP);
    let text = sound.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    assert!(!text.contains("doubtful"), "{text}");
}

#[test]
fn a_schedule_that_ends_before_the_run_is_named_once() {
    let schedule = "learning_rate = 0.005\nschedule = { kind = \"linear\", horizon = 12 }";
    let scratch = Scratch::new(&MLP.replace("learning_rate = 0.005", schedule));
    let said = "optimizer.schedule.horizon = 12 comes before steps = ";
    let within = scratch.ember(&["train", "toy.toml", "--out", "run", "--steps", "12", "--device", "flex"]);
    assert!(within.status.success() && !stderr(&within).contains(said), "{}", stderr(&within));
    let beyond = scratch.ember(&["resume", "run", "--steps", "20", "--device", "flex"]);
    assert!(beyond.status.success(), "{}", stderr(&beyond));
    let text = stderr(&beyond);
    assert_eq!(text.matches(&format!("{said}20: from update 12 on")).count(), 1, "{text}");
}
