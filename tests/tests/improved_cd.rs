//! Improved contrastive divergence: the gradient through the walkers' last step, their entropy; and what the whole family of contrastive
//! divergence has in common, the energy L2 and the spectral norm.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_sampler::Walkers;
use ember_tests::configs::{config, refused, small};
use ember_tests::{assert_within_se, cpu, four_se, gpu, mean_se};
use ember_train::training::objective::{ImprovedCd, LastStep, Objective, nearest};
use ember_train::training::trainer::Trainer;

fn normals([n, d]: [usize; 2], lane: u32) -> Vec<f32> {
    Stream::new(5, Purpose::Data).lane(lane).normals(n, d)
}

fn rows(values: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// θ away from its starting zero.
fn trained(model: &EnergyModel) -> EnergyModel {
    let moved = |(i, tensor): (usize, &Tensor<1>)| {
        let n = tensor.dims()[0];
        let noise = normals([n, 1], 100 + i as u32).into_iter().map(|x| 0.5 * x).collect();
        tensor.clone() + upload(noise, model.device())
    };
    model.with_theta(model.theta().iter().enumerate().map(moved).collect())
}

fn objective(kl: f64, entropy: f64, neighbours: usize) -> ImprovedCd {
    ImprovedCd {
        restart_probability: 0.0,
        kl_weight: kl,
        entropy_weight: entropy,
        entropy_neighbours: neighbours,
        energy_l2: 0.0,
    }
}

// ---- The function of θ, in f64 ----------------------------------------------------------------------------------------------

const N: usize = 24;
const HIDDEN: usize = 6;
const CONFINEMENT: f64 = 0.7;
const H: f64 = 0.2;

/// A perceptron of one hidden layer in the plane, `U = w·silu(A x + a) + b + ½ c |x|²`, with its gradient.
fn energy(theta: &[Vec<f64>], x: [f64; 2]) -> (f64, [f64; 2]) {
    let mut u = theta[3][0] + 0.5 * CONFINEMENT * (x[0] * x[0] + x[1] * x[1]);
    let mut grad = x.map(|x| CONFINEMENT * x);
    for k in 0..HIDDEN {
        let [a, b] = [theta[0][2 * k], theta[0][2 * k + 1]];
        let z = a * x[0] + b * x[1] + theta[1][k];
        let s = 1.0 / (1.0 + (-z).exp());
        u += theta[2][k] * z * s;
        let slope = theta[2][k] * (s + z * s * (1.0 - s));
        grad = [grad[0] + slope * a, grad[1] + slope * b];
    }
    (u, grad)
}

/// `a mean U_θ0(x_K(θ)) − b mean log min_j |x_K,i(θ) − x_K,j(θ0)|`: the terms of the last step as they are meant.
fn terms(
    at: &[Vec<f64>],
    held: &[Vec<f64>],
    points: &[[f64; 2]],
    noise: &[[f64; 2]],
    [a, b]: [f64; 2],
) -> f64 {
    let end = |theta: &[Vec<f64>], i: usize| {
        let grad = energy(theta, points[i]).1;
        [0, 1].map(|j| points[i][j] - H * grad[j] + (2.0 * H).sqrt() * noise[i][j])
    };
    let others: Vec<[f64; 2]> = (0..N).map(|i| end(held, i)).collect();
    let of = |i: usize| {
        let x = end(at, i);
        let distance = |j: usize| (x[0] - others[j][0]).hypot(x[1] - others[j][1]);
        let near = (0..N).filter(|&j| j != i).map(distance).fold(f64::INFINITY, f64::min);
        a * energy(held, x).0 - b * near.ln()
    };
    (0..N).map(of).sum::<f64>() / N as f64
}

/// The gradient of each term is that of the function of θ, by differences in f64; and a sign that is wrong, or a step that is left out, is not.
#[test]
fn the_gradient_is_that_of_the_last_step() {
    let table = format!("dim = 2\nkind = \"mlp\"\nhidden = [{HIDDEN}]\nconfinement = {CONFINEMENT}\n");
    let spec = EnergySpec::from_metadata(&table).expect("a table");
    let model = trained(&EnergyModel::init(spec, 3, &cpu()).expect("it fits"));
    let [points, noise] = [0, 1].map(|lane| normals([N, 2], lane));
    let before = rows(&points, [N, 2], &cpu());
    let moved = before.clone() - model.energy_and_grad(before.clone()).1.mul_scalar(H)
        + rows(&noise, [N, 2], &cpu()).mul_scalar((2.0 * H).sqrt());
    let after = Walkers::new(&model, moved, f64::NAN);
    let step =
        LastStep { before: &before, after: &after, step_size: H, population: &after.position, first: 0 };
    let pairs = |values: &[f32]| -> Vec<[f64; 2]> {
        values.chunks_exact(2).map(|x| [f64::from(x[0]), f64::from(x[1])]).collect()
    };
    let (points, noise) = (pairs(&points), pairs(&noise));
    let held: Vec<Vec<f64>> =
        model.host_theta().into_iter().map(|values| values.into_iter().map(f64::from).collect()).collect();
    for weights @ [a, b] in [[1.0, 0.0], [0.0, 0.3], [0.7, 1.3]] {
        let own = objective(a, b, N - 1);
        let loss = own.step_loss().expect("it has one");
        let found = loss.gradient(&model, &step, Stream::new(1, Purpose::Perturbation)).expect("jets");
        let at = |theta: &[Vec<f64>]| terms(theta, &held, &points, &noise, weights);
        let value = f64::from(download(found.loss)[0]);
        assert!((value - at(&held)).abs() < 1e-5, "{weights:?}: {value} vs {}", at(&held));
        let mut expected = held.clone();
        for (layer, values) in held.iter().enumerate() {
            for k in 0..values.len() {
                let shifted = |t: f64| {
                    let mut theta = held.clone();
                    theta[layer][k] += t;
                    at(&theta)
                };
                expected[layer][k] = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            }
        }
        let scale = expected.iter().flatten().fold(0.0, |a: f64, b| a.max(b.abs()));
        assert!(scale > 1e-2, "{weights:?}: {scale}");
        let mut worst: f64 = 0.0;
        for (found, expected) in found.grads.into_iter().zip(&expected) {
            for (found, expected) in download(found).into_iter().zip(expected) {
                worst = worst.max((f64::from(found) - expected).abs());
            }
        }
        println!("{weights:?}: off by {worst:.1e} of {scale:.1e}");
        assert!(worst < 3e-6 * scale, "{weights:?}: {worst} of {scale}");
    }
}

// ---- The entropy ------------------------------------------------------------------------------------------------------------

/// Kozachenko and Leonenko: of normal walkers the mean logarithm is that of their entropy. With the sample itself among its neighbours, as
/// in the public code, it is −∞ and pulls nowhere.
#[test]
fn the_entropy_is_that_of_the_law() {
    let (n, m, repeats) = (1_000_usize, 600_usize, 16);
    for d in [1_usize, 2, 3] {
        let places: Vec<usize> = (1..=m).collect();
        let draws = |lane: u32| rows(&normals([n, d], lane), [n, d], &cpu());
        // H = d E log r + log V_d + ψ(m + 1) − ψ(1), ψ(m + 1) − ψ(1) = Σ 1/k
        let ball = [2.0, std::f64::consts::PI, 4.0 / 3.0 * std::f64::consts::PI][d - 1];
        let constant = f64::ln(ball) + (1..=m).map(|k| 1.0 / k as f64).sum::<f64>();
        let found: Vec<f64> = (0..repeats)
            .map(|lane| {
                let x = draws(lane);
                let logs = download(nearest(&x, 0, &x, &places).0);
                d as f64 * logs.iter().map(|&log| f64::from(log)).sum::<f64>() / n as f64 + constant
            })
            .collect();
        let exact = d as f64 * 0.5 * (std::f64::consts::TAU * std::f64::consts::E).ln();
        let (mean, se) = mean_se(&found);
        println!("d = {d}: {mean:.4} ± {se:.4}, exact {exact:.4}");
        // In three dimensions the density bends within a neighbour's distance: m^(−2/3).
        let bias = if d == 3 { 0.03 } else { 0.0 };
        assert_within_se(mean, exact, se + bias / 4.0, four_se(repeats as usize));
    }
    // Its gradient in x is −∇log q/d = x/d in the mean, so that E[grad · x] = 1, but for a neighbour's distance; it has a variance from three
    // dimensions on.
    let pulls: Vec<f64> = (0..repeats)
        .map(|lane| {
            let x = rows(&normals([n, 3], lane), [n, 3], &cpu());
            let grad = nearest(&x, 0, &x, &(1..=m).collect::<Vec<_>>()).1;
            f64::from(download((grad * x).sum())[0]) / n as f64
        })
        .collect();
    let (mean, se) = mean_se(&pulls);
    println!("pull {mean:.4} ± {se:.4}");
    assert_within_se(mean, 1.0, se + 0.1 / 4.0, four_se(repeats as usize));
    let x = rows(&normals([n, 2], 0), [n, 2], &cpu());
    let (logs, grads) = nearest(&x, 0, &x, &[0, 1, 2, 3]);
    assert!(download(logs).iter().all(|&log| log == f32::NEG_INFINITY));
    assert!(download(grads).iter().all(|&grad| grad == 0.0));
}

/// Neighbours are counted round the population from where the walkers stand in it, in slices or not.
#[test]
fn neighbours_are_found_in_the_ring() {
    let (n, count, d) = (37, 90, 3);
    let population = normals([count, d], 0);
    let first = 60;
    let x = population[first * d..(first + 30) * d].to_vec();
    let x = [x, population[..7 * d].to_vec()].concat();
    let places: Vec<usize> = (1..count).collect();
    let tensor = rows(&population, [count, d], &cpu());
    let (logs, grads) = nearest(&rows(&x, [n, d], &cpu()), first, &tensor, &places);
    let (logs, grads) = (download(logs), download(grads));
    for i in 0..n {
        let own = (first + i) % count;
        let gap = |j: usize| -> Vec<f64> {
            (0..d).map(|k| f64::from(x[i * d + k] - population[j * d + k])).collect()
        };
        let square = |j: usize| gap(j).iter().map(|gap| gap * gap).sum::<f64>();
        let near = (0..count).filter(|&j| j != own).min_by(|&a, &b| square(a).total_cmp(&square(b)));
        let near = near.expect("others");
        assert!((f64::from(logs[i]) - 0.5 * square(near).ln()).abs() < 1e-5);
        for (k, gap) in gap(near).into_iter().enumerate() {
            let expected = gap / square(near);
            assert!((f64::from(grads[i * d + k]) - expected).abs() < 1e-5 * (1.0 + expected.abs()));
        }
    }
}

// ---- In a run ---------------------------------------------------------------------------------------------------------------

const SGD: &str = "optimizer = { kind = \"sgd\", learning_rate = 0.5 }\nresampling.scheme = \"none\"\ndataset.batch_size = 256";

fn trainer(objective: &str, more: &str, device: &Device) -> Trainer {
    let text = small(&format!("{SGD}\nobjective = {objective}\n{more}"));
    let mut trainer = Trainer::new(config(&text), device).unwrap_or_else(|error| panic!("{error}"));
    trainer.model = trained(&trainer.model);
    trainer.walkers = trainer.walkers.clone().refresh(&trainer.model);
    trainer
}

/// Of what is trained: a last bias is not.
fn theta(model: &EnergyModel) -> Vec<f64> {
    trained_part(model, model.host_theta())
}

fn trained_part(model: &EnergyModel, values: Vec<Vec<f32>>) -> Vec<f64> {
    let pairs = model.params().into_iter().zip(values);
    let trained = pairs.filter(|(spec, _)| spec.learning_rate_scale != 0.0);
    trained.flat_map(|(_, values)| values).map(f64::from).collect()
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    let scale = expected.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("{what}: off by {worst:.1e} of {scale:.1e}");
    assert!(scale > 1e-3 && worst < tolerance * scale, "{what}: {worst} of {scale}");
}

/// An update's step is −η times the gradient of the loss as it is written, with its energy L2, of a plain network and of one with a spectral
/// norm, for every objective of the family, on every device. Without its energy L2 it is not.
#[test]
fn an_update_follows_the_whole_loss() {
    let l2 = 0.05;
    let family = [
        "{ kind = \"contrastive_divergence\", energy_l2 = 0.05 }",
        "{ kind = \"persistent_cd\", energy_l2 = 0.05 }",
        "{ kind = \"replay_cd\", restart_probability = 0.0, energy_l2 = 0.05 }",
        "{ kind = \"improved_cd\", restart_probability = 0.0, kl_weight = 0.8, entropy_weight = 0.5, entropy_neighbours = 127, energy_l2 = 0.05 }",
    ];
    for device in std::iter::once(cpu()).chain(gpu()) {
        for (table, spectral) in family.into_iter().flat_map(|table| [(table, false), (table, true)]) {
            let mut trainer = trainer(table, &format!("energy.spectral_norm = {spectral}"), &device);
            let (model, before) = (trainer.model.clone(), trainer.walkers.position.clone());
            trainer.update(false).expect("finite");
            let [n, batch] = [128, 256];
            let moved: Vec<f64> =
                theta(&model).iter().zip(theta(&trainer.model)).map(|(a, b)| 2.0 * (a - b)).collect();
            let data = rows(&trainer.data.train.values(), [batch, 2], &device);
            let after = trainer.walkers.clone();
            let loss = |l2: f64| {
                let of = |taped: &EnergyModel| {
                    let mean = |x: Tensor<2>, sign: f64| {
                        let u = taped.energy(x.clone());
                        let base = x.clone().powi_scalar(2).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5);
                        let e = u.clone() - base;
                        (u.mul_scalar(sign) + e.clone() * e.mul_scalar(l2)).mean()
                    };
                    Ok::<_, ()>(mean(data.clone(), 1.0) + mean(after.position.clone(), -1.0))
                };
                let (mut grads, _) = model.differentiated(of).expect("no error");
                if let Some(own) = trainer.config.objective.as_dyn().step_loss() {
                    let population = &after.position;
                    let step =
                        LastStep { before: &before, after: &after, step_size: 0.1, population, first: 0 };
                    let added =
                        own.gradient(&model, &step, Stream::new(0, Purpose::Perturbation)).expect("jets");
                    grads = grads.into_iter().zip(added.grads).map(|(a, b)| a + b).collect();
                }
                trained_part(&model, grads.into_iter().map(download).collect())
            };
            assert_eq!(after.count(), n);
            assert_close(&moved, &loss(l2), 1e-4, &format!("{table}, spectral norm {spectral}"));
            let without = loss(0.0);
            let off = moved.iter().zip(&without).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(off > 1e-3, "{table}: its energy L2 is not seen");
        }
    }
}

