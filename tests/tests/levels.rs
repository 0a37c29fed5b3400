//! Energies that know their noise level: the energy at the smallest one is that over `[x, τ]`, each level learns its own law, and DiffCLF
//! learns the masses that scores leave free.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::score::{Directions, Pull, ScoreLoss};
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_tests::configs::{config, refused, small, with};
use ember_tests::cpu;
use ember_tests::explicit::{difference, differences, drawn, energy_difference, normals, terms};
use ember_tests::resumed::resumed;
use ember_train::memory::{Room, Sizes};
use ember_train::training::objective::LossGradient;
use ember_train::training::trainer::Trainer;

const CLASSIFIER: &str = "{ kind = \"diff_clf\" }";
const LADDER: &str = "{ kind = \"score_matching\", form = \"denoising\" }";
const LEVELS: &str = "energy.levels = [0.5, 1.0, 2.0]";

// ---- The energy -------------------------------------------------------------------------------------------------------------

/// Each form of the network, and what wraps it.
fn energies() -> Vec<String> {
    let mlp =
        |more: &str| format!("dim = 3\nkind = \"mlp\"\nhidden = [16, 8]\nlevels = [0.1, 0.5, 4.0]\n{more}");
    let conv = |more: &str| {
        format!(
            "shape = [2, 4, 3]\nkind = \"conv\"\nlevels = [0.1, 0.5, 4.0]\n\
             layers = [{{ out = 5, kernel = 3, padding = 1, stride = 2 }}, {{ out = 4, kernel = 2 }}, {{ out = 1, kernel = 1 }}]\n{more}"
        )
    };
    let images =
        ["", "confinement = 0.7", "confinement = 0.7\nspectral_norm = true\ntemperature = 0.5"].map(conv);
    let rows = [
        "",
        "confinement = 0.7",
        "confinement = 0.7\nactivation = \"tanh\"",
        "confinement = 0.7\nspectral_norm = true",
        "confinement = 0.7\ntemperature = 0.5",
        "activation = \"relu\"\nspectral_norm = true\ntemperature = 2.0",
    ]
    .map(mlp);
    rows.into_iter().chain(images).collect()
}

/// `[x, τ]`.
fn at(x: &Tensor<2>, input: f32) -> Tensor<2> {
    let column = Tensor::full([x.dims()[0], 1], input, &x.device());
    Tensor::cat(vec![x.clone(), column], 1)
}

/// The folded first layer, or the channel, gives what the energy over `[x, τ]` gives at τ(σ_k): energies, gradients in x and in θ, jets. k is 1 until another is taken.
#[test]
fn it_is_the_energy_at_its_level() {
    for (text, at_level) in energies().into_iter().flat_map(|text| (0..3).map(move |k| (text.clone(), k))) {
        let model = drawn(&text, 3, &cpu());
        let model = if at_level == 0 { model } else { model.at_level(at_level + 1).expect("there is one") };
        assert_eq!(model.level_noise(), [0.0, 0.5, 4.0][at_level]);
        let joint = model.on_levels().expect("it has levels");
        let inputs = model.levels().expect("it has levels").inputs();
        let dim = model.dim();
        assert_eq!((joint.dim(), inputs.len(), inputs[0]), (dim + 1, 3, -1.0));
        let (x, v) = (normals(&model, 50, 1), normals(&model, 50, 2));
        let off = |level: usize| {
            let rows = at(&x, inputs[level]);
            let (u, grad) = model.energy_and_grad(x.clone());
            let (other, other_grad) = joint.energy_and_grad(rows.clone());
            let mut off =
                energy_difference(&u, &other).max(energy_difference(&joint.energy(rows.clone()), &u));
            off = off.max(difference(&grad, &other_grad.narrow(1, 0, dim)));
            let weighted = terms(&model, 50);
            let with_level: Vec<_> =
                weighted.iter().map(|(x, w)| (at(x, inputs[level]), w.clone())).collect();
            let [found, expected] =
                [model.weighted_param_grads(&weighted), joint.weighted_param_grads(&with_level)];
            for (a, b) in found.grads.iter().zip(&expected.grads).filter(|(a, _)| a.dims()[0] > 1) {
                off = off.max(difference(a, b));
            }
            for (a, b) in found.energies.iter().zip(&expected.energies) {
                off = off.max(energy_difference(a, b));
            }
            let jets = model.jet(x.clone(), v.clone()).expect("it has jets");
            let others = joint.jet(rows, at(&v, 0.0)).expect("it has jets");
            jets.iter().zip(&others).fold(off, |off, (a, b)| off.max(difference(a, b)))
        };
        let found = [off(0), off(1), off(2)];
        println!("{text}, level {}: off by {found:?}", at_level + 1);
        for (level, off) in found.iter().enumerate() {
            let right = if level == at_level { *off < 2e-5 } else { *off > 1e-2 };
            assert!(right, "{text}, level {}: {found:?}", at_level + 1);
        }
    }
}

