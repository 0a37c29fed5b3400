//! Drawn shapes, fingerprints, and the keys of the image sets' tables.

use ember_model::SampleShape;
use ember_tests::images::{bytes, fails, load, table};
use ember_tests::{assert_beyond_se, assert_within_se};
use ember_train::config::Config;
use ember_train::dataset::{DatasetConfig, Rows, fingerprint};

#[test]
fn shapes_are_a_pure_function_of_the_seed_with_the_masses_asked_for() {
    let dataset = table("kind = \"shapes32\"\ntrain_size = 8000\ntest_size = 500");
    let data = dataset.as_dyn().generate(3).expect("drawn");
    assert_eq!(data, dataset.as_dyn().generate(3).expect("drawn"));
    let other = dataset.as_dyn().generate(4).expect("drawn");
    assert_ne!(data.train, other.train);
    assert_eq!(data.train.len(), 8000 * 3072);
    assert_eq!(data.class_names, ["disc", "square", "triangle", "cross"]);
    assert_ne!(bytes(&data.train)[..500 * 3072], *bytes(&data.test), "held-out images are other images");
    let fractions = data.train_fractions();
    for (fraction, mass) in fractions.iter().zip([0.4, 0.3, 0.2, 0.1]) {
        assert_within_se(*fraction, mass, (mass * (1.0 - mass) / 8000.0f64).sqrt(), 4.0);
    }
    // The test can fail: equal masses are far away.
    assert_beyond_se(fractions[3], 0.25, (0.25 * 0.75 / 8000.0f64).sqrt(), 10.0);
    // The first images do not depend on how many are drawn.
    let fewer = load("kind = \"shapes32\"\ntrain_size = 200\ntest_size = 10").expect("drawn");
    let more = dataset.as_dyn().generate(0).expect("drawn");
    assert_eq!(bytes(&fewer.train), &bytes(&more.train)[..200 * 3072]);
}

/// Each class's images are what the class says: the right colour, and the area of its shape.
#[test]
fn shapes_have_the_colour_and_the_area_of_their_class() {
    let data = load("kind = \"shapes32\"\ntrain_size = 2000\ntest_size = 1").expect("drawn");
    // Mean area in units of E r² = 8.5² + 1.5²/3: π, (2 · .85)², 3√3/4, 4 · .32 · (2 − .32).
    let radius = 8.5f64.powi(2) + 1.5f64.powi(2) / 3.0;
    let areas = [std::f64::consts::PI, 2.89, 0.75 * 3f64.sqrt(), 1.28 * 1.68].map(|area| area * radius);
    let mut seen: [Vec<f64>; 4] = Default::default();
    for (image, &label) in bytes(&data.train).chunks_exact(3072).zip(&data.train_labels) {
        let centre: Vec<u8> =
            image.chunks_exact(1024).map(|plane| *plane.iter().max().expect("pixels")).collect();
        let bright = |channel: usize| centre[channel] > 160;
        let expected =
            [[true, false, false], [false, true, false], [false, false, true], [true, true, false]];
        assert_eq!([bright(0), bright(1), bright(2)], expected[label as usize], "{label}: {centre:?}");
        // The share of the shape in each pixel, from the brightest channel.
        let plane = image.chunks_exact(1024).max_by_key(|plane| plane.iter().max()).expect("three");
        let top = f64::from(*plane.iter().max().expect("pixels"));
        seen[label as usize].push(plane.iter().map(|&v| (f64::from(v) - 40.0) / (top - 40.0)).sum());
    }
    for (area, expected) in seen.iter().zip(areas) {
        let mean = area.iter().sum::<f64>() / area.len() as f64;
        assert!((mean / expected - 1.0).abs() < 0.05, "{mean} pixels, expected {expected}");
    }
}

