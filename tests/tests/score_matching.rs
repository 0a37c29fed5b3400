//! Objectives of the data alone: score matching in its three forms, and energy discrepancy.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Custom, Energy, EnergyConfig, EnergyModel, EnergySpec};
use ember_tests::configs::{config, far, refused, small};
use ember_tests::resumed::resumed;
use ember_tests::toys::{Location, Quadratic};
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se, mean_se};
use ember_train::memory::{Room, Sizes};
use ember_train::training::objective::ObjectiveConfig;
use ember_train::training::trainer::Trainer;

const IMPLICIT: &str = "{ kind = \"score_matching\", form = \"implicit\" }";
const SLICED: &str = "{ kind = \"score_matching\", form = \"sliced\" }";
const PLAIN: &str = "{ kind = \"score_matching\", form = \"sliced\", slices = 3, variance_reduced = false }";

fn denoising(sigma: &str) -> String {
    format!("{{ kind = \"score_matching\", form = \"denoising\", sigma = {sigma} }}")
}

fn discrepancy(t: f64, more: &str) -> String {
    format!("{{ kind = \"energy_discrepancy\", t = {t:?}{more} }}")
}

fn objective(table: &str) -> ObjectiveConfig {
    config(&small(&format!("objective = {table}"))).objective
}

// ---- The minimiser ----------------------------------------------------------------------------------------------------------

/// Correlated data: two modes along a diagonal.
const CORRELATED: &str = "dataset.means = [[-1.0, -0.5], [1.0, 0.5]]\ndataset.weights = [0.3, 0.7]\ndataset.train_size = 512\n\
                          walkers.count = 8\nwalkers.init = \"normal\"\noptimizer = { kind = \"sgd\", learning_rate = 0.1 }\nresampling.scheme = \"none\"";
const REPEATS: usize = 12;

/// `(b, P)` of a quadratic energy after training, and the data it was trained on.
fn fitted(table: &str, bend: f64, seed: u64) -> (Vec<f64>, Vec<[f64; 2]>) {
    let mut config =
        config(&small(&format!("{CORRELATED}\nobjective = {table}\nseed = {seed}\nsteps = 400")));
    config.energy = EnergyConfig::Custom(Custom(Arc::new(Quadratic { bend })));
    let mut trainer = Trainer::new(config, &cpu()).expect("starts");
    for _ in 0..400 {
        trainer.update(false).expect("finite");
    }
    let [field, free] = [0, 1].map(|i| download(trainer.model.theta()[i].clone()));
    let precision = [free[0], 0.5 * (free[1] + free[2]), free[3]];
    let found = field.into_iter().chain(precision).map(f64::from).collect();
    let rows =
        trainer.data.train.values().chunks_exact(2).map(|x| [f64::from(x[0]), f64::from(x[1])]).collect();
    (found, rows)
}

/// `P = (C + noise·I)⁻¹` and `b = P m` of the data's mean and covariance.
fn expected(rows: &[[f64; 2]], noise: f64) -> Vec<f64> {
    let n = rows.len() as f64;
    let mean = [0, 1].map(|j| rows.iter().map(|x| x[j]).sum::<f64>() / n);
    let moment =
        |i: usize, j: usize| rows.iter().map(|x| (x[i] - mean[i]) * (x[j] - mean[j])).sum::<f64>() / n;
    let (a, b, c) = (moment(0, 0) + noise, moment(0, 1), moment(1, 1) + noise);
    let det = a * c - b * b;
    let p = [c / det, -b / det, a / det];
    vec![p[0] * mean[0] + p[1] * mean[1], p[1] * mean[0] + p[2] * mean[1], p[0], p[1], p[2]]
}

/// Differences of what was found from what is expected, with their standard errors over the repeats.
fn differences(table: &str, bend: f64, noise: f64) -> Vec<(f64, f64)> {
    let runs: Vec<Vec<f64>> = (0..REPEATS as u64)
        .map(|seed| {
            let (found, rows) = fitted(table, bend, seed);
            found.iter().zip(expected(&rows, noise)).map(|(a, b)| a - b).collect()
        })
        .collect();
    (0..5).map(|k| mean_se(&runs.iter().map(|run| run[k]).collect::<Vec<_>>())).collect()
}

