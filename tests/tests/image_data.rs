//! Image sets: what is read from files, what is drawn, and every way in which a file can be wrong.

use std::fs;
use std::io::Write;
use std::path::Path;

use ember_model::SampleShape;
use ember_tests::{assert_beyond_se, assert_within_se};
use ember_train::config::Config;
use ember_train::dataset::{Data, DatasetConfig, Rows, fingerprint, load_any};
use ember_train::error::Error;
use tempfile::TempDir;

fn table(text: &str) -> DatasetConfig {
    let dataset: DatasetConfig = toml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    dataset.as_dyn().validate().unwrap_or_else(|error| panic!("{error}"));
    dataset
}

fn load(text: &str) -> Result<Data, Error> {
    table(text).as_dyn().generate(0)
}

/// The error of a data set: exit code 2, and every one of `parts` in its message.
#[track_caller]
fn fails(result: Result<Data, Error>, parts: &[&str]) {
    let error = result.expect_err("the data set is bad");
    assert_eq!(error.exit_code(), 2, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "no `{part}` in: {error}");
    }
}

fn bytes(rows: &Rows) -> &[u8] {
    match rows {
        Rows::U8(bytes) => bytes,
        Rows::F32(_) => panic!("images are bytes"),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn idx_images(count: usize) -> Vec<u8> {
    let words = [0x0803, count as u32, 28, 28];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend((0..count * 784).map(|i| (i / 784 * 7 + i % 784) as u8));
    bytes
}

fn idx_labels(labels: &[u8]) -> Vec<u8> {
    let words = [0x0801, labels.len() as u32];
    words.iter().flat_map(|word| word.to_be_bytes()).chain(labels.iter().copied()).collect()
}

const LABELS: [u8; 8] = [5, 2, 2, 6, 3, 2, 6, 9];

/// A small set in MNIST's form: plain training files, packed test files.
fn mnist() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, bytes: &[u8]| fs::write(dir.path().join(name), bytes).expect("written");
    write("train-images-idx3-ubyte", &idx_images(8));
    write("train-labels-idx1-ubyte", &idx_labels(&LABELS));
    write("t10k-images-idx3-ubyte.gz", &gzip(&idx_images(4)));
    write("t10k-labels-idx1-ubyte.gz", &gzip(&idx_labels(&[2, 3, 6, 2])));
    dir
}

fn load_mnist(dir: &Path, keys: &str) -> Result<Data, Error> {
    load(&format!("kind = \"mnist\"\ndir = {dir:?}\nbatch_size = 2\n{keys}"))
}

#[test]
fn idx_files_are_read_plain_and_packed() {
    let dir = mnist();
    let data = load_mnist(dir.path(), "").expect("a right set");
    assert_eq!(data.shape, SampleShape::Image([1, 28, 28]));
    assert_eq!(bytes(&data.train), &idx_images(8)[16..]);
    assert_eq!(data.train_labels, LABELS.map(u32::from));
    assert_eq!(bytes(&data.test), &idx_images(4)[16..]);
    assert_eq!(data.test_labels, [2, 3, 6, 2]);
    assert_eq!(data.class_names[9], "9");
}

#[test]
fn classes_are_relabelled_by_their_place_and_counts_keep_the_first_in_file_order() {
    let dir = mnist();
    let data = load_mnist(dir.path(), "classes = [6, 2]\ncounts = [1, 2]").expect("a right set");
    // Images 1, 2 (class 2) and 3 (class 6) of the file, in its order.
    assert_eq!(data.train_labels, [1, 1, 0]);
    assert_eq!(bytes(&data.train), &idx_images(8)[16 + 784..16 + 4 * 784]);
    assert_eq!(data.test_labels, [1, 0, 1], "every held-out image of the same classes");
    assert_eq!(data.class_names, ["6", "2"]);
    fails(
        load_mnist(dir.path(), "classes = [6, 2]\ncounts = [1, 4]"),
        &["train-labels", "class 2", "3 of its 8", "at least 4"],
    );
    fails(load_mnist(dir.path(), "classes = [7]"), &["train-labels", "class 7", "0 of its 8"]);
    fails(load_mnist(dir.path(), "classes = [9]"), &["t10k-labels", "class 9"]);
    fails(
        load_mnist(dir.path(), "classes = [6]\ncounts = [1]"),
        &["dataset.batch_size", "found 2", "at most 1", &dir.path().display().to_string()],
    );
}

/// Writes a file of the small set anew and gives the error.
#[track_caller]
fn bad_mnist(name: &str, content: &[u8], parts: &[&str]) {
    let dir = mnist();
    fs::write(dir.path().join(name), content).expect("written");
    let name = name.trim_end_matches(".gz");
    let all = [parts, &[name]].concat();
    fails(load_mnist(dir.path(), ""), &all);
    // Whatever set a folder is taken for, the same error.
    fails(load_any(dir.path(), None), &all);
}

#[test]
fn a_bad_idx_file_names_file_byte_and_expectation() {
    let (images, labels) = (idx_images(8), idx_labels(&LABELS));
    let train = "train-images-idx3-ubyte";
    bad_mnist(
        train,
        &images[..6287],
        &["at byte 6287", "8 images of 28 × 28", "expected 6288 bytes", "found 6287"],
    );
    bad_mnist(train, &[&images[..], &[0]].concat(), &["at byte 6288", "expected 6288", "found 6289"]);
    bad_mnist(train, &images[..10], &["at byte 10", "the file ends", "header of 16 bytes"]);
    bad_mnist(train, &[], &["at byte 0", "the file ends"]);
    bad_mnist(train, &labels, &["at byte 0", "0x00000801", "expected 0x00000803"]);
    let mut huge = images.clone();
    huge[4..16].fill(0xff);
    bad_mnist(train, &huge, &["at byte 6288", "4294967295 images", "found 6288"]);
    let mut none = images.clone();
    none[4..8].fill(0);
    bad_mnist(train, &none, &["at byte 4", "size 0"]);
    let mut eleven = LABELS;
    eleven[3] = 11;
    bad_mnist(
        "train-labels-idx1-ubyte",
        &idx_labels(&eleven),
        &["at byte 11", "label 11 of image 3", "0 to 9"],
    );
    bad_mnist(
        "train-labels-idx1-ubyte",
        &idx_labels(&LABELS[..7]),
        &["at byte 4", "7 labels", "expected 8", train],
    );
    let test = "t10k-images-idx3-ubyte.gz";
    let mut wide = idx_images(4);
    (wide[11], wide[15]) = (14, 56);
    bad_mnist(test, &gzip(&wide), &["at byte 8", "14 × 56", "28 × 28"]);
}

#[test]
fn a_bad_gzip_names_the_byte() {
    let test = "t10k-images-idx3-ubyte.gz";
    let packed = gzip(&idx_images(4));
    bad_mnist(
        test,
        &packed[..packed.len() / 2],
        &[&format!("at byte {}", packed.len() / 2), "corrupt gzip", "whole gzip"],
    );
    let mut flipped = packed.clone();
    let sum = packed.len() - 6;
    flipped[sum] ^= 0x10;
    bad_mnist(test, &flipped, &["corrupt gzip", "at byte ", "3152 unpacked bytes"]);
    bad_mnist(test, &idx_images(4), &["at byte 0", "[00, 00]", "[1f, 8b]"]);
    bad_mnist(
        test,
        &gzip(&idx_images(4)[..3000]),
        &["at byte 3000 of the unpacked file", "expected 3152", "found 3000"],
    );
}

#[test]
fn files_that_are_missing_are_named() {
    let dir = mnist();
    fs::remove_file(dir.path().join("train-labels-idx1-ubyte")).expect("there");
    fails(load_mnist(dir.path(), ""), &["train-labels-idx1-ubyte", ".gz", "expected a folder with"]);
    fs::remove_file(dir.path().join("train-images-idx3-ubyte")).expect("there");
    fails(load_mnist(dir.path(), ""), &["train-images-idx3-ubyte", "expected a folder with"]);
    // Held-out files alone will do where nothing is trained.
    let held_out = load_any(dir.path(), Some([1, 28, 28])).expect("half a set");
    assert_eq!((held_out.train.len(), held_out.test_labels.len()), (0, 4));
    fails(load_any(dir.path(), Some([3, 32, 32])), &["[1, 28, 28]", "expected [3, 32, 32]"]);
    fails(load_mnist(&dir.path().join("nowhere"), ""), &["nowhere", "no such folder", "dataset.dir"]);
    let empty = tempfile::tempdir().expect("a folder");
    for kind in ["mnist", "cifar10", "image_folder"] {
        let path = empty.path();
        fails(load(&format!("kind = {kind:?}\ndir = {path:?}")), &[&path.display().to_string(), "expected"]);
    }
    fails(load_any(empty.path(), None), &["no data set found", "expected idx files"]);
    fails(load_any(&empty.path().join("gone"), None), &["gone", "no such folder"]);
}

/// `count` records whose label is their number.
fn records(count: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| [vec![i as u8 % 10], (0..3072).map(|j| (i * 31 + j) as u8).collect()].concat())
        .collect()
}

