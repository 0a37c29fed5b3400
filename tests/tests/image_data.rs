//! MNIST's idx files and CIFAR-10's records: what is read, and every way in which a file can be wrong.

use std::fs;
use std::io::Write;
use std::path::Path;

use ember_model::SampleShape;
use ember_model::random::{Purpose, Stream};
use ember_tests::images::{bytes, fails, load};
use ember_train::dataset::{Data, load_any};
use ember_train::error::Error;
use tempfile::TempDir;

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
    let dir = mnist();
    fs::write(dir.path().join("train-labels-idx1-ubyte"), idx_labels(&eleven)).expect("written");
    let place = ["train-labels-idx1-ubyte", "at byte 11", "label 11 of image 3", "0 to 9"];
    fails(load_mnist(dir.path(), ""), &place);
    // Without a config nobody looks at the labels.
    assert!(load_any(dir.path(), None).expect("a set").train_labels.contains(&11));
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

/// Whatever stands in a file, it is read or refused with code 2: never a panic, never a set that does not hold together.
#[test]
fn damaged_files_are_read_or_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, content: &[u8]| fs::write(dir.path().join(name), content).expect("written");
    let tar = tar_of(&[("data_batch_1.bin", records(1)), ("test_batch.bin", records(1))]);
    let files = [
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", idx_images(3)),
        ("train-labels-idx1-ubyte", "train-images-idx3-ubyte", idx_labels(&[1, 2, 3])),
        ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", gzip(&idx_images(3))),
        ("data_batch_1.bin", "", records(2)),
        ("cifar-10-binary.tar.gz", "", gzip(&tar)),
    ];
    let mut refused = 0;
    for (lane, (name, partner, good)) in files.iter().enumerate() {
        let whole = if partner.contains("labels") { idx_labels(&[1, 2, 3]) } else { idx_images(3) };
        match *partner {
            "" => {}
            gz if gz.ends_with(".gz") => write(gz, &gzip(&whole)),
            plain => write(plain, &whole),
        }
        write(name, good);
        load_any(dir.path(), None).expect("undamaged");
        for i in 0..60 {
            let [place, value, cut, near] = Stream::new(1, Purpose::Data).lane(lane as u32).bits(0, i);
            let mut bad = good.clone();
            // Half of the damage is in the first bytes, where the headers are.
            let range = if near % 2 == 0 { good.len() } else { good.len().min(32) };
            bad[place as usize % range] = value as u8;
            if cut % 4 == 0 {
                bad.truncate(cut as usize / 4 % good.len());
            }
            write(name, &bad);
            match load_any(dir.path(), None) {
                Ok(data) => assert_eq!(data.train.len(), data.train_labels.len() * data.shape.dim()),
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.exit_code(), 2, "{error}");
                    assert!(
                        error.to_string().contains(name) || error.to_string().contains(partner),
                        "{error}"
                    );
                }
            }
        }
        for file in [name, partner].into_iter().filter(|file| !file.is_empty()) {
            fs::remove_file(dir.path().join(file)).expect("there");
        }
    }
    assert!(refused > 100, "{refused} of 300 were refused");
}
