//! Chain diagnostics against chains whose answers are known: autoregressions, independent draws, chains that stay where they
//! are; and along kernels.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::gaussian_mixture::GaussianMixture;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::diagnostics::convergence::{
    autocorrelation_time, normal_quantile, rank_normalised_r_hat, split_r_hat,
};
use ember_sampler::diagnostics::{ChainOptions, Seen, along};
use ember_sampler::kernel::{Hmc, Mala, Ula};
use ember_sampler::{Kernel, Noise, Walkers};
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se, mean_se};
use ember_train::dataset::Modes;

/// Chains of `x_t = φ x_{t−1} + √(1 − φ²) ξ_t`, stationary: the autocorrelation time is `(1 + φ)/(1 − φ)`.
fn autoregression(phi: f64, chains: usize, steps: usize, seed: u64) -> Vec<Vec<f32>> {
    let noise = Stream::new(seed, Purpose::Data).normals(chains, steps);
    let chain = |noise: &[f32]| {
        let mut x = f64::from(noise[0]);
        let rest = noise[1..].iter().map(|&z| {
            x = phi * x + (1.0 - phi * phi).sqrt() * f64::from(z);
            x as f32
        });
        std::iter::once(noise[0]).chain(rest).collect()
    };
    noise.chunks_exact(steps).map(chain).collect()
}

#[test]
fn the_autocorrelation_time_of_an_autoregression() {
    for (set, phi) in [0.0, 0.5, 0.9, -0.4, -0.6].into_iter().enumerate() {
        let exact = (1.0 + phi) / (1.0 - phi);
        let times: Vec<f64> = (0..32)
            .map(|seed| {
                let found = autocorrelation_time(&autoregression(phi, 4, 8_000, 100 * set as u64 + seed));
                assert!(found.window_reached, "{found:?}");
                found.steps
            })
            .collect();
        let (mean, se) = mean_se(&times);
        println!("φ = {phi}: {mean:.3} ± {se:.3} (exact {exact:.3})");
        assert_within_se(mean, exact, se, four_se(32));
        if phi == 0.9 {
            // One side of the sum alone is half of it: it would be seen.
            assert_beyond_se(0.5 * (mean + 1.0), exact, se, 10.0);
        }
    }
}

/// Successive values on opposite sides: `1 + 2ρ_1` is negative, the time is not.
#[test]
fn the_time_of_anticorrelated_chains_is_positive() {
    let exact = 0.1 / 1.9;
    let found: Vec<_> =
        (0..32).map(|seed| autocorrelation_time(&autoregression(-0.9, 4, 8_000, 900 + seed))).collect();
    assert!(found.iter().all(|time| time.window_reached && !time.resolved && time.steps > 0.0), "{found:?}");
    let (mean, se) = mean_se(&found.iter().map(|time| time.steps).collect::<Vec<_>>());
    println!("φ = −0.9: {mean:.4} ± {se:.4} (exact {exact:.4})");
    // The running minimum is biased towards 0 by about the deviation of one estimate.
    assert!((mean - exact).abs() < se * (four_se(32) + 32f64.sqrt()), "{mean} ± {se}, exact {exact}");
    // Too few values for a sum above 0: the shortest time that is ever said.
    let flips: Vec<Vec<f32>> = vec![(0..400).map(|s| if s % 2 == 0 { 1.0 } else { -1.0 }).collect()];
    let time = autocorrelation_time(&flips);
    assert!(!time.resolved && (time.steps - 1.0 / 400f64.log10()).abs() < 1e-12, "{time:?}");
}

/// HMC whose trajectories end beyond the middle of a Gaussian: an autoregression with `φ = cos(L arccos(1 − ε²/2))`, but for its few rejections.
#[test]
fn the_time_of_hmc_on_a_gaussian() {
    let (model, leapfrog_steps, step_size) = (mixture(0.0), 8u64, 0.3f64);
    let phi = (leapfrog_steps as f64 * (1.0 - 0.5 * step_size * step_size).acos()).cos();
    let exact = (1.0 + phi) / (1.0 - phi);
    let times: Vec<f64> = (0..8)
        .map(|seed| {
            let hmc = Hmc { step_size, leapfrog_steps };
            let seen = along(&model, &hmc, draws(&model, 64, 70 + seed), ChainOptions::new(500, 80 + seed))
                .expect("finite");
            assert!(seen.accept_rate.expect("it rejects") > 0.98);
            autocorrelation_time(&seen.coordinates[0]).steps
        })
        .collect();
    let (mean, se) = mean_se(&times);
    println!("HMC: {mean:.3} ± {se:.3} (exact {exact:.3})");
    assert!((mean - exact).abs() < four_se(8) * se + 0.02, "{mean} ± {se}, exact {exact} without rejections");
}

