//! `[objective] kind = "maximum_likelihood"`: a flow learned from the data alone.

use burn::tensor::{Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::exact_draws;
use ember_sampler::{KernelConfig, Walkers};
use ember_tests::configs::{config, refused};
use ember_tests::{assert_within_se, cpu, mean_se};
use ember_train::config::WalkerInit;
use ember_train::error::Error;
use ember_train::judging::eval::evaluate;
use ember_train::store::checkpoint;
use ember_train::store::metrics::{self, MetricsWriter};
use ember_train::store::opened;
use ember_train::training::batches::Batches;
use ember_train::training::objective::ObjectiveConfig;
use ember_train::training::run::{Run, Signals};
use ember_train::training::trainer::Trainer;

/// Two modes of masses .3 and .7, no `[walkers]` and no `[kernel]`.
const CONFIG: &str = r#"
seed = 2
steps = 1500
[dataset]
kind = "gaussian_mixture"
dim = 2
means = [[-1.5, 0.0], [1.5, 1.0]]
weights = [0.3, 0.7]
std = 0.6
train_size = 8000
test_size = 8000
batch_size = 400
[energy]
kind = "real_nvp"
layers = 6
hidden = [32, 32]
activation = "silu"
act_norm = true
[objective]
kind = "maximum_likelihood"
[optimizer]
kind = "adam"
learning_rate = 2e-3
schedule = { kind = "cosine", end = 0.0, horizon = 1500 }
[output]
log_every = 7
checkpoint_every = 20
"#;

fn trainer(text: &str) -> Trainer {
    Trainer::new(config(text), &cpu()).expect("starts")
}

/// Fraction of rows nearer to the second mode.
fn second_mode(rows: &[f32]) -> f64 {
    let near = |row: &[f32], mean: [f32; 2]| (row[0] - mean[0]).powi(2) + (row[1] - mean[1]).powi(2);
    let right = rows.chunks_exact(2).filter(|row| near(row, [1.5, 1.0]) < near(row, [-1.5, 0.0])).count();
    right as f64 / (rows.len() / 2) as f64
}

#[test]
fn a_flow_learns_the_density_and_the_masses() {
    let mut trainer = trainer(CONFIG);
    for _ in 0..1500 {
        trainer.update(false).expect("finite");
    }
    let truth = trainer.config.dataset.as_dyn().truth().expect("a mixture");
    let test = trainer.data.test.values();
    let x = Tensor::from_data(TensorData::new(test.to_vec(), [test.len() / 2, 2]), &cpu());
    let u = download(trainer.model.energy(x));
    // CE − entropy = E[log ρ* − log ρ_θ], row by row: a KL, not negative. A flow of this size leaves up to .02 nats of it.
    let ratios: Vec<f64> =
        truth.log_probs(&test).iter().zip(&u).map(|(log_p, &u)| log_p + f64::from(u)).collect();
    let (kl, standard_error) = mean_se(&ratios);
    println!("KL {kl:.4} ± {standard_error:.4}");
    assert!(kl > -4.0 * standard_error && kl < 0.02 + 4.0 * standard_error, "{kl} ± {standard_error}");
    trainer.redraw().expect("finite");
    let drawn = second_mode(&download(trainer.walkers.position.clone()));
    let many = trainer.model.draw(20_000, Stream::new(9, Purpose::Sample)).expect("a flow");
    let mass = second_mode(&many);
    println!("mass {mass:.4} of 20000 draws, {drawn:.4} of the run's own");
    // Of 20,000 draws, and of the 8,000 rows that the flow has learned from.
    assert_within_se(mass, 0.7, f64::sqrt(0.7 * 0.3 * (1.0 / 20_000.0 + 1.0 / 8_000.0)), 4.0);
    // The run's 1,000 draws and the 20,000 are of one law.
    assert_within_se(drawn, mass, (mass * (1.0 - mass) * (1e-3 + 5e-5)).sqrt(), 4.0);
}

/// The gradient is the mean over the data, to the bit, and the kernel is never called.
#[test]
fn there_is_no_negative_phase() {
    // One step of plain gradient descent shows the gradient.
    let sgd = CONFIG
        .replace("kind = \"adam\"", "kind = \"sgd\"")
        .replace("schedule = { kind = \"cosine\", end = 0.0, horizon = 1500 }", "");
    let mut trainer = trainer(&sgd);
    let (before, walkers) = (trainer.model.clone(), trainer.walkers.clone());
    let (dataset, data) = (trainer.config.dataset.as_dyn(), trainer.data.clone());
    let (size, augmentation) = (dataset.batch_size(), dataset.augmentation());
    let batch = Batches::new(&data.train, data.shape, size, augmentation, trainer.config.seed, &cpu())
        .and_then(|mut batches| batches.batch(0))
        .expect("a batch");
    let weights = Tensor::full([size], 1.0 / size as f64, &cpu());
    let gradient = before.weighted_param_grads(&[(batch, weights)]).grads;
    let info = trainer.update(false).expect("finite");
    let specs = before.params();
    for (((old, new), grad), spec) in
        before.theta().iter().zip(trainer.model.theta()).zip(gradient).zip(specs)
    {
        let step = old.clone() - grad.mul_scalar(2e-3 * spec.learning_rate_scale);
        assert_eq!(download(step), download(new.clone()), "{}", spec.name);
    }
    assert!(info.energy_walkers.is_none() && info.moves.accept_rate.is_none() && info.reading.is_none());
    assert_eq!(trainer.moved_per_update(), 0);
    let bits =
        |walkers: &Walkers| (download(walkers.position.clone()), download(walkers.energy_grad.clone()));
    assert_eq!(bits(&trainer.walkers), bits(&walkers), "no walker moves between two looks");
    // At a log step they are draws of the θ whose data energy is logged, before a checkpoint of the θ that is saved.
    let model = trainer.model.clone();
    let info = trainer.update(true).expect("finite");
    let draws = exact_draws(&model, 1_000, 2, 1).expect("a flow");
    assert_eq!(bits(&trainer.walkers), bits(&draws));
    let mean = f64::from(download(info.energy_walkers.expect("a log step"))[0]);
    let energies: Vec<f64> = download(draws.energy).into_iter().map(f64::from).collect();
    assert_within_se(mean, mean_se(&energies).0, 1e-6, 4.0);
    trainer.redraw().expect("finite");
    let draws = exact_draws(&trainer.model, 1_000, 2, 2).expect("a flow");
    assert_eq!(bits(&trainer.walkers), bits(&draws));
    // One law, whoever draws it.
    let energy: Vec<f64> = download(draws.energy).into_iter().map(f64::from).collect();
    let other = trainer.model.draw(1_000, Stream::new(5, Purpose::Start)).expect("a flow");
    let other = download(trainer.model.energy(Tensor::from_data(TensorData::new(other, [1_000, 2]), &cpu())));
    let other: Vec<f64> = other.into_iter().map(f64::from).collect();
    let ((a, a_error), (b, b_error)) = (mean_se(&energy), mean_se(&other));
    assert_within_se(a, b, a_error.hypot(b_error), 4.0);
}

/// Trains to `steps` in `dir`, from its newest checkpoint where there is one.
fn train(dir: &std::path::Path, steps: u64) {
    let mut config = config(&CONFIG.replace("steps = 1500", "steps = 60"));
    config.steps = steps;
    let (mut trainer, metrics) = match checkpoint::newest_intact(dir) {
        Ok((origin, found)) => {
            let trainer = Trainer::from_state(config, &found, &origin, &cpu()).expect("it fits");
            let metrics = MetricsWriter::resume(dir, trainer.step).expect("written");
            (trainer, metrics)
        }
        Err(_) => {
            (Trainer::new(config, &cpu()).expect("starts"), MetricsWriter::create(dir).expect("written"))
        }
    };
    let sources = trainer.config.dataset.as_dyn().sources().expect("none");
    let mut run = Run {
        dir: dir.to_path_buf(),
        device_label: "cpu".into(),
        device_name: "cpu".into(),
        metrics,
        time_before: 0.0,
        sources,
        draw: ember_train::commands::picture::samples,
    };
    run.train(&mut trainer, &Signals::default()).expect("finite");
}

#[test]
fn a_resumed_run_equals_an_undisturbed_one() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(whole.path(), 60);
    // Killed somewhere after update 20, with metric lines beyond its newest checkpoint.
    train(parts.path(), 20);
    let mut writer = MetricsWriter::resume(parts.path(), 20).unwrap();
    writer.append(&metrics::MetricsLine { step: 21, energy_data: -1.0, ..Default::default() }).unwrap();
    drop(writer);
    train(parts.path(), 60);
    let lines = |dir: &tempfile::TempDir| -> Vec<String> {
        let untimed = |line: metrics::MetricsLine| metrics::MetricsLine { time_s: 0.0, ..line };
        metrics::read(dir.path()).unwrap().into_iter().map(|line| format!("{:?}", untimed(line))).collect()
    };
    assert_eq!(lines(&whole), lines(&parts));
    assert_eq!(lines(&whole).len(), 8);
    let newest = |dir: &tempfile::TempDir| checkpoint::newest_intact(dir.path()).unwrap().1;
    let (a, b) = (newest(&whole), newest(&parts));
    assert_eq!((a.step, &a.theta, &a.optimizer), (b.step, &b.theta, &b.optimizer));
    let (a, b) = (a.walkers.expect("walkers"), b.walkers.expect("walkers"));
    assert_eq!((&a.position, &a.energy, &a.log_weights), (&b.position, &b.energy, &b.log_weights));
    // What is saved are draws of the θ that is saved, and is judged with log Z = 0.
    let subject = opened::open(whole.path(), &cpu()).expect("a run");
    let draws = exact_draws(&subject.model, 1_000, 2, 60).expect("a flow");
    assert_eq!(download(draws.position), a.position);
    let evaluation = evaluate(&subject, 2, 0).expect("judged");
    assert_eq!((evaluation.log_z.value, evaluation.log_z.method), (0.0, "exact"));
    assert!(evaluation.kl.is_some() && evaluation.ess_fraction.is_none());
    assert!(whole.path().join("samples/step_00000060.png").is_file());
}

