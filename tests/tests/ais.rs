//! Annealed importance sampling from both ends (ALGORITHMS 7): each side respects its inequality on an energy with known Z, the
//! well-known mistakes do not, and on the cube the path stays on it.

use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::gaussian_mixture::GaussianMixture;
use ember_model::energy::mlp::Mlp;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::shape::Support;
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::evidence::ais::{self, AisOptions, Direction, Starts, TwoSided, two_sided};
use ember_sampler::evidence::smc::{
    AnnealedPath, GaussianStart, Rung, SmcOptions, Start, along, pilot, respaced, tempered,
};
use ember_sampler::{Kernel, Noise, Walkers};
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se, mean_se};
use ember_train::error::Error;
use ember_train::judging::grid::EnergyGrid;

/// A Gaussian with a scale of its own in every coordinate, and how often its gradient was asked for.
struct Anisotropic {
    mean: Vec<f64>,
    std: Vec<f64>,
    gradients: AtomicUsize,
}

impl Anisotropic {
    /// Standard deviations from .3 to 1.2, means within ±½: other scale, mean and anisotropy than `N(0, I)`.
    fn new(dim: usize) -> Self {
        let std = |j: usize| 0.3 * 4f64.powf(j as f64 / (dim - 1) as f64);
        Self {
            mean: (0..dim).map(|j| 0.5 * (1.7 * j as f64).sin()).collect(),
            std: (0..dim).map(std).collect(),
            gradients: AtomicUsize::new(0),
        }
    }

    fn exact_log_z(&self) -> f64 {
        self.std.iter().map(|s| 0.5 * (2.0 * std::f64::consts::PI).ln() + s.ln()).sum()
    }

    fn draw(&self, count: usize, stream: Stream) -> Vec<f32> {
        let mut rows = stream.normals(count, self.dim());
        for row in rows.chunks_exact_mut(self.dim()) {
            for ((x, m), s) in row.iter_mut().zip(&self.mean).zip(&self.std) {
                *x = (m + s * f64::from(*x)) as f32;
            }
        }
        rows
    }

    fn row(&self, values: impl Iterator<Item = f64>) -> Tensor<2> {
        let values: Vec<f32> = values.map(|v| v as f32).collect();
        Tensor::from_data(TensorData::new(values, [1, self.dim()]), &cpu())
    }
}

impl Energy for Anisotropic {
    fn dim(&self) -> usize {
        self.mean.len()
    }

    fn energy(&self, x: Tensor<2>) -> Tensor<1> {
        let scaled = (x - self.row(self.mean.iter().copied())) * self.row(self.std.iter().map(|s| 1.0 / s));
        (scaled.clone() * scaled).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5)
    }

    fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
        self.gradients.fetch_add(x.dims()[0], Ordering::Relaxed);
        let gap = x - self.row(self.mean.iter().copied());
        let grad = gap.clone() * self.row(self.std.iter().map(|s| 1.0 / (s * s)));
        ((gap * grad.clone()).sum_dim(1).squeeze_dim::<1>(1).mul_scalar(0.5), grad)
    }
}

fn brackets(found: &TwoSided, exact: f64, count: usize) {
    let factor = four_se(count);
    let (lower, upper) = (found.lower, found.upper);
    // E[log w_fwd] ≤ log Z₁/Z₀ ≤ −E[log w_rev]
    assert!(lower.value <= exact + factor * lower.standard_error, "{lower:?} is above {exact}");
    assert!(upper.value >= exact - factor * upper.standard_error, "{upper:?} is below {exact}");
}

/// The figure of the issue: 784 dimensions, exact reverse starts, a bracket of at most .01 bits per dimension.
#[test]
fn a_bracket_in_784_dimensions() {
    let energy = Anisotropic::new(784);
    let start = GaussianStart::isotropic(Support::Unbounded, 784, 1.0);
    let draw = |count: usize, stream: Stream| energy.draw(count, stream);
    let options = AisOptions { seed: 1, ..AisOptions::default() };
    let path = AnnealedPath::new(&energy, &start, &cpu());
    let found = two_sided(&path, &Starts::Exact(&draw), options).expect("both sides");
    let exact = energy.exact_log_z();
    println!(
        "784 dimensions: exact log Z {exact:.3}, sides {:.3} ± {:.3} and {:.3} ± {:.3}\n{}",
        found.lower.value,
        found.lower.standard_error,
        found.upper.value,
        found.upper.standard_error,
        found.cost()
    );
    assert_eq!((found.kind, found.starts), ("bracket", "exact draws"));
    brackets(&found, exact, found.chains);
    assert!(found.width_bits_per_dim <= 0.01, "the width is {}", found.width_bits_per_dim);
    // The cost is counted, not estimated.
    assert_eq!(energy.gradients.load(Ordering::Relaxed) as u64, found.gradient_evaluations);
}

