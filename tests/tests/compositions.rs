//! The six planar compositions of Du et al. 2023, their toys and their kinds: product, mixture and negation of a ring of eight Gaussians
//! and a bar, and of two trained networks. log Z, masses, means and second moments by walkers that are annealed with weights, under MALA
//! and under HMC, against quadrature: 4 standard errors over independent repeats. Then three mistakes of public code, each of which the
//! same test sees.
//!
//! Lengths are those of the ring's Gaussians: radius 8 and bar of half-width 3 stand for radius .5, half-width .19 and σ = .0625.

use burn::tensor::{Bool, Tensor, TensorData};
use ember_model::energy::blockwise::energies;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_sampler::device::{open_uniform, standard_normal};
use ember_sampler::evidence::Ensembles;
use ember_sampler::evidence::smc::{AnnealedPath, GaussianStart, SmcOptions, Start, along, pilot};
use ember_sampler::kernel::{Hmc, Mala};
use ember_sampler::{Kernel, Noise, Scheme, Walkers};
use ember_tests::composed::composed;
use ember_tests::configs::config;
use ember_tests::small::small;
use ember_tests::{assert_within_se, cpu, four_se, mean_se, ratio_se};
use ember_train::training::trainer::Trainer;

const REPEATS: usize = 16;
const NAMES: [&str; 6] = ["P(x > 0)", "E x", "E y", "E x²", "E y²", "E xy"];

/// What is compared: a mass, means, second moments.
fn figures(x: f64, y: f64) -> [f64; 6] {
    [f64::from(x > 0.0), x, y, x * x, y * y, x * y]
}

fn gaussians(means: &[[f64; 2]]) -> EnergyModel {
    let text = format!("dim = 2\nkind = \"gaussian_mixture\"\nmeans = {means:?}");
    EnergyModel::init(EnergySpec::from_metadata(&text).expect("a mixture"), 0, &cpu()).expect("it fits")
}

fn ring_and_bar() -> [EnergyModel; 2] {
    let angle = |k: u32| f64::from(k) * std::f64::consts::FRAC_PI_4;
    let ring: Vec<[f64; 2]> = (0..8).map(|k| [8.0 * angle(k).cos(), 8.0 * angle(k).sin()]).collect();
    let bar: Vec<[f64; 2]> =
        (0..45).map(|i| [f64::from(i % 3) * 2.0 - 2.0, f64::from(i / 3) * 2.0 - 14.0]).collect();
    [gaussians(&ring), gaussians(&bar)]
}

/// Two networks, trained on sets that share a mode.
fn networks() -> [EnergyModel; 2] {
    let trained = |means: &str, seed: u64| {
        let changes = format!(
            "seed = {seed}\nsteps = 150\ndataset.means = {means}\ndataset.std = 0.5\noptimizer.learning_rate = 0.02"
        );
        let mut trainer = Trainer::new(config(&small(&changes)), &cpu()).expect("starts");
        (0..150).for_each(|_| drop(trainer.update(false).expect("finite")));
        trainer.model
    };
    [trained("[[-1.0, 0.5], [1.0, 0.0]]", 1), trained("[[1.0, 0.0], [0.5, -1.0]]", 2)]
}

/// The three compositions of a pair, at the coefficients of the paper's notebook.
fn compositions(parts: &[EnergyModel; 2]) -> [EnergyModel; 3] {
    [
        "kind = \"sum\"",
        "kind = \"mixture\"\nweights = [0.3, 0.7]\nlog_z = [1.0, 1.5]",
        "kind = \"negation\"\nweights = [1.3, 0.3]",
    ]
    .map(|keys| composed(keys, parts))
}

/// log Z and the figures by quadrature over `[−half, half]²`, which holds all of the mass.
fn quadrature(model: &EnergyModel, half: f64) -> (f64, [f64; 6]) {
    const CELLS: usize = 320;
    let step = 2.0 * half / CELLS as f64;
    let centre = |i: usize| -half + step * (i as f64 + 0.5);
    let points = (0..CELLS * CELLS).flat_map(|i| [centre(i / CELLS) as f32, centre(i % CELLS) as f32]);
    let u = energies(model, &points.collect::<Vec<_>>());
    let least = u.iter().fold(f64::INFINITY, |least, &u| least.min(f64::from(u)));
    let (mut z, mut sums) = (0.0, [0.0; 6]);
    for (i, &u) in u.iter().enumerate() {
        let mass = (least - f64::from(u)).exp();
        z += mass;
        let values = figures(centre(i / CELLS), centre(i % CELLS));
        sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += mass * value);
    }
    ((z * step * step).ln() - least, sums.map(|sum| sum / z))
}