/// Of a mini-batch of walkers, too: those that moved, among all of them.
#[test]
fn a_mini_batch_has_all_walkers_as_neighbours() {
    let more = "walkers.moved_per_update = 32";
    let mut plain = trainer("{ kind = \"replay_cd\", restart_probability = 0.0 }", more, &cpu());
    let mut improved = trainer(
        "{ kind = \"improved_cd\", restart_probability = 0.0, kl_weight = 0.0, entropy_weight = 1.0, entropy_neighbours = 127 }",
        more,
        &cpu(),
    );
    for trainer in [&mut plain, &mut improved] {
        trainer.update(false).expect("finite");
    }
    improved.model = plain.model.clone();
    let model = plain.model.clone();
    let before = improved.walkers.position.clone().narrow(0, 32, 32);
    for trainer in [&mut plain, &mut improved] {
        trainer.update(false).expect("finite");
    }
    let [a, b] = [&plain, &improved].map(|trainer| theta(&trainer.model));
    let found: Vec<f64> = a.iter().zip(b).map(|(a, b)| 2.0 * (a - b)).collect();
    let after = improved.walkers.narrow(32..64);
    let step =
        |population, first| LastStep { before: &before, after: &after, step_size: 0.1, population, first };
    let gradient = |own: &ImprovedCd, step: &LastStep<'_>| {
        let found =
            own.step_loss().expect("one").gradient(&model, step, Stream::new(0, Purpose::Perturbation));
        trained_part(&model, found.expect("jets").grads.into_iter().map(download).collect())
    };
    let expected = gradient(&objective(0.0, 1.0, 127), &step(&improved.walkers.position, 32));
    assert_close(&found, &expected, 1e-4, "a mini-batch");
    // Those that moved alone are other neighbours.
    let alone = gradient(&objective(0.0, 1.0, 31), &step(&after.position, 0));
    let off = expected.iter().zip(alone).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off > 1e-2, "{off}");
}