/// Forward AIS written out, right or with the increment after the moves instead of before them.
fn written_out(
    path: &AnnealedPath<'_>,
    rungs: &[Rung],
    options: AisOptions,
    increment_first: bool,
) -> Vec<f64> {
    let (chains, moves) = (options.chains, options.moves as u64);
    let mut walkers = path.starting_walkers(chains, 5, 77);
    let mut log_w = vec![0.0; chains];
    let mut previous = 0.0;
    for (t, rung) in rungs.iter().enumerate() {
        let (before, after) = (path.at(previous), path.at(rung.beta));
        let mut earn = |walkers: &Walkers| {
            let x = walkers.position.clone();
            let increment = download(before.energy(x.clone()) - after.energy(x));
            log_w.iter_mut().zip(increment).for_each(|(w, delta)| *w += f64::from(delta));
        };
        if increment_first {
            earn(&walkers);
        }
        walkers = walkers.refresh(&after);
        for sub_step in 0..moves {
            let noise = Noise::at(5, 77, t as u64, moves, sub_step).expect("fits");
            walkers = path.kernel(rung.step_size).step(&after, walkers, &noise).0;
        }
        if !increment_first {
            earn(&walkers);
        }
        previous = rung.beta;
    }
    log_w.iter().map(|log_w| path.start().log_z() + log_w).collect()
}

/// A test of the test: the chains written out agree with the library's; with the increment after the moves, or with its sign
/// swapped, the inequality is broken.
#[test]
fn broken_increments_break_the_inequality() {
    let energy = Anisotropic::new(50);
    let start = GaussianStart::isotropic(Support::Unbounded, 50, 1.0);
    let path = AnnealedPath::new(&energy, &start, &cpu());
    let exact = energy.exact_log_z();
    // Moves enough to mix: chains that lag behind the temperature would hide the mistake.
    let (chains, moves) = (400, 60);
    let options = AisOptions { chains, moves, ..AisOptions::default() };
    let rungs = respaced(&pilot(&path, options.pilot).expect("a schedule"), 20);
    let rows = start.draw(chains, Stream::new(3, Purpose::Anneal));
    let library = ais::log_weights(&path, &rungs, rows, Direction::Forward, options, 78).expect("weights");
    let (library, library_se) =
        mean_se(&library.iter().map(|log_w| start.log_z() + log_w).collect::<Vec<_>>());
    let (right, se) = mean_se(&written_out(&path, &rungs, options, true));
    assert_within_se(right, library, se.hypot(library_se), 4.0);
    assert!(right <= exact + 4.0 * se, "{right} ± {se} is above {exact}");
    let (late, late_se) = mean_se(&written_out(&path, &rungs, options, false));
    assert!(
        late > exact + 10.0 * late_se,
        "increments after the moves give {late} ± {late_se}, exact {exact}"
    );
    let swapped = 2.0 * start.log_z() - library;
    assert!(swapped > exact + 10.0 * library_se, "a swapped sign gives {swapped}, exact {exact}");
    println!(
        "50 dimensions: exact {exact:.3}, forward {library:.3} ± {library_se:.3}, written out {right:.3} ± {se:.3}; \
         broken: {late:.3} ± {late_se:.3}, {swapped:.3}"
    );
}

/// A network in two dimensions with weights that shape it.
fn network(support: Support, confinement: f64) -> EnergyModel {
    let energy = EnergyConfig::Mlp(Mlp {
        hidden: vec![16],
        activation: Default::default(),
        spectral_norm: false,
        confinement,
        levels: None,
    });
    let spec = EnergySpec { support, ..EnergySpec::new(SampleShape::Flat(2), energy) };
    let model = EnergyModel::init(spec, 3, &cpu()).expect("a model");
    let theta = model.host_theta().into_iter().enumerate().map(|(i, values)| {
        let noise = Stream::new(11, Purpose::Init).lane(i as u32).normals(1, values.len());
        upload(values.into_iter().zip(noise).map(|(v, z)| v + 1.5 * z).collect(), &cpu())
    });
    model.with_theta(theta.collect())
}

/// On the cube log Z is the integral over the cube, with and without confinement, by SMC and between the sides of AIS; a start
/// and a kernel that do not know the walls find another.
#[test]
fn the_cube_has_walls() {
    for confinement in [0.0, 2.0] {
        let model = network(Support::Cube, confinement);
        let grid = EnergyGrid::new(&model, vec![(-1.0, 1.0); 2], 400).expect("two dimensions");
        let exact = grid.log_z();
        let options = SmcOptions { walkers: 500, repeats: 8, seed: 2, ..SmcOptions::default() };
        let found = tempered(&model, options).expect("an estimate");
        println!("cube, confinement {confinement}: quadrature {exact:.4}, SMC {:?}", found.log_z);
        assert_within_se(found.log_z.value, exact, found.log_z.standard_error, four_se(8));
        let inside = download(found.ensembles.walkers.position.clone());
        assert!(inside.iter().all(|x| x.abs() <= 1.0));

        let ais = AisOptions { chains: 400, temperatures: Some(20), ..AisOptions::default() };
        let sides = ais::of_model(&model, Some(&found.ensembles), ais).expect("both sides");
        println!("           {:?} {:?} {}", sides.lower, sides.upper, sides.cost());
        assert_eq!((sides.kind, sides.starts), ("two-sided estimate", "walkers"));
        assert_eq!(sides.repeats, Some(8));
        brackets(&sides, exact, 8);
        if confinement > 0.0 {
            let blind = GaussianStart::isotropic(Support::Unbounded, 2, confinement);
            let blind =
                along(&AnnealedPath::new(&model, &blind, &cpu()), options).expect("an estimate").log_z;
            assert_beyond_se(blind.value, exact, blind.standard_error, 10.0);
        }
    }
}