/// The figures of weighted repeats, each with its standard error.
fn of_repeats(found: &Ensembles) -> [(f64, f64); 6] {
    let x = download(found.walkers.position.clone());
    let a = download(found.walkers.log_weights.value());
    let banked = found.log_z.values();
    let (per_repeat, most) = (a.len() / banked.len(), a.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let least = banked.iter().copied().fold(f64::INFINITY, f64::min);
    let pairs = |k: usize| -> Vec<(f64, f64)> {
        let repeat = |r: usize| {
            let of_walker = |i: usize| {
                let weight = f64::from(a[i] - most).exp() * (banked[r] - least).exp();
                (weight * figures(f64::from(x[2 * i]), f64::from(x[2 * i + 1]))[k], weight)
            };
            let walkers = (r * per_repeat..(r + 1) * per_repeat).map(of_walker);
            walkers.fold((0.0, 0.0), |sum, (value, weight)| (sum.0 + value, sum.1 + weight))
        };
        (0..banked.len()).map(repeat).collect()
    };
    std::array::from_fn(|k| ratio_se(&pairs(k)))
}

/// HMC in the place of MALA along the path of the tempered SMC: `ε = √(2h)/√3`, three leapfrog steps.
fn by_hmc(path: &AnnealedPath<'_>, options: SmcOptions) -> Ensembles {
    let rungs = pilot(path, options).expect("gets through");
    let start = path.starting_walkers(options.walkers * REPEATS, options.seed, 1 << 19);
    let mut found = Ensembles::new(start, REPEATS, 1 << 19);
    for (t, rung) in rungs.iter().enumerate() {
        let kernel = Hmc { step_size: (2.0 * rung.step_size / 3.0).sqrt(), leapfrog_steps: 3 };
        let energy = path.at(rung.beta);
        found.advance(&kernel, 1, &energy, options.seed, t as u64, 2).expect("fits");
        if t + 1 < rungs.len() {
            found.resample(Scheme::Systematic, 0.5, options.seed, t as u64).expect("fits");
        }
    }
    found
}

#[track_caller]
fn compare(name: &str, exact: &(f64, [f64; 6]), found: &Ensembles) {
    let log_z = found.log_z();
    println!(
        "{name}: log Z {:.4}, found {:.4} ± {:.4}, {} families",
        exact.0,
        log_z.value,
        log_z.standard_error,
        found.walkers.distinct_ancestors()
    );
    assert!(log_z.standard_error < 0.05, "{name}: {log_z:?}");
    assert_within_se(log_z.value, exact.0, log_z.standard_error, four_se(REPEATS));
    for ((what, exact), (value, standard_error)) in NAMES.iter().zip(exact.1).zip(of_repeats(found)) {
        println!("  {what:<8} {exact:8.4}, found {value:8.4} ± {standard_error:.4}");
        assert_within_se(value, exact, standard_error, four_se(REPEATS));
    }
}

fn six(parts: &[EnergyModel; 2], half: f64) {
    for (kind, model) in ["product", "mixture", "negation"].iter().zip(compositions(parts)) {
        let exact = quadrature(&model, half);
        let path = AnnealedPath::of(&model).expect("a start");
        let options = SmcOptions { walkers: 500, repeats: REPEATS, seed: 5, ..SmcOptions::default() };
        let by_mala = along(&path, options).expect("gets through").ensembles;
        compare(&format!("{kind}, MALA"), &exact, &by_mala);
        compare(&format!("{kind}, HMC"), &exact, &by_hmc(&path, options));
    }
}

#[test]
fn ring_and_bar_against_quadrature() {
    six(&ring_and_bar(), 21.0);
}

#[test]
fn trained_networks_against_quadrature() {
    six(&networks(), 9.0);
}

/// The masses of a mixture whose parts have their log Z are its weights.
#[test]
fn masses_of_a_mixture_are_its_weights() {
    let parts = ring_and_bar();
    let log_z = parts.each_ref().map(|part| part.log_z().expect("known"));
    let keys = format!("kind = \"mixture\"\nweights = [1.0, 3.0]\nlog_z = {log_z:?}");
    let model = composed(&keys, &parts);
    assert!(model.log_z().expect("known").abs() < 1e-6);
    // The share of the ring: its second moment is 2·(1 + 32), the bar's 1 + 8/3 and 1 + 4·56/3.
    let share = |draws: &[f32]| draws.chunks_exact(2).map(|x| f64::from(x[1]).powi(2)).sum::<f64>();
    let repeats: Vec<f64> = (0..32)
        .map(|lane| {
            let draws = model.draw(500, Stream::new(1, Purpose::Sample).lane(lane)).expect("exact draws");
            share(&draws) / 500.0
        })
        .collect();
    let (mean, standard_error) = mean_se(&repeats);
    let (ring, bar) = (33.0, 1.0 + 224.0 / 3.0);
    assert_within_se(mean, 0.25 * ring + 0.75 * bar, standard_error, four_se(32));
}

const GROUPS: usize = 32;
const CHAINS: usize = 250 * GROUPS;

/// Chains that all begin at the start of the path, with their momenta.
struct Chains {
    x: Tensor<2>,
    u: Tensor<1>,
    grad: Tensor<2>,
    p: Tensor<2>,
}

/// Squares of the rows.
fn square(x: Tensor<2>) -> Tensor<1> {
    (x.clone() * x).sum_dim(1).squeeze_dim::<1>(1)
}

impl Chains {
    fn start(model: &EnergyModel) -> Self {
        let start = GaussianStart::of(model).expect("a start").draw(CHAINS, Stream::new(3, Purpose::Start));
        let x = Tensor::from_data(TensorData::new(start, [CHAINS, 2]), &cpu());
        let (u, grad) = model.energy_and_grad(x.clone());
        let p = standard_normal([CHAINS, 2], Stream::new(4, Purpose::Start), &cpu());
        Self { x, u, grad, p }
    }

    /// Those of `to` where `accept`, these elsewhere.
    fn either(self, to: Self, accept: Tensor<1, Bool>) -> Self {
        let rows = accept.clone().reshape([CHAINS, 1]);
        Self {
            x: self.x.mask_where(rows.clone(), to.x),
            u: self.u.mask_where(accept, to.u),
            grad: self.grad.mask_where(rows.clone(), to.grad),
            p: self.p.mask_where(rows, to.p),
        }
    }

    /// MALA whose log-density of a proposal divides by `spread(h)`, 4h where it is right; one coin for all chains where `one_coin`.
    fn mala(self, model: &EnergyModel, h: f64, spread: f64, one_coin: bool, noise: Noise) -> Self {
        let xi = standard_normal([CHAINS, 2], noise.stream(Purpose::Noise), &cpu());
        let y = self.x.clone() - self.grad.clone().mul_scalar(h) + xi.mul_scalar((2.0 * h).sqrt());
        let (u, grad) = model.energy_and_grad(y.clone());
        let forth = square(y.clone() - self.x.clone() + self.grad.clone().mul_scalar(h));
        let back = square(self.x.clone() - y.clone() + grad.clone().mul_scalar(h));
        let log_ratio = self.u.clone() - u.clone() + (forth - back).div_scalar(spread);
        let coins = open_uniform(CHAINS, noise.stream(Purpose::Accept), &cpu()).log();
        let accept = if one_coin {
            let all = coins.narrow(0, 0, 1).lower(log_ratio.sum());
            all.expand([CHAINS])
        } else {
            coins.lower(log_ratio)
        };
        let p = self.p.clone();
        self.either(Self { x: y, u, grad, p }, accept)
    }

    /// HMC with momenta that are half kept, of which a rejection turns the direction where `flips`.
    fn hmc(self, model: &EnergyModel, step_size: f64, flips: bool, noise: Noise) -> Self {
        let xi = standard_normal([CHAINS, 2], noise.stream(Purpose::Noise), &cpu());
        let p = self.p.mul_scalar(0.5) + xi.mul_scalar(0.75f64.sqrt());
        let from = Self { p: p.clone(), ..self };
        let (mut x, mut u, mut grad, mut moved) = (from.x.clone(), from.u.clone(), from.grad.clone(), p);
        for _ in 0..3 {
            moved = moved - grad.mul_scalar(0.5 * step_size);
            x = x + moved.clone().mul_scalar(step_size);
            (u, grad) = model.energy_and_grad(x.clone());
            moved = moved - grad.clone().mul_scalar(0.5 * step_size);
        }
        let kinetic = (square(from.p.clone()) - square(moved.clone())).mul_scalar(0.5);
        let log_ratio = from.u.clone() - u.clone() + kinetic;
        let accept = open_uniform(CHAINS, noise.stream(Purpose::Accept), &cpu()).log().lower(log_ratio);
        let turned = if flips { from.p.clone().neg() } else { from.p.clone() };
        Self { p: turned, ..from }.either(Self { x, u, grad, p: moved }, accept)
    }

    /// How many standard errors the figures are off, the worst of them.
    fn off(&self, exact: &[f64; 6]) -> f64 {
        let x = download(self.x.clone());
        let worst = (0..6).map(|k| {
            let of = |group: &[f32]| {
                let values = group.chunks_exact(2).map(|x| figures(f64::from(x[0]), f64::from(x[1]))[k]);
                values.sum::<f64>() * 2.0 / group.len() as f64
            };
            let groups: Vec<f64> = x.chunks_exact(x.len() / GROUPS).map(of).collect();
            let (mean, standard_error) = mean_se(&groups);
            (mean - exact[k]).abs() / standard_error
        });
        worst.fold(0.0, f64::max)
    }
}

/// Chains without weights, run until they have forgotten their start: MALA and HMC as they should be, Ember's own among them, and three
/// mistakes of the public code of Du et al. (`anneal_samplers.py`).
#[test]
fn mistakes_of_others_are_seen() {
    const STEPS: u32 = 150;
    let networks = composed("kind = \"sum\"", &networks());
    // Of two unit Gaussians the product has deviations of .71; a leapfrog of 1.2 rejects some trajectories.
    let normals = composed("kind = \"sum\"", &[gaussians(&[[1.0, 0.0]]), gaussians(&[[-1.0, 1.0]])]);
    let run = |model: &EnergyModel, step: &dyn Fn(Chains, Noise) -> Chains| {
        let chains = (0..STEPS).fold(Chains::start(model), |chains, k| step(chains, Noise::new(8, k)));
        chains.off(&quadrature(model, 9.0).1)
    };
    let own = |model: &EnergyModel, kernel: &dyn Kernel| {
        run(model, &|chains, noise| {
            let walkers = Walkers::new(model, chains.x.clone(), 0.0);
            Chains { x: kernel.step(model, walkers, &noise).0.position, ..chains }
        })
    };
    let mala = |spread: f64, one_coin| {
        run(&networks, &|chains, noise| chains.mala(&networks, 0.1, spread, one_coin, noise))
    };
    let hmc = |flips| run(&normals, &|chains, noise| chains.hmc(&normals, 1.2, flips, noise));
    let right = [
        ("Ember's MALA", own(&networks, &Mala::new(0.1))),
        ("Ember's HMC", own(&networks, &Hmc { step_size: 0.5, leapfrog_steps: 3 })),
        ("Ember's HMC on Gaussians", own(&normals, &Hmc { step_size: 1.2, leapfrog_steps: 3 })),
        ("MALA", mala(0.4, false)),
        ("HMC that keeps half its momenta", hmc(true)),
    ];
    let wrong = [
        ("2h² in the proposal's density", mala(0.02, false)),
        ("one coin for all chains", mala(0.4, true)),
        ("no flip of the momentum", hmc(false)),
    ];
    for (name, off) in right.iter().chain(&wrong) {
        println!("{name}: {off:.1} standard errors off");
    }
    right.iter().for_each(|(name, off)| assert!(*off < four_se(GROUPS), "{name}: {off}"));
    wrong.iter().for_each(|(name, off)| assert!(*off > 10.0, "{name}: {off}"));
}
