//! A network on a flow: energies and gradients, an exact start, bases from data and from checkpoints, and every mistake.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_tests::configs::{config, refused};
use ember_tests::flows::{normals, trained};
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se, mean_se};
use ember_train::judging::eval::evaluate;
use ember_train::store::checkpoint;
use ember_train::store::opened;
use ember_train::training::trainer::Trainer;

const TABLE: &str = "dim = 2\nkind = \"tilted\"\n\
    base = { kind = \"real_nvp\", layers = 3, hidden = [8], act_norm = true }\n\
    tilt = { kind = \"mlp\", hidden = [8], activation = \"tanh\" }";

fn trained_base(table: &str) -> String {
    format!("{table}\ntrain_base = true")
}

/// The parts of a tilted energy as models of their own.
fn parts(model: &EnergyModel) -> (EnergyModel, EnergyModel) {
    let base = model.flow_part().expect("a base");
    let spec = EnergySpec::from_metadata("dim = 2\nkind = \"mlp\"\nhidden = [8]\nactivation = \"tanh\"");
    let tilt = EnergyModel::init(spec.expect("a table"), 0, &cpu()).expect("an mlp");
    let tilt = tilt.with_theta(model.theta()[..tilt.theta().len()].to_vec());
    (tilt, base)
}

fn close(a: Vec<f32>, b: Vec<f32>, tolerance: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{a} for {b}");
    }
}

#[test]
fn the_energy_is_the_sum_of_its_parts() {
    let model = trained(TABLE, &cpu());
    let (tilt, base) = parts(&model);
    let x = normals(0, 33, 2, &cpu());
    let (u, grad) = model.energy_and_grad(x.clone());
    let ((f, f_grad), (b, b_grad)) = (tilt.energy_and_grad(x.clone()), base.energy_and_grad(x));
    assert!(download(f.clone()).iter().any(|f| f.abs() > 0.05), "the tilt is not zero");
    close(download(u), download(f + b), 1e-6);
    close(download(grad), download(f_grad + b_grad), 1e-6);
}

/// Both forms of the gradients agree, and a frozen base has none.
#[test]
fn gradients_agree_with_autodiff() {
    let x = normals(1, 20, 2, &cpu());
    let weights = normals(2, 20, 1, &cpu()).reshape([20]);
    for (table, is_trained) in [(TABLE.to_owned(), false), (trained_base(TABLE), true)] {
        let model = trained(&table, &cpu());
        let architecture = model.spec().build().expect("a tilted energy");
        let (u, grad) = model.energy_and_grad(x.clone());
        let (plain_u, plain_grad) =
            energy_and_grad_by_autodiff(architecture.as_ref(), model.theta(), x.clone());
        close(download(u), download(plain_u), 1e-5);
        close(download(grad), download(plain_grad), 1e-5);
        let terms = [(x.clone(), weights.clone())];
        let found = model.weighted_param_grads(&terms);
        let plain = weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &terms);
        close(download(found.energies[0].clone()), download(plain.energies[0].clone()), 1e-5);
        for ((spec, found), plain) in model.params().iter().zip(found.grads).zip(plain.grads) {
            let is_base = spec.name.starts_with("base.");
            assert_eq!(
                spec.learning_rate_scale == 0.0,
                (is_base && !is_trained) || spec.name == "tilt.layers.1.bias"
            );
            match is_base && !is_trained {
                true => assert!(download(found).iter().all(|&g| g == 0.0), "{}", spec.name),
                false => close(download(found), download(plain), 1e-4),
            }
        }
    }
}

/// Where the tilt is zero the model is its base: log Z is 0, and draws are the flow's. Elsewhere neither is known.
#[test]
fn the_start_is_the_base() {
    let spec = EnergySpec::from_metadata(TABLE).expect("a table");
    let model = EnergyModel::init(spec, 5, &cpu()).expect("a tilted energy");
    let base = trained("dim = 2\nkind = \"real_nvp\"\nlayers = 3\nhidden = [8]\nact_norm = true", &cpu());
    let model = model.with_base(base.theta());
    assert_eq!(model.log_z(), Some(0.0));
    let stream = Stream::new(3, Purpose::Start);
    assert_eq!(model.draw(50, stream), base.draw(50, stream));
    let moved = trained(TABLE, &cpu());
    assert_eq!(moved.log_z(), None);
    assert_eq!(moved.draw(50, stream), None);
}

