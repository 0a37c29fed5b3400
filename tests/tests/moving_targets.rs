//! Jarzynski weights on targets that move along a fixed path of θ (ALGORITHMS 1.1, 1.2, 10): the ratio of Z and the weighted
//! moments are right to 4 standard errors, and the two well-known mistakes are wrong by at least 10 in the same test.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::gaussian_mixture::GaussianMixture;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::device::langevin_proposal;
use ember_sampler::kernel::{Mala, Ula};
use ember_sampler::{Kernel, Noise, Walkers, weights};
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se, gpu, mean_se, ratio_se};

const REPEATS: usize = 32;
const UPDATES: u64 = 20;

/// `U = ½ λ |x|²`.
struct Gaussian {
    dim: usize,
    precision: f64,
}

impl Energy for Gaussian {
    fn dim(&self) -> usize {
        self.dim
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        (x.clone() * x).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5 * self.precision)
    }
}

/// How walkers follow a moving energy.
type Follow<'a> = &'a dyn Fn(&dyn Energy, Walkers, &Noise) -> Walkers;

fn kernel(kernel: impl Kernel + 'static) -> impl Fn(&dyn Energy, Walkers, &Noise) -> Walkers {
    move |energy, walkers, noise| {
        let walkers = kernel.prepare(energy, walkers);
        kernel.step(energy, walkers, noise).0
    }
}

/// The mistake: the weight rule of reversible kernels with ULA, which is not one.
fn ula_with_the_reversible_rule(h: f64) -> impl Fn(&dyn Energy, Walkers, &Noise) -> Walkers {
    move |energy, walkers, noise| {
        let walkers = walkers.reweight(energy);
        let log_weights = walkers.log_weights.clone();
        let moved = Ula::new(h).step(energy, walkers, noise).0;
        Walkers { log_weights, ..moved }
    }
}

/// The mistake: α without its `½ (y − x)·∇U` terms.
fn ula_without_half_terms(h: f64) -> impl Fn(&dyn Energy, Walkers, &Noise) -> Walkers {
    move |energy, walkers, noise| {
        let stream = noise.stream(Purpose::Noise);
        let (x, grad) = (walkers.position.clone(), walkers.energy_grad.clone());
        let y = langevin_proposal(x, grad.clone(), h as f32, (2.0 * h).sqrt() as f32, stream);
        let (u, grad_y) = energy.energy_and_grad(y.clone());
        let square = |g: Tensor<2>| (g.clone() * g).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.25 * h);
        let increment = walkers.energy.clone() + square(grad) - u.clone() - square(grad_y.clone());
        let log_weights = walkers.log_weights.clone().accumulate(increment);
        Walkers { position: y, energy: u, energy_grad: grad_y, log_weights, ..walkers }
    }
}

/// Per repeat: `(mean e^A |x|²/d, mean e^A)` after precision 1 → 2 in 20 updates.
fn gaussian_path(follow: Follow<'_>, dim: usize, walkers: usize, device: &Device) -> Vec<(f64, f64)> {
    (0..REPEATS as u32)
        .map(|lane| {
            let start = Stream::new(11, Purpose::Start).lane(lane).normals(walkers, dim);
            let start = Tensor::from_data(TensorData::new(start, [walkers, dim]), device);
            let mut state = Walkers::new(&Gaussian { dim, precision: 1.0 }, start, 0.0);
            for k in 0..UPDATES {
                let precision = 1.0 + (k + 1) as f64 / UPDATES as f64;
                let noise = Noise::at(11, lane, k, 1, 0).expect("fits");
                state = follow(&Gaussian { dim, precision }, state, &noise);
            }
            weighted(&state, |x| x.iter().map(|x| x * x).sum::<f64>() / dim as f64)
        })
        .collect()
}

/// `(mean e^A φ(x), mean e^A)`.
fn weighted(walkers: &Walkers, phi: impl Fn(&[f64]) -> f64) -> (f64, f64) {
    let position: Vec<f64> = download(walkers.position.clone()).into_iter().map(f64::from).collect();
    let weights = download(walkers.log_weights.value());
    let n = weights.len() as f64;
    let terms = position.chunks_exact(walkers.dim()).zip(&weights);
    terms.fold((0.0, 0.0), |(first, second), (x, &a)| {
        let w = f64::from(a).exp() / n;
        (first + w * phi(x), second + w)
    })
}