/// Explicit passes and kept ones are those of the tape, of the energy at one level and over all.
#[test]
fn explicit_forms_are_those_of_the_tape() {
    for text in energies() {
        let model = drawn(&text, 3, &cpu());
        for (what, off) in differences(&model, 400) {
            assert!(off < 2e-5, "{text}: {what} off by {off:.1e}");
        }
        let joint = model.on_levels().expect("it has levels");
        let architecture = model.spec().build().expect("it fits").on_levels().expect("it has levels");
        let x = normals(&joint, 400, 7);
        let (u, grad) = energy_and_grad_by_autodiff(architecture.as_ref(), model.theta(), x.clone());
        let (found, found_grad) = joint.energy_and_grad(x);
        assert!(energy_difference(&found, &u) < 2e-5 && difference(&found_grad, &grad) < 2e-5, "{text}");
        let weighted = terms(&joint, 400);
        let expected = weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &weighted);
        let found = joint.weighted_param_grads(&weighted);
        for (a, b) in found.grads.iter().zip(&expected.grads).filter(|(a, _)| a.dims()[0] > 1) {
            assert!(difference(a, b) < 2e-5, "{text}");
        }
        for (a, b) in found.energies.iter().zip(&expected.energies) {
            assert!(energy_difference(a, b) < 2e-5, "{text}");
        }
    }
}

/// The score's losses at the rows' own levels, by hand, are those of the tape.
#[test]
fn the_residual_at_every_level_agrees_with_the_tape() {
    for text in energies() {
        let joint = drawn(&text, 3, &cpu()).on_levels().expect("it has levels");
        let (n, d) = (60, joint.dim() - 1);
        let column = |of: Tensor<2>| Tensor::cat(vec![of.narrow(1, 0, d), Tensor::zeros([n, 1], &cpu())], 1);
        let x = normals(&joint, n, 1);
        let (noise, sigma) = (column(normals(&joint, n, 2)), column(normals(&joint, n, 3).abs()));
        let loss = ScoreLoss {
            pull: Pull::Residual { noise: &noise, sigma: &sigma },
            directions: Directions::None,
            weight: 0.0,
            of: n,
        };
        let found = joint.score_grads(&x, &loss);
        // What a temperature divides has no form of its own.
        let Some(found) = found else {
            assert!(text.contains("temperature"), "{text}");
            continue;
        };
        // ∂_θ ½ |r|² = −σ rᵀ ∂_θ∇U
        let residual = noise.clone() - joint.energy_and_grad(x.clone()).1 * sigma.clone();
        let v = (residual.clone() * sigma.clone()).neg();
        let (grads, _) = joint
            .differentiated(|taped| {
                let [_, along, _] = taped.jet(x.clone(), v.clone()).expect("it has jets");
                Ok::<_, ()>(along.sum().div_scalar(n as f64))
            })
            .expect("a loss");
        for (a, b) in found.grads.iter().zip(&grads).filter(|(a, _)| a.dims()[0] > 1) {
            assert!(difference(a, b) < 2e-5, "{text}: {:.1e}", difference(a, b));
        }
        let value = download((residual.clone() * residual).sum())[0] / (2 * n) as f32;
        assert!((download(found.loss)[0] - value).abs() < 1e-5 * value, "{text}");
    }
}

