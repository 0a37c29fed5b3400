//! Noise-contrastive estimation, which learns log Z beside θ, and its conditional form.

use burn::tensor::{Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_tests::configs::{config, far, small};
use ember_tests::resumed::trained;
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se, mean_se};
use ember_train::config::Config;
use ember_train::dataset::gaussian_fit::GaussianFit;
use ember_train::judging::eval::evaluate;
use ember_train::store::opened::Opened;
use ember_train::training::objective::{DataLoss, Given};
use ember_train::training::trainer::Trainer;

const GAUSSIAN: &str = "{ kind = \"noise_contrastive\", ratio = 2.0 }";
const FLOW: &str = "{ kind = \"noise_contrastive\", noise = \"flow\", ratio = 0.5, flow = { kind = \"real_nvp\", layers = 2, hidden = [8] } }";

fn conditional(sigma: f64) -> String {
    format!("{{ kind = \"conditional_nce\", sigma = {sigma:?} }}")
}

fn normals(n: usize, dim: usize, lane: u32) -> Tensor<2> {
    let values = Stream::new(5, Purpose::Data).lane(lane).normals(n, dim);
    Tensor::from_data(TensorData::new(values, [n, dim]), &cpu())
}

/// A model away from its start.
fn moved(metadata: &str, by: f64) -> EnergyModel {
    let model =
        EnergyModel::init(EnergySpec::from_metadata(metadata).expect("right"), 3, &cpu()).expect("it fits");
    let moved = |(i, tensor): (usize, &Tensor<1>)| {
        let n = tensor.dims()[0];
        tensor.clone() + normals(n, 1, 100 + i as u32).reshape([n]).mul_scalar(by)
    };
    model.with_theta(model.theta().iter().enumerate().map(moved).collect())
}

/// The loss of a config with its noise fitted to the config's data.
fn fitted(config: &Config, flow: Option<&EnergyModel>) -> Box<dyn DataLoss> {
    let data = config.dataset.as_dyn().generate(config.seed).expect("drawn");
    let given = Given { data: &data, augmentation: Default::default(), flow, device: &cpu() };
    let loss = config.objective.as_dyn().data_loss().expect("of the data alone");
    loss.fitted(given).expect("a law").expect("it takes one")
}

fn number(tensor: Tensor<1>) -> f64 {
    f64::from(download(tensor)[0])
}

// ---- log Z ------------------------------------------------------------------------------------------------------------------

/// Two modes on a line; the noise is a Gaussian fitted to other data of the same law.
const LINE: &str = "dataset.dim = 1\ndataset.means = [[-2.0], [2.0]]\ndataset.train_size = 1000\nobjective = { kind = \"noise_contrastive\", ratio = 2.0 }\n\
                    energy = { kind = \"gaussian_mixture\", means = [[-2.0], [2.0]], train_means = false }";
const ROWS: usize = 500;
const NU: f64 = 2.0;

/// The data's own law as an energy, not normalised.
fn truth() -> EnergyModel {
    let table = "dim = 1\nkind = \"gaussian_mixture\"\nmeans = [[-2.0], [2.0]]";
    let model =
        EnergyModel::init(EnergySpec::from_metadata(table).expect("right"), 0, &cpu()).expect("it fits");
    let mut theta = model.theta().to_vec();
    theta[1] = upload(vec![0.0, (0.7f32 / 0.3).ln()], &cpu());
    model.with_theta(theta)
}

/// Where a falling function is 0.
fn root(mut at: impl FnMut(f64) -> f64, [mut low, mut high]: [f64; 2]) -> f64 {
    let (mut f_low, mut f_high) = (at(low), at(high));
    assert!(f_low * f_high < 0.0, "{f_low} {f_high}");
    for _ in 0..12 {
        // Illinois: a secant that keeps the root between its ends.
        let middle = (low * f_high - high * f_low) / (f_high - f_low);
        let f = at(middle);
        if f == 0.0 || (high - low).abs() < 1e-7 {
            return middle;
        }
        if f * f_high < 0.0 {
            (low, f_low) = (high, f_high);
        } else {
            f_low *= 0.5;
        }
        (high, f_high) = (middle, f);
    }
    high
}