#[test]
fn a_weight_file_holds_all_of_it() {
    let model = trained(TABLE, &cpu());
    let spec = EnergySpec::from_metadata(&model.spec().to_metadata()).expect("metadata");
    assert_eq!(&spec, model.spec());
    let again = EnergyModel::from_tensors(spec, model.export(), &cpu()).expect("its own file");
    assert_eq!(again.host_theta(), model.host_theta());
}

const CONFIG: &str = r#"
seed = 3
steps = 60
[dataset]
kind = "gaussian_mixture"
dim = 2
means = [[-1.5, 0.0], [1.5, 1.0]]
weights = [0.3, 0.7]
std = 0.6
train_size = 4000
test_size = 2000
batch_size = 200
[energy]
kind = "tilted"
base = { kind = "real_nvp", layers = 4, hidden = [16], act_norm = true }
tilt = { kind = "mlp", hidden = [16] }
[pretrain]
steps = 300
learning_rate = 3e-3
[walkers]
count = 300
[kernel]
kind = "mala"
step_size = 0.05
[objective]
kind = "jarzynski"
[optimizer]
kind = "adam"
learning_rate = 1e-3
[output]
log_every = 10
checkpoint_every = 20
"#;

/// The base is fitted to the data before the run, then frozen; the tilt moves; a run goes on from its checkpoint bit for bit.
#[test]
fn the_base_is_pretrained_and_frozen() {
    let mut trainer = Trainer::new(config(CONFIG), &cpu()).expect("starts");
    assert_eq!(trainer.model.log_z(), Some(0.0), "the start is exact");
    assert_eq!(trainer.walkers.log_z.value(), 0.0);
    let base = trainer.model.flow_part().expect("a base");
    let test = trainer.data.test.values();
    let rows = Tensor::from_data(TensorData::new(test.to_vec(), [test.len() / 2, 2]), &cpu());
    let fitted: Vec<f64> = download(base.energy(rows.clone())).into_iter().map(f64::from).collect();
    let (fitted, _) = mean_se(&fitted);
    // The data's entropy is 2.43 nats: log 2πe·.36 and that of the masses. A normal of the same covariance has 2.78.
    assert!(fitted < 2.65, "the base is fitted: {fitted} nats");
    for _ in 0..20 {
        trainer.update(false).expect("finite");
    }
    let saved = trainer.to_state("flex");
    let mut again =
        Trainer::from_state(config(CONFIG), &saved, Path::new("test"), &cpu()).expect("its own checkpoint");
    for _ in 0..20 {
        trainer.update(false).expect("finite");
        again.update(false).expect("finite");
    }
    assert_eq!(trainer.model.host_theta(), again.model.host_theta());
    assert_eq!(trainer.model.flow_part().expect("a base").host_theta(), base.host_theta());
    assert!(download(trainer.model.theta()[2].clone()).iter().any(|&w| w != 0.0), "the tilt moves");
}

/// A flow trained by a run of its own is the base of another, with the very same parameters; the resolved config and the weights
/// then need that run no more.
#[test]
fn a_base_comes_from_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let flow_config = CONFIG
        .replace(
            "kind = \"tilted\"\nbase = { kind = \"real_nvp\", layers = 4, hidden = [16], act_norm = true }\n\
                  tilt = { kind = \"mlp\", hidden = [16] }",
            "kind = \"real_nvp\"\nlayers = 4\nhidden = [16]",
        )
        .replace("[pretrain]\nsteps = 300\nlearning_rate = 3e-3\n", "")
        .replace("kind = \"jarzynski\"", "kind = \"maximum_likelihood\"");
    let mut flow = Trainer::new(config(&flow_config), &cpu()).expect("starts");
    for _ in 0..5 {
        flow.update(false).expect("finite");
    }
    let state = flow.to_state("flex");
    let retention = checkpoint::Retention { keep: 1, scheduled_every: None };
    let path = checkpoint::save(folder.path(), &state, retention).expect("saved");
    let path = path.display().to_string();
    let with_path = CONFIG
        .replace(
            "base = { kind = \"real_nvp\", layers = 4, hidden = [16], act_norm = true }",
            &format!("base = \"{path}\""),
        )
        .replace("[pretrain]\nsteps = 300\nlearning_rate = 3e-3\n", "");
    let loaded = config(&with_path);
    let trainer = Trainer::new(loaded.clone(), &cpu()).expect("starts");
    assert_eq!(trainer.model.flow_part().expect("a base").host_theta(), flow.model.host_theta());
    let resolved = loaded.to_toml();
    assert!(resolved.contains("base_from"), "{resolved}");
    assert_eq!(config(&resolved), loaded, "the resolved config needs the path no more");

    refused(&with_path.replace("dim = 2\n", "dim = 3\n"), &["energy.base", &path, "shape [2]", "shape [3]"]);
    refused(&with_path.replace(&path, "no/such/run"), &["energy.base", "no/such/run"]);
    refused(
        &with_path.replace("[walkers]", "[pretrain]\nsteps = 1\n[walkers]"),
        &["pretrain", "no flow to fit before the run"],
    );
}

