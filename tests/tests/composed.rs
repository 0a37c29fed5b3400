//! Composed energies as energies: values, gradients, jets and starts against those of their parts, configs with trained parts, and every
//! mistake. Their statistics are in `compositions.rs`.

use std::path::{Path, PathBuf};

use burn::tensor::{Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec, ModelError};
use ember_tests::composed::composed;
use ember_tests::configs::{config, refused};
use ember_tests::explicit::{difference, differences, drawn, normals};
use ember_tests::flows;
use ember_tests::small::small;
use ember_tests::{cpu, four_se};
use ember_train::judging::eval::evaluate;
use ember_train::store::checkpoint::{self, Checkpoint};
use ember_train::store::opened;
use ember_train::training::trainer::Trainer;

/// Parts of different kinds, one of them composed.
const TABLES: [&str; 4] = [
    "kind = \"sum\"\nweights = [0.5, 2.0]\nparts = [{ kind = \"mlp\", hidden = [8], confinement = 0.7 }, { kind = \"mlp\", hidden = [6, 5] }]",
    "kind = \"mixture\"\nweights = [1.0, 3.0]\nlog_z = [0.5, -1.0]\ntemperatures = [1.0, 2.0]\n\
     parts = [{ kind = \"gaussian_mixture\", means = [[-1.0], [1.0, 0.5]] }, { kind = \"mlp\", hidden = [8], confinement = 0.7 }]",
    "kind = \"negation\"\nweights = [1.3, 0.3]\n\
     parts = [{ kind = \"mlp\", hidden = [8], confinement = 0.7 }, { kind = \"gaussian_mixture\", means = [[0.5, -1.0]] }]",
    "kind = \"sum\"\nparts = [{ kind = \"mlp\", hidden = [8] }, { kind = \"mixture\", parts = \
     [{ kind = \"mlp\", hidden = [8], confinement = 0.7 }, { kind = \"mlp\", hidden = [4], confinement = 2.0 }] }]",
];

fn model(table: &str) -> EnergyModel {
    drawn(&format!("dim = 3\n{table}"), 4, &cpu())
}

fn spec(table: &str) -> EnergySpec {
    EnergySpec::from_metadata(&format!("dim = 3\n{table}")).unwrap_or_else(|error| panic!("{error}\n{table}"))
}

/// The passes of the parts, weighted, are the gradients of the whole on the tape, kept passes included.
#[test]
fn gradients_agree_with_the_tape() {
    for table in TABLES {
        let model = model(table);
        for (what, off) in differences(&model, 33) {
            assert!(off < 2e-5, "{what} is off by {off:.1e}: {table}");
        }
        let kept = model.keeping().energy_and_grad_kept(normals(&model, 5, 1)).2;
        assert!(kept.is_some(), "every part of it keeps its pass: {table}");
    }
}

/// Each kind is what its formula says, of the parts as models of their own.
#[test]
fn the_energy_is_that_of_its_parts() {
    let part = |table: &str, seed| drawn(&format!("dim = 3\n{table}"), seed, &cpu());
    let parts = [
        part("kind = \"mlp\"\nhidden = [8]\nconfinement = 0.7", 1),
        part("kind = \"gaussian_mixture\"\nmeans = [[0.0], [1.0]]", 2),
    ];
    let x = normals(&parts[0], 20, 3);
    let u: Vec<Vec<f64>> = parts
        .iter()
        .map(|part| download(part.energy(x.clone())).into_iter().map(f64::from).collect())
        .collect();
    let expected = |keys: &str, of: &dyn Fn(f64, f64) -> f64| {
        let model = composed(keys, &parts);
        assert_eq!(model.host_theta().len(), 6, "the parts' parameters");
        let found = download(model.energy(x.clone()));
        for (found, (a, b)) in found.iter().zip(u[0].iter().zip(&u[1])) {
            let exact = of(*a, *b);
            assert!(
                (f64::from(*found) - exact).abs() < 1e-5 * (1.0 + exact.abs()),
                "{found} for {exact}: {keys}"
            );
        }
    };
    expected("kind = \"sum\"\nweights = [0.5, 2.0]", &|a, b| 0.5 * a + 2.0 * b);
    expected("kind = \"sum\"\ntemperatures = [2.0, 1.0]", &|a, b| 0.5 * a + b);
    expected("kind = \"negation\"\nweights = [1.5, 0.2]", &|a, b| 1.5 * a - 0.2 * b);
    expected("kind = \"mixture\"\nweights = [1.0, 3.0]\nlog_z = [0.3, 2.0]", &|a, b| {
        -(0.25 * (-a - 0.3).exp() + 0.75 * (-b - 2.0).exp()).ln()
    });
    // Far from all parts nothing underflows.
    let far = composed("kind = \"mixture\"", &parts).energy_and_grad(x.mul_scalar(1e3));
    assert!(download(far.0).iter().chain(&download(far.1)).all(|number| number.is_finite()));
}

