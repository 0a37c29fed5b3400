//! Every shipped config is complete, right, and loads back equal; `--set` reaches every key.

use std::fs;
use std::path::{Path, PathBuf};

use ember_model::Architecture;
use ember_sampler::Scheme;
use ember_train::config::{Config, Loaded, Overrides, Schedule};
use ember_train::dataset::toy2d::Name;
use ember_train::dataset::{Data, DatasetConfig, Toy2d};
use proptest::prelude::*;

fn configs_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

fn shipped() -> Vec<Loaded> {
    let entries = fs::read_dir(configs_dir()).expect("configs/ is there");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    paths.sort();
    let load = |path: &PathBuf| Config::load(path, &Overrides::default());
    paths.iter().map(|path| load(path).unwrap_or_else(|error| panic!("{error}"))).collect()
}

fn named(name: &str) -> Config {
    let loaded = shipped().into_iter().find(|loaded| loaded.name == name);
    loaded.unwrap_or_else(|| panic!("configs/{name}.toml is missing")).config
}

fn set(settings: &[&str]) -> Result<Config, String> {
    let set = settings.iter().map(|&text| text.to_owned()).collect();
    let overrides = Overrides { set, ..Overrides::default() };
    let path = configs_dir().join("toy1d_jarzynski.toml");
    Config::load(&path, &overrides).map(|loaded| loaded.config).map_err(|error| error.to_string())
}

fn build(config: &Config) -> Box<dyn Architecture> {
    config.energy_spec().build().expect("validated")
}

fn data(config: &Config, seed: u64) -> Data {
    config.dataset.as_dyn().generate(seed).expect("synthetic")
}

#[test]
fn every_shipped_config_round_trips() {
    let shipped = shipped();
    assert!(shipped.len() >= 7);
    for Loaded { config, name } in shipped {
        let text = config.to_toml();
        let again = Config::from_toml(&text, &name).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(config, again, "{name}");
        assert_eq!(text, again.to_toml(), "{name}");
        // Defaults are filled in, and every shipped config writes them out itself.
        for section in ["[resampling]", "[output]"] {
            assert!(text.contains(section), "{name} lacks {section}");
        }
    }
}

#[test]
fn every_shipped_config_says_what_it_reproduces_and_names_itself() {
    for Loaded { name, .. } in shipped() {
        let text = fs::read_to_string(configs_dir().join(format!("{name}.toml"))).expect("readable");
        assert!(text.contains("# Reproduces: "), "{name}");
        assert!(text.contains(&format!("ember train configs/{name}.toml")), "{name}");
    }
}

/// ALGORITHMS 1.7 and 2, as numbers.
#[test]
fn the_published_numbers_are_in_the_configs() {
    for (name, rate) in [("mixture50_jarzynski", 0.0025), ("mixture50_pcd", 0.0025), ("mixture50_cd", 0.025)]
    {
        let config = named(name);
        assert_eq!(config.optimizer.learning_rate(), rate);
        let params = build(&config).params();
        let steps: Vec<f64> = params.iter().map(|param| rate * param.learning_rate_scale).collect();
        // The masses learn 5 times faster than the means: .0125 for .0025.
        assert!((steps[0] - rate).abs() < 1e-12 && (steps[1] - 5.0 * rate).abs() < 1e-12, "{name}");
        let truth = config.dataset.as_dyn().truth().expect("a mixture");
        let (mixture, _) = truth.mixture().expect("a mixture");
        assert_eq!(mixture.masses, [0.25, 0.75]);
        assert_eq!((mixture.means[0][0], mixture.means[1][0]), (-10.0, 6.0));
        assert_eq!((mixture.means[0].len(), config.steps, config.walkers.count), (50, 8000, 10_000));
    }
    for name in ["toy1d_jarzynski", "toy1d_pcd", "toy1d_cd", "toy1d_score_matching"] {
        let config = named(name);
        let params = build(&config).params();
        let rate = config.optimizer.learning_rate();
        // The means are frozen, the logit moves by .1.
        assert_eq!(params[0].learning_rate_scale, 0.0);
        assert!((params[1].learning_rate_scale * rate - 0.1).abs() < 1e-12, "{name}");
        assert_eq!(config.kernel.kernel.as_dyn().step_size(), Some(0.1));
        // q* = .8 is the mass of b = 10, the second mode.
        let truth = config.dataset.as_dyn().truth().expect("a mixture");
        let (mixture, _) = truth.mixture().expect("a mixture");
        assert_eq!((mixture.means[1][0], mixture.masses[1]), (10.0, 0.8));
    }
}

