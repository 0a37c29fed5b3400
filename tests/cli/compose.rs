//! `ember compose`: trained models made into one file, which the other commands take; and what it refuses.

use std::fs;

use crate::small::small;
use crate::support::{MLP, Scratch};

/// Two trained runs in the plane, `a` and `b`, the second as a weight file too.
fn trained() -> Scratch {
    let scratch = Scratch::new(MLP);
    fs::write(scratch.path("other.toml"), small("dataset.means = [[0.0, -1.5], [1.5]]\nsteps = 20"))
        .expect("written");
    scratch.ok(&["train", "toy.toml", "--out", "a", "--device", "flex"]);
    scratch.ok(&["train", "other.toml", "--out", "b", "--device", "flex"]);
    scratch.ok(&["export", "b", "--out", "b.safetensors"]);
    scratch
}

fn write(scratch: &Scratch, energy: &str) {
    fs::write(scratch.path("compose.toml"), format!("[energy]\n{energy}\n")).expect("written");
}

const COMPOSE: [&str; 4] = ["compose", "compose.toml", "--out", "new.safetensors"];

#[test]
fn one_file_of_several_models() {
    let scratch = trained();
    write(&scratch, "kind = \"negation\"\nparts = [\"a\", \"b.safetensors\"]\nweights = [1.3, 0.3]");
    let said = scratch.ok(&COMPOSE);
    for words in [
        "new.safetensors\n",
        "part 0      1.3 × mlp, from a\n",
        "part 1      -0.3 × mlp, from b.safetensors\n",
    ] {
        assert!(said.contains(words), "no `{words}` in\n{said}");
    }
    // The parts are needed no more.
    for run in ["a", "b"] {
        fs::remove_dir_all(scratch.path(run)).expect("removed");
    }
    fs::remove_file(scratch.path("b.safetensors")).expect("removed");
    let info = scratch.ok(&["info", "new.safetensors"]);
    for words in ["negation on samples of shape [2]", "1.3 × mlp, from a", "parts.1.layers.0.weight"] {
        assert!(info.contains(words), "no `{words}` in\n{info}");
    }
    let found = scratch.ok(&["eval", "new.safetensors", "--json", "--repeats", "2", "--device", "flex"]);
    let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
    assert_eq!(found["log_z"]["method"], "smc");
    assert!(found["log_z"]["value"].is_number());
    let sample =
        ["sample", "new.safetensors", "--count", "50", "--steps", "3", "--out", "x.csv", "--device", "flex"];
    scratch.ok(&sample);
    assert_eq!(fs::read_to_string(scratch.path("x.csv")).expect("samples").lines().count(), 51);
    scratch.ok(&["export", "new.safetensors", "--out", "again.safetensors"]);
    let [new, again] =
        ["new", "again"].map(|name| fs::read(scratch.path(&format!("{name}.safetensors"))).expect("a file"));
    assert_eq!(new, again);
    // A composed file is a part itself, beside a table.
    write(
        &scratch,
        "kind = \"mixture\"\nlog_z = [0.5, 1.8378770664093453]\n\
         parts = [\"new.safetensors\", { kind = \"gaussian_mixture\", means = [[1.0]] }]",
    );
    let said = scratch.ok(&["compose", "compose.toml", "--out", "nested.safetensors"]);
    assert!(said.contains("part 0      0.5 × negation, from new.safetensors"), "{said}");
}

/// A run on trained parts is as whole as any: it is resumed without them, to the same bits.
#[test]
fn a_run_on_trained_parts_needs_them_once() {
    let scratch = trained();
    let config = small(
        "energy = { kind = \"sum\", parts = [\"a\", \"b\"], weights = [0.5, 0.5] }\nobjective.kind = \"persistent_cd\"\n\
         walkers.init = \"data\"\nsteps = 20\noutput = { log_every = 5, checkpoint_every = 10 }",
    );
    fs::write(scratch.path("sum.toml"), config).expect("written");
    scratch.ok(&["train", "sum.toml", "--out", "whole", "--device", "flex"]);
    scratch.ok(&["train", "sum.toml", "--out", "half", "--steps", "10", "--device", "flex"]);
    scratch.fails(
        &["train", "sum.toml", "--out", "none", "--set", "energy.parts=[\"a\"]", "--device", "flex"],
        2,
        &["energy.weights", "2 found"],
    );
    for run in ["a", "b"] {
        fs::remove_dir_all(scratch.path(run)).expect("removed");
    }
    scratch.ok(&["resume", "half", "--steps", "20", "--device", "flex"]);
    for run in ["whole", "half"] {
        assert!(scratch.ok(&["info", run]).contains("part 1      0.5 × mlp, from b"));
    }
    let [whole, half] = ["whole", "half"].map(|run| crate::support::model_bytes(&scratch.path(run), 20));
    assert_eq!(whole, half);
    scratch.fails(
        &["train", "sum.toml", "--out", "none", "--device", "flex"],
        2,
        &["sum.toml", "energy.parts", "part 0", "\"a\""],
    );
    assert!(!scratch.path("none").exists());
}

