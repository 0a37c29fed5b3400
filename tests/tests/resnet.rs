//! The residual network: its size, its gradients, its exact start, spectral norm, the GPU path, its files and its mistakes. Agreement
//! with PyTorch is in `pytorch.rs`.

use burn::tensor::{Device, Tensor, TensorData};
use ember_model::energy::EnergyTable;
use ember_model::energy::activation::Activation;
use ember_model::energy::resnet::{Norm, Pool, ResNet};
use ember_model::params::{download, upload};
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec, SampleShape};
use ember_tests::{cpu, gpu};

const SHAPE: [usize; 3] = [3, 8, 9];

fn config() -> ResNet {
    ResNet {
        channels: vec![8, 16],
        blocks_per_stage: 2,
        activation: Activation::Silu,
        norm: Norm::None,
        groups: 4,
        pool: Pool::Average,
        spectral_norm: false,
        confinement: 0.5,
    }
}

/// The four networks with and without group norm and spectral norm.
fn variants() -> impl Iterator<Item = ResNet> {
    [(Norm::None, false), (Norm::None, true), (Norm::Group, false), (Norm::Group, true)]
        .into_iter()
        .map(|(norm, spectral_norm)| ResNet { norm, spectral_norm, ..config() })
}

fn spec(config: ResNet) -> EnergySpec {
    EnergySpec::new(SampleShape::Image(SHAPE), EnergyConfig::ResNet(config))
}

fn start(config: ResNet, device: &Device) -> EnergyModel {
    EnergyModel::init(spec(config), 3, device).expect("a valid network")
}

/// The starting network with a last layer and biases that are not zero.
fn trained(config: ResNet, device: &Device) -> EnergyModel {
    let model = start(config, device);
    let theta = model.host_theta().into_iter().enumerate().map(|(i, values)| {
        let noise = Stream::new(4, Purpose::Init).lane(i as u32).normals(values.len(), 1);
        upload(values.iter().zip(noise).map(|(v, z)| v + 0.1 * z).collect(), device)
    });
    let theta = theta.collect();
    model.with_theta(theta)
}