/// `(1/n)(1/I − 1 − 1/ν)`, `I = ∫ p ν p_n/(p + ν p_n)`, by the trapezium rule.
fn asymptotic_variance(log_noise: impl Fn(f64) -> f64) -> [f64; 2] {
    let normal = |x: f64, m: f64| (-0.5 * (x - m).powi(2)).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let h = 1e-3;
    let overlap: f64 = (-12_000..=12_000)
        .map(|i| {
            let x = h * f64::from(i);
            let (p, q) = (0.3 * normal(x, -2.0) + 0.7 * normal(x, 2.0), NU * log_noise(x).exp());
            h * p * q / (p + q)
        })
        .sum();
    let n = ROWS as f64;
    [(1.0 / overlap - 1.0 - 1.0 / NU) / n, (1.0 / overlap - 1.0) / n]
}

/// With U right and fixed, c is log Z, and its variance over independent data and noise is that of theory. A logit without `log ν` is off
/// by it; a variance without `1/ν` is seen not to be it. The gradient is that of the plain formula.
#[test]
fn c_estimates_log_z_with_the_variance_of_theory() {
    const REPEATS: u64 = 400;
    let config = config(&small(LINE));
    let (loss, model) = (fitted(&config, None), truth());
    let exact = model.log_z().expect("known");
    let data = config.dataset.as_dyn().generate(config.seed).expect("drawn");
    let fit = GaussianFit::of_noisy(&data, Default::default()).expect("two modes");
    let (mean, std) = (f64::from(fit.mean()[0]), f64::from(fit.precision()[0]).powf(-0.5));
    let log_noise =
        |x: f64| -0.5 * ((x - mean) / std).powi(2) - std.ln() - 0.5 * (2.0 * std::f64::consts::PI).ln();
    let (mut found, mut broken) = (Vec::new(), Vec::new());
    for repeat in 0..REPEATS {
        let values = model.draw(ROWS, Stream::new(repeat, Purpose::Data)).expect("a mixture");
        let batch = Tensor::from_data(TensorData::new(values.clone(), [ROWS, 1]), &cpu());
        let stream = Stream::new(repeat, Purpose::Perturbation).at(3).expect("small");
        let at = |c: f64| {
            let own = upload(vec![c as f32], &cpu());
            let found = loss.gradient(&model, Some(&own), &batch, stream).expect("fitted");
            [found.own.expect("c"), found.loss].map(number)
        };
        let c = root(|c| at(c)[0], [exact - 1.0, exact + 1.0]);
        found.push(c);
        if repeat >= 4 {
            continue;
        }
        // The plain twin, in f64: J, ∂J/∂c, and the root without log ν.
        let draws = stream.lane(0).normals(ROWS * 2, 1);
        let noise: Vec<f64> = draws.iter().map(|&z| mean + std * f64::from(z)).collect();
        let rows: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        let u =
            |x: &f64| -((-0.5 * (x + 2.0).powi(2)).exp() + 0.7 / 0.3 * (-0.5 * (x - 2.0).powi(2)).exp()).ln();
        let plain = |c: f64, log_nu: f64| {
            let h = |x: &f64| u(x) + log_noise(*x) + c + log_nu;
            let softplus = |a: f64| a.max(0.0) + (-a.abs()).exp().ln_1p();
            let sigmoid = |a: f64| 1.0 / (1.0 + (-a).exp());
            let slope: f64 = rows.iter().map(|x| sigmoid(h(x))).sum::<f64>()
                - noise.iter().map(|y| sigmoid(-h(y))).sum::<f64>();
            let value: f64 = rows.iter().map(|x| softplus(h(x))).sum::<f64>()
                + noise.iter().map(|y| softplus(-h(y))).sum::<f64>();
            [slope / ROWS as f64, value / ROWS as f64]
        };
        for c in [exact - 0.8, exact, exact + 0.5] {
            let (own, twin) = (at(c), plain(c, NU.ln()));
            assert!(own.iter().zip(twin).all(|(a, b)| (a - b).abs() < 2e-5), "{own:?} {twin:?}");
        }
        broken.push(root(|c| plain(c, 0.0)[0], [exact - 1.0, exact + 2.0]));
    }
    let (mean_c, error) = mean_se(&found);
    let variance = found.iter().map(|c| (c - mean_c).powi(2)).sum::<f64>() / (REPEATS - 1) as f64;
    let fourth = found.iter().map(|c| (c - mean_c).powi(4)).sum::<f64>() / REPEATS as f64;
    let variance_error = ((fourth - variance.powi(2)) / REPEATS as f64).sqrt();
    let [theory, without] = asymptotic_variance(log_noise);
    println!(
        "c − log Z = {:.2e} ± {error:.1e}; n·variance {:.4} ± {:.4}, theory {:.4}, without 1/ν {:.4}",
        mean_c - exact,
        ROWS as f64 * variance,
        ROWS as f64 * variance_error,
        ROWS as f64 * theory,
        ROWS as f64 * without
    );
    assert_within_se(mean_c, exact, error, 4.0);
    assert_within_se(variance, theory, variance_error, 4.0);
    assert_beyond_se(without, variance, variance_error, 4.0);
    let (off, error) = mean_se(&broken);
    assert_beyond_se(off, exact, error, 10.0);
    assert!((off - exact - NU.ln()).abs() < 0.05, "{off} is log ν off {exact}");
}