#[test]
fn a_fingerprint_tells_sets_apart() {
    let data = load("kind = \"shapes32\"\ntrain_size = 200\ntest_size = 10").expect("drawn");
    let sum = fingerprint(&data);
    assert_eq!(sum.len(), 64);
    assert_eq!(sum, fingerprint(&data.clone()));
    let mut label = data.clone();
    label.test_labels[9] ^= 1;
    let mut shape = data.clone();
    shape.shape = SampleShape::Image([3, 16, 64]);
    let mut moved = data.clone();
    let first = bytes(&data.test)[..3072].to_vec();
    moved.train = Rows::U8([bytes(&data.train), &first].concat());
    moved.test = Rows::U8(bytes(&data.test)[3072..].to_vec());
    let mut sums = [&label, &shape, &moved].map(fingerprint).to_vec();
    sums.push(sum);
    sums.sort();
    sums.dedup();
    assert_eq!(sums.len(), 4);
}

/// The keys of the image sets, broken one at a time; no file is touched.
#[test]
fn keys_out_of_range_are_named() {
    let bad = |text: &str, parts: &[&str]| {
        let dataset: DatasetConfig = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
        let error = dataset.as_dyn().validate().map(|()| unreachable!("{text} is bad"));
        fails(error, parts);
    };
    for kind in ["mnist", "cifar10"] {
        let with = |keys: &str| format!("kind = {kind:?}\ndir = \"nowhere\"\n{keys}");
        table(&with(""));
        bad(&with("classes = []"), &["dataset.classes", "at least one"]);
        bad(&with("classes = [2, 10]"), &["dataset.classes", "found 10", "0 to 9"]);
        bad(&with("classes = [2, 2]"), &["dataset.classes", "class 2", "once"]);
        bad(&with("classes = [2, 3]\ncounts = [5]"), &["dataset.counts", "1 counts for 2 classes"]);
        bad(&with("classes = [2]\ncounts = [0]"), &["dataset.counts", "at least 1"]);
        bad(&with("batch_size = 0"), &["dataset.batch_size", "at least 1"]);
        bad(&with("batch_size = 99999999999"), &["dataset.batch_size", "a tensor can hold"]);
        bad(&with("noise = -0.1"), &["dataset.noise", "-0.1"]);
        bad(&with("noise = nan"), &["dataset.noise", "NaN"]);
    }
    let folder = |keys: &str| format!("kind = \"image_folder\"\ndir = \"nowhere\"\n{keys}");
    bad(&folder("size = 0"), &["dataset.size", "1 to 1024"]);
    bad(&folder("channels = 2"), &["dataset.channels", "3 (colour) or 1 (grey)"]);
    let shapes = |keys: &str| format!("kind = \"shapes32\"\n{keys}");
    bad(&shapes("train_size = 0"), &["dataset.train_size"]);
    bad(&shapes("test_size = 9999999999"), &["dataset.test_size", "a tensor can hold"]);
    bad(&shapes("train_size = 100"), &["dataset.batch_size", "found 128", "train_size = 100"]);
    bad(&shapes("weights = [0.5, 0.4]"), &["dataset.weights", "sum to 0.9"]);
    bad(&shapes("weights = []"), &["dataset.weights", "1 to 4"]);
    bad(&shapes("weights = [-0.5, 1.5]"), &["dataset.weights", "-0.5"]);
    let flipped = table(&shapes("flip = true\nnoise = 0.05"));
    assert!(flipped.as_dyn().augmentation().flip);
    assert_eq!(flipped.as_dyn().augmentation().noise, 0.05);
}

#[test]
fn a_config_with_images_round_trips() {
    let text = "steps = 2\n[dataset]\nkind = \"mnist\"\ndir = \"some/where\"\nclasses = [2, 3, 6]\ncounts = [5600, 2800, 1400]\n\
                [energy]\nkind = \"mlp\"\nhidden = [8]\nconfinement = 1.0\n[walkers]\ncount = 8\n\
                [kernel]\nkind = \"ula\"\nstep_size = 0.1\n[objective]\nkind = \"jarzynski\"\n\
                [optimizer]\nkind = \"adam\"\nlearning_rate = 0.001\n";
    let config = Config::from_toml(text, "images.toml").expect("no file is touched");
    assert_eq!(Config::from_toml(&config.to_toml(), "again.toml").expect("loads back"), config);
    assert!(config.to_toml().contains("batch_size = 128"), "defaults are filled in");
}
