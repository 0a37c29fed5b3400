//! `--level` of `ember sample` and `ember eval`: the energy at another noise level than the smallest, and what is refused.

use burn::tensor::{Tensor, TensorData};
use ember_model::Energy;
use ember_model::params::download;
use ember_train::{device, store::opened};

use crate::small::{small, with};
use crate::support::{MLP, Scratch, TOY};

const SIGMAS: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];
/// Data: masses .2 and .8 of `N(∓4, .5²)`.
const TWO: &str = "steps = 400\ndataset.dim = 1\ndataset.means = [[-4.0], [4.0]]\ndataset.weights = [0.2, 0.8]\ndataset.std = 0.5\n\
                   dataset.train_size = 4000\ndataset.test_size = 4000\ndataset.batch_size = 250\nenergy.hidden = [32, 32]\n\
                   energy.confinement = 0.05\nenergy.levels = { from = 0.25, to = 8.0, count = 6 }\nwalkers.count = 64\n\
                   kernel.step_size = 0.02\nresampling.scheme = \"none\"\nobjective = { kind = \"diff_clf\" }\n\
                   optimizer = { kind = \"adam\", learning_rate = 0.01, schedule = { kind = \"cosine\", end = 0.0, horizon = 400 } }";
/// The level that is looked at.
const LEVEL: usize = 5;

fn trained() -> Scratch {
    let scratch = Scratch::new(&small(TWO));
    scratch.ok(&["train", "toy.toml", "--out", "run", "--device", "flex"]);
    scratch
}

fn json(scratch: &Scratch, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&scratch.ok(&[args, &["--json", "--device", "flex"]].concat())).expect("JSON")
}

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// Mass of x < 0 and second moment of `e^{−U(x, σ_k)}` by a grid, from the energy over rows `[x, τ]`, which `--level` does not use; and log Z.
fn by_grid(scratch: &Scratch, level: usize) -> [f64; 3] {
    const CELLS: usize = 40_000;
    const WIDTH: f64 = 0.005;
    let flex = device::select("flex").expect("a processor").device;
    let model = opened::open(&scratch.path("run"), &flex).expect("a run").model;
    let input = model.levels().expect("it has levels").inputs()[level - 1];
    let x: Vec<f64> = (0..CELLS).map(|i| WIDTH * (i as f64 + 0.5 - 0.5 * CELLS as f64)).collect();
    let rows: Vec<f32> = x.iter().flat_map(|&x| [x as f32, input]).collect();
    let joint = model.on_levels().expect("it has levels");
    let u = download(joint.energy(Tensor::from_data(TensorData::new(rows, [CELLS, 2]), &flex)));
    let least = u.iter().copied().fold(f32::INFINITY, f32::min);
    let density: Vec<f64> = u.iter().map(|&u| f64::from(least - u).exp()).collect();
    let z: f64 = density.iter().sum();
    let mean = |of: &dyn Fn(f64) -> f64| x.iter().zip(&density).map(|(&x, p)| p * of(x)).sum::<f64>() / z;
    [mean(&|x| f64::from(x < 0.0)), mean(&|x| x * x), (z * WIDTH).ln() - f64::from(least)]
}

/// Mean and standard error of independent values.
fn mean_se(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt())
}

/// Draws have the mass and the second moment of the energy at their level, and not those of the smallest.
#[test]
fn draws_are_of_the_level() {
    const SEEDS: usize = 12;
    /// Student's t of 11 degrees of freedom where a normal number has 4.
    const FOUR: f64 = 6.1;
    let scratch = trained();
    let (here, smallest) = (by_grid(&scratch, LEVEL), by_grid(&scratch, 1));
    let level = LEVEL.to_string();
    let of_seed = |seed: usize| {
        let seed = seed.to_string();
        let args = ["sample", "run", "--level", &level, "--count", "4000", "--seed", &seed, "--out", "s.csv"];
        scratch.ok(&[&args[..], &["--device", "flex"]].concat());
        let text = std::fs::read_to_string(scratch.path("s.csv")).expect("samples");
        let first = |line: &str| line.split(',').next().and_then(|x| x.parse::<f64>().ok());
        let x: Vec<f64> = text.lines().filter_map(first).collect();
        assert_eq!(x.len(), 4_000);
        let mean = |of: &dyn Fn(f64) -> f64| x.iter().map(|&x| of(x)).sum::<f64>() / 4_000.0;
        [mean(&|x| f64::from(x < 0.0)), mean(&|x| x * x)]
    };
    let found: Vec<[f64; 2]> = (0..SEEDS).map(of_seed).collect();
    for (i, what) in ["mass", "second moment"].into_iter().enumerate() {
        let (mean, se) = mean_se(&found.iter().map(|found| found[i]).collect::<Vec<_>>());
        println!("{what}: {mean:.4} ± {se:.4}, grid {:.4}, of level 1 {:.4}", here[i], smallest[i]);
        assert!((mean - here[i]).abs() < FOUR * se, "{what}: {mean} ± {se}, grid {}", here[i]);
        assert!((mean - smallest[i]).abs() > 10.0 * se, "{what}: {mean} ± {se}, level 1 {}", smallest[i]);
    }
    // The smallest is what there is without the option: the walkers.
    let bytes = |more: &[&str]| {
        let args = ["sample", "run", "--count", "50", "--out", "s.csv", "--device", "flex"];
        scratch.ok(&[&args[..], more].concat());
        std::fs::read(scratch.path("s.csv")).expect("samples")
    };
    assert_eq!(bytes(&["--level", "1"]), bytes(&[]));
    let warned = scratch
        .ember(&["sample", "run", "--level", "6", "--count", "9", "--out", "s.npz", "--device", "flex"]);
    let warned = crate::support::stderr(&warned);
    assert!(warned.contains("σ = 8") && warned.contains("walkers are of level 1"), "{warned}");
}