#[test]
fn chains_in_two_modes_are_seen() {
    let good = autoregression(0.5, 8, 1_000, 1);
    let r_hat = rank_normalised_r_hat(&good);
    assert!((r_hat - 1.0).abs() < 0.01, "well mixed: {r_hat}");
    // Every chain stays in the mode it started in.
    let modes = |c: usize| if c.is_multiple_of(2) { -3.0 } else { 3.0 };
    let stuck: Vec<Vec<f32>> =
        good.iter().enumerate().map(|(c, chain)| chain.iter().map(|x| x + modes(c)).collect()).collect();
    assert!(rank_normalised_r_hat(&stuck) > 1.5);
    let time = autocorrelation_time(&stuck);
    assert!(!time.window_reached && time.steps > 400.0, "the time of stuck chains is beyond them: {time:?}");
    // About each chain's own mean it would be a few steps: the common mean is what shows it.
    assert!(autocorrelation_time(&stuck[..1]).steps < 6.0);
    // One mean, two widths: only the folded ranks tell.
    let widths = |c: usize| if c.is_multiple_of(2) { 1.0 } else { 10.0 };
    let wide: Vec<Vec<f32>> =
        good.iter().enumerate().map(|(c, chain)| chain.iter().map(|x| x * widths(c)).collect()).collect();
    let plain: Vec<Vec<f64>> =
        wide.iter().map(|chain| chain.iter().map(|&x| f64::from(x)).collect()).collect();
    assert!(split_r_hat(&plain) < 1.05 && rank_normalised_r_hat(&wide) > 1.1);
    // A trend within every chain: halves of one chain differ.
    let trend: Vec<Vec<f32>> = good
        .iter()
        .map(|chain| chain.iter().enumerate().map(|(s, x)| x + 0.005 * s as f32).collect())
        .collect();
    assert!(rank_normalised_r_hat(&trend) > 1.2);
    // No chain moves.
    let still: Vec<Vec<f32>> = (0..4).map(|c| vec![c as f32; 100]).collect();
    assert!(rank_normalised_r_hat(&still).is_infinite());
    assert!(rank_normalised_r_hat(&vec![vec![1.0; 100]; 4]).is_nan());
}

/// Split R-hat of four numbers a chain, by hand: halves (0, 1), (2, 3), (0, 1), (4, 5) have W = ½ and B/n = var(.5, 2.5, .5, 4.5).
#[test]
fn split_r_hat_by_hand() {
    let found = split_r_hat(&[vec![0.0, 1.0, 2.0, 3.0], vec![0.0, 1.0, 4.0, 5.0]]);
    let between = [-1.5, 0.5, -1.5, 2.5].iter().map(|m: &f64| m * m).sum::<f64>() / 3.0;
    let exact = ((0.25 + between) / 0.5f64).sqrt();
    assert!((found - exact).abs() < 1e-12, "{found} for {exact}");
    for (p, z) in [(0.975, 1.959_964), (0.001, -3.090_232), (1e-6, -4.753_424), (0.5, 0.0), (0.6, 0.253_347)]
    {
        assert!((normal_quantile(p) - z).abs() < 2e-6, "{p}: {}", normal_quantile(p));
    }
}

/// Modes at ±`distance` of the first coordinate, equal masses; one at 0 for 0.
fn mixture(distance: f64) -> EnergyModel {
    let means = if distance == 0.0 { vec![vec![0.0]] } else { vec![vec![-distance], vec![distance]] };
    let energy = EnergyConfig::GaussianMixture(GaussianMixture {
        means,
        means_noise: 0.0,
        train_means: true,
        logit_learning_rate_scale: 1.0,
    });
    EnergyModel::init(EnergySpec::new(SampleShape::Flat(2), energy), 0, &cpu()).expect("a mixture")
}

fn draws(model: &EnergyModel, chains: usize, seed: u64) -> Tensor<2> {
    let rows = model.draw(chains, Stream::new(seed, Purpose::Start)).expect("a mixture");
    Tensor::from_data(TensorData::new(rows, [chains, 2]), &cpu())
}