fn load_cifar(dir: &Path, keys: &str) -> Result<Data, Error> {
    load(&format!("kind = \"cifar10\"\ndir = {dir:?}\nbatch_size = 2\n{keys}"))
}

#[test]
fn cifar_files_may_be_short_and_few() {
    let dir = tempfile::tempdir().expect("a folder");
    let inner = dir.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).expect("a folder");
    fs::write(inner.join("data_batch_2.bin"), records(3)).expect("written");
    fs::write(inner.join("data_batch_4.bin"), records(12)).expect("written");
    fails(load_cifar(dir.path(), ""), &["test_batch.bin", "not there"]);
    fs::write(inner.join("test_batch.bin"), records(2)).expect("written");
    let data = load_cifar(dir.path(), "").expect("a right set");
    assert_eq!(data.train_labels, [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]);
    assert_eq!(bytes(&data.train)[..3072], records(1)[1..], "planes as they are: channel first");
    assert_eq!((data.test_labels.len(), data.class_names[9].as_str()), (2, "truck"));
    assert_eq!(load_cifar(&inner, "").expect("the folder itself"), data);
    let picked = load_cifar(dir.path(), "classes = [1, 0]\ncounts = [2, 1]").expect("a right set");
    assert_eq!(
        (picked.train_labels, picked.class_names),
        (vec![1, 0, 0], vec!["automobile".into(), "airplane".into()])
    );

    let truncated = &records(3)[..3 * 3073 - 100];
    fs::write(inner.join("data_batch_2.bin"), truncated).expect("written");
    fails(
        load_cifar(dir.path(), ""),
        &["data_batch_2.bin", "at byte 6146", "record 2 has 2973 of its 3073 bytes"],
    );
    let mut labelled = records(3);
    labelled[2 * 3073] = 10;
    fs::write(inner.join("data_batch_2.bin"), labelled).expect("written");
    fails(
        load_cifar(dir.path(), ""),
        &["data_batch_2.bin", "at byte 6146", "label 10 of record 2", "0 to 9"],
    );
    fs::write(inner.join("data_batch_2.bin"), []).expect("written");
    fails(load_cifar(dir.path(), ""), &["data_batch_2.bin", "at byte 0", "empty"]);
}