/// Without noise of its own the implicit form finds mean and covariance of the data themselves.
#[test]
fn the_implicit_form_finds_the_moments() {
    let (found, rows) = fitted(IMPLICIT, 1.0, 0);
    for (a, b) in found.iter().zip(expected(&rows, 0.0)) {
        assert!((a - b).abs() < 1e-4, "{a} vs {b}");
    }
    let (found, rows) = fitted(IMPLICIT, 0.9, 0);
    let off = found[2] / expected(&rows, 0.0)[2];
    assert!((off - 0.9).abs() < 1e-3, "a second derivative of nine tenths is seen: {off}");
}

/// The others find them in the mean, `denoising` those of data with its noise on them; broken variants do not.
#[test]
fn random_forms_find_the_moments() {
    for (table, noise) in [
        (SLICED.to_owned(), 0.0),
        (PLAIN.to_owned(), 0.0),
        (denoising("0.5"), 0.25),
        (denoising("1.5"), 2.25),
    ] {
        for (mean, se) in differences(&table, 1.0, noise) {
            println!("{table}: {mean:.5} ± {se:.5}");
            assert_within_se(mean, 0.0, se, four_se(REPEATS));
        }
        // Nine tenths of the second derivative, or seven of the noise's deviation.
        let (bend, noise) = if noise == 0.0 { (0.9, 0.0) } else { (1.0, 0.49 * noise) };
        let (mean, se) = differences(&table, bend, noise)[2];
        println!("{table}, broken: {mean:.5} ± {se:.5}");
        assert_beyond_se(mean, 0.0, se, 10.0);
    }
}

/// A ladder is the mean of its steps' losses: of σ = 1 and 1, that of 1.
#[test]
fn a_ladder_of_equal_steps_is_one_step() {
    for ((mean, se), k) in differences(&denoising("[1.0, 1.0]"), 1.0, 1.0).into_iter().zip(0..) {
        println!("{k}: {mean:.5} ± {se:.5}");
        assert_within_se(mean, 0.0, se, four_se(REPEATS));
    }
    // The minimiser of a mixed ladder lies between those of its steps.
    let found = differences(&denoising("[0.5, 1.5]"), 1.0, 0.25)[2];
    let other = differences(&denoising("[0.5, 1.5]"), 1.0, 2.25)[2];
    assert!(found.0 < 0.0 && other.0 > 0.0, "{found:?} {other:?}");
}

/// Energy discrepancy finds a location, at small and at large t.
#[test]
fn energy_discrepancy_finds_a_location() {
    for t in [0.1, 2.0] {
        let found: Vec<f64> = (0..REPEATS as u64)
            .map(|seed| {
                let table = discrepancy(t, "");
                let changes = format!(
                    "dataset.means = [[1.5, 1.5]]\ndataset.weights = [1.0]\ndataset.train_size = 512\nwalkers.count = 8\n\
                     optimizer = {{ kind = \"sgd\", learning_rate = 0.5 }}\nobjective = {table}\nseed = {seed}\nsteps = 300"
                );
                let mut config = config(&small(&changes));
                config.energy = EnergyConfig::Custom(Custom(Arc::new(Location)));
                let mut trainer = Trainer::new(config, &cpu()).expect("starts");
                for _ in 0..300 {
                    trainer.update(false).expect("finite");
                }
                f64::from(download(trainer.model.theta()[0].clone())[0])
            })
            .collect();
        let (mean, se) = mean_se(&found);
        println!("t = {t}: {mean:.4} ± {se:.4}");
        assert_within_se(mean, 1.5, se, four_se(REPEATS));
        assert_beyond_se(mean, 0.0, se, 10.0);
    }
}

// ---- Masses -----------------------------------------------------------------------------------------------------------------

