//! The official files, where the folder named by `EMBER_DATA` holds them; passed over where it is not set.

use std::path::PathBuf;

use ember_model::SampleShape;
use ember_train::dataset::inventory::inspect;
use ember_train::dataset::{Data, DatasetConfig, load_any};

/// A folder of `EMBER_DATA`.
fn folder(name: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("EMBER_DATA") else {
        eprintln!("passed over: EMBER_DATA is not set");
        return None;
    };
    Some(PathBuf::from(root).join(name))
}

fn load(kind: &str, dir: &PathBuf, keys: &str) -> Data {
    let text = format!("kind = {kind:?}\ndir = {dir:?}\n{keys}");
    let dataset: DatasetConfig = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}"));
    dataset.as_dyn().generate(0).unwrap_or_else(|error| panic!("{error}"))
}

fn counts(labels: &[u32], classes: usize) -> Vec<usize> {
    (0..classes as u32).map(|class| labels.iter().filter(|&&label| label == class).count()).collect()
}

#[test]
fn mnist() {
    let Some(dir) = folder("mnist") else { return };
    let data = load("mnist", &dir, "");
    assert_eq!((data.train_labels.len(), data.test_labels.len()), (60_000, 10_000));
    assert_eq!(data.train_labels[..5], [5, 0, 4, 1, 9]);
    assert_eq!(data.test_labels[..5], [7, 2, 1, 0, 4]);
    assert_eq!(data.train.len(), 60_000 * 784);
    let three = load("mnist", &dir, "classes = [2, 3, 6]\ncounts = [5600, 2800, 1400]");
    assert_eq!(counts(&three.train_labels, 3), [5600, 2800, 1400]);
    assert_eq!(counts(&three.test_labels, 3), [1032, 1010, 958]);
    assert_eq!(three.class_names, ["2", "3", "6"]);
    // The first 2 of the file is image 5.
    assert_eq!(three.train.gather(784, [0]), data.train.gather(784, [5]));
}

#[test]
fn fashion_mnist_and_kmnist_come_in_the_same_form() {
    let Some(dir) = folder("fashion-mnist-subset") else { return };
    let fashion = load("mnist", &dir, "");
    assert_eq!((fashion.train_labels.len(), fashion.test_labels.len()), (8_226, 4_443));
    assert_eq!(fashion.train_labels[..5], [9, 0, 0, 3, 0]);
    let Some(dir) = folder("kmnist-test") else { return };
    let kmnist = load_any(&dir, Some([1, 28, 28])).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(counts(&kmnist.test_labels, 10), [1000; 10]);
    assert!(kmnist.train.is_empty() && kmnist.train_labels.is_empty());
}

#[test]
fn cifar10() {
    let Some(dir) = folder("cifar10-lossless-subset") else { return };
    let data = load("cifar10", &dir, "");
    assert_eq!(data.shape, SampleShape::Image([3, 32, 32]));
    assert_eq!(data.train_labels.len(), 4000 + 1017 + 1017 + 1329 + 1017);
    assert_eq!(data.test_labels.len(), 1017);
    // frog, truck, truck, deer, automobile; cat, ship, ship, airplane, frog.
    assert_eq!(data.train_labels[..5], [6, 9, 9, 4, 1]);
    assert_eq!(data.test_labels[..5], [3, 8, 8, 0, 6]);
    assert_eq!(data, load_any(&dir, None).unwrap_or_else(|error| panic!("{error}")));
}

#[test]
fn an_inventory_knows_the_official_files() {
    let Some(root) = folder("") else { return };
    let found = inspect(&root).unwrap_or_else(|error| panic!("{error}"));
    for inventory in &found {
        assert!(inventory.problems.is_empty(), "{}: {:?}", inventory.dir.display(), inventory.problems);
        // What is for judging alone says so.
        let for_judging = inventory.note.as_ref().is_some_and(|note| note.contains("--against"));
        assert_eq!(for_judging, inventory.dir.ends_with("kmnist-test"), "{}", inventory.dir.display());
    }
    let of = |name: &str| found.iter().find(|inventory| inventory.dir.ends_with(name)).expect("there");
    assert!(
        of("mnist").files.iter().all(|(_, _, known)| known.is_some_and(|known| known.starts_with("MNIST")))
    );
    assert_eq!(of("mnist").counts[0].iter().sum::<usize>(), 60_000);
    assert!(of("fashion-mnist-subset").files.iter().all(|(_, _, known)| known.is_none()), "cut files");
    assert_eq!(of("cifar10-lossless-subset").kind, "cifar10");
    assert_eq!(of("kmnist-test").counts[1], [1000; 10]);
}