fn points(lane: u32, count: usize, device: &Device) -> Tensor<2> {
    let dim = SHAPE.iter().product();
    let values = Stream::new(6, Purpose::Data).lane(lane).normals(count, dim);
    Tensor::from_data(TensorData::new(values, [count, dim]), device)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[test]
fn parameters_are_counted() {
    // stem; per block: two 3×3 convolutions with biases; one skip; the last layer
    let (stem, last) = (3 * 8 * 9 + 8, 16 + 1);
    let convs = 3 * (8 * 8 * 9 + 8) + (8 * 8 * 9 + 8) + (8 * 16 * 9 + 16) + 3 * (16 * 16 * 9 + 16);
    let (skip, norms) = (8 * 16, 2 * (4 * 8 + 8 + 3 * 16));
    assert_eq!(start(config(), &cpu()).param_count(), stem + convs + skip + last);
    let normed = start(ResNet { norm: Norm::Group, ..config() }, &cpu());
    assert_eq!(normed.param_count(), stem + convs + skip + last + norms);
    let names: Vec<String> = normed.params().into_iter().map(|spec| spec.name).collect();
    for name in ["stem.weight", "blocks.2.norm1.bias", "blocks.2.skip.weight", "linear.bias"] {
        assert!(names.iter().any(|n| n == name), "{name} is in {names:?}");
    }
    let frozen: Vec<String> =
        normed.params().into_iter().filter(|p| p.learning_rate_scale == 0.0).map(|p| p.name).collect();
    assert_eq!(frozen, ["linear.bias"]);
}

/// Along random directions, `∇ₓU · v` and `∂_θ(Σ w U) · v` are the central differences, to 1 % (single precision, step .01 of
/// the direction's own size); a gradient that misses a twentieth would fail.
#[test]
fn gradients_are_the_differences() {
    for config in variants() {
        let name = format!("{:?}, spectral {}", config.norm, config.spectral_norm);
        let model = trained(config, &cpu());
        let x = points(0, 4, &cpu());
        let (mut worst, step) = (0f64, 1e-2);
        let mut check = |what: &str, analytic: f64, plus: f64, minus: f64| {
            let difference = (plus - minus) / (2.0 * step);
            let off = (analytic - difference).abs() / difference.abs();
            worst = worst.max(off);
            assert!(off < 0.01, "{name}, {what}: {analytic} for {difference}");
        };
        let sum = |model: &EnergyModel, x: Tensor<2>| -> f64 {
            download(model.energy(x)).into_iter().map(f64::from).sum()
        };
        let grad = model.energy_and_grad(x.clone()).1;
        // The direction of the gradient itself and a random one beside it: the difference stands well above rounding.
        let v =
            grad.clone() / (grad.clone() * grad.clone()).mean().sqrt().reshape([1, 1]) + points(1, 4, &cpu());
        let shifted = |step: f64| sum(&model, x.clone() + v.clone().mul_scalar(step));
        check("x", dot(&download(grad), &download(v.clone())), shifted(step), shifted(-step));

        let ones = Tensor::<1>::ones([4], &cpu());
        let grads = model.weighted_param_grads(&[(x.clone(), ones)]).grads;
        for (i, (spec, grad)) in model.params().into_iter().zip(grads).enumerate() {
            let grad = download(grad);
            let scale = (dot(&grad, &grad) / grad.len() as f64).sqrt();
            let size = if spec.shape.len() > 1 { 0.1 } else { 1.0 };
            let noise = Stream::new(7, Purpose::Init).lane(i as u32).normals(grad.len(), 1);
            let v: Vec<f32> =
                grad.iter().zip(noise).map(|(g, z)| size * (g / scale as f32 + 0.5 * z)).collect();
            let shifted = |step: f64| {
                let mut theta = model.theta().to_vec();
                theta[i] = theta[i].clone() + upload(v.clone(), &cpu()).mul_scalar(step);
                sum(&model.with_theta(theta), x.clone())
            };
            check(&spec.name, dot(&grad, &v), shifted(step), shifted(-step));
        }
        println!("{name}: worst difference {worst:.1e}");
    }
}

/// Spectral norm: `U` does not change when the weights of a convolution are scaled, so its gradient is orthogonal to them. A σ held
/// constant in the gradient would not be; nor is the plain network's.
#[test]
fn spectral_norm_makes_the_scale_of_a_convolution_irrelevant() {
    for (spectral_norm, limit) in [(true, 1e-4), (false, 0.0)] {
        let model = trained(ResNet { spectral_norm, ..config() }, &cpu());
        let x = points(0, 4, &cpu());
        let grads = model.weighted_param_grads(&[(x.clone(), Tensor::ones([4], &cpu()))]).grads;
        let before = download(model.energy(x.clone()));
        for (i, spec) in model.params().into_iter().enumerate().filter(|(_, spec)| spec.shape.len() == 4) {
            let (weight, grad) = (download(model.theta()[i].clone()), download(grads[i].clone()));
            let cosine = dot(&weight, &grad) / (dot(&weight, &weight) * dot(&grad, &grad)).sqrt();
            let mut theta = model.theta().to_vec();
            theta[i] = theta[i].clone().mul_scalar(3.0);
            let after = download(model.with_theta(theta).energy(x.clone()));
            let change = before.iter().zip(&after).map(|(a, b)| ((a - b) / a).abs()).fold(0.0, f32::max);
            println!("spectral {spectral_norm}, {}: cosine {cosine:.1e}, change {change:.1e}", spec.name);
            assert_eq!(spectral_norm, cosine.abs() < 1e-4 && f64::from(change) < limit, "{}", spec.name);
        }
    }
}

/// With a zero last layer the energy is `½ c |x|²`: drawn and normalised exactly, and lost with the first change of the last layer.
#[test]
fn the_start_is_exact() {
    for config in variants() {
        let model = start(config.clone(), &cpu());
        let x = points(0, 5, &cpu());
        // In f64 until the end.
        let rows = download(x.clone());
        let exact: Vec<f32> = rows.chunks(model.dim()).map(|x| (0.25 * dot(x, x)) as f32).collect();
        assert_eq!(download(model.energy(x.clone())), exact);
        let log_z = 216.0 / 2.0 * (2.0 * std::f64::consts::PI / 0.5).ln();
        assert!((model.log_z().expect("known") - log_z).abs() < 1e-9);
        let draws = model.draw(2_000, Stream::new(1, Purpose::Start)).expect("drawn");
        let variance = dot(&draws, &draws) / draws.len() as f64;
        // 432,000 values of variance 2: 4 standard errors are .0172
        assert!((variance - 2.0).abs() < 0.0172, "{variance}");
        assert!(trained(config.clone(), &cpu()).draw(1, Stream::new(1, Purpose::Start)).is_none());
        assert!(start(ResNet { confinement: 0.0, ..config }, &cpu()).log_z().is_none());
    }
}

#[test]
fn the_gpu_path_agrees() {
    let Some(device) = gpu() else { return };
    for config in variants() {
        let results = |device: &Device| {
            let model = trained(config.clone(), device);
            let x = points(0, 3, device);
            let (u, grad) = model.energy_and_grad(x.clone());
            let mut found = vec![("U".to_owned(), download(u)), ("∇U".to_owned(), download(grad))];
            let grads = model.weighted_param_grads(&[(x, Tensor::ones([3], device))]).grads;
            found.extend(model.params().into_iter().zip(grads).map(|(spec, g)| (spec.name, download(g))));
            found
        };
        for ((name, here), (_, there)) in results(&cpu()).into_iter().zip(results(&device)) {
            let scale = here.iter().fold(0f32, |a, b| a.max(b.abs()));
            let worst = here.iter().zip(&there).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(scale > 0.0 && worst <= 2e-4 * scale, "{config:?} {name}: {worst} of {scale}");
        }
    }
}

/// The same call gives the same bits, and a model made from its own exported tensors too.
#[test]
fn files_keep_every_bit() {
    for config in variants() {
        let model = trained(config, &cpu());
        let spec = EnergySpec::from_metadata(&model.spec().to_metadata()).expect("its own metadata");
        assert_eq!(&spec, model.spec());
        let again = EnergyModel::from_tensors(spec, model.export(), &cpu()).expect("its own tensors");
        let x = points(0, 3, &cpu());
        assert_eq!(download(model.energy(x.clone())), download(again.energy(x)));
    }
}

#[test]
fn defaults_are_filled_in() {
    let read = |text: &str| toml::from_str::<EnergyConfig>(text);
    let found = read("kind = \"resnet\"\nchannels = [64, 128]").expect("the shortest table");
    let EnergyConfig::ResNet(net) = &found else { panic!("{found:?}") };
    let expected = ResNet { channels: vec![64, 128], groups: 8, confinement: 0.0, ..config() };
    assert_eq!(net, &expected);
    let text = toml::to_string(&found).expect("a table");
    assert!(!text.contains("spectral_norm") && text.contains("groups = 8"), "{text}");
    assert_eq!(read(&text).expect("its own text"), found);
    let error =
        read("kind = \"resnet\"\nchannels = [8]\nnorm = \"batch\"").expect_err("no such norm").to_string();
    assert!(error.contains("`none`") && error.contains("`group`"), "{error}");
}

#[test]
fn mistakes_are_named() {
    let image = SampleShape::Image(SHAPE);
    let group = Norm::Group;
    for (config, shape, says) in [
        (
            ResNet { norm: group, groups: 3, ..config() },
            image,
            "energy.groups: 3 does not divide the 8 channels",
        ),
        (ResNet { norm: group, groups: 0, ..config() }, image, "energy.groups: 0 does not divide"),
        (ResNet { channels: vec![], ..config() }, image, "energy.channels: [] needs at least one stage"),
        (ResNet { channels: vec![8, 0], ..config() }, image, "energy.channels: [8, 0]"),
        (ResNet { blocks_per_stage: 0, ..config() }, image, "energy.blocks_per_stage: 0"),
        (ResNet { confinement: -1.0, ..config() }, image, "energy.confinement: -1"),
        (config(), SampleShape::Flat(216), "does not fit samples of shape [216]: it needs images"),
        (ResNet { channels: vec![8; 5], ..config() }, image, "halve 8 × 9 pixels 4 times, which leaves none"),
        (ResNet { channels: vec![8; 80], ..config() }, image, "halve 8 × 9 pixels 79 times"),
    ] {
        let error = config.build(shape).expect_err("a mistake").to_string();
        assert!(error.contains(says), "{error:?} should say {says:?}");
    }
    // What is just right: three halvings of 8 pixels, any number without pools, groups that nothing uses.
    for config in [
        ResNet { channels: vec![8; 4], ..config() },
        ResNet { channels: vec![8; 5], pool: Pool::None, ..config() },
        ResNet { groups: 3, ..config() },
    ] {
        config.build(image).expect("a network");
    }
}
