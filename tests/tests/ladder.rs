//! Parallel tempering over a sequence of models: exchanges leave every rung's law alone, log Z along the ladder is right, and modes that
//! local moves never leave get their own masses. Mistakes that are easily made fail the same tests.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::gaussian_mixture::GaussianMixture;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::diagnostics::convergence::normal_quantile;
use ember_sampler::evidence::ladder::{
    Foot, LadderOptions, Rung, Spacing, Tempered, exchange, expected_swaps, refined, spaced, temper,
};
use ember_sampler::kernel::{Mala, Ula};
use ember_sampler::{Error, Kernel, Noise, Silent, Walkers};
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se, mean_se};

/// `.5 N(−a, I) + .5 N(a, I)` in the plane with a second logit: masses `1/(1 + e^l)`, `e^l/(1 + e^l)`.
fn mixture(a: f64, logit: f64) -> EnergyModel {
    let energy = EnergyConfig::GaussianMixture(GaussianMixture {
        means: vec![vec![-a, 0.5], vec![a]],
        means_noise: 0.0,
        train_means: true,
        logit_learning_rate_scale: 1.0,
    });
    let model =
        EnergyModel::init(EnergySpec::new(SampleShape::Flat(2), energy), 0, &cpu()).expect("a mixture");
    model.with_theta(vec![model.theta()[0].clone(), upload(vec![0.0, logit as f32], &cpu())])
}

/// Exact draws as walkers.
fn drawn(model: &EnergyModel, count: usize, seed: u64) -> Walkers {
    let rows = model.draw(count, Stream::new(seed, Purpose::Sample)).expect("a mixture can be drawn");
    Walkers::new(model, Tensor::from_data(TensorData::new(rows, [count, 2]), &cpu()), 0.0)
}

/// From one mode at the origin to two that are 8 apart, of masses .2 and .8: `count` models, evenly spaced.
fn trajectory(count: usize) -> Vec<EnergyModel> {
    let share = |i: usize| i as f64 / (count - 1) as f64;
    (0..count).map(|i| mixture(4.0 * share(i), 4f64.ln() * share(i))).collect()
}

fn rungs(models: &[EnergyModel]) -> Vec<Rung> {
    let rung =
        |model: &EnergyModel| Rung { energy: Box::new(model.clone()), kernel: Box::new(Mala::new(0.3)) };
    models.iter().map(rung).collect()
}

fn options(seed: u64) -> LadderOptions<'static> {
    LadderOptions { ladders: 64, sweeps: 150, burn_in: 60, moves: 3, kept: 30, seed, progress: &Silent }
}

fn climbed(models: &[EnergyModel], seed: u64) -> Tempered {
    let draw = |count: usize, stream: Stream| models[0].draw(count, stream).expect("draws");
    let foot = Foot::Exact { log_z: models[0].log_z().expect("known"), draw: &draw };
    temper(&mut rungs(models), &foot, &cpu(), options(seed)).expect("a ladder")
}

/// Fractions of `x: [n, 2]` right of 0 in `groups` consecutive groups.
fn right_of_zero(x: Tensor<2>, groups: usize) -> Vec<f64> {
    let x = download(x);
    let per_group = x.len() / groups;
    let fraction = |group: &[f32]| {
        let right = group.chunks_exact(2).filter(|row| row[0] > 0.0).count();
        right as f64 / (group.len() / 2) as f64
    };
    x.chunks_exact(per_group).map(fraction).collect()
}

/// What an exchange should do, written out in f64, right or with a sign turned.
fn written_out(models: [&EnergyModel; 2], pair: &[Walkers; 2], coins: &[f64], sign: f64) -> [Vec<f32>; 2] {
    let [low, high] = [&pair[0], &pair[1]].map(|walkers| walkers.position.clone());
    let u = |model: &EnergyModel, x: &Tensor<2>| download(model.energy(x.clone()));
    let [own, other] = [[u(models[0], &low), u(models[1], &high)], [u(models[0], &high), u(models[1], &low)]];
    let (mut low, mut high) = (download(low), download(high));
    for (m, coin) in coins.iter().enumerate() {
        let log_ratio =
            f64::from(own[0][m]) + f64::from(own[1][m]) - f64::from(other[0][m]) - f64::from(other[1][m]);
        if coin.ln() < sign * log_ratio {
            (0..2).for_each(|j| std::mem::swap(&mut low[2 * m + j], &mut high[2 * m + j]));
        }
    }
    [low, high]
}

