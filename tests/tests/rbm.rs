//! Restricted Boltzmann machines: free energy and gradients against sums written out, block Gibbs leaves the law alone, and log Z of a
//! trained one by weights, audit, annealing, ladder and enumeration.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::{energy_and_grad_by_autodiff, weighted_param_grads_by_autodiff};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Custom, Energy, EnergyConfig, EnergyModel, EnergySpec};
use ember_sampler::evidence::ladder::{Foot, LadderOptions, Rung, temper};
use ember_sampler::evidence::{ParameterOptions, along_parameters};
use ember_sampler::kernel::Gibbs;
use ember_sampler::{Kernel, KernelConfig, Noise, Silent, Walkers};
use ember_tests::configs::{config, small};
use ember_tests::toys::Bars;
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se};
use ember_train::config::Config;
use ember_train::dataset::DatasetConfig;
use ember_train::training::objective::ObjectiveConfig;
use ember_train::training::trainer::Trainer;

/// An rbm with biases and couplings of order `scale`.
fn machine(dim: usize, hidden: usize, scale: f32, seed: u64) -> EnergyModel {
    let table = format!("dim = {dim}\nkind = \"rbm\"\nhidden = {hidden}");
    let spec = EnergySpec::from_metadata(&table).expect("an rbm");
    let model = EnergyModel::init(spec, 0, &cpu()).expect("an rbm");
    let theta = model.params().into_iter().enumerate().map(|(i, param)| {
        let stream = Stream::new(seed, Purpose::Data).lane(i as u32);
        upload(stream.normals(1, param.len()).into_iter().map(|z| scale * z).collect(), &cpu())
    });
    model.with_theta(theta.collect())
}

/// Row-major `[n, bits]` of consecutive states, from 0.
fn states(bits: usize) -> Vec<f32> {
    (0..1usize << bits).flat_map(|state| (0..bits).map(move |i| (state >> i & 1) as f32)).collect()
}

fn tensor(rows: Vec<f32>, dim: usize) -> Tensor<2> {
    let n = rows.len() / dim;
    Tensor::from_data(TensorData::new(rows, [n, dim]), &cpu())
}

/// `−log Σ_h e^{−E(v, h)}`, state by state of h.
fn written_out(model: &EnergyModel, v: &[f32]) -> f64 {
    let theta = model.host_theta();
    let (d, h) = (v.len(), theta[1].len());
    let sum: f64 = states(h)
        .chunks_exact(h)
        .map(|h| {
            let mut minus_e: f64 = theta[2].iter().zip(v).map(|(a, v)| f64::from(a * v)).sum();
            for (j, on) in h.iter().enumerate().filter(|(_, on)| **on > 0.0) {
                let coupled: f64 = (0..d).map(|i| f64::from(theta[0][j * d + i]) * f64::from(v[i])).sum();
                minus_e += f64::from(*on) * (f64::from(theta[1][j]) + coupled);
            }
            minus_e.exp()
        })
        .sum();
    -sum.ln()
}

