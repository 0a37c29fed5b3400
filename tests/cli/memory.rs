//! How much memory a run takes, against what is estimated; and runs that are too large for it.

use std::time::Instant;

use ember_train::config::Config;
use ember_train::memory::{PEAK, Room, Sizes};

use crate::support::{MLP, Scratch, TOY};

/// The estimate is a floor, and the peak is at most `PEAK` times as much, whichever part is the bulk.
#[test]
fn the_estimate_is_within_its_factor_of_the_measured_peak() {
    let large = MLP.replace("dim = 2", "dim = 64").replace("hidden = [16, 16]", "hidden = [8]");
    let count = |kernel: &str, count: &str| {
        large.replace("\"mala\"", kernel).replace("count = 128", &format!("count = {count}"))
    };
    let rows = |batch: &str| {
        large.replace("train_size = 256", &format!("train_size = 100_000\nbatch_size = {batch}"))
    };
    let audit = "\n[audit]\nwalkers = 40_000\nrepeats = 2\nevery = 1\n";
    let configs = [
        count("\"mala\"", "25_000"),
        count("\"mala\"", "100_000"),
        count("\"ula\"", "100_000"),
        count("\"ula\"", "100_000\nmoved_per_update = 1_000"),
        format!("{large}{audit}"),
        rows("100"),
        rows("100_000"),
        large.replace("hidden = [8]", "hidden = [3_000, 3_000]"),
    ];
    let room = Room::host("flex");
    for config in configs {
        let scratch = Scratch::new(&config);
        let bench = ["bench", "train", "toy.toml", "--updates", "1", "--json", "--device", "flex"];
        let found: serde_json::Value = serde_json::from_str(&scratch.ok(&bench)).expect("JSON");
        let peak = found["peak_memory_bytes"].as_f64().expect("a number");
        let sizes = Sizes::of(&Config::from_toml(&config, "toy.toml").expect("a config"));
        let need = sizes.need(&room);
        let need = (need.host + need.device) as f64;
        // The program itself takes some 30 MB.
        let ratio = (peak - 30e6) / need;
        println!("{ratio:.2} of {need:.2e} bytes");
        assert!(need <= peak && ratio <= PEAK, "{peak:.2e} bytes, {need:.2e} were estimated: {sizes:?}");
    }
}

/// Refused within a second, nothing drawn, nothing written. The sizes are the largest that tensors can have: a machine with more
/// memory than that would begin to work (`tests/tests/memory.rs` has rooms of any size).
#[track_caller]
fn refused(scratch: &Scratch, args: &[&str], words: &[&str]) {
    if Room::host("flex").available.is_none_or(|available| available > 50_000_000_000) {
        eprintln!("skipped: too much memory for a test of too little");
        return;
    }
    let before = scratch.leftovers();
    let start = Instant::now();
    scratch.fails(args, 2, words);
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds < 1.0, "{seconds} s");
    assert_eq!(scratch.leftovers(), before, "nothing may be written");
}

#[test]
fn a_run_beyond_the_memory_is_refused_at_once() {
    let scratch = Scratch::new(&TOY.replace("dim = 3", "dim = 4_000"));
    let train = |set| ["train", "toy.toml", "--device", "flex", "--set", set];
    let tensor = ["walkers.count", "1000000000000", "the most a tensor can hold"];
    refused(&scratch, &train("walkers.count=1000000000000"), &tensor);
    let beyond =
        ["toy.toml: walkers.count: found 1000000", "GiB of memory are needed", "are available", "about "];
    refused(&scratch, &train("walkers.count=1000000"), &beyond);
    let bench = ["bench", "train", "toy.toml", "--updates", "1", "--set", "walkers.count=1000000"];
    refused(&scratch, &[&bench[..], &["--device", "flex"]].concat(), &beyond);
    refused(&scratch, &train("audit.walkers=300000"), &["audit.walkers", "are available", "about "]);
    let network = MLP.replace("hidden = [16, 16]", "hidden = [60_000, 60_000]");
    let words = ["energy", "GiB of memory are needed", "take a smaller energy"];
    refused(&Scratch::new(&network), &["train", "toy.toml", "--device", "flex"], &words);
}

#[test]
fn more_samples_than_fit_are_refused_at_once() {
    let scratch = Scratch::new(TOY);
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    let sample = ["sample", "run", "--count", "1400000000", "--out", "s.npz", "--device", "flex"];
    refused(&scratch, &sample, &["--count 1400000000", "of memory are needed", "about "]);
    let bench = ["bench", "flow", "--dim", "1000", "--layers", "1", "--hidden", "1", "--batch", "4000000"];
    let words = ["--batch 4000000", "of memory are needed", "about "];
    refused(&scratch, &[&bench[..], &["--device", "flex"]].concat(), &words);
    let bench = ["bench", "resample", "--count", "4000000000", "--scheme", "systematic", "--device", "flex"];
    refused(&scratch, &bench, &["--count 4000000000", "of memory are needed", "about "]);
}