fn tar_of(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), content.as_slice())
            .expect("memory");
    }
    tar.into_inner().expect("memory")
}

#[test]
fn the_archive_is_read_as_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let archive = dir.path().join("cifar-10-binary.tar.gz");
    let readme = ("readme.html", b"text".to_vec());
    // Not in the order of the set.
    let parts = [
        ("test_batch.bin", records(2)),
        ("data_batch_2.bin", records(3)),
        readme,
        ("data_batch_1.bin", records(1)),
    ];
    let tar = tar_of(&parts);
    fs::write(&archive, gzip(&tar)).expect("written");
    let data = load_cifar(dir.path(), "").expect("a right set");
    assert_eq!((&data.train_labels[..], data.test_labels.len()), (&[0, 0, 1, 2][..], 2));
    assert_eq!(load_cifar(&archive, "").expect("the archive itself"), data);
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 1, "nothing is unpacked to disk");

    fs::write(&archive, gzip(&tar[..tar.len() - 3000])).expect("written");
    fails(
        load_cifar(dir.path(), ""),
        &["cifar-10-binary.tar.gz", "at byte ", "the archive ends within", "data_batch_1.bin"],
    );
    fs::write(&archive, gzip(&tar_of(&[("data_batch_1.bin", records(2)[..4000].to_vec())])))
        .expect("written");
    fails(load_cifar(dir.path(), ""), &["data_batch_1.bin in it", "at byte 3073", "record 1 has 927"]);
    fs::write(&archive, &gzip(&tar)[..500]).expect("written");
    fails(load_cifar(dir.path(), ""), &["cifar-10-binary.tar.gz", "corrupt gzip"]);
    fs::write(&archive, gzip(&tar_of(&[("readme.html", vec![1; 10])]))).expect("written");
    fails(load_cifar(dir.path(), ""), &["no data_batch_1.bin"]);
}

/// The smallest and the largest share of shapes that a set of `n` shows, against what the weights say.
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
