//! The learning rate that follows the ess (`optimizer.target_ess`), and a Langevin step as papers write it.

use burn::tensor::Tensor;
use ember_model::Energy;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_sampler::weights::{log_spread, normalised};
use ember_tests::configs::{config, refused, small};
use ember_tests::{cpu, gpu};
use ember_train::training::trainer::Trainer;

/// What a change of the log-weights leaves of the ess, in f64.
fn ess_left(change: &[f64], weights: &[f64]) -> f64 {
    let most = change.iter().fold(f64::NEG_INFINITY, |a: f64, &b| a.max(b));
    let factors = change.iter().map(|a| (a - most).exp());
    let pairs: Vec<(f64, f64)> = weights.iter().copied().zip(factors).collect();
    let total: f64 = weights.iter().sum();
    let mean = pairs.iter().map(|(w, v)| w * v).sum::<f64>() / total;
    mean * mean / (pairs.iter().map(|(w, v)| w * v * v).sum::<f64>() / total)
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// From a spread of a hundred-thousandth, where an ess in f32 is 1, to one that leaves a walker in a thousand.
#[test]
fn the_spread_is_that_of_the_ess() {
    let n = 2_000;
    let stream = Stream::new(3, Purpose::Data);
    for size in [1e-5_f32, 1e-2, 0.3, 2.0, 30.0] {
        let change: Vec<f32> =
            stream.normals(n, 1).into_iter().map(|z| 700.0 * size * 0.01 + size * z).collect();
        let weights = normalised(upload(stream.lane(1).normals(n, 1), &cpu()));
        let found = f64::from(download(log_spread(upload(change.clone(), &cpu()), &weights))[0]);
        let expected = -ess_left(&wide(&change), &wide(&download(weights))).ln();
        println!("{size}: {found:.6e} vs {expected:.6e}");
        assert!((found - expected).abs() < 2e-3 * expected, "{size}: {found} vs {expected}");
    }
}

/// Updates from the middle of a run on, as geometric means: what they leave of the ess, as `−log`, and the learning rate that was logged.
fn pace(changes: &str, device: &burn::tensor::Device) -> (f64, f64) {
    let text = small(&format!("walkers.count = 1024\ndataset.std = 0.5\nsteps = 400\n{changes}"));
    let mut trainer = Trainer::new(config(&text), device).expect("starts");
    let (mut spreads, mut rates) = (Vec::new(), Vec::new());
    for update in 0..400 {
        let before = trainer.model.clone();
        let info = trainer.update(true).expect("finite");
        if update < 200 {
            continue;
        }
        // The walkers as the update left them, at the θ of before.
        let u = |model: &dyn Energy| -> Tensor<1> { model.energy(trainer.walkers.position.clone()) };
        let change = wide(&download(u(&before) - u(&trainer.model)));
        spreads.push(-ess_left(&change, &wide(&download(trainer.walkers.weights()))).ln());
        rates.push(info.learning_rate);
    }
    let mean = |values: &[f64]| (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp();
    (mean(&spreads), mean(&rates))
}

/// From a learning rate that is a hundred times too small and from one that is too large, updates come to leave what was asked for, on every
/// device; without a target they do not. A schedule takes the target's spread down with it.
#[test]
fn the_learning_rate_comes_to_leave_the_target() {
    for device in std::iter::once(cpu()).chain(gpu()) {
        for (target, rate) in [(0.99, 1e-4), (0.99, 0.05), (0.95, 0.005)] {
            let aim = -f64::ln(target);
            let changes = format!("optimizer.learning_rate = {rate:?}\noptimizer.target_ess = {target:?}");
            let (found, used) = pace(&changes, &device);
            println!("{target} from {rate}: {found:.2e} for {aim:.2e}, rate {used:.2e}");
            assert!((found / aim).ln().abs() < 0.3, "{found} for {aim}");
            let (free, kept) = pace(&format!("optimizer.learning_rate = {rate:?}"), &device);
            assert!((kept - rate).abs() < 1e-12 && (used / rate).ln().abs() > 0.1);
            assert!((free / aim).ln().abs() > 0.5, "{free} without a target");
        }
    }
    // At half the rate from update 200 on, a quarter of the spread.
    let half =
        "optimizer.target_ess = 0.99\noptimizer.schedule = { kind = \"linear\", end = 0.0025, horizon = 1 }";
    let (found, _) = pace(half, &cpu());
    let aim = -f64::ln(0.99) / 4.0;
    assert!((found / aim).ln().abs() < 0.3, "{found} for {aim}");
}

/// The hard bound holds whatever the target asks for, and the target looks at the step before it was shortened.
#[test]
fn the_bound_holds_beside_the_target() {
    let both = "optimizer.target_ess = 0.8\noptimizer.max_weight_change = 0.1";
    let (found, _) = pace(both, &cpu());
    // s ≤ .1, so −log ess ≤ .01 to first order in the step.
    assert!((0.007..0.0115).contains(&found), "{found}");
}

/// With a schedule that ends at 0 the factor stays, and nothing breaks.
#[test]
fn a_learning_rate_of_zero_is_no_signal() {
    let text = small(
        "optimizer.target_ess = 0.99\noptimizer.schedule = { kind = \"linear\", end = 0.0, horizon = 5 }",
    );
    let mut trainer = Trainer::new(config(&text), &cpu()).expect("starts");
    for _ in 0..5 {
        trainer.update(false).expect("finite");
    }
    let factor = trainer.rate_factor().expect("it follows");
    assert!(factor != 1.0);
    for _ in 0..5 {
        trainer.update(false).expect("finite");
    }
    assert_eq!(trainer.rate_factor(), Some(factor));
}

#[test]
fn mistakes_are_named() {
    for bad in ["0.0", "1.0", "-0.5", "1.5", "nan"] {
        refused(
            &small(&format!("optimizer.target_ess = {bad}")),
            &["optimizer.target_ess", "between 0 and 1"],
        );
    }
    for objective in [
        "{ kind = \"persistent_cd\" }",
        "{ kind = \"improved_cd\" }",
        "{ kind = \"contrastive_divergence\" }",
        "{ kind = \"score_matching\", form = \"sliced\" }",
    ] {
        let text = small(&format!("objective = {objective}\noptimizer.target_ess = 0.99"));
        refused(&text, &["optimizer.target_ess", "carry none", "leave this out", "jarzynski"]);
    }
}

// ---- A paper's Langevin step ------------------------------------------------------------------------------------------------

/// A run with this kernel table, which reads back from its own text.
fn kernel(table: &str) -> (f64, f64, Option<String>) {
    let found = config(&small(&format!("kernel = {table}")));
    let again = ember_train::config::Config::from_toml(&found.to_toml(), "again").expect("its own text");
    assert_eq!(again, found);
    let step_size = found.kernel.kernel.as_dyn().step_size().expect("a Langevin step");
    (step_size, found.kernel.temperature, found.kernel.temperature_in_words())
}

/// `h = σ²/2`, `T = σ²/(2 h_p)`: the published pairs and their temperatures, and the pair once more in what is said of them.
#[test]
fn a_papers_pair_is_a_temperature() {
    for (step, noise, temperature, words) in [
        (10.0, 0.005, 1.25e-6, "x − 10 ∇U + 0.005 ξ"),
        (100.0, 0.001, 5e-9, "x − 100 ∇U + 0.001 ξ"),
        (1.0, 0.01, 5e-5, "x − 1 ∇U + 0.01 ξ"),
        (0.05, 0.001, 1e-5, "x − 0.05 ∇U + 0.001 ξ"),
    ] {
        for kind in ["ula", "mala"] {
            let (h, t, said) =
                kernel(&format!("{{ kind = \"{kind}\", paper = {{ step = {step:?}, noise = {noise:?} }} }}"));
            assert!((h / (noise * noise / 2.0) - 1.0).abs() < 1e-12 && (t / temperature - 1.0).abs() < 1e-12);
            let said = said.expect("a temperature");
            assert!(said.contains(words), "{said}");
        }
    }
    // A pair whose noise is √(2h) is no temperature.
    let (h, t, said) = kernel("{ kind = \"ula\", paper = { step = 0.5, noise = 1.0 } }");
    assert_eq!((h, t, said), (0.5, 1.0, None));
}

#[test]
fn mistakes_in_a_papers_pair_are_named() {
    let bad = |table: &str, parts: &[&str]| refused(&small(&format!("kernel = {table}")), parts);
    let pair = "paper = { step = 10.0, noise = 0.005 }";
    bad(
        &format!("{{ kind = \"ula\", step_size = 0.1, {pair} }}"),
        &["kernel.", "step_size", "leave one of the two out"],
    );
    bad(
        &format!("{{ kind = \"ula\", temperature = 1.0, {pair} }}"),
        &["kernel.", "temperature", "leave one of the two out"],
    );
    bad(
        &format!("{{ kind = \"hmc\", leapfrog_steps = 2, {pair} }}"),
        &["kernel.paper", "\"ula\" and \"mala\""],
    );
    bad("{ kind = \"ula\", paper = { step = 10.0 } }", &["kernel.paper", "`noise` is missing"]);
    bad(
        "{ kind = \"ula\", paper = { step = 10.0, nose = 0.1 } }",
        &["kernel.paper.nose", "did you mean `noise`?"],
    );
    bad("{ kind = \"ula\", paper = { step = -1.0, noise = 0.1 } }", &["kernel.paper", "step = -1", "> 0"]);
    bad("{ kind = \"ula\", paper = { step = 1.0, noise = 0.0 } }", &["kernel.paper", "noise = 0", "> 0"]);
    bad("{ kind = \"ula\", paper = 3.0 }", &["kernel.paper"]);
    bad("{ kind = \"ula\", papr = 3.0 }", &["kernel.", "did you mean `paper`?"]);
}
