//! A network on a Gaussian base: gradients, the exact start, files, and what a config may not ask for.

use burn::tensor::{Tensor, TensorData};
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyModel, EnergySpec};
use ember_sampler::evidence::smc::{AnnealedPath, GaussianStart, SmcOptions, along, tempered};
use ember_tests::{assert_within_se, cpu, four_se, gpu};
use ember_train::config::Config;
use ember_train::dataset::gaussian_fit::GaussianFit;
use ember_train::dataset::{Augmentation, Data, Rows};
use ember_train::training::trainer::Trainer;
use faer::Mat;

const BASED: &str = r#"
kind = "conv"
shape = [1, 4, 4]
layers = [{ out = 3, kernel = 3, padding = 1 }, { out = 1, kernel = 4 }]
activation = "silu"
base = "gaussian"
"#;

/// A base with correlations: `P = B Bᵀ + I`.
fn based(device: &burn::tensor::Device) -> EnergyModel {
    let spec = EnergySpec::from_metadata(BASED).expect("a valid energy");
    let model = EnergyModel::init(spec, 1, device).expect("it fits");
    let d = 16;
    let b = Stream::new(2, Purpose::Init).normals(d, d);
    let entry = |i: usize, j: usize| (0..d).map(|k| b[i * d + k] * b[j * d + k]).sum::<f32>() / d as f32;
    let precision =
        (0..d * d).map(|i| entry(i / d, i % d) + if i % (d + 1) == 0 { 1.0 } else { 0.0 }).collect();
    model.with_gaussian_base(Stream::new(3, Purpose::Init).normals(1, d), precision)
}

fn trained(device: &burn::tensor::Device) -> EnergyModel {
    let model = based(device);
    let mut theta = model.theta().to_vec();
    for (i, tensor) in theta[..4].iter_mut().enumerate() {
        let [n] = tensor.dims();
        let noise = Stream::new(4, Purpose::Init).lane(i as u32).normals(n, 1);
        *tensor = tensor.clone() + Tensor::from_data(TensorData::new(noise, [n]), device).mul_scalar(0.3);
    }
    model.with_theta(theta)
}

fn points(n: usize, device: &burn::tensor::Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(Stream::new(5, Purpose::Data).normals(n, 16), [n, 16]), device)
}

#[test]
fn gradients_match_finite_differences() {
    let model = trained(&cpu());
    let x = download(points(2, &cpu()));
    let at = |x: &[f32]| {
        let x = Tensor::from_data(TensorData::new(x.to_vec(), [2, 16]), &cpu());
        download(model.energy(x)).iter().map(|&u| f64::from(u)).sum::<f64>()
    };
    let (_, grad) = model.energy_and_grad(points(2, &cpu()));
    let (grad, h) = (download(grad), 1e-2f32);
    for j in 0..32 {
        let shifted = |delta: f32| {
            let mut moved = x.clone();
            moved[j] += delta;
            at(&moved)
        };
        let difference = (shifted(h) - shifted(-h)) / f64::from(2.0 * h);
        assert!((difference - f64::from(grad[j])).abs() < 5e-3 * (1.0 + difference.abs()), "{j}");
    }
}

#[test]
fn cpu_and_gpu_path_agree() {
    let Some(device) = gpu() else { return };
    let (a, b) = (trained(&cpu()), trained(&device));
    let (ua, ga) = a.energy_and_grad(points(5, &cpu()));
    let (ub, gb) = b.energy_and_grad(points(5, &device));
    for (a, b) in download(ua).iter().zip(download(ub)).chain(download(ga).iter().zip(download(gb))) {
        assert!((a - b).abs() <= 1e-4 * (1.0 + b.abs()), "{a} {b}");
    }
}

