//! Objectives, gradients and the training loop on small problems.

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::weighted_param_grads_by_autodiff;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec, SampleShape};
use ember_tests::configs::far;
use ember_tests::{assert_within_se, cpu, gpu};
use ember_train::config::Config;
use ember_train::dataset::{Augmentation, Rows};
use ember_train::training::batches::Batches;
use ember_train::training::trainer::Trainer;

const MIXTURE: &str = r#"
kind = "gaussian_mixture"
dim = 5
means = [[-2.0, 1.0], [3.0]]
means_noise = 0.3
"#;
const MLP: &str = "kind = \"mlp\"\ndim = 3\nhidden = [16, 8]\nactivation = \"silu\"\nconfinement = 0.7\n";
const CONV: &str = r#"
kind = "conv"
shape = [2, 6, 6]
layers = [{ out = 4, kernel = 3, padding = 1 }, { out = 6, kernel = 4, stride = 2 }, { out = 1, kernel = 2 }]
activation = "leaky_relu"
confinement = 0.5
"#;

/// A model whose every parameter is away from its starting zero.
fn model(metadata: &str, device: &burn::tensor::Device) -> EnergyModel {
    let spec = EnergySpec::from_metadata(metadata).expect("a valid energy");
    let model = EnergyModel::init(spec, 3, device).expect("it fits");
    let theta = model
        .theta()
        .iter()
        .enumerate()
        .map(|(i, tensor)| {
            let [n] = tensor.dims();
            let noise = Stream::new(4, Purpose::Init).lane(100 + i as u32).normals(n, 1);
            tensor.clone() + Tensor::from_data(TensorData::new(noise, [n]), device).mul_scalar(0.3)
        })
        .collect();
    model.with_theta(theta)
}

fn points(model: &EnergyModel, n: usize) -> Tensor<2> {
    let x = Stream::new(5, Purpose::Data).normals(n, model.dim());
    Tensor::from_data(TensorData::new(x, [n, model.dim()]), model.device())
}

fn close(a: &[f32], b: &[f32], tolerance: f32) {
    let scale = b.iter().map(|b| b.abs()).fold(1e-3, f32::max);
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "element {i}: {a} vs {b} (scale {scale})");
    }
}

/// ∇ₓU against central differences in every coordinate, for every energy.
#[test]
fn position_gradients_match_finite_differences() {
    for metadata in [MIXTURE, MLP, CONV] {
        let model = model(metadata, &cpu());
        let x = points(&model, 3);
        let (u, grad) = model.energy_and_grad(x.clone());
        close(&download(u), &download(model.energy(x.clone())), 1e-5);
        let (values, dim, h) = (download(x), model.dim(), 1e-2f32);
        let grad = download(grad);
        for row in 0..3 {
            for j in 0..dim {
                let shifted = |delta: f32| {
                    let mut moved = values[row * dim..(row + 1) * dim].to_vec();
                    moved[j] += delta;
                    f64::from(
                        download(model.energy(Tensor::from_data(TensorData::new(moved, [1, dim]), &cpu())))
                            [0],
                    )
                };
                let slope = (shifted(h) - shifted(-h)) / (2.0 * f64::from(h));
                let found = f64::from(grad[row * dim + j]);
                assert!((slope - found).abs() < 2e-2 * (1.0 + slope.abs()), "{metadata}: {found} vs {slope}");
            }
        }
    }
}