/// q, the mass of the right mode, after 400 updates, and that of the data.
fn mass(table: &str) -> (f64, f64) {
    let mut trainer = Trainer::new(config(&far(&format!("objective = {table}"))), &cpu()).expect("starts");
    for _ in 0..400 {
        trainer.update(false).expect("finite");
    }
    let found = trainer.model.mixture().expect("a mixture").masses[1];
    println!("{table}: q = {found:.4}, data {:.4}", trainer.data.train_fractions()[1]);
    (found, trainer.data.train_fractions()[1])
}

/// No form learns the masses of two modes that no noise connects (ALGORITHMS 2).
#[test]
fn score_matching_does_not_see_masses() {
    for table in [IMPLICIT, SLICED, PLAIN, &denoising("0.3"), &discrepancy(0.5, "")] {
        let (found, _) = mass(table);
        assert!((found - 0.5).abs() < 1e-3, "{table}: q = {found}, expected .5: no learning");
    }
}

/// Perturbations that reach from mode to mode see them: energy discrepancy finds the data's; denoising finds other ones, for modes of
/// unit variance are no model of data with so much noise.
#[test]
fn wide_perturbations_see_masses() {
    let (found, data) = mass(&discrepancy(200.0, ", samples = 64"));
    assert!((found - data).abs() < 0.03, "q = {found}, data {data}");
    let (found, data) = mass(&denoising("5.0"));
    assert!((found - 0.5).abs() > 0.1 && (found - data).abs() > 0.05, "q = {found}, data {data}");
}

// ---- The gradient -----------------------------------------------------------------------------------------------------------

fn normals(n: usize, dim: usize, lane: u32) -> Tensor<2> {
    let values = Stream::new(5, Purpose::Data).lane(lane).normals(n, dim);
    Tensor::from_data(TensorData::new(values, [n, dim]), &cpu())
}

fn model(metadata: &str) -> EnergyModel {
    let model =
        EnergyModel::init(EnergySpec::from_metadata(metadata).expect("right"), 3, &cpu()).expect("it fits");
    let moved = |(i, tensor): (usize, &Tensor<1>)| {
        let n = tensor.dims()[0];
        tensor.clone() + normals(n, 1, 100 + i as u32).reshape([n]).mul_scalar(0.3)
    };
    model.with_theta(model.theta().iter().enumerate().map(moved).collect())
}