/// Jets against differences along the line; a part without jets leaves the whole without them.
#[test]
fn jets_are_derivatives_along_the_line() {
    let numbers = |tensor: Tensor<1>| -> Vec<f64> { download(tensor).into_iter().map(f64::from).collect() };
    for table in TABLES {
        let model = model(table);
        assert_eq!(model.jet_order(), 2);
        let (x, v) = (normals(&model, 7, 1), normals(&model, 7, 2));
        let jet =
            |t: f32| model.jet(x.clone() + v.clone().mul_scalar(t), v.clone()).expect("jets").map(numbers);
        let [value, first, second] = jet(0.0);
        let (u, grad) = model.energy_and_grad(x.clone());
        let along = numbers((grad * v.clone()).sum_dim(1).squeeze_dim::<1>(1));
        let h = 1e-2f32;
        let (ahead, behind) = (jet(h)[1].clone(), jet(-h)[1].clone());
        for (i, u) in numbers(u).iter().enumerate() {
            assert!((value[i] - u).abs() < 1e-4 * (1.0 + u.abs()), "{table}");
            assert!((first[i] - along[i]).abs() < 1e-4 * (1.0 + along[i].abs()), "{table}");
            let slope = (ahead[i] - behind[i]) / f64::from(2.0 * h);
            assert!(
                (second[i] - slope).abs() < 5e-3 * (1.0 + slope.abs()),
                "{} for {slope}: {table}",
                second[i]
            );
        }
    }
    let table = "kind = \"sum\"\nparts = [{ kind = \"mlp\", hidden = [8] }, { kind = \"real_nvp\", layers = 2, hidden = [4], mask = \"checkerboard\" }]";
    assert_eq!(spec(table).build().expect("it fits").jet_order(), 0);
}

/// Networks alone begin at `N(0, I/c)`, `c = Σ a_i c_i`, exactly; a mixture is exact where its parts are; else nothing is claimed.
#[test]
fn starts_are_what_they_claim() {
    let start = |table: &str| EnergyModel::init(spec(table), 0, &cpu()).expect("it fits");
    let nets = "parts = [{ kind = \"mlp\", hidden = [8], confinement = 0.7 }, { kind = \"mlp\", hidden = [8], confinement = 0.2 }]";
    for (keys, c) in
        [("kind = \"sum\"\nweights = [2.0, 1.0]", 1.6), ("kind = \"negation\"\nweights = [1.3, 0.3]", 0.85)]
    {
        let model = start(&format!("{keys}\n{nets}"));
        let exact = 1.5 * (2.0 * std::f64::consts::PI / c).ln();
        assert!((model.log_z().expect("known") - exact).abs() < 1e-9);
        assert!((model.confinement().expect("confined") - c).abs() < 1e-12);
        let draws = model.draw(40_000, Stream::new(1, Purpose::Start)).expect("exact");
        let variance = draws.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / draws.len() as f64;
        assert!((variance * c - 1.0).abs() < 0.02, "{variance}");
    }
    // On a cube a quadratic may open downwards; it is no uniform law then.
    let cube = |weights: &str| {
        start(&format!("support = \"cube\"\nkind = \"negation\"\nweights = {weights}\n{nets}"))
    };
    assert!(cube("[1.0, 1.0]").log_z().is_some_and(|log_z| log_z < 3.0 * 2f64.ln()));
    assert_eq!(
        (cube("[0.1, 1.0]").log_z(), cube("[0.1, 1.0]").draw(1, Stream::new(1, Purpose::Start))),
        (None, None)
    );
    let gaussians = "parts = [{ kind = \"gaussian_mixture\", means = [[3.0]] }, { kind = \"gaussian_mixture\", means = [[-3.0], [0.0]] }]";
    let mixture = start(&format!("kind = \"mixture\"\n{gaussians}"));
    // ½ (2π)^{3/2} (1 + 2)
    let exact = 1.5 * (2.0 * std::f64::consts::PI).ln() + 1.5f64.ln();
    assert!((mixture.log_z().expect("known") - exact).abs() < 1e-6);
    let draws = mixture.draw(40_000, Stream::new(1, Purpose::Start)).expect("exact");
    let right = draws.chunks_exact(3).filter(|x| x[0] > 1.5).count() as f64 / 40_000.0;
    // A third at 3; of another third at 0, Φ(−1.5).
    let exact = 1.0 / 3.0 * (0.933_193 + 0.066_807);
    assert!((right - exact).abs() < 4.0 * (exact * (1.0 - exact) / 4e4_f64).sqrt(), "{right} for {exact}");
    let product = start(&format!("kind = \"sum\"\n{gaussians}"));
    assert_eq!((product.log_z(), product.draw(2, Stream::new(1, Purpose::Start))), (None, None));
    assert!(model(TABLES[0]).log_z().is_none(), "moved away from its start");
}