/// The first c is importance sampling of the start: near its log Z.
#[test]
fn c_starts_near_the_starting_log_z() {
    let trainer = Trainer::new(config(&small(&format!("objective = {GAUSSIAN}"))), &cpu()).expect("starts");
    let c = number(trainer.own.as_ref().expect("one").values.clone());
    let exact = trainer.model.log_z().expect("a Gaussian at the start");
    println!("c starts at {c:.3}, log Z of the start {exact:.3}");
    assert!((c - exact).abs() < 0.3, "{c} {exact}");
}

/// c, the integral over a grid and a tempered SMC agree after training a network.
#[test]
fn c_agrees_with_grid_and_smc() {
    let changes = "steps = 600\ndataset.train_size = 1000\ndataset.std = 0.5\noptimizer.schedule = { kind = \"cosine\", horizon = 600 }\noptimizer.learning_rate = 0.01";
    let trainer = Trainer::new(config(&small(&format!("{changes}\nobjective = {GAUSSIAN}"))), &cpu());
    let trainer = trained(trainer.expect("starts"), 600);
    let subject = Opened {
        ema: None,
        own_numbers: download(trainer.own.expect("one").values),
        model: trainer.model,
        step: 600,
        config: Some(trainer.config),
        walkers: None,
        audit: None,
        proposal_flows: Vec::new(),
        step_size: None,
        doubts: Vec::new(),
        run: None,
    };
    let found = evaluate(&subject, 8, 0).expect("judged");
    let (c, grid) = (found.log_z_learned.expect("learned"), found.log_z_grid.expect("a plane"));
    println!(
        "c {c:.4}, grid {grid:.4}, {} {:.4} ± {:.4}",
        found.log_z.method, found.log_z.value, found.log_z.standard_error
    );
    assert_eq!(found.log_z.method, "smc");
    assert_within_se(found.log_z.value, grid, found.log_z.standard_error + 1e-3, 4.0);
    assert!((c - grid).abs() < 0.05, "{c} {grid}");
}

// ---- Masses -----------------------------------------------------------------------------------------------------------------

/// q, the mass of the right mode, less that of the data, over seeds: mean and standard error; and c less log Z at the last one.
fn mass(table: &str, seeds: u64, more: &str) -> (f64, f64, Option<f64>) {
    let mut learned = None;
    let errors: Vec<f64> = (0..seeds)
        .map(|seed| {
            let more = format!("walkers.count = 10\noptimizer.learning_rate = 2.0\n{more}");
            let text = far(&format!("objective = {table}\nseed = {seed}\n{more}"));
            let trainer = trained(Trainer::new(config(&text), &cpu()).expect("starts"), 400);
            let log_z = trainer.model.log_z().expect("known");
            learned = trainer.own.as_ref().map(|own| number(own.values.clone()) - log_z);
            trainer.model.mixture().expect("a mixture").masses[1] - trainer.data.train_fractions()[1]
        })
        .collect();
    let (mean, error) = mean_se(&errors);
    println!("{table}: q − data = {mean:.4} ± {error:.4}, c − log Z {learned:?}");
    (mean, error, learned)
}