/// With a zero network the model is its Gaussian: log Z in closed form, draws with its mean and covariance.
#[test]
fn the_start_is_exact() {
    let model = based(&cpu());
    let log_z = model.log_z().expect("the base alone");
    assert!(trained(&cpu()).log_z().is_none(), "no closed form once the network is there");
    let n = 20_000;
    let x = model.draw(n, Stream::new(9, Purpose::Start)).expect("the base alone");
    // E[U] = d/2 for any Gaussian: the draws have the covariance that U says.
    let u = download(model.energy(Tensor::from_data(TensorData::new(x.clone(), [n, 16]), &cpu())));
    let mean = u.iter().map(|&u| f64::from(u)).sum::<f64>() / n as f64;
    assert_within_se(mean, 8.0, (8.0 / n as f64).sqrt(), 4.0);
    // Importance sampling of Z from a wider isotropic Gaussian would be noisy; a plug-in check is exact: the entropy of the
    // draws, −E[log ρ] = E[U] + log Z, is that of a Gaussian with their sample covariance.
    let rows = Data {
        shape: ember_model::SampleShape::Flat(16),
        train: Rows::F32(x),
        train_labels: vec![0; n],
        test: Rows::F32(Vec::new()),
        test_labels: Vec::new(),
        class_names: Vec::new(),
    };
    let fit = GaussianFit::of_noisy(&rows, Augmentation::default()).expect("fits");
    let refitted = model.with_gaussian_base(fit.mean(), fit.precision());
    let again = refitted.log_z().expect("a Gaussian");
    // The ridge r shifts it by ½ (log det (Σ + r I) − log det Σ) = ½ log det (I + r P). The log det of a sample covariance has
    // variance 2d/n and a bias of −d (d + 1)/2n, a sixth of that standard error here.
    let base = model.gaussian_base().expect("a base");
    let entry = |i: usize, j: usize| f64::from(base.precision()[i * 16 + j]);
    let ridged = Mat::from_fn(16, 16, |i, j| f64::from(u8::from(i == j)) + fit.ridge * entry(i, j));
    let shift = 0.5 * ridged.determinant().ln();
    println!("ridge {:.2e}: log Z moves by {shift:.4}", fit.ridge);
    assert_within_se(again - shift, log_z, (0.5 * 16.0 / n as f64).sqrt(), 4.0);
}

/// Tempered SMC starts at the base: exact in one temperature where the network is zero, and the same log Z as from independent
/// coordinates where it is not, in fewer temperatures.
#[test]
fn tempered_smc_starts_at_the_base() {
    let alone = based(&cpu());
    let options = SmcOptions { walkers: 400, repeats: 8, seed: 3, ..SmcOptions::default() };
    let found = tempered(&alone, options).expect("an estimate");
    assert_eq!(found.temperatures, 1);
    let exact = alone.log_z().expect("the base alone");
    assert!((found.log_z.value - exact).abs() < 1e-3, "{:?} against {exact}", found.log_z);

    let model = trained(&cpu());
    let from_base = tempered(&model, options).expect("an estimate");
    let base = model.gaussian_base().expect("a base");
    let mean = base.mean().iter().map(|&m| f64::from(m)).collect();
    let std: Vec<f64> = (0..16).map(|j| f64::from(base.precision()[j * 17]).recip().sqrt()).collect();
    let independent = GaussianStart::new(mean, &std);
    let from_independent = along(&AnnealedPath::new(&model, &independent, &cpu()), options).expect("one");
    println!(
        "from the base {:?} in {}, from independent coordinates {:?} in {}",
        from_base.log_z, from_base.temperatures, from_independent.log_z, from_independent.temperatures
    );
    let error = from_base.log_z.standard_error.hypot(from_independent.log_z.standard_error);
    assert_within_se(from_base.log_z.value, from_independent.log_z.value, error, four_se(8));
    assert!(from_base.temperatures < from_independent.temperatures);
}

#[test]
fn a_weight_file_holds_the_base() {
    let model = trained(&cpu());
    let again = EnergyModel::from_tensors(model.spec().clone(), model.export(), &cpu()).expect("loads");
    assert_eq!(download(again.energy(points(3, &cpu()))), download(model.energy(points(3, &cpu()))));
    assert!(
        model.params().iter().any(|param| param.name == "base.precision" && param.learning_rate_scale == 0.0)
    );
}