/// ALGORITHMS 1.8, and what an audit must have to judge it.
#[test]
fn the_published_mnist_experiment_is_in_its_config() {
    let config = named("mnist236_paper");
    let DatasetConfig::Mnist(mnist) = &config.dataset else { panic!("MNIST") };
    let counts = mnist.counts.clone().expect("counts");
    assert_eq!((mnist.classes.clone(), counts.clone()), (Some(vec![2, 3, 6]), vec![5600, 2800, 1400]));
    let images: usize = counts.iter().sum();
    // 600 epochs, the learning rate falling over 500 of them.
    assert_eq!(
        config.steps,
        (600.0 * images as f64 / config.dataset.as_dyn().batch_size() as f64).round() as u64
    );
    let Schedule::Linear { end, horizon } = config.optimizer.schedule() else { panic!("a schedule") };
    assert_eq!((end, horizon), (0.0, config.steps * 5 / 6));
    assert_eq!((config.walkers.count, config.kernel.steps_per_update), (1024, 30));
    assert_eq!((config.kernel.temperature, config.objective.as_dyn().energy_l2()), (1.0, 0.01));
    let audit = config.audit.as_ref().expect("an audit");
    assert!(audit.repeats >= 8 && audit.walkers >= 1024);
    let weights: usize =
        build(&config).params().iter().filter(|p| p.name.starts_with("layers")).map(|p| p.len()).sum();
    assert_eq!(weights, 76_993);
}

#[test]
fn data_is_a_pure_function_of_the_seed() {
    let config = named("mlp2d_jarzynski");
    let (first, again, other) = (data(&config, 3), data(&config, 3), data(&config, 4));
    assert_eq!(first, again);
    assert_ne!(first.train, other.train);
    assert_ne!(first.train.values()[..200], first.test.values()[..200], "held-out samples are other samples");
    assert_eq!(first.train.len(), 2 * first.train_labels.len());
    let DatasetConfig::GaussianMixture(table) = &config.dataset else { panic!("a mixture") };
    assert_eq!(first.train_labels.len(), table.train_size);
}

#[test]
fn drawn_data_has_the_declared_moments() {
    let config = named("mlp2d_jarzynski");
    let truth = config.dataset.as_dyn().truth().expect("a mixture");
    let (mixture, std) = truth.mixture().expect("a mixture");
    let data = data(&config, 11);
    let train = data.train.values();
    let n = data.train_labels.len() as f64;
    for (k, mass) in mixture.masses.iter().enumerate() {
        // 4 standard errors of a binomial fraction, and of a mean and a variance of Gaussians.
        let fraction = data.train_fractions()[k];
        assert!((fraction - mass).abs() < 4.0 * (mass * (1.0 - mass) / n).sqrt(), "{k}: {fraction}");
        for j in 0..2 {
            let rows = train.chunks_exact(2).zip(&data.train_labels);
            let x: Vec<f64> =
                rows.filter(|(_, label)| **label == k as u32).map(|(row, _)| f64::from(row[j])).collect();
            let count = x.len() as f64;
            let mean = x.iter().sum::<f64>() / count;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
            let exact = mixture.means[k][j];
            assert!((mean - exact).abs() < 4.0 * std / count.sqrt(), "{k} {j}: {mean}");
            let ratio = variance / std.powi(2);
            assert!((ratio - 1.0).abs() < 4.0 * (2.0 / count).sqrt(), "{k} {j}: {ratio}");
        }
    }
}