/// The confinement acts on x alone: at every level the starting model is `N(0, I/c)`.
#[test]
fn the_start_is_exact_at_every_level() {
    let text = "dim = 3\nkind = \"mlp\"\nhidden = [8]\nconfinement = 0.5\nlevels = { from = 0.1, to = 10.0, count = 4 }";
    let spec = EnergySpec::from_metadata(text).expect("right");
    assert_eq!(EnergySpec::from_metadata(&spec.to_metadata()).expect("right"), spec);
    let model = EnergyModel::init(spec, 3, &cpu()).expect("it fits");
    let gaussian = 1.5 * (2.0 * std::f64::consts::PI / 0.5).ln();
    assert!((model.log_z().expect("exact") - gaussian).abs() < 1e-12);
    assert!(model.draw(5, Stream::new(1, Purpose::Start)).is_some());
    let x = normals(&model, 20, 1);
    let expected = (x.clone() * x.clone()).sum_dim(1).reshape([20]).mul_scalar(0.25);
    let joint = model.on_levels().expect("it has levels");
    for input in model.levels().expect("it has levels").inputs() {
        assert!(difference(&joint.energy(at(&x, input)), &expected) < 1e-6);
    }
    assert_eq!(joint.log_z(), None, "no density over [x, τ]");
}

// ---- The minimiser ----------------------------------------------------------------------------------------------------------

const NORMAL: &str = "dataset.dim = 1\ndataset.means = [[0.0]]\ndataset.weights = [1.0]\ndataset.train_size = 4000\ndataset.batch_size = 400\n\
                      energy.hidden = [32, 32]\nenergy.confinement = 0.1\nwalkers.count = 8\nresampling.scheme = \"none\"\n\
                      optimizer = { kind = \"adam\", learning_rate = 0.01, schedule = { kind = \"cosine\", end = 0.0, horizon = 500 } }";

/// Of data `N(0, s²)`: `E |∇U(x, σ) − x/(s² + σ²)|² / E |x/(s² + σ²)|²` at each level, x of the level's law.
fn score_errors(changes: &str, seed: u64) -> Vec<f64> {
    let text = small(&format!("{NORMAL}\nseed = {seed}\n{changes}"));
    let mut trainer = Trainer::new(config(&text), &cpu()).expect("starts");
    for _ in 0..500 {
        trainer.update(false).expect("finite");
    }
    let rows = trainer.data.train.values();
    let variance = rows.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / rows.len() as f64;
    let sigmas = [0.5, 1.0, 2.0];
    (0..3)
        .map(|k| {
            let total = variance + sigmas[k] * sigmas[k];
            let x = normals(&trainer.model, 1_000, 1).mul_scalar(total.sqrt());
            let grad = match trainer.model.on_levels() {
                Some(joint) => {
                    let input = trainer.model.levels().expect("it has levels").inputs()[k];
                    joint.energy_and_grad(at(&x, input)).1.narrow(1, 0, 1)
                }
                None => trainer.model.energy_and_grad(x.clone()).1,
            };
            let truth = x.div_scalar(total);
            let square = |gap: Tensor<2>| f64::from(download((gap.clone() * gap).sum())[0]);
            square(grad - truth.clone()) / square(truth)
        })
        .collect()
}

/// Each level's energy is the data's law with that noise; one energy for all of them is none of these.
#[test]
fn each_level_has_its_own_law() {
    for seed in 0..2 {
        let found = score_errors(&format!("{LEVELS}\nobjective = {LADDER}"), seed);
        let unconditioned = "{ kind = \"score_matching\", form = \"denoising\", sigma = [0.5, 1.0, 2.0] }";
        let other = score_errors(&format!("objective = {unconditioned}"), seed);
        println!("seed {seed}: relative squared errors {found:.4?}, one energy for all {other:.4?}");
        assert!(found.iter().all(|error| *error < 0.02), "{found:?}");
        assert!(other[0] > 0.1 && other[1] > 0.1, "{other:?}");
    }
}

