//! Image runs and image samples: the grid shows what it says, files hold bytes beside positions.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use ember_model::params::{download, upload};
use ember_model::{Energy, EnergyModel, SampleShape};
use ember_sampler::Walkers;
use ember_sampler::weights::LogWeights;
use ember_train::commands::picture;
use ember_train::config::Config;
use ember_train::dataset::{Data, Rows};
use ember_train::store::samples::Samples;
use ember_train::training::trainer::Trainer;
use ember_train::view::denoise::denoised;
use ember_train::view::draw::by_weight;
use ember_train::view::picture::{Scene, grid};

const SHAPE: [usize; 3] = [3, 4, 4];
const DIM: usize = 48;

/// A run whose data are red images and whose model is a standard normal.
fn trainer() -> Trainer {
    let config = r#"
        steps = 10
        dataset = { kind = "gaussian_mixture", dim = 48, means = [[0.0]], weights = [1.0], train_size = 100, test_size = 10 }
        energy = { kind = "gaussian_mixture", means = [[0.0]] }
        walkers = { count = 100 }
        kernel = { kind = "ula", step_size = 0.1 }
        objective = { kind = "jarzynski" }
        optimizer = { kind = "sgd", learning_rate = 0.1 }
    "#;
    let config = Config::from_toml(config, "the test").unwrap();
    let mut trainer = Trainer::new(config, &ember_tests::cpu()).unwrap();
    let red = [[200; 16], [10; 16], [60; 16]].concat();
    trainer.data = std::sync::Arc::new(Data {
        shape: SampleShape::Image(SHAPE),
        train: Rows::U8(red.repeat(100)),
        train_labels: vec![0; 100],
        test: Rows::U8(Vec::new()),
        test_labels: Vec::new(),
        class_names: Vec::new(),
    });
    trainer
}

/// 100 walkers, the first half at −½ in every coordinate, the others at +½.
fn halves(model: &EnergyModel) -> Walkers {
    let values: Vec<f32> = (0..100 * DIM).map(|i| if i < 50 * DIM { -0.5 } else { 0.5 }).collect();
    Walkers::new(model, Tensor::from_data(TensorData::new(values, [100, DIM]), model.device()), f64::NAN)
}

/// The colours of panel `i` of a grid of 8 × 8 images of 4 × 4 pixels of 8 pixels each, without the gaps' white.
fn colors(png: &Path, i: u32) -> BTreeSet<[u8; 3]> {
    let image = image::open(png).unwrap().to_rgb8();
    let (left, top, side) = (28 + i * (270 + 28), 120, 270);
    assert!(
        image.width() >= left + side + 28 && image.height() == top + side + 28,
        "{:?}",
        image.dimensions()
    );
    let pixels = (0..side * side).map(|at| image.get_pixel(left + at % side, top + at / side).0);
    pixels.filter(|&pixel| pixel != [255; 3]).collect()
}

#[test]
fn the_grid_shows_data_walkers_and_the_averaged_model() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer();
    trainer.walkers = halves(&trainer.model);
    let path = picture::samples(&trainer, folder.path()).unwrap();
    assert!(path.ends_with("samples/step_00000000.png"));
    assert_eq!(colors(&path, 0), BTreeSet::from([[200, 10, 60]]));
    assert_eq!(colors(&path, 1), BTreeSet::from([[64; 3], [192; 3]]));

    // Weights that leave one half.
    let log_weights: Vec<f32> = (0..100).map(|i| if i < 50 { 0.0 } else { -100.0 }).collect();
    let log_weights = upload(log_weights, trainer.model.device());
    trainer.walkers.log_weights = LogWeights::from_parts(log_weights.clone(), log_weights.zeros_like());
    let path = picture::samples(&trainer, folder.path()).unwrap();
    assert_eq!(colors(&path, 1), BTreeSet::from([[64; 3]]));

    // An averaged model that puts its mass at +5: A += U_θ − U_EMA takes all weight to the other half.
    let mut theta = trainer.model.theta().to_vec();
    let means = trainer.model.params().iter().position(|param| param.name == "means").unwrap();
    theta[means] = theta[means].clone().add_scalar(5.0);
    let ema = trainer.model.with_theta(theta);
    let scene = Scene { ema: Some(ema), ..picture::scene(&trainer) };
    grid::write(&scene, SHAPE, &path).unwrap();
    assert_eq!(colors(&path, 1), BTreeSet::from([[64; 3]]));
    assert_eq!(colors(&path, 2), BTreeSet::from([[192; 3]]));
}