/// Weighted parameter gradients: the explicit forms against the plain one by autodiff, term by term.
#[test]
fn weighted_parameter_gradients_match_autodiff() {
    for metadata in [MIXTURE, MLP, CONV] {
        let spec = EnergySpec::from_metadata(metadata).expect("a valid energy");
        let architecture = spec.build().expect("it fits");
        let model = model(metadata, &cpu());
        let (x, y) = (points(&model, 700), points(&model, 5));
        let weights = |n: usize, sign: f32| {
            let values =
                Stream::new(6, Purpose::Data).uniforms(n, 1).into_iter().map(|u| sign * u / n as f32);
            Tensor::<1>::from_data(TensorData::new(values.collect::<Vec<_>>(), [n]), &cpu())
        };
        let terms = [(x, weights(700, 1.0)), (y, weights(5, -1.0))];
        let plain = weighted_param_grads_by_autodiff(architecture.as_ref(), model.theta(), &terms);
        let explicit = model.weighted_param_grads(&terms);
        for (i, (plain, explicit)) in plain.grads.iter().zip(&explicit.grads).enumerate() {
            let (mut plain, explicit) = (download(plain.clone()), download(explicit.clone()));
            if metadata == MIXTURE && i == 1 {
                plain[0] = 0.0; // The first logit is frozen.
            }
            // Sums over weights of both signs, half a unit each, cancel to less: rounding stays that of the halves.
            let half = [explicit.as_slice(), &[0.5]].concat();
            close(&half, &[plain.as_slice(), &[0.5]].concat(), 2e-6);
        }
        for (plain, explicit) in plain.energies.iter().zip(&explicit.energies) {
            close(&download(explicit.clone()), &download(plain.clone()), 2e-6);
        }
    }
}

/// The mixture's one-pass CPU form and its tensor form are the same energy: GPU path against CPU.
#[test]
fn energies_agree_between_cpu_and_gpu_path() {
    let Some(device) = gpu() else { return };
    for metadata in [MIXTURE, MLP, CONV] {
        let (here, there) = (model(metadata, &cpu()), model(metadata, &device));
        for (a, b) in here.host_theta().iter().zip(there.host_theta()) {
            close(a, &b, 1e-6);
        }
        let (u, grad) = here.energy_and_grad(points(&here, 100));
        let (v, there_grad) = there.energy_and_grad(points(&there, 100));
        close(&download(v), &download(u), 1e-4);
        close(&download(there_grad), &download(grad), 1e-4);
    }
}

/// The toy of one number, with enough walkers to tell.
fn config(changes: &str) -> Config {
    let text = far(&format!("walkers.count = 2000\n{changes}"));
    Config::from_toml(&text, "test").expect("a valid config")
}

fn train(config: Config) -> Trainer {
    let steps = config.steps;
    let mut trainer = Trainer::new(config, &cpu()).expect("a trainer");
    for _ in 0..steps {
        trainer.update(false).expect("an update");
    }
    trainer
}

/// `ż = q(z) − q*`: after 400 updates of .1 weighted walkers have found the mass; the baselines fail the way they must.
#[test]
fn only_weighted_walkers_find_the_mass() {
    let mass = |trainer: &Trainer| trainer.model.mixture().expect("a mixture").masses[1];
    let jarzynski = train(config(""));
    let data = jarzynski.data.train_fractions()[1];
    let found = mass(&jarzynski);
    assert!((found - data).abs() < 0.02, "jarzynski: {found}, data {data}");
    let mala = train(config("kernel.kind = \"mala\""));
    assert!((mass(&mala) - data).abs() < 0.02, "jarzynski with mala: {}, data {data}", mass(&mala));
    let pcd = mass(&train(config("objective.kind = \"persistent_cd\"")));
    assert!(pcd > 0.97, "PCD from the model must collapse, found {pcd}");
    let cd = mass(&train(config("objective = { kind = \"contrastive_divergence\", restart_every = 1 }")));
    assert!((cd - 0.5).abs() < 0.02, "CD must stay at .5, found {cd}");
}