/// `log Z` over the repeats (biased by half the variance of one repeat's, below a tenth of the standard error here) and the
/// weighted moment, each with its standard error.
struct Figures {
    log_z: (f64, f64),
    square: (f64, f64),
}

fn figures(pairs: &[(f64, f64)]) -> Figures {
    let log_z: Vec<f64> = pairs.iter().map(|pair| pair.1.ln()).collect();
    Figures { log_z: mean_se(&log_z), square: ratio_se(pairs) }
}

/// `log Z` of precision 2 over that of precision 1.
fn exact_log_z(dim: usize) -> f64 {
    -(dim as f64) / 2.0 * 2f64.ln()
}

fn gaussian_is_exact(name: &str, follow: Follow<'_>, dim: usize, walkers: usize, device: &Device) {
    let found = figures(&gaussian_path(follow, dim, walkers, device));
    let exact = exact_log_z(dim);
    println!(
        "{name}, d = {dim}: log Z ratio {:?} (exact {exact}), <x²> {:?} (exact 0.5)",
        found.log_z, found.square
    );
    assert_within_se(found.log_z.0, exact, found.log_z.1, four_se(REPEATS));
    assert_within_se(found.square.0, 0.5, found.square.1, four_se(REPEATS));
    // A test that cannot see a 5 % error of Z or of the variance would prove nothing.
    assert!(found.log_z.1 < 0.0125 && found.square.1 < 0.0125 * 0.5, "standard errors too large");
}

#[test]
fn ula_weights_are_exact_on_a_moving_gaussian() {
    gaussian_is_exact("ULA", &kernel(Ula::new(0.1)), 2, 4_000, &cpu());
    gaussian_is_exact("ULA", &kernel(Ula::new(0.1)), 20, 20_000, &cpu());
}

#[test]
fn mala_weights_are_exact_on_a_moving_gaussian() {
    gaussian_is_exact("MALA", &kernel(Mala::new(0.1)), 2, 4_000, &cpu());
    gaussian_is_exact("MALA", &kernel(Mala::new(0.1)), 20, 40_000, &cpu());
}

#[test]
fn weights_are_exact_on_the_gpu_path() {
    let Some(device) = gpu() else { return };
    gaussian_is_exact("ULA, GPU path", &kernel(Ula::new(0.1)), 2, 4_000, &device);
    gaussian_is_exact("MALA, GPU path", &kernel(Mala::new(0.1)), 2, 4_000, &device);
}

#[test]
fn the_reversible_rule_is_wrong_for_ula() {
    for (dim, walkers) in [(2, 4_000), (20, 20_000)] {
        let found = figures(&gaussian_path(&ula_with_the_reversible_rule(0.1), dim, walkers, &cpu()));
        println!("reversible rule, d = {dim}: log Z ratio {:?}, <x²> {:?}", found.log_z, found.square);
        assert_beyond_se(found.square.0, 0.5, found.square.1, 10.0);
    }
}

#[test]
fn alpha_without_half_terms_is_wrong() {
    for (dim, walkers) in [(2, 4_000), (20, 20_000)] {
        let found = figures(&gaussian_path(&ula_without_half_terms(0.1), dim, walkers, &cpu()));
        println!("no half terms, d = {dim}: log Z ratio {:?}, <x²> {:?}", found.log_z, found.square);
        assert_beyond_se(found.log_z.0, exact_log_z(dim), found.log_z.1, 10.0);
    }
}

/// A MALA step that starts from a stale pair accepts with mixed energies: the reason for `Kernel::prepare`.
#[test]
fn mala_without_reweighting_first_is_wrong() {
    let mala = Mala::new(0.1);
    let stale = |energy: &dyn Energy, walkers: Walkers, noise: &Noise| {
        mala.step(energy, walkers, noise).0.reweight(energy)
    };
    let found = figures(&gaussian_path(&stale, 2, 4_000, &cpu()));
    println!("stale MALA: log Z ratio {:?}, <x²> {:?}", found.log_z, found.square);
    assert_beyond_se(found.log_z.0, exact_log_z(2), found.log_z.1, 10.0);
}

