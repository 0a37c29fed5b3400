//! A machine of bits from end to end: images as zeros and ones, log Z by enumeration, by a ladder and by annealing, samples.

use crate::support::Scratch;

const RBM: &str = r#"
steps = 40

[dataset]
kind = "mnist"
dir = "set"
batch_size = 10
binarise = 0.5

[energy]
kind = "rbm"
hidden = 5

[walkers]
count = 100

[kernel]
kind = "gibbs"

[objective]
kind = "jarzynski"

[optimizer]
kind = "adam"
learning_rate = 0.005

[output]
log_every = 10
checkpoint_every = 5
keep_checkpoints = 1000
"#;

fn idx(words: &[u32], body: Vec<u8>) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).chain(body).collect()
}

/// Ten images of two classes, the upper or the lower half white.
fn scratch() -> Scratch {
    let scratch = Scratch::new(RBM);
    std::fs::create_dir(scratch.path("set")).expect("a folder");
    let labels = [1u8, 0, 1, 1, 0, 1, 1, 1, 0, 1];
    let pixel = |i: usize| if (i % 784 < 392) == (labels[i / 784] == 1) { 255 } else { 10 };
    for split in ["train", "t10k"] {
        let write = |kind: &str, bytes: Vec<u8>| {
            std::fs::write(scratch.path(&format!("set/{split}-{kind}-ubyte")), bytes).expect("written");
        };
        write("images-idx3", idx(&[0x803, 10, 28, 28], (0..7840).map(pixel).collect()));
        write("labels-idx1", idx(&[0x801, 10], labels.to_vec()));
    }
    scratch
}

fn json(scratch: &Scratch, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&scratch.ok(&[args, &["--json", "--device", "flex"]].concat())).expect("JSON")
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().expect("a number")
}

#[test]
fn a_machine_of_bits_is_trained_and_judged() {
    let scratch = scratch();
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    let sizes = ["--ladder", "--ladder-chains", "32", "--ladder-sweeps", "60", "--smc-walkers", "50"];
    let more = ["--estimators", "smc", "--ais", "--temperatures", "400", "--chains", "400"];
    let found = json(&scratch, &[&["eval", "run"][..], &sizes, &more].concat());
    assert_eq!(
        (&found["log_z"]["method"], number(&found["log_z"]["standard_error"])),
        (&"enumeration".into(), 0.0)
    );
    let exact = number(&found["log_z"]["value"]);
    let estimates = found["log_z_estimates"].as_array().expect("estimates");
    let methods: Vec<&str> =
        estimates.iter().map(|found| found["method"].as_str().expect("a name")).collect();
    assert_eq!(methods, ["ladder", "smc", "ais"]);
    for estimate in estimates {
        let (value, se) = (number(&estimate["value"]), number(&estimate["standard_error"]));
        assert!((value - exact).abs() < 6.0 * se + 1e-3 && se < 0.5, "{estimate}, exact {exact}");
    }
    assert_eq!(found["ladder"]["kernel"]["kind"], "gibbs");
    assert!(found.get("log_z_two_sided").is_none() && found.get("log_z_grid").is_none(), "{found}");
    // Black and white as bytes, zeros and ones as positions.
    let sample = ["--count", "20", "--device", "flex"];
    for (path, out) in [("run", "a.npz"), ("run", "a.png"), ("run", "a.csv")] {
        scratch.ok(&[&["sample", path, "--out", out, "--steps", "2"][..], &sample].concat());
    }
    let bytes = std::fs::read(scratch.path("a.npz")).expect("samples");
    let image = |byte: u8| bytes.windows(8).any(|window| window == [byte; 8]);
    assert!(image(0) && image(255), "images are black and white");
    let csv = std::fs::read_to_string(scratch.path("a.csv")).expect("samples");
    let first = csv.lines().nth(1).expect("a row");
    assert!(first.split(',').take(784).all(|x| ["0.0", "1.0", "0", "1"].contains(&x)), "{first}");
    scratch.ok(&["export", "run", "--out", "m.safetensors"]);
    scratch.ok(&[&["sample", "m.safetensors", "--out", "b.npz"][..], &sample].concat());
    let weights = json(&scratch, &["eval", "m.safetensors", "--mixing", "8", "--estimators", "enumeration"])
        .to_string();
    assert!(weights.contains("gibbs") && weights.contains("enumeration"), "{weights}");

    // Too many units to count states.
    let more = ["--set", "energy.hidden=21", "--set", "steps=10"];
    scratch.ok(&[&["train", "toy.toml", "--out", "wide", "--device", "flex"][..], &more].concat());
    let words = ["--estimators enumeration", "at most 20 hidden"];
    scratch.fails(&["eval", "wide", "--estimators", "enumeration", "--device", "flex"], 2, &words);
    assert_eq!(json(&scratch, &["eval", "wide", "--smc-walkers", "50"])["log_z"]["method"], "smc");
}

#[test]
fn what_is_no_bits_is_refused_before_the_run() {
    let scratch = scratch();
    let fails = |set: &[&str], words: &[&str]| {
        let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
        scratch.fails(
            &[&["train", "toy.toml", "--out", "run", "--device", "flex"][..], &set].concat(),
            2,
            words,
        );
        assert_eq!(scratch.leftovers(), ["set"]);
    };
    fails(&["kernel={kind=\"mala\", step_size=0.1}"], &["kernel.kind", "zeros and ones", "gibbs"]);
    fails(
        &["objective={kind=\"score_matching\", form=\"implicit\"}"],
        &["score matching of a discrete energy"],
    );
    fails(
        &["dataset={kind=\"mnist\", dir=\"set\", batch_size=10}"],
        &["coordinate 0 of row 0", "dataset.binarise"],
    );
}
