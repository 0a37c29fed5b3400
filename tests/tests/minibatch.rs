//! Walkers by mini-batch with deferred weight correction (ALGORITHMS 1.4): equal to the eager version, and unbiased.

use burn::tensor::{Device, Int, Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel};
use ember_sampler::kernel::{Kernel, Mala, Ula};
use ember_sampler::{Noise, Scheme, Walkers, resample};
use ember_tests::configs::small;
use ember_tests::{assert_beyond_se, assert_within_se, cpu, four_se, gpu, mean_se, ratio_se};
use ember_train::config::Config;
use ember_train::training::trainer::{Trainer, WALKER_LANE};

const CONFIG: &str = r#"
seed = 5
steps = 40
dataset.dim = 3
dataset.test_size = 10
dataset.batch_size = 64
energy.hidden = [16]
walkers.count = 90
walkers.moved_per_update = 20
walkers.flush_every = 7
kernel.kind = "KERNEL"
kernel.steps_per_update = 3
resampling = { ess_threshold = 0.9 }
optimizer.learning_rate = 0.02
output = { log_every = 5 }
"#;

/// What the trainer does, with a pass over all N walkers at every update: each follows every θ.
struct Eager {
    walkers: Walkers,
    kernel: Box<dyn Kernel>,
    resamplings: usize,
}

impl Eager {
    fn update(&mut self, model: &EnergyModel, update: u64, flush: bool) {
        let (seed, moved, steps, count) = (5, 20, 3, self.walkers.count());
        let per_epoch = (count / moved) as u64;
        let slot = (update % per_epoch) as usize;
        if slot == 0 {
            let order = Stream::new(seed, Purpose::Batch).lane(WALKER_LANE).at(update / per_epoch).unwrap();
            let order: Vec<i32> = order.permutation(count).into_iter().map(|i| i as i32).collect();
            let order = Tensor::<1, Int>::from_data(TensorData::new(order, [count]), &cpu());
            self.walkers = self.walkers.clone().permuted(order);
        }
        // A += U_{k−1}(X) − U_k(X) for every walker, then the batch moves at θ_k.
        self.walkers = self.walkers.clone().reweight(model);
        let first = slot * moved;
        let mut moving = self.walkers.narrow(first..first + moved);
        for sub_step in 0..steps {
            let noise = Noise { seed, lane: 0, step: update * steps + sub_step };
            moving = self.kernel.step(model, moving, &noise).0;
        }
        let summary = moving.summary();
        if summary.ess < 0.9 * moved as f64 {
            let stream = Stream::new(seed, Purpose::Resampling).at(update).unwrap();
            let ancestors = resample(Scheme::Systematic, moving.log_weights.value(), stream);
            moving = moving.resampled_within(ancestors, summary.log_mean_exp);
            self.resamplings += 1;
        }
        self.walkers = self.walkers.clone().with_batch(first, moving);
        let summary = self.walkers.summary();
        if flush && summary.ess < 0.9 * count as f64 {
            let stream = Stream::new(seed, Purpose::Resampling).lane(WALKER_LANE).at(update).unwrap();
            let ancestors = resample(Scheme::Systematic, self.walkers.log_weights.value(), stream);
            self.walkers = self.walkers.clone().resampled(ancestors, summary.log_mean_exp);
        }
    }
}

fn deferred_equals_eager(kind: &str, kernel: Box<dyn Kernel>) {
    let config = Config::from_toml(&small(CONFIG).replace("KERNEL", kind), "test").expect("valid");
    let mut trainer = Trainer::new(config, &cpu()).expect("starts");
    let mut eager = Eager { walkers: trainer.walkers.clone(), kernel, resamplings: 0 };
    for update in 0..40 {
        eager.update(&trainer.model, update, (update + 1) % 7 == 0);
        trainer.update((update + 1) % 5 == 0).expect("finite");
    }
    assert!(eager.resamplings > 3, "the test must resample in mini-batches: {}", eager.resamplings);
    assert!(trainer.walkers.log_z.value() > 0.0 && trainer.flushes == 5, "{} flushes", trainer.flushes);
    let (found, expected) = (trainer.walkers_at_theta(), eager.walkers.reweight(&trainer.model));
    let near = |a: Vec<f32>, b: Vec<f32>, what: &str| {
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() <= 2e-4 * (1.0 + b.abs()), "{kind}, {what}: {a} against {b}");
        }
    };
    near(download(found.position.clone()), download(expected.position), "position");
    near(download(found.log_weights.value()), download(expected.log_weights.value()), "log-weights");
    near(download(found.energy), download(expected.energy), "energy");
    let spread = download(found.log_weights.value());
    let (low, high) = spread.iter().fold((f32::MAX, f32::MIN), |(l, h), &a| (l.min(a), h.max(a)));
    assert!(
        high - low > 0.05,
        "the log-weights must differ for this test to mean something: {low} to {high}"
    );
}

#[test]
fn deferred_correction_equals_the_eager_version() {
    deferred_equals_eager("ula", Box::new(Ula::new(0.1)));
    deferred_equals_eager("mala", Box::new(Mala::new(0.1)));
}