/// K steps cost K gradients with ULA and K + 1 with MALA.
#[test]
fn gradient_evaluations_are_counted() {
    use ember_sampler::kernel::{Mala, Ula};
    use ember_sampler::{Kernel, Noise, Walkers};
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counted(AtomicUsize);
    impl Energy for Counted {
        fn dim(&self) -> usize {
            2
        }
        fn energy(&self, x: Tensor<2>) -> Tensor<1> {
            (x.clone() * x).sum_dim(1).squeeze_dim::<1>(1)
        }
        fn energy_and_grad(&self, x: Tensor<2>) -> (Tensor<1>, Tensor<2>) {
            self.0.fetch_add(1, Ordering::Relaxed);
            (self.energy(x.clone()), x.mul_scalar(2.0))
        }
    }
    let kernels: [(&dyn Kernel, usize); 2] = [(&Ula::new(0.1), 5), (&Mala::new(0.1), 6)];
    for (kernel, expected) in kernels {
        let energy = Counted(AtomicUsize::new(0));
        let mut walkers = Walkers::new(&energy, Tensor::zeros([7, 2], &cpu()), 0.0);
        energy.0.store(0, Ordering::Relaxed);
        walkers = kernel.prepare(&energy, walkers);
        for k in 0..5 {
            walkers = kernel.step(&energy, walkers, &Noise::at(0, 0, k, 1, 0).expect("fits")).0;
        }
        assert_eq!(energy.0.load(Ordering::Relaxed), expected, "{kernel:?}");
    }
}

/// Batches smaller than the data: every row once an epoch, the same for the same seed.
#[test]
fn batches_deal_every_row_once_an_epoch() {
    let data: Vec<f32> = (0..10).map(|i| i as f32).collect();
    let plain = Augmentation::default();
    let rows = Rows::F32(data);
    let mut batches = Batches::new(&rows, SampleShape::Flat(1), 3, plain, 7, &cpu()).expect("it fits");
    assert!(Batches::new(&rows, SampleShape::Flat(1), 11, plain, 7, &cpu()).is_err(), "more than there is");
    let mut epoch: Vec<f32> = (0..3).flat_map(|k| download(batches.batch(k).expect("a batch"))).collect();
    let again = download(batches.batch(1).expect("a batch"));
    assert_eq!(epoch[3..6], again);
    epoch.sort_by(f32::total_cmp);
    epoch.dedup();
    assert_eq!(epoch.len(), 9);
    assert_ne!(again, download(batches.batch(4).expect("a batch")), "epochs differ");
}

/// Bytes are uniform in their bins, flips take half of the rows, noise has its standard deviation; the numbers are those of
/// the update.
#[test]
fn batches_dequantise_flip_and_add_noise() {
    let (n, shape) = (4_000, SampleShape::Image([1, 1, 2]));
    let rows = Rows::U8((0..2 * n).map(|i| if i % 2 == 0 { 10 } else { 200 }).collect());
    let values = |augmentation: Augmentation, step: u64| {
        let mut batches = Batches::new(&rows, shape, n, augmentation, 3, &cpu()).expect("it fits");
        download(batches.batch(step).expect("a batch"))
    };
    let plain = values(Augmentation::default(), 0);
    let (low, high) = (2.0 * 10.0 / 256.0 - 1.0, 2.0 * 11.0 / 256.0 - 1.0);
    assert!(plain.iter().step_by(2).all(|&x| x >= low && x <= high), "in the bin of the byte 10");
    let mean = plain.iter().step_by(2).map(|&x| f64::from(x)).sum::<f64>() / n as f64;
    let bin_se = f64::from(high - low) / (12.0 * n as f64).sqrt();
    assert_within_se(mean, f64::from(low + high) / 2.0, bin_se, 4.0);
    assert_eq!(plain, values(Augmentation::default(), 0));
    assert_ne!(plain, values(Augmentation::default(), 1));

    let flipped = values(Augmentation { flip: true, noise: 0.0 }, 0);
    let share = flipped.iter().step_by(2).filter(|&&x| x > 0.0).count() as f64 / n as f64;
    assert_within_se(share, 0.5, 0.5 / (n as f64).sqrt(), 4.0);
    assert!(flipped.chunks(2).all(|x| (x[0] > 0.0) != (x[1] > 0.0)), "a row is mirrored whole");

    let noisy = values(Augmentation { flip: false, noise: 0.3 }, 0);
    let square: f64 =
        noisy.iter().zip(&plain).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / (2 * n) as f64;
    assert_within_se(square, 0.09, 0.09 * (2.0 / (2 * n) as f64).sqrt(), 4.0);
}