#[test]
fn tables_have_defaults_and_load_back_equal() {
    let found = config(CONFIG);
    assert_eq!((found.walkers.count, found.walkers.init), (1_000, WalkerInit::Model));
    assert!(matches!(found.kernel.kernel, KernelConfig::Mala(_)) && found.resampling.scheme.is_none());
    assert_eq!(config(&found.to_toml()), found);
    assert_eq!(config(&format!("{CONFIG}\n[walkers]\ncount = 50")).walkers.count, 50);
    assert!(ObjectiveConfig::KINDS.contains(&"maximum_likelihood"));
}

#[test]
fn mistakes_are_named() {
    let with = |table: &str| format!("{CONFIG}\n{table}");
    let adam = |line: &str| CONFIG.replace("learning_rate = 2e-3", &format!("learning_rate = 2e-3\n{line}"));
    let start = CONFIG.find("[energy]").expect("in it");
    let end = CONFIG.find("[objective]").expect("in it");
    let energy = |table: &str| format!("{}[energy]\n{table}\n{}", &CONFIG[..start], &CONFIG[end..]);
    let ula = "[kernel]\nkind = \"ula\"\nstep_size = 0.1";
    for (text, words) in [
        (energy("kind = \"mlp\"\nhidden = [8]\nconfinement = 1.0"), ["objective.kind", "a mlp is none"]),
        (
            energy("kind = \"gaussian_mixture\"\nmeans = [[0.0]]"),
            ["objective.kind", "a gaussian_mixture is none"],
        ),
        (with("[audit]\nwalkers = 10\nrepeats = 2\nevery = 5"), ["[audit]", "log Z is 0"]),
        (adam("max_weight_change = 0.1"), ["optimizer.max_weight_change", "leave this out"]),
        (with("[resampling]\nscheme = \"systematic\""), ["resampling.scheme", "leave this out"]),
        (with("[walkers]\ncount = 10\ninit = \"data\""), ["walkers.init", "exact draws"]),
        (with("[walkers]\ncount = 10\nmoved_per_update = 5"), ["walkers.moved_per_update", "leave this out"]),
        (
            with("[walkers]\ncount = 10\nunweighted_start = true"),
            ["walkers.unweighted_start", "leave this out"],
        ),
        (with("[walkers]\ncount = 0"), ["walkers.count", "at least 1"]),
        (with(&format!("{ula}\nsteps_per_update = 2")), ["kernel.steps_per_update", "leave this out"]),
        (with(&format!("{ula}\ntemperature = 0.5")), ["kernel.temperature", "log Z moves with θ"]),
        (with(&format!("{ula}\nboundary = \"reflect\"")), ["kernel.boundary", "log Z moves with θ"]),
        (
            CONFIG.replace("\"maximum_likelihood\"", "\"maximum_likelihood\"\nenergy_l2 = 0.1"),
            ["objective.energy_l2", "unknown key"],
        ),
        // Elsewhere both tables are needed as ever.
        (CONFIG.replace("\"maximum_likelihood\"", "\"jarzynski\""), ["[walkers]", "missing"]),
    ] {
        refused(&text, &words);
    }
}