/// A mixture inside a mixture: the choices of the two are independent.
#[test]
fn nested_mixtures_choose_twice() {
    let gaussian = |at: f64| format!("{{ kind = \"gaussian_mixture\", means = [[{at:?}]] }}");
    let inner = format!("{{ kind = \"mixture\", parts = [{}, {}] }}", gaussian(-10.0), gaussian(0.0));
    let outer = format!("kind = \"mixture\"\nparts = [{inner}, {}]", gaussian(10.0));
    let model = EnergyModel::init(spec(&outer), 0, &cpu()).expect("it fits");
    let draws = model.draw(40_000, Stream::new(2, Purpose::Sample)).expect("exact");
    let share = |low: f32, high: f32| {
        draws.chunks_exact(3).filter(|x| (low..high).contains(&x[0])).count() as f64 / 40_000.0
    };
    for (found, exact) in [(share(-20.0, -5.0), 0.25), (share(-5.0, 5.0), 0.25), (share(5.0, 20.0), 0.5)] {
        assert!(
            (found - exact).abs() < 4.0 * (exact * (1.0 - exact) / 4e4_f64).sqrt(),
            "{found} for {exact}"
        );
    }
}

/// log Z of compositions with parts that have no `½ c |x|²` of their own, flows, tilted flows, mixtures, networks alone, and on a cube.
#[test]
fn log_z_is_had_for_parts_of_every_kind() {
    let plane = |table: &str| flows::trained(&format!("dim = 2\n{table}"), &cpu());
    let flow = plane("kind = \"real_nvp\"\nlayers = 2\nhidden = [8]");
    let tilted = plane(
        "kind = \"tilted\"\nbase = { kind = \"real_nvp\", layers = 2, hidden = [8] }\ntilt = { kind = \"mlp\", hidden = [8] }",
    );
    let net = plane("kind = \"mlp\"\nhidden = [8]\nconfinement = 0.7");
    let free = plane("kind = \"mlp\"\nhidden = [8]");
    let gaussians = plane("kind = \"gaussian_mixture\"\nmeans = [[-1.0], [2.0, 1.0]]");
    let models = [
        composed("kind = \"sum\"\nweights = [1.0, 0.5]", &[flow.clone(), tilted]),
        composed("kind = \"mixture\"", &[net.clone(), gaussians]),
        composed("kind = \"sum\"", &[free.clone(), flow]),
        composed("support = \"cube\"\nkind = \"negation\"\nweights = [0.5, 1.5]", &[free, net]),
    ];
    for model in models {
        let half = if model.spec().support == ember_model::Support::Cube { 1.0 } else { 9.0 };
        let cells = 200;
        let centre = |i: usize| -half + 2.0 * half * (i as f32 + 0.5) / cells as f32;
        let points: Vec<f32> =
            (0..cells * cells).flat_map(|i| [centre(i / cells), centre(i % cells)]).collect();
        let grid = Tensor::from_data(TensorData::new(points, [cells * cells, 2]), &cpu());
        let u = download(model.energy(grid));
        let volume = (2.0 * f64::from(half) / cells as f64).powi(2);
        let exact = (u.iter().map(|&u| (-f64::from(u)).exp()).sum::<f64>() * volume).ln();
        let folder = tempfile::tempdir().expect("a folder");
        let found = evaluate(&opened::open(&saved(folder.path(), &model), &cpu()).expect("opens"), 8, 1);
        let log_z = found.expect("log Z").log_z;
        println!(
            "{}: {:.4} ± {:.4}, by a grid {exact:.4}",
            model.spec().energy.kind(),
            log_z.value,
            log_z.standard_error
        );
        assert_eq!(log_z.method, "smc");
        assert!(log_z.standard_error < 0.03);
        ember_tests::assert_within_se(log_z.value, exact, log_z.standard_error, four_se(8));
    }
}