#[test]
fn set_takes_toml_values_and_bare_words() {
    let config =
        set(&["kernel.kind=mala", "resampling.scheme=none", "walkers.count=77", "seed=9"]).expect("right");
    assert_eq!((config.walkers.count, config.seed), (77, 9));
    assert_eq!(config.resampling.scheme, None);
    let config = set(&[r#"resampling.scheme = "residual""#, "dataset.means=[[-1.0],[1.0]]"]).expect("right");
    assert_eq!(config.resampling.scheme, Some(Scheme::Residual));
    let config =
        set(&[r#"dataset={ kind = "toy2d", name = "moons" }"#, "dataset.name=2spirals"]).expect("right");
    assert!(matches!(config.dataset, DatasetConfig::Toy2d(Toy2d { name: Name::TwoSpirals, .. })));
    let schedule = ["optimizer.schedule.kind=cosine", "optimizer.schedule.horizon=10"];
    let config = set(&schedule).expect("tables are made on the way");
    assert_eq!(config.optimizer.schedule(), Schedule::Cosine { end: 0.0, horizon: 10 });
    assert!((config.optimizer.learning_rate_at(5) - 0.05).abs() < 1e-12);
    assert_eq!(config.optimizer.learning_rate_at(20), 0.0);
    let config = set(&["walkers.count=5", "walkers.count=6"]).expect("the last one wins");
    assert_eq!(config.walkers.count, 6);
}

#[test]
fn seed_and_steps_have_options_of_their_own() {
    let set = vec!["steps=5".to_owned()];
    let overrides = Overrides { seed: Some(8), steps: Some(123), set };
    let path = configs_dir().join("mlp2d_jarzynski.toml");
    let loaded = Config::load(&path, &overrides).expect("right");
    assert_eq!((loaded.config.seed, loaded.config.steps, loaded.name.as_str()), (8, 123, "mlp2d_jarzynski"));
    // --steps never changes the schedule.
    assert_eq!(loaded.config.optimizer.schedule(), Schedule::Linear { end: 0.0, horizon: 2000 });
    let overrides = Overrides { seed: Some(u64::MAX), ..Overrides::default() };
    let error = Config::load(&path, &overrides).expect_err("TOML holds 63 bits").to_string();
    assert!(error.contains("--seed 18446744073709551615"), "{error}");
}

#[test]
fn a_bad_set_is_blamed_by_its_text() {
    for (text, part) in [
        (
            "kernel.stepsize=0.1",
            "--set kernel.stepsize=0.1: kernel.stepsize: unknown key, did you mean `step_size`?",
        ),
        ("kernel.step_size=-1", "--set kernel.step_size=-1: kernel.step_size: found -1"),
        (
            "kernel.step_size=fast",
            "--set kernel.step_size=fast: kernel.step_size: found string \"fast\", expected a number",
        ),
        ("kernel.step_size", "no `=`"),
        ("=3", "is not a key"),
        ("kernel..step_size=3", "is not a key"),
        ("kernel.step_size=", "neither a TOML value nor a bare word"),
        ("kernel.step_size=1\nsteps=3", "more than one line"),
        ("kernel.step_size=[1", "neither a TOML value nor a bare word"),
        ("steps.more=1", "`steps` is a value, not a table"),
        ("nothing.at.all=1", "nothing: unknown key"),
    ] {
        let error = set(&[text]).expect_err(text);
        assert!(error.contains(part), "{text}: no `{part}` in: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn set_means_what_the_file_would(
        step_size in 1e-6f64..10.0,
        count in 1usize..1_000_000,
        steps in 1u64..4_000_000_000,
        threshold in 0.0f64..=1.0,
        seed in 0u64..=i64::MAX as u64,
        scheme in prop::sample::select(vec!["systematic", "stratified", "multinomial", "residual", "none"]),
    ) {
        let settings = [
            format!("kernel.step_size={step_size}"),
            format!("walkers.count = {count}"),
            format!("steps={steps}"),
            format!("resampling.ess_threshold={threshold}"),
            format!("seed={seed}"),
            format!("resampling.scheme={scheme}"),
        ];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let config = set(&settings).expect("in range");
        prop_assert_eq!(config.kernel.kernel.as_dyn().step_size(), Some(step_size));
        prop_assert_eq!((config.walkers.count, config.steps, config.seed), (count, steps, seed));
        prop_assert_eq!(config.resampling.ess_threshold, threshold);
        prop_assert_eq!(config.resampling.scheme.map_or("none", Scheme::name), scheme);
        prop_assert_eq!(Config::from_toml(&config.to_toml(), "again").expect("round trip"), config);
    }

    #[test]
    fn no_set_makes_it_panic(text in "[a-z_.]{0,20}=?[ -~\n]{0,20}") {
        drop(set(&[&text]));
    }
}