/// A flow is still an energy like any other: weighted walkers may follow it.
#[test]
fn other_objectives_take_flows_too() {
    for objective in ["jarzynski", "persistent_cd"] {
        let text = CONFIG.replace("maximum_likelihood", objective)
            + "[walkers]\ncount = 64\n[kernel]\nkind = \"ula\"\nstep_size = 0.01\n";
        let mut trainer = trainer(&text);
        let info = trainer.update(true).expect("finite");
        assert!(info.energy_walkers.is_some() && info.reading.is_some(), "{objective}");
    }
}

fn broken(model: &EnergyModel, name: &str, value: f32) -> EnergyModel {
    let place = model.params().iter().position(|spec| spec.name == name).expect(name);
    let mut theta = model.theta().to_vec();
    theta[place] = theta[place].full_like(value);
    model.with_theta(theta)
}

/// The update stops at once, names the layer, and leaves θ as it was.
#[test]
fn a_number_that_is_not_finite_is_blamed_on_its_layer() {
    let walkers = "[walkers]\ncount = 64\n[kernel]\nkind = \"ula\"\nstep_size = 0.01\n";
    for text in [CONFIG.to_owned(), CONFIG.replace("maximum_likelihood", "jarzynski") + walkers] {
        let mut trainer = trainer(&text);
        trainer.update(false).expect("finite");
        trainer.model = broken(&trainer.model, "couplings.2.layers.2.bias", f32::NAN);
        let before = trainer.model.host_theta().concat();
        let error = trainer.update(false).map(|_| ()).expect_err("not finite");
        let Error::NonFinite { step, what, .. } = &error else { panic!("{error}") };
        assert_eq!(*step, 1);
        assert!(what.contains("layer 5, `couplings.2`"), "{error}");
        assert!(error.to_string().starts_with("step 1: "), "{error}");
        let after = trainer.model.host_theta().concat();
        assert!(before.iter().zip(&after).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}