/// A network on a Gaussian base lends its composition the variances of its coordinates.
#[test]
fn gaussian_bases_give_their_variances() {
    let conv = "shape = [1, 2, 2]\nkind = \"conv\"\nbase = \"gaussian\"\nlayers = [{ out = 3, kernel = 1 }, { out = 1, kernel = 2 }]";
    let spec = EnergySpec::from_metadata(conv).expect("a network");
    let part = EnergyModel::init(spec, 0, &cpu()).expect("it fits");
    // Two blocks; the inverse of [[2, ½], [½, 1]] has 4/7 and 8/7 on its diagonal.
    let mut precision = vec![0.0; 16];
    for (at, value) in [(0, 2.0), (1, 0.5), (4, 0.5), (5, 1.0), (10, 4.0), (15, 0.5)] {
        precision[at] = value;
    }
    let part = part.with_gaussian_base(vec![0.5, 0.0, 0.0, -1.0], precision);
    let [mean, variance] = part.moments().expect("a Gaussian");
    assert_eq!(mean, [0.5, 0.0, 0.0, -1.0]);
    for (found, exact) in variance.iter().zip([4.0 / 7.0, 8.0 / 7.0, 0.25, 2.0]) {
        assert!((found - exact).abs() < 1e-6, "{variance:?}");
    }
}

/// A checkpoint of the model; its folder.
fn saved(folder: &Path, model: &EnergyModel) -> PathBuf {
    let state = Checkpoint {
        model: model.export(),
        theta: model.export(),
        energy_config: model.spec().to_metadata(),
        ..Checkpoint::default()
    };
    let retention = checkpoint::Retention { keep: 1, scheduled_every: None };
    checkpoint::save(folder, &state, retention).expect("saved")
}

/// Two trained parts in a folder.
struct Trained {
    folder: tempfile::TempDir,
    models: [EnergyModel; 2],
    paths: [String; 2],
}

impl Trained {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let part = |table: &str, seed| drawn(&format!("dim = 2\n{table}"), seed, &cpu());
        let models = [
            part("kind = \"mlp\"\nhidden = [8]\nconfinement = 1.0", 1),
            part("kind = \"mlp\"\nhidden = [6]\nconfinement = 0.5\ntemperature = 2.0", 2),
        ];
        let saved = |i: usize| saved(&folder.path().join(i.to_string()), &models[i]).display().to_string();
        Self { paths: [saved(0), saved(1)], folder, models }
    }

    /// Their sum.
    fn sum(&self) -> String {
        format!("{{ kind = \"sum\", parts = {:?} }}", self.paths)
    }
}

/// A run without weights on this energy.
fn on(energy: &str, changes: &str) -> String {
    let start = "objective.kind = \"persistent_cd\"\nwalkers.init = \"data\"";
    small(&format!("energy = {energy}\n{start}\n{changes}"))
}

/// Trained parts keep their parameters and temperatures; the run on them needs their files no more, and goes on bit for bit.
#[test]
fn a_run_starts_from_trained_parts() {
    let trained = Trained::new();
    let loaded = config(&on(&trained.sum(), ""));
    let parts = trained.models.clone();
    let mut trainer = Trainer::new(loaded.clone(), &cpu()).expect("starts");
    let theta: Vec<Vec<f32>> = parts.iter().flat_map(EnergyModel::host_theta).collect();
    assert_eq!(trainer.model.host_theta(), theta);
    let x = normals(&trainer.model, 9, 1);
    let sum = parts[0].energy(x.clone()) + parts[1].energy(x.clone());
    assert!(difference(&trainer.model.energy(x), &sum) < 1e-6, "the part at temperature 2 is U/2");
    let resolved = loaded.to_toml();
    assert!(resolved.contains("parts_from") && resolved.contains("temperatures"), "{resolved}");
    drop(trained);
    assert_eq!(config(&resolved), loaded, "the resolved config needs no file");
    (0..10).for_each(|_| drop(trainer.update(false).expect("finite")));
    let state = trainer.to_state("flex");
    let mut again = Trainer::from_state(config(&resolved), &state, Path::new("test"), &cpu())
        .expect("its own checkpoint");
    for _ in 0..10 {
        trainer.update(false).expect("finite");
        again.update(false).expect("finite");
    }
    assert_eq!(trainer.model.host_theta(), again.model.host_theta());
    let moved = trainer.model.host_theta();
    assert!(moved[0] != theta[0] && moved[4] != theta[4], "both parts are trained");
}