#[test]
fn mistakes_are_named() {
    let with = |from: &str, to: &str| {
        assert!(CONFIG.contains(from), "{from}");
        CONFIG.replace(from, to)
    };
    let base = "base = { kind = \"real_nvp\", layers = 4, hidden = [16], act_norm = true }";
    let tilt = "tilt = { kind = \"mlp\", hidden = [16] }";
    refused(
        &with(base, "base = { kind = \"mlp\", hidden = [16] }"),
        &["energy.base", "a mlp found", "\"real_nvp\""],
    );
    refused(
        &with(tilt, "tilt = { kind = \"real_nvp\", layers = 2, hidden = [4] }"),
        &["energy.tilt", "a real_nvp found"],
    );
    refused(
        &with(tilt, "tilt = { kind = \"mlp\", hidden = [16], confinement = 1.0 }"),
        &["energy.tilt", "confinement"],
    );
    refused(
        &with(base, "base = { kind = \"real_nvp\", layers = 0, hidden = [16] }"),
        &["energy.base", "layers", "0 found"],
    );
    refused(
        &with(base, "base = { kind = \"real_nvp\", layers = 2, hidden = [] }"),
        &["energy.base", "hidden"],
    );
    refused(
        &with(base, "base = { kind = \"real_nvp\", layer = 2, hidden = [4] }"),
        &["energy", "layer", "layers"],
    );
    refused(&with(tilt, ""), &["energy.tilt", "missing"]);
    refused(&with("dim = 2\n", "dim = 3\n"), &["energy", "real_nvp", "3"]);
    refused(
        &with("step_size = 0.05", "step_size = 0.05\ntemperature = 2.0"),
        &["energy.base", "kernel.temperature = 1"],
    );
    refused(
        &with("step_size = 0.05", "step_size = 0.05\nboundary = \"reflect\""),
        &["energy.base", "no kernel.boundary"],
    );
    refused(&with("steps = 300", "steps = 0"), &["pretrain.steps", "found 0"]);
    refused(&with("learning_rate = 3e-3", "learning_rate = -1.0"), &["pretrain.learning_rate", "-1"]);
    refused(&with("learning_rate = 3e-3", "rate = 1.0"), &["pretrain.rate", "unknown key"]);
    refused(
        &with("step_size = 0.05", "step_size = 0.05\ntarget_accept_rate = 1.5"),
        &["kernel.target_accept_rate", "1.5"],
    );
    refused(
        &with(
            "kind = \"mala\"\nstep_size = 0.05",
            "kind = \"ula\"\nstep_size = 0.05\ntarget_accept_rate = 0.5",
        ),
        &["kernel.target_accept_rate", "rejected"],
    );
}

