//! Every kernel with every option keeps exact weights (ALGORITHMS 1.5, 10): on a target that moves along a fixed path, Z and
//! the weighted moments are right to 4 standard errors, while each of the well-known mistakes (the plain α for a clipped or a
//! reflected step, weights at T = 1 for a drift at another temperature) is off by at least 10 in the same test.
//!
//! The target is the program's own: `V = U/T`, `U = ½|x − μ|² − l`, on `ℝ^d` or on the cube `[−1, 1]^d`, while μ moves from 0 and l from 0
//! to 1. Coordinates are independent and alike, so that everything is known by quadrature in one dimension.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::gaussian_mixture::GaussianMixture;
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_sampler::device::{open_uniform, ula_log_weight_increment};
use ember_sampler::kernel::{Boundary, Mala, Ula};
use ember_sampler::{Kernel, Noise, Walkers};
use ember_tests::{assert_within_se, cpu, four_se, gpu, mean_se, ratio_se};

const REPEATS: usize = 32;
const UPDATES: u64 = 20;

/// A kernel's options and the target it runs on.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    step_size: f64,
    /// Whether the drift is clipped.
    clip: bool,
    boundary: Boundary,
    temperature: f64,
    dim: usize,
}

const PLAIN: Case =
    Case { name: "plain", step_size: 0.1, clip: false, boundary: Boundary::None, temperature: 1.0, dim: 2 };

/// Every option and every pair of options, then all of them.
fn cases(dim: usize) -> Vec<Case> {
    let plain = Case { dim, ..PLAIN };
    let clipped = Case { name: "clip", clip: true, ..plain };
    let warm = |name, case| Case { name, temperature: 0.5, step_size: 0.05, ..case };
    let walled = |name, case| Case { name, boundary: Boundary::Reflect, ..case };
    vec![
        plain,
        clipped,
        warm("temperature", plain),
        walled("reflect", plain),
        walled("clip + reflect", clipped),
        warm("clip + temperature", clipped),
        walled("reflect + temperature", warm("", plain)),
        walled("clip + reflect + temperature", warm("", clipped)),
    ]
}

impl Case {
    fn is_walled(&self) -> bool {
        self.boundary == Boundary::Reflect
    }

    /// μ at the end of the path: far enough to need weights, near enough to keep an ess.
    fn shift(&self) -> f64 {
        let width = self.temperature.sqrt();
        match (self.is_walled(), self.dim) {
            (true, 2) => 2.0,
            (true, _) => 0.6 * width,
            (false, 2) => 0.5 * width,
            (false, _) => 0.15 * width,
        }
    }

    fn walkers(&self) -> usize {
        if self.dim == 2 { 4_000 } else { 5_000 }
    }

    /// In units of the usual drift `h/√T`: it bites at a fifth of the coordinates, in 20 dimensions at a twentieth; the cube holds
    /// only small gradients, which are clipped more.
    fn drift_clip(&self) -> Option<f64> {
        let limit = match (self.is_walled(), self.dim) {
            (true, _) => 0.7,
            (false, 2) => 1.3,
            (false, _) => 2.0,
        };
        self.clip.then(|| limit * self.step_size / self.temperature.sqrt())
    }

    fn ula(&self) -> Ula {
        Ula { step_size: self.step_size, drift_clip: self.drift_clip(), boundary: self.boundary }
    }

    fn mala(&self) -> Mala {
        Mala { step_size: self.step_size, drift_clip: self.drift_clip(), boundary: self.boundary }
    }

    /// V at a fraction of the path.
    fn model(&self, device: &Device) -> EnergyModel {
        let energy = EnergyConfig::GaussianMixture(GaussianMixture {
            means: vec![vec![]],
            means_noise: 0.0,
            train_means: true,
            logit_learning_rate_scale: 1.0,
        });
        let spec = EnergySpec {
            temperature: self.temperature,
            support: self.boundary.support(),
            ..EnergySpec::new(SampleShape::Flat(self.dim), energy)
        };
        EnergyModel::init(spec, 0, device).expect("a valid mixture")
    }

    /// `(log ∫ e^{−V}, E x, E x²)` of one coordinate where the mean is μ, by the midpoint rule.
    fn coordinate(&self, mean: f64) -> [f64; 3] {
        let (start, end) = if self.is_walled() { (-1.0, 1.0) } else { (mean - 10.0, mean + 10.0) };
        let cells = 20_000;
        let width = (end - start) / f64::from(cells);
        let sums = (0..cells).fold([0.0; 3], |[z, first, second], i| {
            let x = start + (f64::from(i) + 0.5) * width;
            let p = width * (-0.5 * (x - mean).powi(2) / self.temperature).exp();
            [z + p, first + p * x, second + p * x * x]
        });
        [sums[0].ln(), sums[1] / sums[0], sums[2] / sums[0]]
    }