/// The equal-covariance mixture at masses `1 : e^logit`.
fn mixture_at(logit: f32, device: &Device) -> EnergyModel {
    let energy = EnergyConfig::GaussianMixture(GaussianMixture {
        means: vec![vec![-3.0], vec![3.0]],
        means_noise: 0.0,
        train_means: true,
        logit_learning_rate_scale: 1.0,
    });
    let spec = EnergySpec::new(SampleShape::Flat(2), energy);
    let model = EnergyModel::init(spec, 0, device).expect("a valid mixture");
    let theta = vec![model.theta()[0].clone(), upload(vec![0.0, logit], device)];
    model.with_theta(theta)
}

fn moving_masses(name: &str, follow: Follow<'_>, device: &Device) {
    let walkers = 4_000;
    let pairs: Vec<(f64, f64)> = (0..REPEATS as u32)
        .map(|lane| {
            let start = mixture_at(0.0, device);
            let draws = start.draw(walkers, Stream::new(12, Purpose::Start).lane(lane)).expect("exact draws");
            let position = Tensor::from_data(TensorData::new(draws, [walkers, 2]), device);
            let mut state = Walkers::new(&start, position, 0.0);
            for k in 0..UPDATES {
                let model = mixture_at(2.0 * (k + 1) as f32 / UPDATES as f32, device);
                state = follow(&model, state, &Noise::at(12, lane, k, 1, 0).expect("fits"));
            }
            weighted(&state, |x| f64::from(u8::from(x[0] > 0.0)))
        })
        .collect();
    let found = figures(&pairs);
    let e2 = 2f64.exp();
    // P(x₀ > 0): almost all of one mode, with the tails Φ(−3) exchanged.
    let tail = 0.001_349_898;
    let mass = (e2 * (1.0 - tail) + tail) / (1.0 + e2);
    println!(
        "moving masses, {name}: log Z ratio {:?} (exact {}), mass {:?} (exact {mass})",
        found.log_z,
        ((1.0 + e2) / 2.0).ln(),
        found.square
    );
    assert_within_se(found.log_z.0, ((1.0 + e2) / 2.0).ln(), found.log_z.1, four_se(REPEATS));
    assert_within_se(found.square.0, mass, found.square.1, four_se(REPEATS));
}

#[test]
fn weights_follow_moving_masses() {
    moving_masses("ULA", &kernel(Ula::new(0.1)), &cpu());
    moving_masses("MALA", &kernel(Mala::new(0.1)), &cpu());
}

/// Resampling in the middle of the path changes nothing in expectation, and banks log Z.
#[test]
fn resampling_keeps_the_ratio_of_z() {
    let (dim, walkers) = (2, 4_000);
    let ula = Ula::new(0.1);
    let z: Vec<(f64, f64)> = (0..REPEATS as u32)
        .map(|lane| {
            let start = Stream::new(13, Purpose::Start).lane(lane).normals(walkers, dim);
            let start = Tensor::from_data(TensorData::new(start, [walkers, dim]), &cpu());
            let mut state = Walkers::new(&Gaussian { dim, precision: 1.0 }, start, 0.0);
            for k in 0..UPDATES {
                let precision = 1.0 + (k + 1) as f64 / UPDATES as f64;
                let noise = Noise::at(13, lane, k, 1, 0).expect("fits");
                state = ula.step(&Gaussian { dim, precision }, state, &noise).0;
                let summary = state.summary();
                if k % 5 == 4 {
                    let stream = Stream::new(13, Purpose::Resampling).lane(lane).at(k).expect("fits");
                    let scheme = ember_sampler::Scheme::Systematic;
                    let ancestors = ember_sampler::resample(scheme, state.log_weights.value(), stream);
                    state = state.resampled(ancestors, summary.log_mean_exp);
                }
            }
            ((state.log_z.value() + state.summary().log_mean_exp).exp(), 1.0)
        })
        .collect();
    let (found, se) = ratio_se(&z);
    assert_within_se(found, 0.5, se, four_se(REPEATS));
}

#[test]
fn weights_sum_to_one() {
    let a = Tensor::<1>::from_floats([0.0, 500.0, f32::NEG_INFINITY, 499.0], &cpu());
    let w = download(weights::normalised(a));
    assert!((w.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    assert_eq!((w[0], w[2]), (0.0, 0.0));
}
