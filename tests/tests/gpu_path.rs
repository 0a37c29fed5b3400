//! The GPU path trains as the CPU does. `EMBER_FULL=1` runs the shipped sizes, else smaller ones.

use std::path::Path;

use burn::tensor::Device;
use ember_tests::{assert_within_se, cpu, four_se, gpu, mean_se};
use ember_train::config::{Config, Overrides};
use ember_train::trainer::Trainer;

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

/// The same seed gives the same start on both, exactly, and after 50 updates without resampling the parameters agree to 1e-4
/// of each tensor's largest.
#[test]
fn fifty_updates_agree() {
    let Some(device) = gpu() else { return };
    let (mixture, mlp): (&[&str], &[&str]) = if full() {
        (&["resampling.scheme=none"], &["resampling.scheme=none"])
    } else {
        (
            &[
                "resampling.scheme=none",
                "walkers.count=1000",
                "dataset.train_size=1000",
                "dataset.batch_size=1000",
            ],
            &[
                "resampling.scheme=none",
                "walkers.count=300",
                "dataset.batch_size=300",
                "audit.walkers=20",
                "audit.repeats=2",
            ],
        )
    };
    for (name, set) in [("mixture50_jarzynski.toml", mixture), ("mlp2d_jarzynski.toml", mlp)] {
        let config = shipped(name, set);
        let start = |device| trained(&config, 0, device).model.host_theta();
        assert_eq!(start(&cpu()), start(&device), "{name}: the start is bit for bit the same");
        let here = trained(&config, 50, &cpu());
        let there = trained(&config, 50, &device);
        let params = here.model.params();
        for ((spec, here), there) in params.iter().zip(here.model.host_theta()).zip(there.model.host_theta())
        {
            let scale = here.iter().map(|v| v.abs()).fold(0.0, f32::max);
            let worst = here.iter().zip(&there).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name} {}: worst difference {worst:.2e} of {scale:.3}", spec.name);
            assert!(worst <= 1e-4 * scale, "{name} {}: {worst} of {scale}", spec.name);
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
