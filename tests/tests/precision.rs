//! The precision of a network's products: what it changes, what it does not, and what a device without it says.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use ember_model::energy::activation::Activation;
use ember_model::energy::mlp::Mlp;
use ember_model::params::download;
use ember_model::random::{Purpose, Stream};
use ember_model::{Energy, EnergyConfig, EnergyModel, EnergySpec, Precision, SampleShape};
use ember_tests::cpu;
use ember_train::config::Config;
use ember_train::device;

const DIM: usize = 6;

/// The same network at a precision, with a last layer that is not zero.
fn model(precision: Precision, spectral_norm: bool) -> EnergyModel {
    let hidden = vec![32, 24];
    let mlp = Mlp { hidden, activation: Activation::Silu, spectral_norm, confinement: 0.5, levels: None };
    let spec = EnergySpec { precision, ..EnergySpec::new(SampleShape::Flat(DIM), EnergyConfig::Mlp(mlp)) };
    let model = EnergyModel::init(spec, 3, &cpu()).expect("a model");
    let theta = model.theta().iter().enumerate().map(|(i, theta)| {
        let [n] = theta.dims();
        let values = Stream::new(5, Purpose::Init).lane(i as u32).normals(n, 1);
        Tensor::from_data(TensorData::new(values, [n]), &cpu()).mul_scalar(0.3)
    });
    model.with_theta(theta.collect())
}

fn positions(n: usize) -> Tensor<2> {
    let values = Stream::new(7, Purpose::Start).normals(n, DIM);
    Tensor::from_data(TensorData::new(values, [n, DIM]), &cpu())
}

/// The largest difference, as a fraction of the largest number.
fn gap(a: Vec<f32>, b: Vec<f32>) -> f32 {
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0.0, f32::max);
    largest(&mut a.iter().zip(&b).map(|(a, b)| a - b)) / largest(&mut b.iter().copied())
}

/// Eight bits leave their mark on U, ∇U and the gradients of θ, and no more than a few times 2⁻⁸ of it.
#[test]
fn bf16_is_near_to_f32_and_not_the_same() {
    for spectral_norm in [false, true] {
        let [exact, rounded] = [Precision::F32, Precision::Bf16].map(|p| model(p, spectral_norm));
        let x = positions(50);
        let (u, grad) = exact.energy_and_grad(x.clone());
        let (rounded_u, rounded_grad) = rounded.energy_and_grad(x.clone());
        let weights = Tensor::full([50], 0.02, &cpu());
        let theta = |model: &EnergyModel| {
            let grads = model.weighted_param_grads(&[(x.clone(), weights.clone())]).grads;
            download(Tensor::cat(grads, 0))
        };
        let gaps = [
            gap(download(rounded_u.clone()), download(u)),
            gap(download(rounded_grad), download(grad)),
            gap(theta(&rounded), theta(&exact)),
        ];
        for gap in gaps {
            assert!(gap > 1e-5 && gap < 8.0 / 256.0, "{gaps:?}");
        }
        // The energy itself is not rounded to eight bits.
        let has_fraction = |u: f32| u.to_bits() & 0xffff != 0;
        assert!(download(rounded_u.clone()).into_iter().filter(|&u| has_fraction(u)).count() > 40);
        assert_eq!(download(rounded.energy(x)), download(rounded_u), "one energy, however it is asked for");
    }
}

/// Weight files and their metadata know nothing of it.
#[test]
fn a_precision_is_no_part_of_what_an_energy_is() {
    let metadata = Precision::ALL.map(|precision| model(precision, false).spec().to_metadata());
    assert!(metadata.iter().all(|text| *text == metadata[0]), "{metadata:?}");
    let read = EnergySpec::from_metadata(&metadata[2]).expect("metadata");
    assert_eq!(read.precision, Precision::F32);
}

fn toy(precision: &str) -> Result<Config, ember_train::error::Error> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/mlp2d_jarzynski.toml");
    let text = std::fs::read_to_string(path).expect("a config");
    Config::from_toml(&text.replace("seed = 0", &format!("seed = 0\n{precision}")), "toy.toml")
}

#[test]
fn the_key_is_read_written_and_left_out_where_it_is_the_default() {
    for precision in Precision::ALL {
        let config = toy(&format!("precision = \"{precision}\"")).expect("a config");
        assert_eq!((config.precision, config.energy_spec().precision), (precision, precision));
        let text = config.to_toml();
        assert_eq!(text.contains("precision"), precision != Precision::F32, "{text}");
        assert_eq!(Config::from_toml(&text, "again.toml").expect("it loads"), config);
    }
    // A run folder of before the key was there.
    assert_eq!(toy("").expect("a config").precision, Precision::F32);
}

#[test]
fn a_precision_that_is_none_or_of_no_use_is_named() {
    for (precision, words) in [
        ("precision = \"f16\"", ["toy.toml:", "precision", "\"f16\"", "there is `f32`, `tf32`, `bf16`"]),
        ("precision = 16", ["toy.toml:", "precision", "found integer `16`", "a string"]),
        ("precison = \"bf16\"", ["toy.toml:", "precison", "did you mean `precision`?", "`seed`"]),
    ] {
        let error = toy(precision).expect_err("a bad config");
        assert_eq!(error.exit_code(), 2);
        words.iter().for_each(|word| assert!(error.to_string().contains(word), "no `{word}` in {error}"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/toy1d_jarzynski.toml");
    let text = std::fs::read_to_string(path).expect("a config");
    let error =
        Config::from_toml(&format!("precision = \"bf16\"\n{text}"), "toy.toml").expect_err("no products");
    for word in ["toy.toml:1: precision: found \"bf16\"", "an mlp", "a gaussian_mixture computes in f32"] {
        assert!(error.to_string().contains(word), "no `{word}` in {error}");
    }
}

/// The processor, and every adapter through WGSL, have f32 alone.
#[test]
fn a_device_without_the_precision_says_which_it_has() {
    let specs = device::list().into_iter().filter(|info| info.usable).map(|info| info.label);
    for spec in specs {
        let selected = device::select(&spec).expect("a device of the list");
        let there = selected.precisions();
        assert!(there.contains(&Precision::F32) && !there.contains(&Precision::Tf32), "{spec}: {there:?}");
        assert!(cfg!(feature = "vulkan") || there == [Precision::F32], "{spec}: {there:?}");
        selected.check_precision(Precision::F32, Path::new("c.toml")).expect("every device has it");
        let error = selected.check_precision(Precision::Tf32, Path::new("c.toml")).expect_err("none has it");
        assert_eq!(error.exit_code(), 2);
        for word in ["c.toml: precision: found \"tf32\"", &selected.name, "computes in f32", "--device"] {
            assert!(error.to_string().contains(word), "no `{word}` in {error}");
        }
    }
}