/// Each gradient against central differences of its own loss at the same random numbers, for each energy; the gradient of another
/// objective is seen not to be it.
#[test]
fn gradients_are_those_of_the_losses() {
    const MLP: &str = "dim = 3\nkind = \"mlp\"\nhidden = [16, 8]\nactivation = \"tanh\"\nconfinement = 0.7";
    const MIXTURE: &str =
        "dim = 3\nkind = \"gaussian_mixture\"\nmeans = [[-1.0, 1.0], [0.5]]\nmeans_noise = 0.3";
    const FLOW: &str = "dim = 4\nkind = \"real_nvp\"\nlayers = 2\nhidden = [8]";
    let discrepancies =
        [discrepancy(0.5, ""), discrepancy(0.3, ", samples = 3, w = 0.0"), discrepancy(0.1, ", w = 4.0")];
    let scores = [
        IMPLICIT.to_owned(),
        SLICED.to_owned(),
        PLAIN.to_owned(),
        denoising("0.4"),
        denoising("[0.3, 1.0, 2.0]"),
    ];
    for energy in [MLP, MIXTURE, FLOW] {
        let model = model(energy);
        let batch = normals(40, model.dim(), 0);
        let stream = Stream::new(9, Purpose::Perturbation).at(7).expect("small");
        let scores = scores.iter().filter(|_| energy != FLOW);
        let mut found = Vec::new();
        for table in scores.chain(&discrepancies) {
            let objective = objective(table);
            let loss = objective.as_dyn().data_loss().expect("of the data alone");
            let at = |model: &EnergyModel| {
                loss.gradient(model, None, &batch, stream).expect("it has what it takes")
            };
            let value = |model: &EnergyModel| f64::from(download(at(model).loss)[0]);
            let mut along = Vec::new();
            for (i, (grad, spec)) in at(&model).grads.into_iter().zip(model.params()).enumerate() {
                let n = spec.len();
                let mut direction = normals(n, 1, 200 + i as u32).reshape([n]);
                if spec.name == "log_masses" {
                    direction =
                        direction * Tensor::from_data(TensorData::new(vec![0.0f32, 1.0], [n]), &cpu());
                }
                let slope = f64::from(download((grad.clone() * direction.clone()).sum())[0]);
                let moved = |h: f32| {
                    let mut theta = model.theta().to_vec();
                    theta[i] = theta[i].clone() + direction.clone().mul_scalar(h);
                    value(&model.with_theta(theta))
                };
                let h = 1e-2f32;
                let [a, b, c, d] = [-2.0, -1.0, 1.0, 2.0].map(|k: f32| moved(k * h));
                let expected = (a - 8.0 * b + 8.0 * c - d) / (12.0 * f64::from(h));
                let scale = download(grad).into_iter().fold(0.02, |a: f64, b| a.max(f64::from(b.abs())));
                let name = &spec.name;
                assert!(
                    (slope - expected).abs() < 4e-3 * scale,
                    "{table}, {energy}: {name}: {slope} vs {expected}"
                );
                along.push(slope);
            }
            found.push((table, along));
        }
        for pair in found.windows(2) {
            let differs =
                pair[0].1.iter().zip(&pair[1].1).any(|(a, b)| (a - b).abs() > 0.02 * a.abs().max(b.abs()));
            assert!(differs, "{} and {} have one gradient", pair[0].0, pair[1].0);
        }
    }
}

/// In slices as long as memory allows: the same to rounding as row by row.
#[test]
fn slices_add_up() {
    // A layer so wide that a slice has 64 rows of one line, and 21 of three.
    let model = model("dim = 3\nkind = \"mlp\"\nhidden = [65536]\nactivation = \"tanh\"\nconfinement = 0.7");
    let stream = Stream::new(9, Purpose::Perturbation);
    let batch = normals(67, 3, 0);
    for table in [IMPLICIT.to_owned(), discrepancy(0.5, ", samples = 3")] {
        let objective = objective(&table);
        let loss = objective.as_dyn().data_loss().expect("of the data alone");
        let whole = loss.gradient(&model, None, &batch, stream).expect("it has what it takes");
        if table == IMPLICIT {
            let one =
                |i| loss.gradient(&model, None, &batch.clone().narrow(0, i, 1), stream).expect("it has").loss;
            let mean = (0..67).map(|i| f64::from(download(one(i))[0])).sum::<f64>() / 67.0;
            let found = f64::from(download(whole.loss)[0]);
            assert!((found - mean).abs() < 1e-3 * (1.0 + mean.abs()), "{found} vs {mean}");
        }
        assert!(whole.grads.into_iter().flat_map(download).all(f32::is_finite));
    }
}

// ---- The run ----------------------------------------------------------------------------------------------------------------

/// Walkers follow the model, and nothing of them is in θ: their number, kernel and start change no bit of it.
#[test]
fn walkers_have_no_part_in_the_gradient() {
    let theta = |table: &str, changes: &str| {
        let text = small(&format!("objective = {table}\n{changes}"));
        let mut trainer = Trainer::new(config(&text), &cpu()).expect("starts");
        for k in 0..20 {
            let info = trainer.update(k == 19).expect("finite");
            assert!(info.loss.is_some());
        }
        let walkers = download(trainer.walkers.position.clone());
        (trainer.model.host_theta(), walkers)
    };
    for table in [SLICED.to_owned(), denoising("0.5"), discrepancy(0.5, "")] {
        let (own, walkers) = theta(&table, "");
        let (other, moved) = theta(
            &table,
            "walkers.count = 77\nwalkers.init = \"normal\"\nkernel = { kind = \"mala\", step_size = 0.2 }\nresampling.scheme = \"none\"",
        );
        assert_eq!(own, other, "{table}");
        assert_ne!(walkers[..20], moved[..20]);
        let (reseeded, _) = theta(&table, "seed = 1");
        assert_ne!(own, reseeded);
    }
}