/// Two modes in five dimensions.
fn mixture() -> EnergyModel {
    let energy = EnergyConfig::GaussianMixture(GaussianMixture {
        means: vec![vec![-3.0], vec![2.0]],
        means_noise: 0.0,
        train_means: true,
        logit_learning_rate_scale: 1.0,
    });
    EnergyModel::init(EnergySpec::new(SampleShape::Flat(5), energy), 0, &cpu()).expect("a model")
}

/// A mixture can be drawn: the sides are a bracket of its exact log Z, at temperatures the program chose.
#[test]
fn a_mixture_gets_a_bracket() {
    let model = mixture();
    let options = AisOptions { chains: 256, ..AisOptions::default() };
    let found = ais::of_model(&model, None, options).expect("both sides");
    assert_eq!((found.kind, found.repeats), ("bracket", None));
    brackets(&found, model.log_z().expect("known"), 256);
}

/// Bringing walkers along β from what is cached is what evaluating the energy afresh gives.
#[test]
fn a_shift_of_beta_costs_no_gradient_and_is_exact() {
    let energy = Anisotropic::new(20);
    let start = GaussianStart::isotropic(Support::Unbounded, 20, 1.0);
    let path = AnnealedPath::new(&energy, &start, &cpu());
    let mut shifted = path.starting_walkers(100, 0, 3);
    let mut fresh = shifted.clone();
    let mut from = 0.0;
    for to in [0.01, 0.3, 1.0, 0.6, 0.0] {
        let before = energy.gradients.load(Ordering::Relaxed);
        shifted = path.shift(shifted, from, to);
        let cost = energy.gradients.load(Ordering::Relaxed) - before;
        assert_eq!(cost, if from == 0.0 { 100 } else { 0 });
        fresh = fresh.reweight(&path.at(to));
        let close = |a: Vec<f32>, b: Vec<f32>| {
            for (a, b) in a.iter().zip(&b) {
                assert!((a - b).abs() <= 2e-4 * (1.0 + b.abs()), "β {from} to {to}: {a} for {b}");
            }
        };
        close(download(shifted.energy.clone()), download(fresh.energy.clone()));
        close(download(shifted.energy_grad.clone()), download(fresh.energy_grad.clone()));
        close(download(shifted.log_weights.value()), download(fresh.log_weights.value()));
        from = to;
    }
}

/// A respaced schedule keeps its ends and its order, and as many temperatures as before leave it as it was.
#[test]
fn schedules_are_respaced() {
    let rungs: Vec<Rung> =
        [0.001, 0.01, 0.2, 1.0].into_iter().map(|beta| Rung { beta, step_size: beta + 1.0 }).collect();
    for (same, rung) in respaced(&rungs, 4).iter().zip(&rungs) {
        assert!((same.beta - rung.beta).abs() < 1e-15 && same.step_size == rung.step_size, "{same:?}");
    }
    for count in [1, 3, 7, 100] {
        let spaced = respaced(&rungs, count);
        assert_eq!((spaced.len(), spaced[count - 1].beta), (count, 1.0));
        assert!(spaced.windows(2).all(|pair| 0.0 < pair[0].beta && pair[0].beta < pair[1].beta));
    }
    // Half way between the first and the second rung.
    assert!((respaced(&rungs, 8)[2].beta - 0.0055).abs() < 1e-12);
}

/// What cannot be done is said, with what to do.
#[test]
fn wrong_asks_are_refused() {
    let model = network(Support::Cube, 0.0);
    let message = |result: Result<TwoSided, ember_sampler::Error>| match result.map_err(Error::from) {
        Ok(_) => panic!("it was done"),
        Err(error) => {
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        }
    };
    let options = SmcOptions { walkers: 50, repeats: 2, ..SmcOptions::default() };
    let walkers = tempered(&model, options).expect("an estimate").ensembles;
    let ais = |chains: usize| AisOptions { chains, temperatures: Some(3), ..AisOptions::default() };
    assert!(
        message(ais::of_model(&model, None, ais(4)))
            .contains("exact draws of the model or independent walkers")
    );
    assert_eq!(ais::of_model(&model, Some(&walkers), ais(5)).expect("both sides").chains, 6);
    let mixture = mixture();
    assert!(message(ais::of_model(&mixture, None, ais(1))).contains("at least 2"));
    let unbounded = network(Support::Unbounded, 0.0);
    assert!(message(ais::of_model(&unbounded, Some(&walkers), ais(4))).contains("energy.confinement > 0"));
}
