//! Files of data sets: idx, CIFAR-10 records, and the archive they come in.

use std::fs;
use std::io::Write;
use std::path::Path;

use ember_train::dataset::inventory::inspect;
use ember_train::dataset::{Cifar10, Dataset, Mnist, load_any};

use super::{Target, scratch};

/// Bytes of a CIFAR-10 record.
const RECORD: usize = 3073;

/// An idx file of images, its length (two bytes) before it, and one of labels; either may be a gzip.
pub(super) const IDX: Target = Target {
    name: "idx",
    run: idx,
    seeds: idx_seeds,
    words: &["\0\0\x08\x03", "\0\0\x08\x01", "\0\0\0\x01", "\0\0\0\x1c", "\x1f\u{8}"],
    most_bytes: 4096,
};

/// A file of records.
pub(super) const CIFAR: Target = Target {
    name: "cifar",
    run: cifar,
    seeds: || vec![record(0), record(9).repeat(2)],
    words: &[],
    most_bytes: 3 * RECORD,
};

/// After a byte: 0, a tar whose checksums are put right and which is gzipped; 1, the gzip itself.
pub(super) const TAR: Target = Target {
    name: "tar",
    run: tar,
    seeds: tar_seeds,
    words: &[
        "ustar\0",
        "data_batch_1.bin",
        "test_batch.bin",
        "cifar-10-batches-bin/",
        "GNU.sparse.size=",
        "path=",
        "size=",
    ],
    most_bytes: 16 << 10,
};

/// What `ember data check` says of a folder, what is read from it, and that the two agree.
pub(super) fn check(folder: &Path) {
    let found = inspect(folder).expect("a folder that is there");
    let loaded = load_any(folder, None);
    if let Ok(data) = &loaded {
        let dim = data.shape.dim();
        assert_eq!(data.train.len(), data.train_labels.len() * dim);
        assert_eq!(data.test.len(), data.test_labels.len() * dim);
        let classes = data.class_names.len();
        let labels = data.train_labels.iter().chain(&data.test_labels);
        assert!(labels.into_iter().all(|&label| (label as usize) < classes));
    }
    for inventory in &found {
        for problem in &inventory.problems {
            assert_eq!(problem.exit_code(), 2, "{problem}");
        }
    }
    if let [only] = found.as_slice()
        && only.problems.is_empty()
    {
        let error = loaded.err().map(|error| error.to_string());
        assert_eq!(error, None, "the check found nothing wrong");
    }
}

fn idx(bytes: &[u8]) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (images, labels) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
    scratch::within("idx", |folder| {
        scratch::write(&folder.join("train-images-idx3-ubyte"), images);
        scratch::write(&folder.join("train-labels-idx1-ubyte"), labels);
        let held_out = folder.join("t10k-images-idx3-ubyte");
        if !held_out.is_file() {
            let [images, labels] = idx_files(1, 28);
            scratch::write(&held_out, &images);
            scratch::write(&folder.join("t10k-labels-idx1-ubyte"), &labels);
        }
        check(folder);
        let set = Mnist {
            dir: folder.to_owned(),
            classes: None,
            counts: None,
            batch_size: 1,
            flip: false,
            binarise: None,
            noise: 0.0,
        };
        let _ = set.generate(0);
        let _ = Mnist { classes: Some(vec![1, 7]), counts: Some(vec![1, 1]), ..set }.generate(0);
    });
}

/// Files of images and of labels.
fn idx_files(count: u8, side: u8) -> [Vec<u8>; 2] {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    let (n, side) = (u32::from(count), u32::from(side));
    let pixels = vec![7; (n * side * side) as usize];
    let images = [words(&[0x803, n, side, side]), pixels].concat();
    [images, [words(&[0x801, n]), (0..count).map(|i| i % 10).collect()].concat()]
}

fn idx_seeds() -> Vec<Vec<u8>> {
    let joined = |[images, labels]: [Vec<u8>; 2]| {
        [&(images.len() as u16).to_le_bytes()[..], &images, &labels].concat()
    };
    let packed = idx_files(3, 4).map(|file| gzip(&file, 6));
    vec![joined(idx_files(1, 28)), joined(idx_files(12, 2)), joined(packed)]
}

fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("packed in memory")
}

fn record(label: u8) -> Vec<u8> {
    [vec![label], vec![7; RECORD - 1]].concat()
}

fn cifar_set(dir: &Path) -> Cifar10 {
    Cifar10 { dir: dir.to_owned(), classes: None, counts: None, batch_size: 1, flip: false, noise: 0.0 }
}

fn cifar(bytes: &[u8]) {
    scratch::within("cifar", |folder| {
        scratch::write(&folder.join("test_batch.bin"), bytes);
        let train = folder.join("data_batch_3.bin");
        if !train.is_file() {
            scratch::write(&train, &record(1));
        }
        check(folder);
        let _ = Cifar10 { classes: Some(vec![1]), ..cifar_set(folder) }.generate(0);
    });
}

fn tar(bytes: &[u8]) {
    let Some((raw, bytes)) = bytes.split_first() else { return };
    let packed = match raw & 1 {
        0 => gzip(&with_checksums(bytes), 0),
        _ => bytes.to_vec(),
    };
    scratch::within("tar", |folder| {
        let path = folder.join("cifar-10-binary.tar.gz");
        scratch::write(&path, &packed);
        check(folder);
        let _ = cifar_set(&path).generate(0);
        fs::remove_file(path).expect("removed");
    });
}

/// The checksum of every block that looks like a tar header: the sum of its bytes, with blanks in the place of the sum.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for header in bytes.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fn tar_seeds() -> Vec<Vec<u8>> {
    let archive = |gnu: bool| {
        let mut tar = ::tar::Builder::new(Vec::new());
        for (name, label) in [("data_batch_1.bin", 1), ("test_batch.bin", 2)] {
            let mut header = if gnu { ::tar::Header::new_gnu() } else { ::tar::Header::new_ustar() };
            header.set_size(RECORD as u64);
            header.set_mode(0o644);
            let name = format!("cifar-10-batches-bin/{name}");
            tar.append_data(&mut header, name, &record(label)[..]).expect("appended");
        }
        tar.into_inner().expect("in memory")
    };
    let with = |mode: u8, bytes: Vec<u8>| [vec![mode], bytes].concat();
    vec![with(0, archive(true)), with(0, archive(false)), with(1, gzip(&archive(true), 6))]
}