/// What `eval` says is of the level, and so are the data that it is compared with; nothing is left of the walkers.
#[test]
fn figures_are_of_the_level() {
    let scratch = trained();
    let (plain, found) = (json(&scratch, &["eval", "run"]), json(&scratch, &["eval", "run", "--level", "5"]));
    assert_eq!(json(&scratch, &["eval", "run", "--level", "1"]), plain);
    assert!(plain.get("level").is_none(), "{plain}");
    assert_eq!(
        (&found["level"]["level"], &found["level"]["of"], number(&found["level"]["sigma"]).round()),
        (&LEVEL.into(), &6.into(), 4.0),
        "{found}"
    );
    for key in ["ess_fraction", "distinct_ancestors", "doubts", "log_z_learned"] {
        assert!(found.get(key).is_none(), "{key}: {found}");
    }
    let [mass, _, log_z] = by_grid(&scratch, LEVEL);
    let masses = |key: &str| -> Vec<f64> { found[key].as_array().expect(key).iter().map(number).collect() };
    assert!((masses("mode_weights")[0] - mass).abs() < 1e-3, "{found}, by hand {mass}");
    assert!((number(&found["log_z_grid"]) - log_z).abs() < 1e-3, "{found}, by hand {log_z}");
    let se = number(&found["log_z"]["standard_error"]);
    assert!((number(&found["log_z"]["value"]) - log_z).abs() < 8.0 * se + 1e-3, "{found}");
    // The law with the noise on it: Σ_k w_k N(∓4, .5² + 4²), of which .2 Φ(4/s) + .8 Φ(−4/s) lies below 0, Φ(.992) = .8394.
    let below = 0.2 * 0.8394 + 0.8 * (1.0 - 0.8394);
    let binomial = (below * (1.0 - below) / 4_000.0_f64).sqrt();
    assert!((masses("mode_weights_data")[0] - below).abs() < 4.0 * binomial, "{found}, exact {below}");
    // KL of the held-out rows and by the grid are of one law: without noise on the rows, or on the law, they would be nats apart.
    let (kl, grid) = (&found["kl"], number(&found["kl_grid"]));
    let gap = (number(&kl["value"]) - grid).abs();
    assert!(gap < 4.0 * number(&kl["standard_error"]) && (-1e-6..0.05).contains(&grid), "{found}");
    let table = scratch.ok(&["eval", "run", "--level", "5", "--device", "flex"]);
    assert!(table.contains("level      5 of 6: σ = 4") && !table.contains("walkers    ess"), "{table}");
    // Both are kept; the report's figures are the model's.
    let kept = std::fs::read_to_string(scratch.path("run/eval.jsonl")).expect("lines");
    assert_eq!(kept.lines().filter(|line| line.contains("\"level\"")).count(), 2);
    scratch.ok(&["report", "run"]);
    let page = std::fs::read_to_string(scratch.path("run/report.html")).expect("a page");
    assert!(!page.contains("level: sigma"), "the newest of the model");
    // A weight file has levels, too, and no walkers.
    scratch.ok(&["export", "run", "--out", "m.safetensors", "--walkers"]);
    let of_file = json(&scratch, &["eval", "m.safetensors", "--level", "5"]);
    assert_eq!((&of_file["level"], of_file.get("ess_fraction")), (&found["level"], None));
}

#[test]
fn what_has_no_such_level_is_told_so() {
    let scratch = trained();
    for command in [&["eval"][..], &["sample", "--count", "9", "--out", "s.npz"]] {
        let fails = |scratch: &Scratch, path: &str, more: &[&str], words: &[&str]| {
            let args = [&command[..1], &[path], more, &["--device", "flex"], &command[1..]].concat();
            scratch.fails(&args, 2, words);
        };
        for wrong in ["0", "7"] {
            let sigmas = SIGMAS.map(|sigma| sigma.to_string()).join(", ");
            let words = [&format!("--level {wrong}"), "6 noise levels", &sigmas, "1 (the smallest) to 6"];
            fails(&scratch, "run", &["--level", wrong], &words);
        }
        fails(&scratch, "run", &["--level", "two"], &["--level", "two"]);
        fails(&scratch, "run", &["--level", "2", "--ladder"], &["--level", "--ladder"]);
        let other = Scratch::new(TOY);
        other.ok(&["train", "toy.toml", "--out", "mix", "--device", "flex", "--steps", "1"]);
        fails(&other, "mix", &["--level", "1"], &["--level 1", "no noise levels", "leave --level out"]);
        // Only the smallest is trained by other objectives.
        let other = Scratch::new(&with(MLP, "energy.levels = [0.1, 1.0]"));
        other.ok(&["train", "toy.toml", "--out", "net", "--device", "flex", "--steps", "1"]);
        fails(&other, "net", &["--level", "2"], &["--level 2", "jarzynski", "level 1 alone"]);
    }
    let denoise = ["sample", "run", "--level", "2", "--denoise", "--count", "9", "--out", "s.npz"];
    scratch.fails(&denoise, 2, &["--level", "--denoise"]);
    scratch.fails(
        &["eval", "run", "--level", "2", "--features", "f.safetensors"],
        2,
        &["--level", "--features"],
    );
    let audit = ["eval", "run", "--level", "2", "--estimators", "audit", "--device", "flex"];
    scratch.fails(&audit, 2, &["--estimators audit", "[audit]"]);
    assert!(!scratch.path("s.npz").exists());
}