/// A weight file of a composed model, as a part of another: nested, and self-contained.
#[test]
fn a_composed_model_is_a_part_itself() {
    let parts = Trained::new();
    let trainer = Trainer::new(config(&on(&parts.sum(), "")), &cpu()).expect("starts");
    let inner = saved(&parts.folder.path().join("2"), &trainer.model).display().to_string();
    let energy = format!(
        "{{ kind = \"mixture\", parts = [{inner:?}, {{ kind = \"mlp\", hidden = [4], confinement = 1.0 }}] }}"
    );
    let nested = Trainer::new(config(&on(&energy, "")), &cpu()).expect("starts");
    let names: Vec<String> = nested.model.params().into_iter().map(|param| param.name).collect();
    assert_eq!(names[0], "parts.0.parts.0.layers.0.weight");
    assert_eq!(nested.model.host_theta()[..8], trainer.model.host_theta());
    // The same in one table.
    let energy = format!("{{ kind = \"mixture\", parts = [{}, {:?}] }}", parts.sum(), parts.paths[0]);
    let nested = Trainer::new(config(&on(&energy, "")), &cpu()).expect("starts");
    assert_eq!(nested.model.host_theta()[..8], trainer.model.host_theta());
    assert_eq!(nested.model.host_theta()[8..], parts.models[0].host_theta());
}

fn refused_model(table: &str, words: &[&str]) {
    let spec = EnergySpec::from_metadata(&format!("dim = 2\n{table}"));
    let error = match spec.map(|spec| spec.build()) {
        Err(error) | Ok(Err(error)) => error,
        Ok(Ok(_)) => panic!("accepted: {table}"),
    };
    assert!(matches!(error, ModelError::Invalid { .. } | ModelError::Metadata(_)));
    let message = error.to_string();
    words.iter().for_each(|word| assert!(message.contains(word), "no `{word}` in {message}"));
}

#[test]
fn mistakes_in_a_table_are_named() {
    let net = |c: f64| format!("{{ kind = \"mlp\", hidden = [4], confinement = {c:?} }}");
    let two = format!("parts = [{}, {}]", net(1.0), net(1.0));
    refused_model(
        &format!("kind = \"sum\"\nparts = [{}]", net(1.0)),
        &["energy.parts", "1 found", "at least two"],
    );
    refused_model("kind = \"mixture\"\nparts = []", &["energy.parts", "0 found", "at least two"]);
    refused_model(
        &format!("kind = \"negation\"\nweights = [1.0]\nparts = [{}]", net(1.0)),
        &["energy.parts", "1 found"],
    );
    refused_model(
        &format!("kind = \"negation\"\nweights = [1.0, 0.1, 0.1]\nparts = [{0}, {0}, {0}]", net(1.0)),
        &["energy.parts", "3 found", "expected two"],
    );
    refused_model(
        &format!("kind = \"sum\"\nweights = [1.0]\n{two}"),
        &["energy.weights", "1 found", "each of the 2 parts"],
    );
    refused_model(
        &format!("kind = \"mixture\"\nweights = [1.0, -1.0]\n{two}"),
        &["energy.weights", "-1 found", "> 0"],
    );
    refused_model(&format!("kind = \"mixture\"\nlog_z = [1.0]\n{two}"), &["energy.log_z", "1 found"]);
    refused_model(&format!("kind = \"mixture\"\nlog_z = [1.0, nan]\n{two}"), &["energy.log_z", "NaN"]);
    refused_model(
        &format!("kind = \"sum\"\ntemperatures = [1.0, 0.0]\n{two}"),
        &["energy.temperatures", "0"],
    );
    refused_model(&format!("kind = \"mixture\"\nnormalise = true\n{two}"), &["energy.normalise", "paths"]);
    refused_model(
        "kind = \"sum\"\nparts = [{ kind = \"mlp\", hidden = [] }, { kind = \"mlp\", hidden = [4] }]",
        &["energy.parts", "part 0", "hidden"],
    );
    refused_model(
        &format!("kind = \"negation\"\nweights = [1.0, 1.0]\n{two}"),
        &["energy.weights", "confinements are 1 and 1", "not above 0"],
    );
    let free = format!("kind = \"negation\"\nweights = [1.0, 0.3]\nparts = [{}, {}]", net(0.0), net(0.0));
    refused_model(&free, &["energy.weights", "not above 0"]);
    assert!(
        EnergySpec::from_metadata(&format!("dim = 2\nsupport = \"cube\"\n{free}"))
            .expect("a table")
            .build()
            .is_ok()
    );
    let flow = "{ kind = \"real_nvp\", layers = 2, hidden = [4] }";
    refused_model(
        &format!("kind = \"negation\"\nweights = [1.0, 0.3]\nparts = [{flow}, {}]", net(1.0)),
        &["energy.parts", "part 0", "real_nvp", "infinite"],
    );
    let inner = format!("{{ kind = \"negation\", weights = [1.0, 1.0], {two} }}");
    refused_model(
        &format!("kind = \"sum\"\nparts = [{inner}, {}]", net(1.0)),
        &["energy.parts", "part 0", "weights"],
    );
}