// ---- Masses -----------------------------------------------------------------------------------------------------------------

/// Modes 16 standard deviations apart; levels that reach across.
const APART: &str = r#"
steps = 400
[dataset]
kind = "gaussian_mixture"
dim = 1
means = [[-4.0], [4.0]]
weights = [0.2, 0.8]
std = 0.5
train_size = 4000
test_size = 100
batch_size = 250
[energy]
kind = "mlp"
hidden = [32, 32]
confinement = 0.05
levels = { from = 0.25, to = 8.0, count = 6 }
[walkers]
count = 8
[kernel]
kind = "ula"
step_size = 0.02
[resampling]
scheme = "none"
[objective]
kind = "diff_clf"
[optimizer]
kind = "adam"
learning_rate = 0.01
schedule = { kind = "cosine", end = 0.0, horizon = 400 }
"#;

/// The mass of x < 0 under the energy at the smallest level, by a grid, and that of the data.
fn mass(objective: &str, updates: u64, seed: u64) -> [f64; 2] {
    let changes = format!(
        "objective = {objective}\nsteps = {updates}\noptimizer.schedule.horizon = {updates}\nseed = {seed}"
    );
    let mut trainer = Trainer::new(config(&with(APART, &changes)), &cpu()).expect("starts");
    for _ in 0..updates {
        trainer.update(false).expect("finite");
    }
    let grid: Vec<f32> = (0..4_000).map(|i| -20.0 + 0.01 * (i as f32 + 0.5)).collect();
    let u =
        download(trainer.model.energy(Tensor::from_data(TensorData::new(grid.clone(), [4_000, 1]), &cpu())));
    let least = u.iter().copied().fold(f32::INFINITY, f32::min);
    let density: Vec<f64> = u.iter().map(|u| f64::from(least - u).exp()).collect();
    let left: f64 = grid.iter().zip(&density).filter(|(x, _)| **x < 0.0).map(|(_, p)| p).sum();
    [left / density.iter().sum::<f64>(), trainer.data.train_fractions()[0]]
}

/// DiffCLF finds the masses; scores of the same levels, at the same number of evaluations, do not.
#[test]
fn the_classifier_finds_the_masses() {
    for seed in 0..2 {
        let [found, data] = mass(CLASSIFIER, 400, seed);
        // A row takes 2 evaluations in place of 2 + 6.
        let [blind, _] = mass(LADDER, 1_600, seed);
        println!("seed {seed}: {found:.4}, by scores alone {blind:.4}, data {data:.4}");
        assert!((found - data).abs() < 0.03, "{found} vs {data}");
        assert!((blind - data).abs() > 0.1, "{blind} vs {data}");
    }
}

// ---- The gradient -----------------------------------------------------------------------------------------------------------

