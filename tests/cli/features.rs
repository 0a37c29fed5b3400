//! `ember eval --features`: what cannot be judged is refused before anything slow is done.

use crate::support::{Scratch, TOY};

#[test]
fn features_need_images_and_a_run() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "mix", "--steps", "5", "--device", "flex"]);
    std::fs::write(scratch.path("f.safetensors"), b"not one").expect("a file");
    let eval = |path, more: &[&'static str]| [&["eval", path, "--device", "flex"], more].concat();
    let words = ["--features", "images", "[3]"];
    scratch.fails(&eval("mix", &["--features", "f.safetensors"]), 2, &words);
    scratch.ok(&["export", "mix", "--out", "m.safetensors", "--walkers"]);
    scratch.fails(&eval("m.safetensors", &["--features", "f.safetensors"]), 2, &["--features", "a run"]);
    scratch.fails(&eval("mix", &["--feature-samples", "100"]), 2, &["--features"]);
    scratch.fails(&eval("mix", &["--features", "f.safetensors", "--feature-samples", "3"]), 2, &["3"]);
    let kept = std::fs::read_to_string(scratch.path("mix/eval.jsonl")).expect("what train found at its end");
    assert_eq!(kept.lines().count(), 1, "nothing is added");
}