    /// Runs the path: the estimates of Z over its exact value, of E x and of E x², with what they should be.
    fn run(&self, follow: Follow<'_>, device: &Device) -> [Estimate; 3] {
        let (count, dim) = (self.walkers(), self.dim);
        let [start_z, ..] = self.coordinate(0.0);
        let [end_z, first, second] = self.coordinate(self.shift());
        let z = (dim as f64 * (end_z - start_z) + 1.0 / self.temperature).exp();
        let start = self.model(device);
        let sums: Vec<[f64; 3]> = (0..REPEATS as u32)
            .map(|lane| {
                let stream = Stream::new(21, Purpose::Start).lane(lane);
                let draws =
                    self.boundary.support().gaussian_draws(dim, 1.0 / self.temperature, count, stream);
                let position = Tensor::from_data(TensorData::new(draws, [count, dim]), device);
                let mut state = Walkers::new(&start, position, 0.0);
                for k in 0..UPDATES {
                    let t = (k + 1) as f64 / UPDATES as f64;
                    let mean = upload(vec![(t * self.shift()) as f32; dim], device);
                    let model = start.with_theta(vec![mean, upload(vec![t as f32], device)]);
                    state = follow(&model, state, &Noise::at(21, lane, k, 1, 0).expect("fits"));
                }
                let weights = download(state.log_weights.value());
                let x = download(state.position);
                let terms = x.chunks_exact(dim).zip(&weights);
                terms.fold([0.0; 3], |[sum, first, second], (x, &a)| {
                    let w = f64::from(a).exp() / count as f64;
                    let moment = |p: i32| x.iter().map(|&x| f64::from(x).powi(p)).sum::<f64>() / dim as f64;
                    [sum + w, first + w * moment(1), second + w * moment(2)]
                })
            })
            .collect();
        let z: Vec<f64> = sums.iter().map(|sums| sums[0] / z).collect();
        let moment = |i: usize| ratio_se(&sums.iter().map(|s| (s[i], s[0])).collect::<Vec<_>>());
        [
            Estimate { of: "Z/Z", found: mean_se(&z), exact: 1.0 },
            Estimate { of: "E x", found: moment(1), exact: first },
            Estimate { of: "E x²", found: moment(2), exact: second },
        ]
    }
}

/// A value with its standard error, and what it should be.
struct Estimate {
    of: &'static str,
    found: (f64, f64),
    exact: f64,
}

