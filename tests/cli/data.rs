//! `ember data check`, and runs on data that is wrong.

use std::time::{Duration, Instant};

use crate::support::{MLP, Scratch, metrics, model_bytes, stderr};

fn idx(words: &[u32], body: Vec<u8>) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).chain(body).collect()
}

/// A config and, in `set/`, ten images of two classes in MNIST's form.
fn scratch() -> Scratch {
    let start = MLP.find("[dataset]").expect("a table");
    let end = MLP.find("[energy]").expect("a table");
    let table = "[dataset]\nkind = \"mnist\"\ndir = \"set\"\nbatch_size = 4\n\n";
    let scratch = Scratch::new(&[&MLP[..start], table, &MLP[end..]].concat());
    std::fs::create_dir(scratch.path("set")).expect("a folder");
    for split in ["train", "t10k"] {
        let write = |kind: &str, bytes: Vec<u8>| {
            std::fs::write(scratch.path(&format!("set/{split}-{kind}-ubyte")), bytes).expect("written");
        };
        write("images-idx3", idx(&[0x803, 10, 28, 28], (0..7840).map(|i| i as u8).collect()));
        write("labels-idx1", idx(&[0x801, 10], vec![1, 0, 1, 1, 0, 1, 1, 1, 0, 1]));
    }
    scratch
}

#[test]
fn a_check_lists_what_is_there() {
    let scratch = scratch();
    for dir in ["set", "."] {
        let text = scratch.ok(&["data", "check", dir]);
        for part in ["kind = \"mnist\"", "[1, 28, 28]", "train 10 images", "70.00 %", "nothing wrong"] {
            assert!(text.contains(part), "no `{part}` in\n{text}");
        }
    }
}

#[test]
fn a_check_names_everything_that_is_wrong() {
    let scratch = scratch();
    let labels = idx(&[0x801, 10], vec![1, 0, 12, 1, 0, 1, 1, 1, 0, 1]);
    std::fs::write(scratch.path("set/train-labels-idx1-ubyte"), labels).expect("written");
    scratch.fails(&["data", "check", "set"], 2, &["train-labels-idx1-ubyte", "at byte 10", "label 12"]);
    std::fs::write(scratch.path("set/t10k-images-idx3-ubyte"), [0, 0]).expect("written");
    scratch.fails(&["data", "check", "set"], 2, &["2 things are wrong", "label 12"]);
    let output = scratch.ember(&["data", "check", "set"]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("label 12") && text.contains("t10k-images-idx3-ubyte: at byte 2"), "{text}");
    std::fs::create_dir(scratch.path("empty")).expect("a folder");
    scratch.fails(&["data", "check", "empty"], 2, &["empty", "no data set found"]);
    scratch.fails(&["data", "check", "nowhere"], 2, &["nowhere", "no such folder"]);
}

#[test]
fn a_run_on_wrong_data_writes_nothing() {
    let scratch = scratch();
    let train = ["train", "toy.toml", "--out", "run", "--device", "flex"];
    let mut images = std::fs::read(scratch.path("set/train-images-idx3-ubyte")).expect("there");
    images.truncate(5000);
    std::fs::write(scratch.path("set/train-images-idx3-ubyte"), images).expect("written");
    scratch.fails(&train, 2, &["train-images-idx3-ubyte", "at byte 5000", "expected 7856", "found 5000"]);
    scratch.fails(&[&train[..], &["--set", "dataset.dir=gone"]].concat(), 2, &["gone", "no such folder"]);
    assert_eq!(scratch.leftovers(), ["set"], "nothing may be written");
}

#[test]
fn a_run_on_images_trains() {
    let scratch = scratch();
    scratch.ok(&[
        "train",
        "toy.toml",
        "--out",
        "run",
        "--device",
        "flex",
        "--steps",
        "4",
        "--set",
        "walkers.count=16",
    ]);
    let too_many = ["train", "toy.toml", "--device", "flex", "--set", "dataset.batch_size=11"];
    scratch.fails(&too_many, 2, &["dataset.batch_size", "found 11", "at most 10"]);
}

#[test]
fn a_data_set_that_disappears_ends_the_run_at_a_checkpoint() {
    let scratch = scratch();
    let few = ["--set", "walkers.count=16"];
    let train = ["train", "toy.toml", "--device", "flex"];
    let endless = [&train[..], &["--out", "run", "--steps", "1000000"], &few].concat();
    let child = scratch.command(&endless).spawn().expect("ember starts");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !scratch.path("run/checkpoints/latest").exists() {
        assert!(Instant::now() < deadline, "no checkpoint in 60 s");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::fs::rename(scratch.path("set"), scratch.path("away")).expect("gone");
    let output = child.wait_with_output().expect("ember ends");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for word in ["set/train-images-idx3-ubyte", "No such file", "ember resume run"] {
        assert!(text.contains(word), "no `{word}` in\n{text}");
    }
    let latest = std::fs::read_to_string(scratch.path("run/checkpoints/latest")).expect("latest");
    let step: u64 = latest.trim().trim_start_matches("step_").parse().expect("a step");
    assert_eq!(step % 10, 0, "a scheduled checkpoint");
    assert_eq!(metrics(&scratch.path("run")).last().map(|line| line["step"].as_u64()), Some(Some(step)));

    let more = (step + 15).to_string();
    let resume = ["resume", "run", "--device", "flex", "--steps", &more];
    scratch.fails(&resume, 2, &["set", "no such folder"]);
    std::fs::rename(scratch.path("away"), scratch.path("set")).expect("back");
    scratch.ok(&resume);
    scratch.ok(&[&train[..], &["--out", "whole", "--steps", &more], &few].concat());
    let (whole, parts) = (scratch.path("whole"), scratch.path("run"));
    assert_eq!(metrics(&whole), metrics(&parts));
    assert!(model_bytes(&whole, step + 15) == model_bytes(&parts, step + 15), "weights differ");
}