#[test]
fn the_energy_is_the_free_energy() {
    let model = machine(5, 4, 1.3, 1);
    let all = states(5);
    let u = download(model.energy(tensor(all.clone(), 5)));
    let plain: Vec<f64> = all.chunks_exact(5).map(|v| written_out(&model, v)).collect();
    for (u, plain) in u.iter().zip(&plain) {
        assert!((f64::from(*u) - plain).abs() < 1e-5, "{u}, {plain}");
    }
    let log_z = plain.iter().map(|u| (-u).exp()).sum::<f64>().ln();
    assert!((model.enumerated_log_z().expect("few units") - log_z).abs() < 1e-10);
    assert!(model.log_z().is_none() && model.draw(1, Stream::new(0, Purpose::Start)).is_none());
    // More hidden units than bits: the bits are counted.
    let wide = machine(5, 23, 0.5, 2);
    let log_z =
        all.chunks_exact(5).map(|v| (-f64::from(download(wide.energy(tensor(v.to_vec(), 5)))[0])).exp());
    assert!((wide.enumerated_log_z().expect("few bits") - log_z.sum::<f64>().ln()).abs() < 1e-5);
    assert!(machine(21, 21, 0.1, 3).enumerated_log_z().is_none());
    let tempered = EnergySpec::from_metadata("dim = 5\ntemperature = 0.5\nkind = \"rbm\"\nhidden = 4");
    assert!(tempered.expect_err("no temperature").to_string().contains("temperature"));
    // Gradients against the tape.
    let x = tensor(Stream::new(1, Purpose::Start).uniforms(13, 5), 5);
    let architecture = model.spec().build().expect("an rbm");
    let (_, plain) = energy_and_grad_by_autodiff(&*architecture, model.theta(), x.clone());
    let worst = download((model.energy_and_grad(x.clone()).1 - plain).abs().max())[0];
    assert!(worst < 1e-5, "{worst}");
    let weights = upload(Stream::new(2, Purpose::Start).normals(1, 13), &cpu());
    let terms = [(x.clone(), weights.clone()), (tensor(all, 5).narrow(0, 0, 13), weights)];
    let plain = weighted_param_grads_by_autodiff(&*architecture, model.theta(), &terms);
    let found = model.weighted_param_grads(&terms);
    for (found, plain) in found.grads.into_iter().zip(plain.grads) {
        let worst = download((found - plain).abs().max())[0];
        assert!(worst < 1e-4, "{worst}");
    }
}

/// Without W the bits are independent: exact draws, and log Z by a sum over the states.
#[test]
fn the_start_is_exact() {
    let model = machine(6, 3, 0.8, 5);
    let start = model.start();
    assert!((start.log_z().expect("independent") - start.enumerated_log_z().expect("few")).abs() < 1e-10);
    let n = 40_000;
    let draws = tensor(start.draw(n, Stream::new(7, Purpose::Start)).expect("draws"), 6);
    let means = download(draws.mean_dim(0));
    for (mean, a) in means.iter().zip(&model.host_theta()[2]) {
        let p = 1.0 / (1.0 + f64::from(-a).exp());
        assert_within_se(f64::from(*mean), p, (p * (1.0 - p) / n as f64).sqrt(), 4.0);
    }
    // a begins at the log-odds of the data.
    let spec = model.spec().clone();
    let rows = tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0, 0.0]].concat(), 6);
    let fitted = EnergyModel::init(spec, 0, &cpu()).expect("an rbm").with_data_init(rows);
    let expected = [5.0_f32.ln(), -(5.0_f32.ln()), 0.0, 5.0_f32.ln(), -(5.0_f32.ln()), 0.0];
    for (a, expected) in fitted.host_theta()[2].iter().zip(expected) {
        assert!((a - expected).abs() < 1e-6, "{a}, {expected}");
    }
}