/// Against central differences of the loss at the same random numbers, of θ and of the offsets.
#[test]
fn gradients_are_those_of_the_losses() {
    let model = drawn(
        "dim = 3\nkind = \"mlp\"\nhidden = [16, 8]\nactivation = \"tanh\"\nconfinement = 0.7\nlevels = [0.5, 1.0, 2.0]",
        3,
        &cpu(),
    );
    let batch = normals(&model, 40, 1);
    let stream = Stream::new(9, Purpose::Perturbation).at(7).expect("small");
    let random = |n: usize, lane: u32| {
        let values = Stream::new(5, Purpose::Data).lane(lane).normals(n, 1);
        Tensor::<1>::from_data(TensorData::new(values, [n]), &cpu())
    };
    let mut slopes = Vec::new();
    for table in [LADDER, CLASSIFIER, "{ kind = \"diff_clf\", weight = 3.0 }"] {
        let objective = config(&small(&format!("{LEVELS}\nobjective = {table}"))).objective;
        let loss = objective.as_dyn().data_loss().expect("of the data alone");
        let count = loss.own_numbers(3);
        assert_eq!(count, if table == LADDER { 0 } else { 3 });
        assert_eq!(loss.evaluations(3, 3), if table == LADDER { 2 } else { 5 });
        let start = (count > 0).then(|| random(count, 50).mul_scalar(0.5));
        let of = |model: &EnergyModel, own: Option<&Tensor<1>>| -> LossGradient {
            loss.gradient(model, own, &batch, stream).expect("it has what it takes")
        };
        let here = of(&model, start.as_ref());
        assert_eq!(here.own.is_some(), count > 0);
        let difference = |value: &dyn Fn(f32) -> f64| {
            let [a, b, c, d] = [-2.0, -1.0, 1.0, 2.0].map(|k: f32| value(k * 1e-2));
            (a - 8.0 * b + 8.0 * c - d) / 0.12
        };
        let close = |grad: &Tensor<1>, direction: &Tensor<1>, expected: f64, name: &str| {
            let slope = f64::from(download((grad.clone() * direction.clone()).sum())[0]);
            let scale = download(grad.clone()).into_iter().fold(0.02, |a: f64, b| a.max(f64::from(b.abs())));
            assert!((slope - expected).abs() < 4e-3 * scale, "{table}: {name}: {slope} vs {expected}");
            slope
        };
        for (i, (grad, spec)) in here.grads.iter().zip(model.params()).enumerate() {
            let direction = random(spec.len(), 200 + i as u32);
            let expected = difference(&|h| {
                let mut theta = model.theta().to_vec();
                theta[i] = theta[i].clone() + direction.clone().mul_scalar(h);
                f64::from(download(of(&model.with_theta(theta), start.as_ref()).loss)[0])
            });
            slopes.push(close(grad, &direction, expected, &spec.name));
        }
        if let (Some(grad), Some(start)) = (&here.own, &start) {
            let direction = random(count, 300);
            let expected = difference(&|h| {
                let moved = start.clone() + direction.clone().mul_scalar(h);
                f64::from(download(of(&model, Some(&moved)).loss)[0])
            });
            let slope = close(grad, &direction, expected, "offsets");
            assert!(slope.abs() > 1e-3, "the offsets are seen: {slope}");
        }
    }
    // The three have one first layer's gradient each.
    let params = slopes.len() / 3;
    assert!((slopes[0] - slopes[params]).abs() > 1e-3 && (slopes[params] - slopes[2 * params]).abs() > 1e-3);
}

/// In slices as long as memory allows, gradients are those of the rows together: here of one row after the other.
#[test]
fn slices_add_up() {
    // A layer so wide that a slice has 16 rows at 1 + 3 copies.
    let text = "dim = 2\nkind = \"mlp\"\nhidden = [65536]\nactivation = \"tanh\"\nconfinement = 0.7\nlevels = [0.5, 1.0, 2.0]";
    let model = drawn(text, 3, &cpu());
    let objective = config(&small(&format!("{LEVELS}\nobjective = {CLASSIFIER}"))).objective;
    let loss = objective.as_dyn().data_loss().expect("of the data alone");
    let stream = Stream::new(9, Purpose::Perturbation);
    let offsets = Tensor::<1>::from_data([0.1, 0.0, -0.3], &cpu());
    let batch = normals(&model, 20, 1);
    let gradient = |rows: Tensor<2>| loss.gradient(&model, Some(&offsets), &rows, stream).expect("it has");
    // The first 16 rows alone have the same noise; the loss and the offsets' gradient are sums over rows.
    let [whole, part] = [gradient(batch.clone()), gradient(batch.narrow(0, 0, 16))];
    let own = |found: &LossGradient| download(found.own.clone().expect("offsets"));
    let sum: f32 = own(&whole).iter().sum();
    assert!(sum.abs() < 1e-5, "probabilities of a row sum to 1, over every row: {sum}");
    let share =
        own(&part).iter().zip(own(&whole)).map(|(a, b)| (a * 16.0 / 20.0 - b).abs()).fold(0.0, f32::max);
    assert!(
        share < 4.0 / 20.0 + 1e-5 && share > 1e-4,
        "four rows more move it by their share at most: {share}"
    );
    assert!(download(whole.loss)[0].is_finite());
}