#[test]
fn draws_follow_the_weights() {
    let model = trainer().model;
    let mut walkers = halves(&model);
    let weights: Vec<f64> = (0..100).map(|i| f64::from(i % 7)).collect();
    let total: f64 = weights.iter().sum();
    let log_weights = upload(weights.iter().map(|w| w.ln() as f32).collect(), model.device());
    walkers.log_weights = LogWeights::from_parts(log_weights.clone(), log_weights.zeros_like());
    for u in [0.0, 0.37, 0.999_999] {
        let picked = by_weight(&walkers, 1_000, u);
        assert_eq!(picked.len(), 1_000);
        for (i, weight) in weights.iter().enumerate() {
            let count = picked.iter().filter(|&&p| p == i).count() as f64;
            assert!((count - 1_000.0 * weight / total).abs() < 1.001, "walker {i}: {count}");
        }
    }
}

/// Where clean samples are N(m, (1 − σ²) I), noisy ones are N(m, I), and E[clean | x] = m + (1 − σ²)(x − m).
#[test]
fn denoising_gives_the_mean_of_the_clean_sample() {
    let mut model = trainer().model;
    let theta: Vec<_> = model.theta().iter().map(|t| t.clone().add_scalar(0.25)).collect();
    model = model.with_theta(theta);
    let x: Vec<f32> = (0..2 * DIM).map(|i| i as f32 / 10.0 - 4.0).collect();
    let tensor = Tensor::from_data(TensorData::new(x.clone(), [2, DIM]), model.device());
    let found = download(denoised(&model, tensor, 0.6));
    let expected = x.iter().map(|x| 0.25 + 0.64 * (x - 0.25));
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5, "{worst}");
    assert_eq!(model.dim(), DIM);
}

fn image_samples() -> Samples {
    // Two images of 3 channels, 2 rows, 1 column.
    let samples = vec![-1.0, 1.0, -0.5, 0.5, 0.0, 3.0, -7.0, f32::NAN, 0.25, 0.25, 0.25, 0.25];
    Samples {
        n: 2,
        dim: 6,
        samples,
        energy: vec![1.0, 2.0],
        log_weights: vec![0.0; 2],
        image: Some([3, 2, 1]),
        bits: false,
    }
}

/// `[n, h, w, c]`.
const BYTES: [u8; 12] = [0, 64, 128, 255, 192, 255, 0, 160, 160, 0, 160, 160];

#[test]
fn image_samples_are_bytes_beside_positions() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    image_samples().write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let samples = tensors.tensor("samples").unwrap();
    assert_eq!((samples.dtype(), samples.shape()), (safetensors::Dtype::U8, &[2, 2, 1, 3][..]));
    assert_eq!(samples.data(), BYTES);
    let position = tensors.tensor("position").unwrap();
    assert_eq!((position.dtype(), position.shape()), (safetensors::Dtype::F32, &[2, 6][..]));
    let expected: Vec<u8> = image_samples().samples.iter().flat_map(|x| x.to_le_bytes()).collect();
    assert_eq!(position.data(), expected);
    assert_eq!(tensors.len(), 4);

    let path = folder.path().join("x.npz");
    image_samples().write(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("'|u1'") && text.contains("(2, 2, 1, 3") && text.contains("position.npy"));
    assert!(bytes.windows(12).any(|window| window == BYTES));

    // A text file holds the position alone.
    let path = folder.path().join("x.csv");
    image_samples().write(&path).unwrap();
    assert!(fs::read_to_string(&path).unwrap().starts_with("x0,x1,x2,x3,x4,x5,energy,log_weight\n-1.0,1.0,"));

    // Grey images, more than a picture shows.
    let path = folder.path().join("x.png");
    let grey = Samples {
        n: 500,
        dim: 4,
        samples: vec![0.5; 2_000],
        energy: vec![0.0; 500],
        log_weights: vec![0.0; 500],
        bits: false,
        image: Some([1, 2, 2]),
    };
    grey.write(&path).unwrap();
    let image = image::open(&path).unwrap().to_rgb8();
    let shown = image.pixels().filter(|pixel| pixel.0 == [192; 3]).count();
    // 400 images of 2 × 2 pixels, each 8 × 8; letters may have the colour too.
    assert!((400 * 256..400 * 256 + 200).contains(&shown), "{shown}");

    // Large images: as many as make a file of a reasonable size.
    let large =
        Samples { n: 12, dim: 3 << 20, samples: vec![0.5; 36 << 20], image: Some([3, 1024, 1024]), ..grey };
    let large = Samples { energy: vec![0.0; 12], log_weights: vec![0.0; 12], ..large };
    large.write(&path).unwrap();
    assert!(image::image_dimensions(&path).unwrap().0 < 2_200);
}

#[test]
fn a_picture_has_one_or_three_channels() {
    for name in ["x.npz", "x.safetensors", "x.csv"] {
        Samples::check_shape(Path::new(name), Some([2, 4, 4])).unwrap();
    }
    for shape in [None, Some([1, 4, 4]), Some([3, 4, 4])] {
        Samples::check_shape(Path::new("x.png"), shape).unwrap();
    }
    let error = Samples::check_shape(Path::new("x.png"), Some([2, 4, 4])).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("these have 2"), "{error}");
}