/// The same numbers as chains written out, and the times of U and x as an independent sum over fixed lags has them.
#[test]
fn mala_on_a_gaussian_agrees_with_a_plain_computation() {
    let (model, mala) = (mixture(0.0), Mala::new(0.3));
    let (chains, steps) = (32, 600);
    let seen = along(&model, &mala, draws(&model, chains, 3), ChainOptions::new(steps, 5)).expect("finite");
    assert!(seen.is_invariant && seen.modes.is_empty() && seen.global_accept_rate.is_none());
    // Written out, with other noise.
    let mut walkers = Walkers::new(&model, draws(&model, chains, 4), 0.0);
    let (mut u, mut x) = (vec![Vec::new(); chains], vec![Vec::new(); chains]);
    let mut accepted = 0.0;
    for step in 0..steps {
        let noise = Noise::at(9, 1, step as u64, 1, 0).expect("fits");
        let (moved, info) = mala.step(&model, walkers, &noise);
        accepted += f64::from(download(info.accept_rate.expect("it rejects"))[0]) / steps as f64;
        walkers = moved;
        for (series, value) in u.iter_mut().zip(download(walkers.energy.clone())) {
            series.push(f64::from(value));
        }
        for (series, row) in x.iter_mut().zip(download(walkers.position.clone()).chunks_exact(2)) {
            series.push(f64::from(row[0]));
        }
    }
    // τ = 1 + 2 Σ ρ_t of each chain over a fixed 60 lags about the known mean: 1 of U (d/2 above its least), 0 of x.
    let least = f64::from(
        download(ember_model::Energy::energy(&model, Tensor::from_floats([[0.0, 0.0]], &cpu())))[0],
    );
    let plain = |series: &[Vec<f64>], mean: f64, variance: f64| {
        let of = |chain: &Vec<f64>| {
            let at = |lag: usize| {
                let pairs = chain[..steps - lag].iter().zip(&chain[lag..]);
                pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / (steps - lag) as f64 / variance
            };
            1.0 + 2.0 * (1..60).map(at).sum::<f64>()
        };
        mean_se(&series.iter().map(of).collect::<Vec<_>>())
    };
    let windowed = |series: &[Vec<f32>]| -> Vec<f64> {
        series.chunks(4).map(|chains| autocorrelation_time(chains).steps).collect()
    };
    for (name, found, (exact, exact_se)) in [
        ("U", windowed(&seen.energy), plain(&u, least + 1.0, 1.0)),
        ("x", windowed(&seen.coordinates[0]), plain(&x, 0.0, 1.0)),
    ] {
        let (mean, se) = mean_se(&found);
        println!("{name}: {mean:.2} ± {se:.2}, plainly {exact:.2} ± {exact_se:.2}");
        assert_within_se(mean, exact, se.hypot(exact_se), four_se(8));
        assert!(mean > 1.5, "the chains are not independent: {mean}");
    }
    assert!((seen.accept_rate.expect("it rejects") - accepted).abs() < 0.02, "{:?}", seen.accept_rate);
}

/// Jumps are counted: none between far modes, many between near ones, by the count of changes of sign.
#[test]
fn jumps_between_modes_are_counted() {
    let centres = |distance: f64| Modes::Centres(vec![vec![-distance, 0.0], vec![distance, 0.0]]);
    let seen = |distance: f64| -> Seen {
        let model = mixture(distance);
        let centres = centres(distance);
        let mode_of = |x: &[f64]| centres.of(x);
        let options = ChainOptions { mode_of: Some(&mode_of), ..ChainOptions::new(200, 7) };
        along(&model, &Mala::new(0.3), draws(&model, 64, 6), options).expect("finite")
    };
    let far = seen(8.0);
    assert_eq!(far.jumps, 0);
    let indicator: Vec<Vec<f32>> =
        far.modes.iter().map(|chain| chain.iter().map(|&mode| mode as f32).collect()).collect();
    assert!(rank_normalised_r_hat(&indicator).is_infinite());
    assert!(rank_normalised_r_hat(&far.coordinates[0]) > 1.5);
    let near = seen(1.5);
    let changes: usize = near.coordinates[0]
        .iter()
        .map(|chain| chain.windows(2).filter(|pair| (pair[0] > 0.0) != (pair[1] > 0.0)).count())
        .sum();
    // All but the jumps of the first step.
    assert!(near.jumps >= changes && near.jumps <= changes + 64 && changes > 100, "{} {changes}", near.jumps);
    let ula = along(&mixture(1.5), &Ula::new(0.1), draws(&mixture(1.5), 8, 6), ChainOptions::new(8, 7))
        .expect("finite");
    assert!(!ula.is_invariant && ula.accept_rate.is_none());
}