#[test]
fn how_often_a_run_logs_changes_nothing_in_it() {
    let run = |log_every: u64, flush_every: &str| {
        let config = small(CONFIG).replace("KERNEL", "mala").replace("flush_every = 7", flush_every);
        let mut trainer =
            Trainer::new(Config::from_toml(&config, "test").expect("valid"), &cpu()).expect("starts");
        (0..40).for_each(|update| drop(trainer.update((update + 1) % log_every == 0).expect("finite")));
        let walkers = trainer.walkers.clone();
        let mut bits: Vec<f32> = trainer.model.theta().iter().cloned().flat_map(download).collect();
        bits.extend(download(walkers.position));
        bits.extend(download(walkers.log_weights.value()));
        (bits, trainer.flushes)
    };
    let (often, flushes) = run(1, "flush_every = 7");
    assert_eq!(flushes, 5);
    assert!(run(40, "flush_every = 7") == (often.clone(), 5), "log_every = 40 differs from 1");
    // A flush does change the run: it resamples.
    assert!(run(1, "flush_every = 1").0 != often);
}

/// `U = ½ c |x|²` for a precision that moves from 1 to 2.
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

const REPEATS: usize = 32;

/// 24 updates that move a quarter of the walkers each, with resampling inside the mini-batches; returns the weighted ⟨x²⟩ of
/// one coordinate and the ratio of Z, by repeat.
fn moving_precision(kernel: &dyn Kernel, corrected: bool, device: &Device) -> (f64, f64, f64, f64) {
    let (dim, count, moved, updates) = (4, 800, 200, 24u64);
    let mut moments = Vec::new();
    let mut log_z = Vec::new();
    for lane in 0..REPEATS as u32 {
        let start = Stream::new(31, Purpose::Start).lane(lane).normals(count, dim);
        let start = Tensor::from_data(TensorData::new(start, [count, dim]), device);
        let mut walkers = Walkers::new(&Gaussian { dim, precision: 1.0 }, start, 0.0);
        let mut energy = Gaussian { dim, precision: 1.0 };
        for update in 0..updates {
            energy.precision = 1.0 + (update + 1) as f64 / updates as f64;
            let first = (update as usize % 4) * moved;
            let mut moving = walkers.narrow(first..first + moved);
            moving = if corrected { moving.reweight(&energy) } else { moving.refresh(&energy) };
            for sub_step in 0..2 {
                moving =
                    kernel.step(&energy, moving, &Noise { seed: 32, lane, step: update * 2 + sub_step }).0;
            }
            let summary = moving.summary();
            if summary.ess < 0.8 * moved as f64 {
                let stream = Stream::new(33, Purpose::Resampling).lane(lane).at(update).unwrap();
                let ancestors = resample(Scheme::Systematic, moving.log_weights.value(), stream);
                moving = moving.resampled_within(ancestors, summary.log_mean_exp);
            }
            walkers = walkers.with_batch(first, moving);
        }
        walkers = if corrected { walkers.reweight(&energy) } else { walkers.refresh(&energy) };
        let z = walkers.log_z.value() + walkers.summary().log_mean_exp;
        let weights = download(walkers.weights());
        let x = download(walkers.position.clone());
        let square: f64 =
            x.chunks_exact(dim).zip(&weights).map(|(x, &w)| f64::from(w) * f64::from(x[0]).powi(2)).sum();
        moments.push((z.exp() * square, z.exp()));
        log_z.push(z.exp());
    }
    let (square, square_se) = ratio_se(&moments);
    let (z, z_se) = mean_se(&log_z);
    (square, square_se, z, z_se)
}

#[test]
fn mini_batch_weights_are_unbiased_and_uncorrected_ones_are_not() {
    let exact_z = 0.5f64.powf(2.0); // (1/2)^{d/2}, d = 4
    for kernel in [&Ula::new(0.1) as &dyn Kernel, &Mala::new(0.1)] {
        let (square, square_se, z, z_se) = moving_precision(kernel, true, &cpu());
        println!(
            "{kernel:?}: <x²> {square:.4} ± {square_se:.4} (.5), Z ratio {z:.4} ± {z_se:.4} ({exact_z})"
        );
        assert_within_se(square, 0.5, square_se, four_se(REPEATS));
        assert_within_se(z, exact_z, z_se, four_se(REPEATS));
        let (square, square_se, ..) = moving_precision(kernel, false, &cpu());
        println!("  without the correction: <x²> {square:.4} ± {square_se:.4}");
        assert_beyond_se(square, 0.5, square_se, 10.0);
    }
}

#[test]
fn mini_batches_run_on_the_gpu_path() {
    let Some(device) = gpu() else { return };
    let (square, square_se, z, z_se) = moving_precision(&Mala::new(0.1), true, &device);
    assert_within_se(square, 0.5, square_se, four_se(REPEATS));
    assert_within_se(z, 0.25, z_se, four_se(REPEATS));
}