#[test]
fn mistakes_in_a_config_are_named() {
    let parts = Trained::new();
    config(&on(&parts.sum(), ""));
    let ([first, second], with) = (&parts.paths, on);
    let sum = |parts: &str| format!("{{ kind = \"sum\", parts = [{parts}] }}");
    refused(
        &with(&sum(&format!("{first:?}, \"no/such/run\"")), ""),
        &["energy.parts", "part 1", "no/such/run"],
    );
    refused(&with(&sum(&format!("{first:?}")), ""), &["energy.parts", "1 found", "at least two"]);
    refused(&with(&sum(&format!("{first:?}, 7")), ""), &["energy.parts"]);
    refused(
        &with(&sum(&format!("{first:?}, {second:?}")), "dataset.dim = 3"),
        &["energy.parts", "part 0", "shape [2]", "shape [3]"],
    );
    refused(
        &with(
            &sum(&format!("{first:?}, {second:?}")),
            "kernel.boundary = \"reflect\"\nkernel.kind = \"mala\"",
        ),
        &["kernel.boundary", "all of space", "cube"],
    );
    let normalised = format!("{{ kind = \"mixture\", normalise = true, parts = [{first:?}, {second:?}] }}");
    refused(&with(&normalised, ""), &["energy.normalise", "part 0", "mlp", "ember eval", "log_z"]);
    let both = format!(
        "{{ kind = \"mixture\", normalise = true, log_z = [0.0, 0.0], parts = [{first:?}, {second:?}] }}"
    );
    refused(&with(&both, ""), &["energy.normalise", "log_z"]);
    let tilted = "{ kind = \"tilted\", base = { kind = \"real_nvp\", layers = 1, hidden = [2] }, tilt = { kind = \"mlp\", hidden = [2] } }";
    refused(
        &with(&sum(&format!("{first:?}, {tilted}")), ""),
        &["energy.parts", "part 1", "tilted", "fitted to data"],
    );
    let trained = sum(&format!("{first:?}, {second:?}"));
    refused(&small(&format!("energy = {trained}")), &["walkers.init", "a sum of trained parts"]);
    refused(
        &small(&format!("energy = {trained}\nwalkers.init = \"data\"")),
        &["walkers.init", "unweighted_start", "persistent_cd"],
    );
    refused(&with(&trained.replace("sum", "summ"), ""), &["energy.kind", "did you mean `sum`?"]);
    // Values that are no numbers.
    let path = Path::new(second).join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("a file");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let broken = parts.folder.path().join("broken.safetensors");
    std::fs::write(&broken, bytes).expect("written");
    refused(
        &with(&sum(&format!("{first:?}, {:?}", broken.display().to_string())), ""),
        &["energy.parts", "part 1", "broken.safetensors", "NaN", "finite number"],
    );
    std::fs::write(&path, b"cut").expect("written");
    refused(&with(&trained, ""), &["energy.parts", "part 1", "model.safetensors"]);
}