/// Without its two terms it is `replay_cd`, to the bit; with them it is not.
#[test]
fn without_its_terms_it_is_replay_cd() {
    let run = |table: &str| {
        let mut trainer = trainer(table, "kernel.steps_per_update = 3", &cpu());
        for _ in 0..5 {
            trainer.update(false).expect("finite");
        }
        (theta(&trainer.model), download(trainer.walkers.position))
    };
    let improved = |kl: f64| {
        format!(
            "{{ kind = \"improved_cd\", restart_probability = 0.1, kl_weight = {kl:?}, entropy_weight = 0.0 }}"
        )
    };
    let replay = run("{ kind = \"replay_cd\", restart_probability = 0.1 }");
    assert_eq!(run(&improved(0.0)), replay);
    assert_ne!(run(&improved(0.1)), replay);
}

#[test]
fn mistakes_are_named() {
    let table = |keys: &str| format!("objective = {{ kind = \"improved_cd\"{keys} }}");
    let bad = |changes: String, parts: &[&str]| refused(&small(&changes), parts);
    let fine = table("");
    bad(format!("{fine}\nkernel.kind = \"mala\""), &["kernel.kind", "\"ula\"", "replay_cd"]);
    bad(
        format!("{fine}\nkernel.drift_clip = 0.1"),
        &["kernel.drift_clip", "a clipped one", "leave this out"],
    );
    bad(
        format!("{fine}\nkernel.boundary = \"reflect\"\nwalkers.init = \"uniform\""),
        &["kernel.boundary", "a reflected one"],
    );
    bad(
        format!(
            "{fine}\nenergy = {{ kind = \"real_nvp\", layers = 2, hidden = [8] }}\nwalkers.init = \"normal\""
        ),
        &["objective.kind", "improved_cd", "real_nvp does not have", "replay_cd"],
    );
    bad(table(", entropy_neighbours = 0"), &["objective.entropy_neighbours", "found 0", "at least 1"]);
    for count in [128, 500] {
        bad(
            table(&format!(", entropy_neighbours = {count}")),
            &["objective.entropy_neighbours", "at most 127", "walkers.count = 128"],
        );
    }
    for (key, value, found) in [
        ("kl_weight", "-1.0", "found -1"),
        ("entropy_weight", "-0.1", "found -0.1"),
        ("kl_weight", "nan", "found NaN"),
        ("entropy_weight", "inf", "found inf"),
        ("energy_l2", "-1.0", "found -1"),
        ("restart_probability", "1.5", "found 1.5"),
    ] {
        bad(table(&format!(", {key} = {value}")), &[&format!("objective.{key}"), found]);
    }
    bad(table(", entropy = 0.1"), &["objective.entropy", "unknown key", "`entropy_weight`"]);
    bad(format!("{fine}\noptimizer.max_weight_change = 0.0"), &["optimizer.max_weight_change"]);
    // Without the terms there is nothing to ask for.
    let none = table(", kl_weight = 0.0, entropy_weight = 0.0, entropy_neighbours = 500");
    config(&small(&format!("{none}\nkernel.kind = \"mala\"")));
    config(&small(&table(", entropy_weight = 0.0, entropy_neighbours = 500")));
}