/// On weights the step size is set before the first update and frozen; without them it follows the acceptance. Standard errors of the
/// acceptance from independent runs; without adaptation the same test fails.
#[test]
fn step_sizes_adapt() {
    const RUNS: u64 = 8;
    let base = CONFIG.find("kind = \"tilted\"").expect("in it")..CONFIG.find("[walkers]").expect("in it");
    let mlp = CONFIG.replace(&CONFIG[base], "kind = \"mlp\"\nhidden = [16]\nconfinement = 0.5\n");
    let adaptive = mlp.replace("step_size = 0.05", "step_size = 0.05\ntarget_accept_rate = 0.7");
    let acceptance = |trainer: &mut Trainer| -> f64 {
        let rate = |_| {
            let info = trainer.update(false).expect("finite");
            f64::from(download(info.moves.accept_rate.expect("mala rejects"))[0])
        };
        (0..20).map(rate).sum::<f64>() / 20.0
    };
    let runs = |text: &str, before: u64| -> Vec<(f64, Trainer)> {
        let run = |seed: u64| {
            let text = text.replace("seed = 3", &format!("seed = {seed}"));
            let mut trainer = Trainer::new(config(&text), &cpu()).expect("starts");
            for _ in 0..before {
                trainer.update(false).expect("finite");
            }
            (acceptance(&mut trainer), trainer)
        };
        (1..=RUNS).map(run).collect()
    };
    let figures = |runs: &[(f64, Trainer)]| mean_se(&runs.iter().map(|run| run.0).collect::<Vec<_>>());
    // θ as good as stands still: a step size that follows a moving one is behind it.
    let unweighted = adaptive
        .replace("jarzynski", "persistent_cd")
        .replace("learning_rate = 1e-3", "learning_rate = 1e-9");
    for (text, before) in [(&adaptive, 0), (&unweighted, 700)] {
        let found = runs(text, before);
        let (rate, standard_error) = figures(&found);
        println!("step size {:?}, acceptance {rate:.4} ± {standard_error:.4}", found[0].1.step_size);
        assert_within_se(rate, 0.7, standard_error, four_se(RUNS as usize));
        assert!(standard_error < 0.01, "{standard_error}");
    }
    let (rate, standard_error) = figures(&runs(&mlp, 0));
    println!("not adapted: {rate:.4} ± {standard_error:.4}");
    assert_beyond_se(rate, 0.7, standard_error, 10.0);

    let mut weighted = Trainer::new(config(&adaptive), &cpu()).expect("starts");
    let frozen = weighted.step_size;
    assert!(frozen.is_some_and(|h| h > 0.05), "{frozen:?}");
    acceptance(&mut weighted);
    assert_eq!(weighted.step_size, frozen, "frozen");
    let mut follows = Trainer::new(config(&unweighted), &cpu()).expect("starts");
    assert_eq!(follows.step_size, Some(0.05));
    acceptance(&mut follows);
    assert!(follows.step_size > Some(0.05));
    let saved = follows.to_state("flex");
    let again =
        Trainer::from_state(config(&unweighted), &saved, Path::new("test"), &cpu()).expect("its checkpoint");
    assert_eq!(again.step_size, follows.step_size);
}

/// `ember eval` of a weight file of a tilted energy: tempered SMC starts at the base.
#[test]
fn log_z_is_had_from_the_base() {
    let model = trained(TABLE, &cpu());
    let folder = tempfile::tempdir().expect("a folder");
    let state = checkpoint::Checkpoint {
        model: model.export(),
        theta: model.export(),
        energy_config: model.spec().to_metadata(),
        ..checkpoint::Checkpoint::default()
    };
    let retention = checkpoint::Retention { keep: 1, scheduled_every: None };
    let path = checkpoint::save(folder.path(), &state, retention).expect("saved");
    let found = evaluate(&opened::open(&path, &cpu()).expect("opens"), 8, 1).expect("log Z");
    // A grid that holds all of the mass.
    let cells = 300;
    let centre = |i: usize| -9.0 + 18.0 * (i as f32 + 0.5) / cells as f32;
    let points: Vec<f32> = (0..cells * cells).flat_map(|i| [centre(i / cells), centre(i % cells)]).collect();
    let u = download(model.energy(upload(points, &cpu()).reshape([cells * cells, 2])));
    let volume = (18.0 / cells as f64).powi(2);
    let exact = (u.iter().map(|&u| (-f64::from(u)).exp()).sum::<f64>() * volume).ln();
    println!("log Z {:.4} ± {:.4}, by a grid {exact:.4}", found.log_z.value, found.log_z.standard_error);
    assert_within_se(found.log_z.value, exact, found.log_z.standard_error, four_se(8));
    assert!(found.log_z.standard_error < 0.02);
}