/// Two unequal modes that nothing connects: noise that covers both sees the masses; perturbations do where they reach.
#[test]
fn noise_between_modes_sees_masses() {
    let (off, error, learned) = mass("{ kind = \"noise_contrastive\", ratio = 4.0 }", 8, "");
    assert_within_se(off, 0.0, error, four_se(8));
    assert!(error < 0.02 && learned.expect("c").abs() < 0.1, "{error} {learned:?}");
    let (off, error, _) = mass(&conditional(20.0), 8, "");
    assert_within_se(off, 0.0, error, four_se(8));
    assert!(error < 0.02, "{error}");
    let (off, error, _) = mass(&conditional(0.5), 2, "");
    assert!((off + 0.3).abs() < 0.02, "q stays at .5: {off} ± {error}");
}

// ---- The gradient -----------------------------------------------------------------------------------------------------------

/// Each gradient against central differences of its own loss at the same random numbers, for each energy, and of c; and the gradient of
/// the noise's flow, in its own parameters.
#[test]
fn gradients_are_those_of_the_losses() {
    const MLP: &str = "dim = 2\nkind = \"mlp\"\nhidden = [16, 8]\nactivation = \"tanh\"\nconfinement = 0.7";
    const MIXTURE: &str =
        "dim = 2\nkind = \"gaussian_mixture\"\nmeans = [[-1.0, 1.0], [0.5]]\nmeans_noise = 0.3";
    const NVP: &str = "dim = 2\nkind = \"real_nvp\"\nlayers = 2\nhidden = [8]";
    let noise_flow = moved(NVP, 0.2);
    let c = upload(vec![1.3], &cpu());
    let batch = normals(40, 2, 0);
    let stream = Stream::new(9, Purpose::Perturbation).at(7).expect("small");
    for energy in [MLP, MIXTURE, NVP] {
        let model = moved(energy, 0.3);
        for table in [GAUSSIAN, FLOW, &conditional(0.8)] {
            let config = config(&small(&format!(
                "objective = {table}\n{}",
                if table == FLOW { "pretrain.steps = 1" } else { "" }
            )));
            let flow = (table == FLOW).then_some(&noise_flow);
            let own = (!table.contains("conditional")).then_some(&c);
            let plain = objective_of(&config);
            let made = own.map(|_| fitted(&config, flow));
            let loss: &dyn DataLoss = made.as_deref().unwrap_or(plain);
            let at = |model: &EnergyModel| loss.gradient(model, own, &batch, stream).expect("it has");
            let value = |model: &EnergyModel| number(at(model).loss);
            for (i, (grad, spec)) in at(&model).grads.into_iter().zip(model.params()).enumerate() {
                let n = spec.len();
                let mut direction = normals(n, 1, 200 + i as u32).reshape([n]);
                if spec.name == "log_masses" {
                    direction = direction * upload(vec![0.0, 1.0], &cpu());
                }
                let slope = number((grad.clone() * direction.clone()).sum());
                let expected = difference(|h| {
                    let mut theta = model.theta().to_vec();
                    theta[i] = theta[i].clone() + direction.clone().mul_scalar(h);
                    value(&model.with_theta(theta))
                });
                let scale = download(grad).into_iter().fold(0.05, |a: f64, b| a.max(f64::from(b.abs())));
                let name = &spec.name;
                assert!(
                    (slope - expected).abs() < 4e-3 * scale,
                    "{table}, {energy}: {name}: {slope} vs {expected}"
                );
            }
            if let Some(c) = own {
                let slope = number(at(&model).own.expect("c"));
                let expected = difference(|h| {
                    let moved = c.clone().add_scalar(h);
                    number(loss.gradient(&model, Some(&moved), &batch, stream).expect("it has").loss)
                });
                assert!((slope - expected).abs() < 2e-4, "{table}, {energy}: c: {slope} vs {expected}");
            }
            let Some(flow) = flow else { continue };
            let grads = loss.flow_gradient(&model, own, &batch, stream).expect("a flow");
            for (i, (grad, spec)) in grads.into_iter().zip(flow.params()).enumerate() {
                let direction = normals(spec.len(), 1, 300 + i as u32).reshape([spec.len()]);
                let slope = number((grad.clone() * direction.clone()).sum());
                let expected = difference(|h| {
                    let mut theta = flow.theta().to_vec();
                    theta[i] = theta[i].clone() + direction.clone().mul_scalar(h);
                    let loss = fitted(&config, Some(&flow.with_theta(theta)));
                    number(loss.gradient(&model, own, &batch, stream).expect("it has").loss)
                });
                let scale = download(grad).into_iter().fold(0.05, |a: f64, b| a.max(f64::from(b.abs())));
                let name = &spec.name;
                assert!(
                    (slope - expected).abs() < 4e-3 * scale,
                    "{energy}, flow: {name}: {slope} vs {expected}"
                );
            }
        }
    }
}