#[test]
fn exchanges_leave_both_laws_alone() {
    let (lower, upper) = (mixture(1.0, 0.0), mixture(1.4, 1.5));
    let n = 20_000;
    let coins: Vec<f64> =
        Stream::new(3, Purpose::Accept).open_uniforms(n, 1).into_iter().map(f64::from).collect();
    let pair = || [drawn(&lower, n, 1), drawn(&upper, n, 2)];
    // Exact masses right of 0, from many draws; and their standard errors from a number of groups of pairs.
    let exact: Vec<f64> =
        [&lower, &upper].map(|model| right_of_zero(drawn(model, 2_000_000, 9).position, 1)[0]).to_vec();
    let tell = |x: &[Vec<f32>; 2]| -> Vec<(f64, f64)> {
        let groups = |x: &Vec<f32>| {
            let x = Tensor::from_data(TensorData::new(x.clone(), [n, 2]), &cpu());
            mean_se(&right_of_zero(x, 50))
        };
        x.iter().map(groups).collect()
    };
    let (after, found) = exchange([&lower, &upper], pair(), &coins).expect("finite");
    let accepted = found.accepted.iter().filter(|&&accepted| accepted).count();
    assert!((n / 3..n - 100).contains(&accepted), "{accepted} of {n}");
    // The plain twin.
    let plain = written_out([&lower, &upper], &pair(), &coins, 1.0);
    for (walkers, plain) in after.iter().zip(&plain) {
        let same = download(walkers.position.clone()).iter().zip(plain).filter(|(a, b)| a == b).count();
        assert!(same >= 2 * n - 4, "{same} of {}", 2 * n);
    }
    // The caches are those of the rung.
    for (walkers, model) in after.iter().zip([&lower, &upper]) {
        let fresh = Walkers::new(model, walkers.position.clone(), 0.0);
        let worst = (fresh.energy - walkers.energy.clone()).abs().max();
        let worst_grad = (fresh.energy_grad - walkers.energy_grad.clone()).abs().max();
        assert!(download(worst)[0] < 1e-4 && download(worst_grad)[0] < 1e-4);
    }
    for ((mean, se), exact) in tell(&plain).into_iter().zip(&exact) {
        assert_within_se(mean, *exact, se, four_se(50));
    }
    // A coin that all ladders share: each still goes where it should on average, and all of them together do not.
    let shared = vec![0.5; n];
    let together = written_out([&lower, &upper], &pair(), &shared, 1.0);
    let wrong = written_out([&lower, &upper], &pair(), &coins, -1.0);
    for broken in [together, wrong] {
        let (mean, se) = tell(&broken)[1];
        assert_beyond_se(mean, exact[1], se, 10.0);
    }
}

/// For `N(0, I)` and `N(m, I)` the mean acceptance of an exchange is `2 Φ(−|m|/√2)`.
#[test]
fn one_rung_tells_how_often_it_would_exchange() {
    let x = Stream::new(1, Purpose::Start).normals(20_000, 1);
    for m in [0.3, 1.0, 2.0] {
        let log_v: Vec<f64> = x.iter().map(|&x| m * f64::from(x) - 0.5 * m * m).collect();
        let found = expected_swaps(&log_v);
        // The normal distribution function by its inverse: found/2 is to be Φ(−m/√2).
        let back = -normal_quantile(0.5 * found) * 2f64.sqrt();
        assert!((back - m).abs() < 0.05 * m, "m = {m}: {found}, which would be right for {back}");
    }
    assert!((expected_swaps(&[3.0; 7]) - 1.0).abs() < 1e-12);
    assert_eq!(expected_swaps(&[f64::NAN, f64::NEG_INFINITY]), 0.0);
}

/// log Z at every rung, from below, from above and by the bridge.
#[test]
fn log_z_along_a_ladder_of_mixtures() {
    let models = trajectory(9);
    let exact: Vec<f64> = models.iter().map(|model| model.log_z().expect("known")).collect();
    let mut scores = Vec::new();
    for seed in 0..4 {
        let found = climbed(&models, seed);
        let log_z = found.log_z().expect("an exact start");
        for (rung, exact) in log_z.iter().zip(&exact).skip(1) {
            assert_within_se(rung.value, *exact, rung.standard_error, four_se(64));
            assert!(rung.standard_error < 0.05, "{rung:?}");
        }
        let top = exact[8] - exact[0];
        for sided in [found.log_ratios.forward, found.log_ratios.reverse] {
            assert_within_se(sided.value, top, sided.standard_error, four_se(64));
        }
        assert!(found.all_round_trips() > 64 && found.swap_rates.iter().all(|&rate| rate > 0.25));
        scores.push((log_z[8].value - exact[8]) / log_z[8].standard_error);
    }
    println!("scores of the top rung: {scores:?}");
}