// ---- The run ----------------------------------------------------------------------------------------------------------------

/// From a checkpoint a run goes on to the same bits, offsets included.
#[test]
fn a_resumed_run_is_the_same() {
    for table in [LADDER, CLASSIFIER] {
        let config = config(&small(&format!("{LEVELS}\nobjective = {table}\ndataset.batch_size = 100")));
        let (_, [whole, resumed]) = resumed(&config);
        assert_eq!(whole.model.host_theta(), resumed.model.host_theta(), "{table}");
        let offsets = |trainer: &Trainer| trainer.own.as_ref().map(|own| download(own.values.clone()));
        assert_eq!(offsets(&whole), offsets(&resumed));
        let count = offsets(&whole).map_or(0, |offsets| offsets.iter().filter(|c| **c != 0.0).count());
        assert_eq!(count, if table == LADDER { 0 } else { 3 }, "offsets that moved");
        let [a, b] = [&whole, &resumed].map(|trainer| download(trainer.walkers.position.clone()));
        assert_eq!(a, b, "{table}");
    }
}

/// Other objectives take the energy at its smallest level: weighted walkers start exactly, and their log Z is followed.
#[test]
fn weighted_walkers_follow_the_smallest_level() {
    let mut trainer = Trainer::new(config(&small(LEVELS)), &cpu()).expect("starts");
    for _ in 0..5 {
        trainer.update(false).expect("finite");
    }
    assert_eq!(trainer.walkers.dim(), 2);
    assert!(trainer.walkers.summary().log_mean_exp.is_finite());
}

