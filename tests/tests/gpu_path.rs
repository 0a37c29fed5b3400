//! The GPU path trains as the CPU does. `EMBER_FULL=1` runs the shipped sizes, else smaller ones.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::{Energy, EnergyModel};
use ember_tests::{assert_within_se, cpu, four_se, gpu, mean_se};
use ember_train::config::{Config, OptimizerConfig, Overrides};
use ember_train::training::trainer::Trainer;

fn full() -> bool {
    std::env::var("EMBER_FULL").as_deref() == Ok("1")
}

fn shipped(name: &str, set: &[&str]) -> Config {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name);
    let set = set.iter().map(|&entry| entry.to_owned()).collect();
    Config::load(&path, &Overrides { set, ..Overrides::default() }).expect("a shipped config").config
}

fn trained(config: &Config, updates: u64, device: &Device) -> Trainer {
    let mut trainer = Trainer::new(config.clone(), device).expect("a trainer");
    for _ in 0..updates {
        trainer.update(false).expect("an update");
    }
    trainer
}

/// The shipped configs without resampling, at their own sizes or smaller ones, by plain gradient descent: after a step of Adam a
/// weight whose gradient is of rounding's size has moved by the whole learning rate, to either side, so that two devices part
/// though both are right.
fn configs() -> Vec<(&'static str, Config)> {
    let none = "resampling.scheme=none";
    let mixture = ["walkers.count=1000", "dataset.train_size=1000", "dataset.batch_size=1000"];
    let mlp = ["walkers.count=300", "dataset.batch_size=300", "audit.walkers=20", "audit.repeats=2"];
    let config = |name, smaller: &[&str]| {
        let set = if full() { vec![none] } else { [&[none], smaller].concat() };
        let mut config = shipped(name, &set);
        if let OptimizerConfig::Adam(_) = &config.optimizer {
            config.optimizer = toml::from_str("kind = \"sgd\"\nlearning_rate = 0.02").expect("an optimiser");
        }
        (name, config)
    };
    vec![config("mixture50_jarzynski.toml", &mixture), config("mlp2d_jarzynski.toml", &mlp)]
}

fn largest(values: &[f32]) -> f32 {
    values.iter().map(|v| v.abs()).fold(0.0, f32::max)
}

/// Energies, gradients and the weighted gradient of θ agree at one θ, which fifty updates have moved away from the start: to
/// 2·10⁻⁵ of the largest value, for both sides round; of a gradient in θ the largest value is that with `|w|`, since both phases
/// nearly cancel.
#[test]
fn gradients_at_one_theta_agree() {
    let Some(device) = gpu() else { return };
    for (name, config) in configs() {
        let trainer = trained(&config, 50, &cpu());
        let (n, dim) = (trainer.walkers.count().min(2_000), trainer.walkers.dim());
        let (theta, walkers) = (trainer.model.host_theta(), trainer.walkers.narrow(0..n));
        let rows = [download(walkers.position.clone()), trainer.data.train.gather(dim, 0..n)];
        let weights = [download(walkers.weights().neg()), vec![1.0 / n as f32; n]];
        let gradients = |device: &Device, sign: fn(f32) -> f32| {
            let start = EnergyModel::init(config.energy_spec(), 0, device).expect("an energy");
            let model = start.with_theta(theta.iter().map(|values| upload(values.clone(), device)).collect());
            let terms: Vec<_> = rows
                .iter()
                .zip(&weights)
                .map(|(rows, weights)| {
                    let rows = Tensor::from_data(TensorData::new(rows.clone(), [n, dim]), device);
                    (rows, upload(weights.iter().map(|&w| sign(w)).collect(), device))
                })
                .collect();
            let (energy, grad) = model.energy_and_grad(terms[0].0.clone());
            let mut found = vec![("U".to_owned(), download(energy)), ("∇U".to_owned(), download(grad))];
            let grads = model.weighted_param_grads(&terms).grads;
            found.extend(model.params().into_iter().zip(grads).map(|(spec, g)| (spec.name, download(g))));
            found
        };
        let (here, there) = (gradients(&cpu(), |w| w), gradients(&device, |w| w));
        for (((what, here), (_, there)), (_, size)) in
            here.iter().zip(&there).zip(gradients(&cpu(), f32::abs))
        {
            let scale = largest(here).max(largest(&size));
            let worst = here.iter().zip(there).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name} {what}: worst difference {:.1e} of {scale:.3}", worst / scale);
            assert!(scale > 0.0 && worst <= 2e-5 * scale, "{name} {what}: {worst} of {scale}");
        }
    }
}

/// The same seed gives the same start on both, exactly, and after 50 updates by SGD without resampling the parameters agree to
/// 2·10⁻⁵ of each tensor's largest: ten times what was found.
#[test]
fn fifty_updates_agree() {
    let Some(device) = gpu() else { return };
    for (name, config) in configs() {
        let start = |device| trained(&config, 0, device).model.host_theta();
        assert_eq!(start(&cpu()), start(&device), "{name}: the start is bit for bit the same");
        let here = trained(&config, 50, &cpu());
        let there = trained(&config, 50, &device);
        let params = here.model.params();
        for ((spec, here), there) in params.iter().zip(here.model.host_theta()).zip(there.model.host_theta())
        {
            let scale = largest(&here);
            let worst = here.iter().zip(&there).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let share = worst / scale.max(f32::MIN_POSITIVE);
            println!("{name} {}: worst difference {share:.1e} of {scale:.3}", spec.name);
            assert!(worst <= 2e-5 * scale, "{name} {}: {worst} of {scale}", spec.name);
        }
    }
}

/// After 500 updates with resampling the masses agree within 4 standard errors over independent seeds.
#[test]
fn masses_agree_after_resampling() {
    let Some(device) = gpu() else { return };
    let (seeds, count) = if full() { (8, 2000) } else { (4, 200) };
    let mut set = vec![format!("walkers.count={count}"), "dataset.dim=10".to_owned()];
    set.extend([format!("dataset.train_size={count}"), format!("dataset.batch_size={count}")]);
    set.push("optimizer.learning_rate=0.02".to_owned());
    set.push("resampling.ess_threshold=0.9".to_owned());
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let masses = |device: &Device| -> Vec<f64> {
        let runs = (0..seeds).map(|seed| {
            let config = Config { seed, ..shipped("mixture50_jarzynski.toml", &set) };
            let trainer = trained(&config, 500, device);
            assert!(trainer.walkers.resamplings.read() > 0, "the test needs resampling");
            trainer.model.mixture().expect("a mixture").masses[1]
        });
        runs.collect()
    };
    let (here, there) = (masses(&cpu()), masses(&device));
    let ((a, se_a), (b, se_b)) = (mean_se(&here), mean_se(&there));
    println!("mass after 500 updates: CPU {a:.4} ± {se_a:.4}, GPU path {b:.4} ± {se_b:.4}");
    assert_within_se(a, b, se_a.hypot(se_b), four_se(seeds as usize));
}