/// Modes 8 apart, of masses .2 and .8: MALA from the middle leaves as many in each as fall there, the ladder has the model's own masses.
#[test]
fn modes_that_local_moves_never_leave() {
    let models = trajectory(9);
    let top = &models[8];
    let found = climbed(&models, 5);
    let (mean, se) = mean_se(&right_of_zero(found.grouped(8), 8));
    println!("right mode: {mean:.4} ± {se:.4} by the ladder, {} round trips", found.all_round_trips());
    assert_within_se(mean, 0.8, se, four_se(8));
    assert!(se < 0.03, "{se}");
    // As many steps of MALA as the whole ladder takes.
    let mut walkers = drawn(&models[0], 2_048, 3).refresh(top);
    let noise = |step: u64| Noise { seed: 4, lane: 0, step };
    walkers = Mala::new(0.5).steps(top, top, walkers, 9 * 210 * 3, &noise).0;
    let (mean, se) = mean_se(&right_of_zero(walkers.position, 8));
    assert_beyond_se(mean, 0.8, se, 10.0);
}

/// Of 81 candidates the fewest are taken whose neighbours still exchange; without what lies between, two rungs hardly do.
#[test]
fn the_sparsest_ladder_is_found() {
    let models = trajectory(81);
    let draw = |count: usize, stream: Stream| models[0].draw(count, stream).expect("draws");
    let foot = Foot::Exact { log_z: models[0].log_z().expect("known"), draw: &draw };
    let open = |i: usize| -> Result<Rung, Error> { Ok(rungs(&models[i..=i]).remove(0)) };
    let spacing = Spacing { least: 0.3, walkers: 1_024, moves: 5, seed: 2, progress: &Silent };
    let chosen = spaced(81, open, &foot, &cpu(), spacing).expect("a ladder");
    let trial = LadderOptions { sweeps: 40, burn_in: 20, ..options(8) };
    let chosen = refined(chosen, open, &foot, &cpu(), 0.2, trial).expect("a ladder");
    let (numbers, mut found): (Vec<usize>, Vec<Rung>) = chosen.into_iter().unzip();
    assert_eq!((numbers[0], numbers[numbers.len() - 1]), (0, 80));
    assert!((3..=8).contains(&numbers.len()), "{numbers:?}");
    let found = temper(&mut found, &foot, &cpu(), options(9)).expect("tempering");
    println!("rungs {numbers:?}, swap rates {:?}", found.swap_rates);
    assert!(found.swap_rates.iter().all(|&rate| rate > 0.15), "{:?}", found.swap_rates);
    let log_z = found.log_z().expect("known")[numbers.len() - 1];
    assert_within_se(log_z.value, models[80].log_z().expect("known"), log_z.standard_error, four_se(64));
    // A gap is filled from what lies in it.
    let ends = [0, 80].map(|i| (i, open(i).expect("a rung"))).into_iter().collect();
    let filled = refined(ends, open, &foot, &cpu(), 0.2, trial).expect("a ladder");
    assert!(filled.len() > 3, "{}", filled.len());
}

/// From points in place of exact draws log Z is known up to a constant, and the top rung's law is the same.
#[test]
fn a_ladder_without_an_exact_start() {
    let models = trajectory(9);
    let points = models[2].draw(64, Stream::new(8, Purpose::Start)).expect("draws");
    let foot = Foot::Points(points);
    let found = temper(&mut rungs(&models[2..]), &foot, &cpu(), options(3)).expect("a ladder");
    assert!(found.log_z().is_none());
    let ratio = found.log_ratios.bridge[6];
    let exact = models[8].log_z().expect("known") - models[2].log_z().expect("known");
    assert_within_se(ratio.value, exact, ratio.standard_error, four_se(64));
    let (mean, se) = mean_se(&right_of_zero(found.grouped(8), 8));
    assert_within_se(mean, 0.8, se, four_se(8));
}

#[test]
fn what_makes_no_ladder_is_refused() {
    let models = trajectory(3);
    let foot = Foot::Points(vec![0.0, 0.0]);
    let refused = |rungs: &mut [Rung], options| {
        temper(rungs, &foot, &cpu(), options).err().expect("refused").to_string()
    };
    assert!(refused(&mut rungs(&models[..1]), options(0)).contains("1 rungs"));
    assert!(refused(&mut rungs(&models), LadderOptions { ladders: 1, ..options(0) }).contains("1 ladders"));
    let mut biased = rungs(&models);
    biased[1].kernel = Box::new(Ula::new(0.1));
    assert!(refused(&mut biased, options(0)).contains("invariant"));
}