#[test]
fn mistakes_are_named() {
    let scratch = trained();
    let refused = |energy: &str, words: &[&str]| {
        write(&scratch, energy);
        scratch.fails(&COMPOSE, 2, words);
        assert!(!scratch.path("new.safetensors").exists());
    };
    refused(
        "kind = \"sum\"\nparts = [\"a\", \"gone\"]",
        &["compose.toml:3: energy.parts", "part 1, \"gone\""],
    );
    refused("kind = \"sum\"\nparts = [\"a\"]", &["compose.toml:3: energy.parts", "1 found", "at least two"]);
    refused(
        "kind = \"sum\"\nparts = [\"a\", \"b\"]\nweights = [1.0]",
        &["compose.toml:4: energy.weights", "1 found"],
    );
    refused(
        "kind = \"mixture\"\nparts = [\"a\", \"b\"]\nnormalise = true",
        &["energy.normalise", "part 0", "log_z"],
    );
    refused("kind = \"negation\"\nparts = [\"a\", \"b\"]", &["energy.weights", "missing"]);
    refused(
        "kind = \"negation\"\nparts = [\"a\", \"b\"]\nweights = [0.3, 1.3]",
        &["energy.weights", "not above 0"],
    );
    refused(
        "kind = \"sum\"\nparts = [\"a\", { kind = \"mlp\", hidden = [4000000000] }]",
        &["energy", "4000000000", "beyond"],
    );
    refused("kind = \"mlp\"\nhidden = [4]", &["energy.kind", "\"mlp\" found", "\"negation\""]);
    refused("kind = \"sum\"\nparts = [\"a\", \"toy.toml\"]", &["energy.parts", "part 1", "toy.toml"]);
    refused(
        "kind = \"sum\"\nparts = [\"a\", \"b\"]\nweight = [1.0, 1.0]",
        &["energy.weight", "did you mean `weights`?"],
    );
    refused(
        "kind = \"sum\"\nparts = [{ kind = \"mlp\", hidden = [4] }, { kind = \"mlp\", hidden = [4] }]",
        &["energy.parts", "at least one part must be the path"],
    );
    refused("kind = \"sum\"\nparts = [\"a\", \"b\"]\n[dataset]\ndim = 2", &["dataset", "ember train"]);
    scratch.fails(&["compose", "none.toml", "--out", "new.safetensors"], 2, &["none.toml"]);
    // Parts of another dimension.
    fs::write(scratch.path("line.toml"), small("dataset.dim = 1\nsteps = 2")).expect("written");
    scratch.ok(&["train", "line.toml", "--out", "line", "--device", "flex"]);
    refused(
        "kind = \"sum\"\nparts = [\"a\", \"line\"]",
        &["energy.parts", "part 1, \"line\"", "shape [1]", "shape [2]"],
    );
    // One on a cube.
    let cube =
        small("dataset.std = 0.1\ndataset.means = [[-0.3], [0.3]]\nsteps = 2\nkernel.boundary = \"reflect\"");
    fs::write(scratch.path("cube.toml"), cube).expect("written");
    scratch.ok(&["train", "cube.toml", "--out", "cube", "--device", "flex"]);
    refused(
        "kind = \"sum\"\nparts = [\"a\", \"cube\"]",
        &["energy.parts", "part 1, \"cube\"", "the cube", "all of space"],
    );
    // A file that was cut, and one with a number that is none.
    let mut bytes = fs::read(scratch.path("b.safetensors")).expect("a file");
    let end = bytes.len();
    fs::write(scratch.path("cut.safetensors"), &bytes[..end - 8]).expect("written");
    refused(
        "kind = \"sum\"\nparts = [\"a\", \"cut.safetensors\"]",
        &["energy.parts", "part 1", "cut.safetensors"],
    );
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(scratch.path("nan.safetensors"), &bytes).expect("written");
    refused(
        "kind = \"sum\"\nparts = [\"a\", \"nan.safetensors\"]",
        &["energy.parts", "nan.safetensors", "NaN", "finite number"],
    );
}