fn objective_of(config: &Config) -> &dyn DataLoss {
    config.objective.as_dyn().data_loss().expect("of the data alone")
}

/// The derivative at 0, of fourth order.
fn difference(at: impl Fn(f32) -> f64) -> f64 {
    let h = 1e-2f32;
    let [a, b, c, d] = [-2.0, -1.0, 1.0, 2.0].map(|k: f32| at(k * h));
    (a - 8.0 * b + 8.0 * c - d) / (12.0 * f64::from(h))
}

/// In slices as long as memory allows: at the start a network is its confinement alone, whether its layer fills slices of 21 rows or not.
#[test]
fn slices_add_up() {
    let config = config(&small("objective = { kind = \"noise_contrastive\", ratio = 1.5 }"));
    let loss = fitted(&config, None);
    let (batch, c) = (normals(67, 2, 0), upload(vec![1.0], &cpu()));
    let stream = Stream::new(9, Purpose::Perturbation);
    let [narrow, wide] = [8, 65_536].map(|width| {
        let table = format!("dim = 2\nkind = \"mlp\"\nhidden = [{width}]\nconfinement = 0.7");
        let found = loss.gradient(&moved(&table, 0.0), Some(&c), &batch, stream).expect("fitted");
        [found.loss, found.own.expect("c")].map(number)
    });
    assert!(narrow.iter().zip(wide).all(|(a, b)| (a - b).abs() < 1e-5), "{narrow:?} {wide:?}");
    assert!(narrow[0] > 0.5 && narrow[1].abs() > 1e-3, "{narrow:?}");
}

/// To leading order in σ the conditional form is `2 log 2 + σ²/2` times the loss of score matching.
#[test]
fn a_small_sigma_is_score_matching() {
    let model =
        moved("dim = 2\nkind = \"mlp\"\nhidden = [16, 8]\nactivation = \"tanh\"\nconfinement = 0.7", 0.3);
    let batch = normals(60, 2, 0);
    let loss = |table: &str| {
        let objective = objective_of(&config(&small(&format!("objective = {table}")))).gradient(
            &model,
            None,
            &batch,
            Stream::new(1, Purpose::Perturbation),
        );
        number(objective.expect("it has").loss)
    };
    let score = loss("{ kind = \"score_matching\", form = \"implicit\" }");
    let sigma: f64 = 0.1;
    let table = format!("{{ kind = \"conditional_nce\", sigma = {sigma}, samples = 20000 }}");
    let found = (loss(&table) - 2.0 * 2f64.ln()) / (0.5 * sigma * sigma);
    println!("conditional {found:.3}, score matching {score:.3}");
    assert!((found - score).abs() < 0.15 * score.abs().max(1.0), "{found} {score}");
}