/// From a checkpoint a run goes on to the same bits.
#[test]
fn a_resumed_run_is_the_same() {
    for table in [SLICED.to_owned(), denoising("[0.5, 1.0]"), discrepancy(0.5, "")] {
        let config = config(&small(&format!("objective = {table}\ndataset.batch_size = 100")));
        let (_, [whole, resumed]) = resumed(&config);
        assert_eq!(whole.model.host_theta(), resumed.model.host_theta(), "{table}");
        let [a, b] = [&whole, &resumed].map(|trainer| download(trainer.walkers.position.clone()));
        assert_eq!(a, b, "{table}");
    }
}

/// Random numbers are those of the update, and nothing else.
#[test]
fn random_numbers_belong_to_the_update() {
    for table in [SLICED.to_owned(), denoising("[0.5, 1.0]"), discrepancy(0.5, "")] {
        let objective = objective(&table);
        let loss = objective.as_dyn().data_loss().expect("of the data alone");
        let model = model("dim = 2\nkind = \"mlp\"\nhidden = [8]\nconfinement = 1.0");
        let batch = normals(9, 2, 0);
        let grads = |step: u64, n: usize| {
            let stream = Stream::new(3, Purpose::Perturbation).at(step).expect("small");
            let found = loss.gradient(&model, None, &batch.clone().narrow(0, 0, n), stream).expect("it has");
            found.grads.into_iter().flat_map(download).collect::<Vec<_>>()
        };
        assert_eq!(grads(5, 9), grads(5, 9), "{table}");
        assert_ne!(grads(5, 9), grads(6, 9), "{table}");
    }
}

/// Far from the data's energies the walkers are no sign of a divergence: neither the watchdog nor the end of the run says so.
#[test]
fn an_energy_gap_is_no_divergence() {
    let run = |more: &str| {
        let text = small(&format!(
            "objective = {IMPLICIT}\nwalkers.init = \"uniform\"\nkernel.step_size = 1e-9\ndataset.means = [[-30.0], [30.0]]\nwatchdog.max_rollbacks = 1\n\
             energy.confinement = 1.0\noptimizer.learning_rate = 1e-6\n{more}"
        ));
        let mut trainer = Trainer::new(config(&text), &cpu()).expect("starts");
        for _ in 0..3 {
            trainer.update(false)?;
        }
        trainer.judge_end()?;
        Ok::<_, ember_train::error::Error>(trainer.doubts.clone())
    };
    // Data at ±30, walkers near 0: a gap of 450 nats, where 20 would be doubtful.
    assert_eq!(run("").expect("no divergence"), Vec::<String>::new());
    let error = run("watchdog.max_energy_gap = 20.0").expect_err("a limit that was asked for").to_string();
    assert!(error.contains("energy gap"), "{error}");
}