/// From exact draws of a law, a sweep of block Gibbs leaves the frequency of each of its states. With the probabilities of the hidden units
/// in the place of their draws, which is a usual mistake, it does not.
#[test]
fn block_gibbs_leaves_the_law_alone() {
    let (dim, hidden, n) = (4, 3, 100_000);
    let model = machine(dim, hidden, 1.0, 11);
    let all = states(dim);
    let log_z = model.enumerated_log_z().expect("few");
    let p: Vec<f64> = download(model.energy(tensor(all.clone(), dim)))
        .iter()
        .map(|u| (-f64::from(*u) - log_z).exp())
        .collect();
    let draws = Stream::new(3, Purpose::Start).categorical(n, &p);
    let rows = draws.iter().flat_map(|&state| all[state as usize * dim..][..dim].to_vec()).collect();
    let start = Walkers::new(&model, tensor(rows, dim), 0.0);
    let frequencies = |x: Tensor<2>| -> Vec<f64> {
        let mut counts = vec![0.0; p.len()];
        for row in download(x).chunks_exact(dim) {
            counts[row.iter().enumerate().map(|(i, v)| (*v as usize) << i).sum::<usize>()] += 1.0 / n as f64;
        }
        counts
    };
    let (moved, _) = Gibbs {}.step(&model, start.clone(), &Noise::new(9, 4));
    let unmoved = download((moved.position.clone() - start.position.clone()).abs().sum_dim(1))
        .into_iter()
        .filter(|gap| *gap == 0.0)
        .count();
    assert!(unmoved < 4 * n / 5, "{unmoved} of {n} did not move");
    let after = frequencies(moved.position.clone());
    for (found, p) in after.iter().zip(&p) {
        assert_within_se(*found, *p, (p * (1.0 - p) / n as f64).sqrt(), 4.0);
    }
    let worst = download((moved.energy - model.energy(moved.position)).abs().max())[0];
    assert!(worst < 1e-5);
    // σ(a + σ(b + Wv) W)
    let theta = model.theta();
    let w = theta[0].clone().reshape([hidden, dim]);
    let sigmoid = burn::tensor::activation::sigmoid::<2>;
    let on =
        sigmoid(start.position.clone().matmul(w.clone().transpose()) + theta[1].clone().unsqueeze_dim(0));
    let p_visible = sigmoid(on.matmul(w) + theta[2].clone().unsqueeze_dim(0));
    let coins = tensor(Stream::new(8, Purpose::Accept).uniforms(n, dim), dim);
    let broken = frequencies(coins.lower(p_visible).float());
    let (worst, _) = broken
        .iter()
        .zip(&p)
        .enumerate()
        .map(|(i, (found, p))| (i, (found - p).abs() / (p * (1.0 - p) / n as f64).sqrt()))
        .fold((0, 0.0), |most, next| if next.1 > most.1 { next } else { most });
    assert_beyond_se(broken[worst], p[worst], (p[worst] * (1.0 - p[worst]) / n as f64).sqrt(), 10.0);
}

/// Bars and stripes of 3 × 3, 6 hidden units, 1,000 walkers by block Gibbs.
fn bars(changes: &str) -> Config {
    let mut config = config(&small(&format!(
        "steps = 150\nwalkers.count = 1000\noptimizer = {{ kind = \"adam\", learning_rate = 0.05 }}\n{changes}"
    )));
    config.energy = toml::from_str::<EnergyConfig>("kind = \"rbm\"\nhidden = 6").expect("an rbm");
    config.kernel.kernel = KernelConfig::Gibbs(Gibbs {});
    config.dataset = DatasetConfig::Custom(Custom(Arc::new(Bars { side: 3, count: 500 })));
    config
}