impl Estimate {
    fn z(&self) -> f64 {
        (self.found.0 - self.exact) / self.found.1
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

/// The mistake: the step as the options make it, with the plain α, whose densities know of no clip and no wall.
fn plain_increment(ula: &Ula, energy: &dyn Energy, walkers: &Walkers, noise: &Noise) -> (Walkers, Tensor<1>) {
    let moved = ula.step(energy, walkers.clone(), noise).0;
    let increment = ula_log_weight_increment(
        walkers.position.clone(),
        moved.position.clone(),
        walkers.energy.clone(),
        walkers.energy_grad.clone(),
        moved.energy.clone(),
        moved.energy_grad.clone(),
        ula.step_size as f32,
    );
    (moved, increment)
}

fn ula_with_plain_alpha(ula: Ula) -> impl Fn(&dyn Energy, Walkers, &Noise) -> Walkers {
    move |energy, walkers, noise| {
        let (moved, increment) = plain_increment(&ula, energy, &walkers, noise);
        Walkers { log_weights: walkers.log_weights.accumulate(increment), ..moved }
    }
}

fn mala_with_plain_alpha(ula: Ula) -> impl Fn(&dyn Energy, Walkers, &Noise) -> Walkers {
    move |energy, walkers, noise| {
        let walkers = walkers.reweight(energy);
        let (moved, log_ratio) = plain_increment(&ula, energy, &walkers, noise);
        let threshold =
            open_uniform(walkers.count(), noise.stream(Purpose::Accept), &log_ratio.device()).log();
        let accept = threshold.lower(log_ratio);
        let rows = accept.clone().reshape([walkers.count(), 1]);
        Walkers {
            energy: walkers.energy.mask_where(accept, moved.energy),
            position: walkers.position.mask_where(rows.clone(), moved.position),
            energy_grad: walkers.energy_grad.mask_where(rows, moved.energy_grad),
            ..walkers
        }
    }
}

/// The mistake of released image code: the drift follows V = U/T, the weights are those of U.
fn ula_weighted_at_one(ula: Ula, temperature: f64) -> impl Fn(&dyn Energy, Walkers, &Noise) -> Walkers {
    move |energy, walkers, noise| {
        let moved = ula.step(energy, walkers.clone(), noise).0;
        let increment = ula_log_weight_increment(
            walkers.position,
            moved.position.clone(),
            walkers.energy.mul_scalar(temperature),
            walkers.energy_grad.mul_scalar(temperature),
            moved.energy.clone().mul_scalar(temperature),
            moved.energy_grad.clone().mul_scalar(temperature),
            ula.step_size as f32,
        );
        Walkers { log_weights: walkers.log_weights.accumulate(increment), ..moved }
    }
}

fn mala_weighted_at_one(mala: Mala, temperature: f64) -> impl Fn(&dyn Energy, Walkers, &Noise) -> Walkers {
    move |energy, walkers, noise| {
        // A += U_k(X) − U_{k+1}(X), where V_k − V_{k+1} is right
        let fresh = walkers.clone().reweight(energy);
        let change = (walkers.energy - fresh.energy.clone()).mul_scalar(temperature);
        let log_weights = walkers.log_weights.accumulate(change);
        mala.step(energy, Walkers { log_weights, ..fresh }, noise).0
    }
}

fn print(kernel: &str, case: &Case, estimates: &[Estimate; 3]) {
    let line = estimates.iter().map(|e| {
        format!("{} {:.4} ± {:.4} (exact {:.4}, z {:+.1})", e.of, e.found.0, e.found.1, e.exact, e.z())
    });
    println!("{kernel}, {}, d = {}: {}", case.name, case.dim, line.collect::<Vec<_>>().join("; "));
}

#[track_caller]
fn exact(kernel: &str, case: &Case, follow: Follow<'_>, device: &Device) {
    let estimates = case.run(follow, device);
    print(kernel, case, &estimates);
    for Estimate { found, exact, .. } in &estimates {
        assert_within_se(found.0, *exact, found.1, four_se(REPEATS));
        // A test that cannot see an error of 5 % would prove nothing.
        assert!(found.1 < 0.0125, "the standard error {} is too large", found.1);
    }
}

#[track_caller]
fn wrong(kernel: &str, case: &Case, follow: Follow<'_>) {
    let estimates = case.run(follow, &cpu());
    print(kernel, case, &estimates);
    let worst = estimates.iter().map(|estimate| estimate.z().abs()).fold(0.0, f64::max);
    assert!(worst >= 10.0, "{kernel}, {}: off by only {worst:.1} standard errors", case.name);
}

#[test]
fn ula_is_exact_with_every_option() {
    for case in [2, 20].into_iter().flat_map(cases) {
        exact("ula", &case, &kernel(case.ula()), &cpu());
    }
}

#[test]
fn mala_is_exact_with_every_option() {
    for case in [2, 20].into_iter().flat_map(cases) {
        exact("mala", &case, &kernel(case.mala()), &cpu());
    }
}

#[test]
fn the_plain_alpha_is_wrong_for_a_step_that_was_changed() {
    let changed = |case: &Case| case.clip || case.is_walled();
    for case in [2, 20].into_iter().flat_map(cases).filter(changed) {
        wrong("ula with the plain α", &case, &ula_with_plain_alpha(case.ula()));
        wrong("mala with the plain α", &case, &mala_with_plain_alpha(case.ula()));
    }
}

#[test]
fn weights_at_temperature_one_are_wrong_at_another() {
    for case in [2, 20].into_iter().flat_map(cases).filter(|case| case.temperature != 1.0) {
        let temperature = case.temperature;
        wrong("ula weighted at T = 1", &case, &ula_weighted_at_one(case.ula(), temperature));
        wrong("mala weighted at T = 1", &case, &mala_weighted_at_one(case.mala(), temperature));
    }
}

#[test]
fn the_gpu_path_is_exact_with_all_options() {
    let Some(device) = gpu() else { return };
    let case = cases(2).pop().expect("cases");
    exact("ula on the GPU path", &case, &kernel(case.ula()), &device);
    exact("mala on the GPU path", &case, &kernel(case.mala()), &device);
}