const CONFIG: &str = r#"
steps = 3
[dataset]
kind = "shapes32"
train_size = 64
test_size = 8
batch_size = 16
noise = 0.3
[energy]
kind = "conv"
layers = [{ out = 2, kernel = 4, stride = 4 }, { out = 1, kernel = 8 }]
base = "gaussian"
[walkers]
count = 8
[kernel]
kind = "mala"
step_size = 0.01
[objective]
kind = "jarzynski"
[optimizer]
kind = "adam"
learning_rate = 1e-3
max_weight_change = 0.1
"#;

#[test]
fn a_run_starts_at_the_fitted_gaussian_and_never_moves_it() {
    let config = Config::from_toml(CONFIG, "test").expect("valid");
    let mut trainer = Trainer::new(config, &cpu()).expect("starts");
    assert!(trainer.walkers.log_z.is_known(), "the start is exact");
    let before = trainer.model.gaussian_base().expect("a base");
    assert!(
        before.mean().iter().any(|&m| m < -0.4),
        "the ground of the shapes is dark: fitted, not standard normal"
    );
    for _ in 0..3 {
        let info = trainer.update(true).expect("finite");
        let scale = download(info.step_scale.expect("limited"))[0];
        assert!(scale > 0.0 && scale <= 1.0);
    }
    let after = trainer.model.gaussian_base().expect("a base");
    assert_eq!((before.mean(), before.precision()), (after.mean(), after.precision()));
}

/// The bound holds: the log-weights of one update spread by no more than it (to first order; 20 % is allowed for the rest).
#[test]
fn max_weight_change_bounds_the_spread() {
    let spread = |limit: &str| {
        let text = CONFIG.replace("max_weight_change = 0.1", limit).replace("count = 8", "count = 64");
        let text = text.replace("learning_rate = 1e-3", "learning_rate = 0.05");
        let mut trainer =
            Trainer::new(Config::from_toml(&text, "test").expect("valid"), &cpu()).expect("starts");
        let mut widest = 0.0f64;
        for _ in 0..4 {
            trainer.update(true).expect("finite");
            let before = download(trainer.walkers.energy.clone());
            let after = download(trainer.model.energy(trainer.walkers.position.clone()));
            let delta: Vec<f64> = after.iter().zip(&before).map(|(a, b)| f64::from(a - b)).collect();
            let weights = download(trainer.walkers.weights());
            let mean: f64 = delta.iter().zip(&weights).map(|(d, &w)| d * f64::from(w)).sum();
            let square: f64 =
                delta.iter().zip(&weights).map(|(d, &w)| (d - mean).powi(2) * f64::from(w)).sum();
            widest = widest.max(square.sqrt());
        }
        widest
    };
    let (bounded, free) = (spread("max_weight_change = 0.1"), spread(""));
    println!("spread of one update's log-weights: {bounded:.3} with a bound of .1, {free:.3} without");
    assert!(bounded <= 0.12, "{bounded}");
    assert!(
        free > 0.3,
        "without the bound this learning rate must be too much for the test to mean something: {free}"
    );
}

#[test]
fn what_a_base_does_not_go_with_is_said() {
    for (change, with, words) in [
        ("base = \"gaussian\"", "base = \"gaussian\"\nconfinement = 1.0", "confinement"),
        ("step_size = 0.01", "step_size = 0.01\ntemperature = 0.5", "energy.base"),
        ("step_size = 0.01", "step_size = 0.01\nboundary = \"reflect\"", "energy.base"),
        ("base = \"gaussian\"", "base = \"gausian\"", "did you mean `gaussian`"),
    ] {
        let error = Config::from_toml(&CONFIG.replace(change, with), "test").expect_err(with).to_string();
        assert!(error.contains(words), "{with}: {error}");
    }
    let cube = CONFIG.replace("base = \"gaussian\"", "confinement = 1.0");
    let cube = cube.replace("step_size = 0.01", "step_size = 0.01\nboundary = \"reflect\"");
    let error = Config::from_toml(&cube, "test").expect_err("noise on the cube").to_string();
    assert!(error.contains("dataset.noise"), "{error}");
    let normal = cube
        .replace("noise = 0.3", "")
        .replace("count = 8", "count = 8\ninit = \"normal\"\nunweighted_start = true");
    let error = Config::from_toml(&normal, "test").expect_err("a start outside").to_string();
    assert!(error.contains("walkers.init") && error.contains("cube"), "{error}");
}