/// Weights from an exact start stay right under Gibbs: the audit, whose walkers θ does not depend on, gives log Z; so do annealing in the
/// parameters and a ladder over the training; and all are the sum over the states.
#[test]
fn log_z_of_a_trained_machine_in_every_way() {
    let config = bars("audit = { walkers = 250, repeats = 8, every = 50 }");
    config.validate().expect("a config");
    let mut trainer = Trainer::new(config, &cpu()).expect("it fits");
    let mut models = vec![trainer.model.start()];
    let first = trainer.model.enumerated_log_z().expect("few units");
    for step in 0..150 {
        trainer.update(step == 149).expect("an update");
        if step % 15 == 14 {
            models.push(trainer.model.clone());
        }
    }
    let model = trainer.model.clone();
    let exact = model.enumerated_log_z().expect("few units");
    assert!((exact - first).abs() > 1.0, "nothing was learned: {first} to {exact}");
    let walkers = trainer.walkers_at_theta();
    let online = walkers.log_z.value() + walkers.summary().log_mean_exp;
    let mut audit = trainer.audit.clone().expect("an audit");
    audit.walkers = audit.walkers.reweight(&model);
    let audit = audit.log_z();
    assert_within_se(audit.value, exact, audit.standard_error, four_se(8));
    assert!(audit.standard_error < 0.1, "{audit:?}");
    let mut annealed = Vec::new();
    for ess_threshold in [0.0, 0.5] {
        let options = ParameterOptions {
            walkers: 300,
            repeats: 8,
            temperatures: 100,
            moves: 1,
            ess_threshold,
            seed: 5,
            progress: &Silent,
        };
        let found = along_parameters(&model.start(), &model, &Gibbs {}, options).expect("annealing").log_z();
        assert_within_se(found.value, exact, found.standard_error, four_se(8));
        assert!(found.standard_error < 0.3, "{found:?}");
        annealed.push(found);
    }
    let draw = |count: usize, stream: Stream| models[0].draw(count, stream).expect("independent bits");
    let foot = Foot::Exact { log_z: models[0].log_z().expect("known"), draw: &draw };
    let rung = |model: &EnergyModel| Rung { energy: Box::new(model.clone()), kernel: Box::new(Gibbs {}) };
    let mut rungs: Vec<Rung> = models.iter().map(rung).collect();
    let options = LadderOptions {
        ladders: 64,
        sweeps: 100,
        burn_in: 50,
        moves: 2,
        kept: 10,
        seed: 3,
        progress: &Silent,
    };
    let found = temper(&mut rungs, &foot, &cpu(), options).expect("a ladder");
    let ladder = found.log_z().expect("known")[models.len() - 1];
    println!(
        "log Z {exact:.4}; on-line {online:.4}, audit {:.4} ± {:.4}, AIS {:.4} ± {:.4}, SMC {:.4} ± {:.4}, ladder {:.4} ± {:.4}, swap rates {:.2?}",
        audit.value,
        audit.standard_error,
        annealed[0].value,
        annealed[0].standard_error,
        annealed[1].value,
        annealed[1].standard_error,
        ladder.value,
        ladder.standard_error,
        found.swap_rates
    );
    assert_within_se(ladder.value, exact, ladder.standard_error, four_se(64));
    assert!(ladder.standard_error < 0.1, "{ladder:?}");
    // The training walkers' own is biased low, for θ follows their noise; it is never reported as the model's.
    assert!((exact - 1.0..exact + 0.1).contains(&online), "{online}, {exact}");
    // Walkers that were drawn without W and not weighted for the way to θ_0 are wrong from the start: here W is no small change.
    let far = machine(9, 6, 1.0, 4);
    let start = far.start();
    let n = 20_000;
    let rows = tensor(start.draw(n, Stream::new(1, Purpose::Start)).expect("draws"), 9);
    let weighted = Walkers::new(&start, rows, start.log_z().expect("known")).reweight(&far);
    let log_weights: Vec<f64> = download(weighted.log_weights.value()).into_iter().map(f64::from).collect();
    let estimate = ember_sampler::statistics::log_mean_z(&log_weights);
    let (value, exact) =
        (start.log_z().expect("known") + estimate.value, far.enumerated_log_z().expect("few"));
    assert_within_se(value, exact, estimate.standard_error, 4.0);
    assert_beyond_se(start.log_z().expect("known"), exact, estimate.standard_error, 10.0);
}

/// Persistent contrastive divergence learns them too, and pixels that are no bits are refused.
#[test]
fn bits_by_persistent_cd() {
    let mut config = bars("");
    config.objective = toml::from_str::<ObjectiveConfig>("kind = \"persistent_cd\"").expect("an objective");
    let mut trainer = Trainer::new(config.clone(), &cpu()).expect("it fits");
    let cross_entropy = |trainer: &Trainer| {
        let data = trainer.config.dataset.as_dyn().generate(1).expect("drawn");
        let u = download(trainer.model.energy(tensor(data.test.values().to_vec(), 9)));
        u.iter().map(|&u| f64::from(u)).sum::<f64>() / u.len() as f64
            + trainer.model.enumerated_log_z().expect("few units")
    };
    let before = cross_entropy(&trainer);
    for _ in 0..150 {
        trainer.update(false).expect("an update");
    }
    // Bars and stripes of 3 × 3 have 14 patterns: ln 14 = 2.6 at the least, 9 ln 2 = 6.2 for independent bits.
    let after = cross_entropy(&trainer);
    println!("cross-entropy {before:.3} to {after:.3}");
    assert!(before > 6.0 && after < before - 0.8, "{before} to {after}");
    config.dataset =
        DatasetConfig::Custom(Custom(Arc::new(ember_tests::toys::Shifted { dim: 9, shift: 0.0, count: 50 })));
    let error = Trainer::new(config, &cpu()).err().expect("no bits");
    assert_eq!(error.exit_code(), 2);
    for part in ["coordinate 0 of row 0", "zeros and ones", "dataset.binarise"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}