#[test]
fn mistakes_are_named() {
    let bad = |changes: &str, parts: &[&str]| refused(&small(changes), parts);
    let classifier = format!("objective = {CLASSIFIER}");
    bad(&classifier, &["objective.kind", "a \"conv\" with energy.levels", "count = 8"]);
    let levels = |list: &str| format!("{classifier}\nenergy.levels = {list}");
    config(&small(&levels("[1, 2]")));
    bad(&levels("[0.0, 1.0]"), &["energy.levels", "found 0", "> 0"]);
    bad(&levels("[-1.0, 1.0]"), &["energy.levels", "found -1", "> 0"]);
    bad(&levels("[0.5, inf]"), &["energy.levels", "found inf"]);
    bad(&levels("[0.5, nan]"), &["energy.levels", "found NaN"]);
    bad(&levels("[1.0, 0.5]"), &["energy.levels", "found 1 before 0.5", "smallest first"]);
    bad(&levels("[0.5, 0.5]"), &["energy.levels", "found 0.5 before 0.5"]);
    bad(&levels("[0.5]"), &["energy.levels", "found 1 of them", "2 to 1000"]);
    bad(&levels("[]"), &["energy.levels", "found 0 of them"]);
    bad(&levels("\"many\""), &["energy.levels", "a list of numbers > 0", "{ from, to, count }"]);
    bad(&levels("3"), &["energy.levels", "a list of numbers > 0"]);
    bad(&levels("{ from = 0.1, to = 4.0 }"), &["energy.levels", "{ from, to, count }"]);
    bad(&levels("{ from = 0.1, to = 4.0, count = 1 }"), &["energy.levels", "found 1 of them"]);
    bad(
        &levels("{ from = 0.1, to = 4.0, count = 1001 }"),
        &["energy.levels", "found 1001 of them, expected 2 to 1000"],
    );
    bad(&levels("{ from = 4.0, to = 0.1, count = 5 }"), &["energy.levels", "smallest first"]);
    bad(&levels("{ from = 0.0, to = 4.0, count = 5 }"), &["energy.levels", "found 0", "> 0"]);
    // A base is the Gaussian of data without noise.
    let based = "shape = [1, 4, 4]\nkind = \"conv\"\nbase = \"gaussian\"\nlevels = [0.1, 1.0]\nlayers = [{ out = 1, kernel = 4 }]";
    let spec = EnergySpec::from_metadata(based).map(|spec| spec.build().map(|_| ()));
    let error = match spec {
        Ok(Err(error)) | Err(error) => error.to_string(),
        Ok(Ok(())) => panic!("levels on a base"),
    };
    assert!(error.contains("levels") && error.contains("leave `base` out"), "{error}");
    // Energies that have none.
    let mixture = "energy = { kind = \"gaussian_mixture\", means = [[1.0]], levels = [0.1, 1.0] }";
    bad(mixture, &["energy.levels", "unknown key"]);
    let flow = "energy = { kind = \"real_nvp\", layers = 2, hidden = [8], levels = [0.1, 1.0] }";
    bad(flow, &["energy.levels", "unknown key"]);
    let tilted = "energy = { kind = \"tilted\", base = { kind = \"real_nvp\", layers = 2, hidden = [8] }, \
                  tilt = { kind = \"mlp\", hidden = [8], levels = [0.1, 1.0] } }";
    bad(tilted, &["energy.tilt", "leave `levels` out"]);
    bad(
        &format!("{classifier}\nenergy = {{ kind = \"gaussian_mixture\", means = [[1.0]] }}"),
        &["objective.kind", "a \"conv\" with energy.levels"],
    );
    // The objective's own keys.
    let own = |rest: &str| format!("{LEVELS}\nobjective = {{ kind = \"diff_clf\"{rest} }}");
    bad(&own(", weight = 0"), &["objective.weight", "found 0", "\"denoising\""]);
    bad(&own(", weight = -1.0"), &["objective.weight", "found -1"]);
    bad(&own(", sigma = [0.5, 1.0]"), &["objective.sigma", "unknown key", "`weight`"]);
    // The sigmas are the levels.
    let sigma = |sigma: &str| {
        format!(
            "{LEVELS}\nobjective = {{ kind = \"score_matching\", form = \"denoising\", sigma = {sigma} }}"
        )
    };
    config(&small(&sigma("[0.5, 1.0, 2.0]")));
    for other in ["0.5", "[0.5, 1.0]", "[0.5, 1.0, 2.5]", "[2.0, 1.0, 0.5]"] {
        bad(&sigma(other), &["objective.sigma", "the energy's levels are [0.5, 1.0, 2.0]", "leave it out"]);
    }
    bad(&format!("objective = {LADDER}"), &["objective.sigma", "missing", "give the energy `levels`"]);
}

/// What the loss holds for each row counts as memory: the row at every level.
#[test]
fn levels_need_memory() {
    let need = |list: &str| {
        let config =
            config(&small(&format!("objective = {CLASSIFIER}\nenergy.levels = {list}\nwalkers.count = 1")));
        Sizes::of(&config).need(&Room::host("a processor")).device
    };
    // 256 rows of two coordinates.
    assert_eq!(need("[0.1, 0.2, 0.4, 0.8]") - need("[0.1, 0.2]"), 2 * 256 * 2 * 4);
}

/// Keys that were left out are written with their defaults, and a table loads back equal.
#[test]
fn tables_load_back_equal() {
    for levels in ["[0.5, 1.0, 2.0]", "{ from = 0.5, to = 2.0, count = 3 }"] {
        for table in [LADDER, CLASSIFIER] {
            let loaded = config(&small(&format!("energy.levels = {levels}\nobjective = {table}")));
            let text = loaded.to_toml();
            assert_eq!(config(&text), loaded, "{text}");
            assert_eq!(text.contains("weight = 1.0"), table == CLASSIFIER, "{text}");
            assert!(text.contains("levels") && !text.contains("sigma"), "{text}");
        }
    }
    assert!(!config(&small("")).to_toml().contains("levels"));
}