#[test]
fn mistakes_are_named() {
    let bad = |changes: &str, parts: &[&str]| refused(&small(changes), parts);
    let score = |rest: &str| format!("objective = {{ kind = \"score_matching\"{rest} }}");
    bad(&score(""), &["objective.form", "missing"]);
    bad(&score(", form = \"slice\""), &["objective.form", "did you mean `sliced`?", "`denoising`"]);
    bad(&score(", form = \"implicit\", sigma = 0.1"), &["objective.sigma", "unknown key"]);
    bad(&score(", form = \"implicit\", slices = 2"), &["objective.slices", "unknown key"]);
    bad(&score(", form = \"sliced\", sigma = 0.1"), &["objective.sigma", "unknown key", "`slices`"]);
    bad(&score(", form = \"sliced\", slices = 0"), &["objective.slices", "found 0"]);
    bad(&score(", form = \"sliced\", slices = 2.5"), &["objective.slices", "whole number"]);
    bad(&score(", form = \"denoising\""), &["objective.sigma", "missing"]);
    bad(&score(", form = \"denoising\", sigma = 0"), &["objective.sigma", "found 0", "> 0"]);
    bad(&score(", form = \"denoising\", sigma = []"), &["objective.sigma", "empty list"]);
    bad(&score(", form = \"denoising\", sigma = [1.0, -2.0]"), &["objective.sigma", "found -2"]);
    bad(&score(", form = \"denoising\", sigma = \"small\""), &["objective.sigma", "a number > 0, or a list"]);
    bad(&score(", form = \"denoising\", sigma = 1.0, slices = 1"), &["objective.slices", "unknown key"]);
    bad(&score(", form = \"implicit\", energy_l2 = 0.1"), &["objective.energy_l2", "unknown key"]);
    let implicit = format!("objective = {IMPLICIT}");
    bad(&format!("{implicit}\ndataset.dim = 65"), &["objective.form", "65", "form = \"sliced\""]);
    config(&small(&format!("{implicit}\ndataset.dim = 64")));
    config(&small(&format!("objective = {SLICED}\ndataset.dim = 65")));
    let relu = format!("{implicit}\nenergy.activation = \"relu\"");
    bad(&relu, &["objective.kind", "second derivatives", "energy.activation = \"silu\"", "denoising"]);
    config(&small(&format!("objective = {}\nenergy.activation = \"relu\"", denoising("0.3"))));
    let flow = "energy = { kind = \"real_nvp\", layers = 2, hidden = [8] }";
    bad(
        &format!("{implicit}\n{flow}"),
        &["objective.kind", "a real_nvp does not have", "\"mlp\"", "energy_discrepancy"],
    );
    let free = format!("objective = {}\n{flow}", discrepancy(0.5, ""));
    config(&small(&free));
    for table in [IMPLICIT.to_owned(), discrepancy(0.5, "")] {
        let with = |more: &str| format!("objective = {table}\n{more}");
        bad(&with("kernel.boundary = \"reflect\""), &["kernel.boundary", "all of space"]);
        bad(
            &with("optimizer.max_weight_change = 0.1"),
            &["optimizer.max_weight_change", "no part in the update"],
        );
    }
    let discrepancy = |rest: &str| format!("objective = {{ kind = \"energy_discrepancy\"{rest} }}");
    bad(&discrepancy(""), &["objective.t", "missing"]);
    bad(&discrepancy(", t = 0.0"), &["objective.t", "found 0"]);
    bad(&discrepancy(", t = 1.0, samples = 0"), &["objective.samples", "found 0"]);
    bad(&discrepancy(", t = 1.0, w = -1.0"), &["objective.w", "found -1"]);
    bad(&discrepancy(", t = 1.0, weight = 1.0"), &["objective.weight", "unknown key", "`samples`"]);
}

/// What a loss holds for each row counts as memory.
#[test]
fn perturbations_need_memory() {
    let need = |samples: usize| {
        let table = discrepancy(0.5, &format!(", samples = {samples}"));
        let config = config(&small(&format!("objective = {table}\nwalkers.count = 1")));
        Sizes::of(&config).need(&Room::host("a processor")).device
    };
    // 256 rows of two coordinates.
    assert_eq!(need(1_000) - need(500), 500 * 256 * 2 * 4);
}

/// Keys that were left out are written with their defaults, and a table loads back equal.
#[test]
fn tables_load_back_equal() {
    for table in [
        IMPLICIT.to_owned(),
        SLICED.to_owned(),
        denoising("0.5"),
        denoising("[0.5, 1.0]"),
        discrepancy(0.5, ""),
    ] {
        let loaded = config(&small(&format!("objective = {table}")));
        let text = loaded.to_toml();
        assert_eq!(config(&text), loaded, "{text}");
        assert_eq!(text.contains("variance_reduced = true"), table == SLICED, "{text}");
        assert_eq!(text.contains("samples = 16"), table.contains("discrepancy"), "{text}");
    }
}
